//! `check`: reports every problem of configs, and what will not work as they say.

mod summary;

use std::ffi::OsStr;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use shard_watchdog::adopt::Wanted;
use shard_watchdog::config::problem::Problems;
use shard_watchdog::config::{Config, read};
use shard_watchdog::preflight::document::{Document, File, Warning, Wrong};
use shard_watchdog::preflight::{self, Remark};

use super::{BAD_INPUT, fail, plain};

const HELP: &str = "\
Examples:
  shard-watchdog check --config /etc/shard-watchdog/0.toml
  shard-watchdog check --config new.toml && systemctl reload shard-watchdog@0
  shard-watchdog check --config /etc/shard-watchdog/*.toml          all shards of a machine
  generate-config 0 | shard-watchdog check --config - --json        what a program made, for a program

A problem is a reason not to use the file. A warning says what will not work here, and what to do: names in rules that
no registered thread and no published channel has, if the target's segment is there; folders in which this user may not
write; what this user may not do to the target or see of it; kill.budget and restart.within against the StartLimit… and
the pauses of the target's unit (RestartSec=, RestartMaxDelaySec=), if systemd runs here and knows it; a limit of open
files that is too low for the threads to be watched; an OTEL_… variable that cannot be used; and, with several files,
addresses and folders that two sidecars of one machine cannot share. `run` logs the same warnings once.

A folder that the target may write is no place for evidence, recordings or the socket of a sidecar that runs as
another user: that is a problem, if the target's segment is there to tell whose it is.

Run the check as the sidecar's user, in its environment: limits, permissions and variables are those of the check.

Exit codes: 0 every file is a config that can be used · 2 one is not; each problem and warning is one line:
FILE:LINE: KEY: found VALUE: what is allowed, and with `warning: ` after the line. --json prints all of it as one
object (docs/check.schema.json) to standard output, and nothing to standard error.";

/// Read configs, say all that is wrong with them, with lines, and what will not work here
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The configs to check; `-` reads one from standard input. Nothing is started and nothing is
    /// written
    #[arg(long, env = "SHARD_WATCHDOG_CONFIG", value_name = "FILE", num_args = 1.., required = true)]
    config: Vec<PathBuf>,
    /// Name of the shard, instead of the one in the file: one file may serve many shards
    #[arg(long, env = "SHARD_WATCHDOG_SHARD", value_name = "NAME", value_parser = super::shard)]
    shard: Option<String>,
    /// Print JSON: every problem and warning of every file
    #[arg(long)]
    json: bool,
}

/// Standard input, as a file.
const STDIN: &str = "-";

/// One file and what was found.
struct Checked {
    file: String,
    config: Option<Config>,
    problems: Vec<Wrong>,
    warnings: Vec<Remark>,
    notes: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    if args.config.iter().filter(|path| is_stdin(path)).count() > 1 {
        return fail(BAD_INPUT, "--config -: standard input can be read once, and is named twice");
    }
    let mut checked: Vec<_> = once(&args.config)
        .into_iter()
        .map(|Named { path, again }| {
            let mut checked = check(path, args.shard.as_deref());
            let again =
                again.iter().map(|path| format!("{} is this file again: checked once", path.display()));
            checked.notes.extend(again);
            checked
        })
        .collect();
    together(&mut checked);
    let ok = checked.iter().all(|one| one.problems.is_empty());
    if args.json {
        tell_program(checked, ok);
    } else {
        tell_person(&checked);
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == OsStr::new(STDIN)
}

/// A file, and the names under which it was named again.
struct Named<'a> {
    path: &'a Path,
    again: Vec<&'a Path>,
}

/// Each file once, in order, by whatever names.
fn once(named: &[PathBuf]) -> Vec<Named<'_>> {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let mut files: Vec<(Named<'_>, _)> = Vec::new();
    for path in named {
        let own = id(path).filter(|_| !is_stdin(path));
        let before = files.iter_mut().find(|(file, id)| file.path == path || own.is_some() && *id == own);
        match before {
            Some((file, _)) => file.again.push(path),
            None => files.push((Named { path, again: Vec::new() }, own)),
        }
    }
    files.into_iter().map(|(file, _)| file).collect()
}

fn check(path: &Path, shard: Option<&str>) -> Checked {
    let file = path.display().to_string();
    let read = if is_stdin(path) {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            // The reader may have closed its end.
            let _ =
                writeln!(std::io::stderr().lock(), "reading the config from this terminal; Ctrl-D ends it");
        }
        read::load_from(stdin.lock(), path, shard)
    } else {
        read::load_for(path, shard)
    };
    let config = match read {
        Ok(config) => config,
        Err(Problems { list, .. }) => {
            let problems = list.into_iter().map(Wrong::from).collect();
            return Checked { file, config: None, problems, warnings: Vec::new(), notes: Vec::new() };
        }
    };
    if let Err(why) = Wanted::of(&config) {
        let key = Some("target".to_owned());
        let problems = vec![Wrong { line: None, key, found: None, message: why.to_owned() }];
        return Checked { file, config: Some(config), problems, warnings: Vec::new(), notes: Vec::new() };
    }
    let reports =
        [preflight::of_config(&config), preflight::of_target(&config), preflight::of_sidecar(&config)];
    let (mut problems, mut warnings, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for report in reports {
        problems.extend(report.refused.into_iter().map(Wrong::from));
        warnings.extend(report.warnings);
        notes.extend(report.notes);
    }
    notes.extend(config.not_yet());
    Checked { file, config: Some(config), problems, warnings, notes }
}

/// Adds what the sidecars of several files cannot both have.
fn together(checked: &mut [Checked]) {
    let (places, named): (Vec<usize>, Vec<(&str, &Config)>) = checked
        .iter()
        .enumerate()
        .filter_map(|(place, one)| Some((place, (one.file.as_str(), one.config.as_ref()?))))
        .unzip();
    let found: Vec<_> = preflight::collisions(&named);
    for (index, remark) in found {
        let one = places.get(index).and_then(|place| checked.get_mut(*place));
        one.into_iter().for_each(|one| one.warnings.push(remark.clone()));
    }
}

fn tell_program(checked: Vec<Checked>, ok: bool) {
    let file = |one: Checked| File {
        file: one.file,
        ok: one.problems.is_empty(),
        shard: one.config.map(|config| config.target.shard),
        problems: one.problems,
        warnings: one.warnings.into_iter().map(Warning::from).collect(),
        notes: one.notes,
    };
    let files = checked.into_iter().map(file).collect();
    let document = Document { version: env!("CARGO_PKG_VERSION"), ok, files };
    // It holds text, numbers and lists, which can always be written. The reader may have closed its
    // end; the exit code carries the result too.
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn tell_person(checked: &[Checked]) {
    let several = checked.len() > 1;
    for Checked { file, config, problems, warnings, notes } in checked {
        let name = if several { format!("{file}: ") } else { String::new() };
        let mut good = String::new();
        if let Some(config) = config.as_ref().filter(|_| problems.is_empty()) {
            good = format!("{name}ok\n{}", summary::summary(config));
        }
        good.extend(notes.iter().map(|note| format!("{name}note: {}\n", plain(note))));
        let mut bad = String::new();
        for Wrong { line, key, found, message } in problems {
            bad.push_str(&told(file, *line, "", (key.as_deref(), found.as_deref(), message)));
        }
        for Remark { line, key, found, message, .. } in warnings {
            let key = Some(key.as_str()).filter(|key| !key.is_empty());
            bad.push_str(&told(file, *line, "warning: ", (key, found.as_deref(), &plain(message))));
        }
        // The reader may have closed its end; the exit code carries the result too.
        let _ = std::io::stdout().lock().write_all(good.as_bytes());
        let _ = std::io::stderr().lock().write_all(bad.as_bytes());
    }
    if several {
        let good = checked.iter().filter(|one| one.problems.is_empty()).count();
        let _ = writeln!(std::io::stdout().lock(), "{good} of {} files can be used", checked.len());
    }
}

type About<'a> = (Option<&'a str>, Option<&'a str>, &'a str);

fn told(file: &str, line: Option<usize>, kind: &str, (key, found, message): About<'_>) -> String {
    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
    let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
    let found = found.map(|found| format!("found {found}: ")).unwrap_or_default();
    format!("{file}{line}: {kind}{key}{found}{message}\n")
}
