//! `check`: reports every problem of a config.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::BAD_INPUT;
use shard_watchdog::config::units::written;
use shard_watchdog::config::{
    Config, FindTarget, KillBy, KillConfig, KillMode, LEAVING, Links, On, SignOfLifeConfig, ThreadRule, read,
    written_sections,
};
use shard_watchdog::descriptors::{self, Shares};
use shard_watchdog::http::token;
use shard_watchdog::own_folder::Place;
use shard_watchdog::own_folder::refusal::Refusal;
use shard_watchdog::own_folder::target_user::TargetUser;
use shard_watchdog::start_limit::{self, StartLimit};
use shard_watchdog::telemetry::otlp;
use shard_watchdog::verdict::StallKind;

const HELP: &str = "\
Examples:
  shard-watchdog check --config /etc/shard-watchdog/0.toml
  shard-watchdog check --config new.toml && systemctl reload shard-watchdog@0

If systemd runs here and knows the target's unit, its StartLimit… is held against kill.budget and its pauses
(RestartSec=, RestartMaxDelaySec=) against restart.within, and a collision is a warning. So is a limit of open files that is too low for the threads that are to be watched:
those registered now, or those that the rules ask for. The limit is that of the shell that runs the check.
So is an OTEL_… variable of this command's own environment that cannot be used.

A folder that the target may write is no place for evidence, recordings or the socket of a sidecar that runs as
another user: the check fails then, if the target's segment is there to tell whose it is. Run the check as the
sidecar's user.

Exit codes: 0 the config is good · 2 it is not, and every problem was printed as
FILE:LINE: KEY: found VALUE: what is allowed";

/// Read a config and say all that is wrong with it, with lines
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The config to check; nothing is started and nothing is written
    #[arg(long, env = "SHARD_WATCHDOG_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Name of the shard, instead of the one in the file: one file may serve many shards
    #[arg(long, env = "SHARD_WATCHDOG_SHARD", value_name = "NAME", value_parser = super::shard)]
    shard: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    match read::load_for(&args.config, args.shard.as_deref()) {
        Ok(config) => {
            if let Err(problem) = super::run::wanted(&config) {
                let _ = writeln!(std::io::stderr().lock(), "{}: {problem}", args.config.display());
                return ExitCode::from(BAD_INPUT);
            }
            let (refused, folders) = folders(&config);
            for refusal in &refused {
                let _ = writeln!(std::io::stderr().lock(), "{}: {refusal}", args.config.display());
            }
            if !refused.is_empty() {
                return ExitCode::from(BAD_INPUT);
            }
            // The reader may have closed its end; the exit code carries the result too.
            let _ = std::io::stdout().write_all(summary(&config).as_bytes());
            let of_telemetry = otlp::warnings(config.otlp.as_ref());
            let horizons: Vec<_> = config.unreachable_horizons().collect();
            let warnings = collisions(&config).into_iter().chain(of_telemetry).chain(folders).chain(horizons);
            for warning in warnings {
                let _ = writeln!(std::io::stderr().lock(), "warning: {warning}");
            }
            let shares = Shares::new(&config, descriptors::reachable_limit(), 0);
            if let Some(shortage) = shares.shortage(descriptors::threads_to_watch(&config)) {
                let _ =
                    writeln!(std::io::stderr().lock(), "warning: under the limit of this shell, {shortage}");
            }
            // Checked as the user who runs the check, who may not be the sidecar's user: no reason
            // to reject the config.
            if let Some(error) = config.http.token_file.as_deref().and_then(|path| token::read(path).err()) {
                let _ = writeln!(std::io::stderr().lock(), "warning: {error}");
            }
            ExitCode::SUCCESS
        }
        Err(problems) => {
            let _ = writeln!(std::io::stderr().lock(), "{problems}");
            ExitCode::from(BAD_INPUT)
        }
    }
}

/// Folders that the sidecar would not use, and those that it would not use if it ran as the user
/// who runs the check. Whose the target is, its segment tells, if there is one, else `[target]
/// user`.
fn folders(config: &Config) -> (Vec<String>, Vec<String>) {
    let FindTarget::Heartbeat(heartbeat) = &config.target.find else { return Default::default() };
    let user = config.target.user.as_ref().map(|user| user.uid);
    let target = Arc::new(TargetUser::of_segment(heartbeat, user));
    let socket = config.http.socket.as_deref().and_then(Path::parent);
    let named = [
        ("evidence.directory", Some(config.evidence.directory.as_path())),
        ("recorder.directory", config.recorder.as_ref().map(|recorder| recorder.directory.as_path())),
        ("http.socket", socket),
    ];
    let (mut refused, mut warnings) = (Vec::new(), Vec::new());
    for (key, path) in named {
        let Some(path) = path else { continue };
        let Err(error) = Place::new(path.to_owned(), Arc::clone(&target)).open() else { continue };
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>()) {
            Some(Refusal::Foreign { .. }) | None => {
                warnings.push(format!("{key}: as this user sees it: {error}"));
            }
            Some(refusal) => refused.push(format!("{key}: {refusal}")),
        }
    }
    (refused, warnings)
}

/// Where the budget and the unit of the target, as systemd has it now, do not go together.
fn collisions(config: &Config) -> Vec<String> {
    let of_process = || match &config.target.find {
        FindTarget::Heartbeat(path) => start_limit::unit_of(path, Path::new("/proc")),
        _ => None,
    };
    let Some(unit) = config.target.systemd_unit.clone().or_else(of_process) else { return Vec::new() };
    let limit = StartLimit::ask(&unit);
    let KillConfig { budget_kills, budget_per, .. } = config.kill;
    let within = config.restart.within;
    limit.map_or_else(Vec::new, |limit| limit.collisions(&unit, budget_kills, budget_per, within))
}

fn summary(config: &Config) -> String {
    let mut text = String::from("ok\n");
    // Writing to a String cannot fail.
    let _ = write_summary(&mut text, config);
    text
}

fn write_summary(text: &mut String, config: &Config) -> std::fmt::Result {
    let target = &config.target;
    write!(text, "  target   shard {}, ", target.shard)?;
    match &target.find {
        FindTarget::Heartbeat(path) => write!(text, "the process that writes {}", path.display())?,
        FindTarget::PidFile(path) => write!(text, "the process whose pid stands in {}", path.display())?,
        FindTarget::SystemdUnit => write!(text, "the main process of its unit")?,
        FindTarget::Command(regex) => write!(text, "the process whose command line matches {regex}")?,
    }
    if let Some(user) = &target.user {
        write!(text, ", of user {user}")?;
    }
    match &target.systemd_unit {
        Some(unit) => writeln!(text, ", in unit {unit}")?,
        None => writeln!(text)?,
    }
    for rule in &config.threads {
        write_rule(text, "thread", rule)?;
    }
    if config.threads.is_empty() {
        writeln!(text, "  thread   no rule: only the process as a whole is watched")?;
    }
    write_kill(text, &config.kill)?;
    if let Some(shadow) = &config.shadow {
        writeln!(text, "  shadow   judged beside it, signals nobody:")?;
        for rule in &shadow.threads {
            write_rule(text, "shadow", rule)?;
        }
    }
    let limit = written(config.evidence.time_limit);
    let gathered = match config.evidence.time_limit.is_zero() {
        true => "none is gathered of the process".to_owned(),
        false if config.evidence.minidump => {
            format!("gathered, with a minidump, for at most {limit} before the first signal")
        }
        false => format!("gathered for at most {limit} before the first signal"),
    };
    writeln!(text, "  evidence {}, {gathered}", config.evidence.directory.display())?;
    if let Some(SignOfLifeConfig { url, interval, time_limit }) = &config.heartbeat_out {
        writeln!(
            text,
            "  sign     of life to {url} every {} while the target is seen, each within {}",
            written(*interval),
            written(*time_limit)
        )?;
    }
    if let Some(recorder) = &config.recorder {
        let (days, mib) = (recorder.keep_days, recorder.keep_bytes >> 20);
        writeln!(text, "  recorder {}, {days} days, {mib} MiB at most", recorder.directory.display())?;
    }
    let http = &config.http;
    let places: Vec<String> = http
        .listen
        .map(|address| address.to_string())
        .into_iter()
        .chain(http.public.map(|address| format!("{address} (public part)")))
        .chain(http.socket.as_ref().map(|path| path.display().to_string()))
        .collect();
    let places = if places.is_empty() { "nowhere".to_owned() } else { places.join(", ") };
    let names = match http.hosts.len() {
        0 => String::new(),
        1 => ", also by 1 name".to_owned(),
        more => format!(", also by {more} names"),
    };
    writeln!(text, "  http     {places}{names}")?;
    write_links(text, &config.links)?;
    for note in config.not_yet() {
        writeln!(text, "note: {note}")?;
    }
    Ok(())
}

fn write_links(text: &mut String, links: &Links) -> std::fmt::Result {
    let Links { runbook, trace, dashboard } = links;
    for (name, link) in [("runbook", runbook), ("trace", trace), ("dashboard", dashboard)] {
        if let Some(link) = link {
            writeln!(text, "  link     {name}: {}", link.as_str())?;
        }
    }
    Ok(())
}

fn write_kill(text: &mut String, kill: &KillConfig) -> std::fmt::Result {
    let KillConfig { mode, by, signals, budget_kills, budget_per, progress_brake, jitter } = kill;
    if *mode == KillMode::Observe {
        return writeln!(text, "  kill     observe: says what it would kill, and kills nothing");
    }
    let ladder = match by {
        KillBy::Signal => {
            let ladder: Vec<_> = signals
                .iter()
                .map(|(signal, after)| format!("{} at {}", signal.name(), written(*after)))
                .collect();
            ladder.join(", ")
        }
        KillBy::ExitCode => {
            format!("ends itself with exit code {LEAVING}, for the pod's rules to restart all containers")
        }
    };
    writeln!(text, "  kill     enforce: {ladder}; at most {budget_kills} kills in {}", written(*budget_per))?;
    if *progress_brake > 0 {
        writeln!(
            text,
            "           after {progress_brake} kills without a finished piece of work: none, until `clear`"
        )?;
    }
    if jitter.is_zero() {
        return Ok(());
    }
    writeln!(
        text,
        "           up to {} later for a stall, at random, in which it may recover",
        written(*jitter)
    )
}

fn write_rule(text: &mut String, policy: &str, rule: &ThreadRule) -> std::fmt::Result {
    let then = if rule.by_kind.is_empty() { on_label(rule.on) } else { "as below" };
    let ThreadRule { count, name, stall_after, warn_after, warm_up, sections, by_kind, .. } = rule;
    let first =
        warm_up.map(|time| format!(", {} for the first piece of work", written(time))).unwrap_or_default();
    writeln!(
        text,
        "  {policy:<8} {count} × {name}: gone, or no progress for {} → {then} (warning at {}{first})",
        written(*stall_after),
        written(*warn_after)
    )?;
    if !sections.is_empty() {
        let sections = written_sections(sections, written).join(", ");
        writeln!(text, "           in its section: {sections}")?;
    }
    if let Some(silence) = &rule.silence {
        writeln!(text, "           {}", silence.told())?;
    }
    if by_kind.is_empty() {
        return Ok(());
    }
    let kinds: Vec<String> = StallKind::ALL
        .iter()
        .filter_map(|kind| Some(format!("{kind} → {}", on_label(by_kind.of(*kind)?))))
        .collect();
    let (kinds, other) = (kinds.join(", "), on_label(rule.on));
    writeln!(text, "           by kind of stall: {kinds}; any other, and a lost thread → {other}")
}

const fn on_label(on: On) -> &'static str {
    match on {
        On::Kill => "kill",
        On::Report => "report",
        On::Ignore => "ignore",
    }
}
