//! `suggest`: proposes thresholds that fit the recordings.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use shard_watchdog::config::{Config, JudgeConfig, read};
use shard_watchdog::judge::policy::Policy;
use shard_watchdog::recorder::decode::Record;
use shard_watchdog::recorder::file::Recording;
use shard_watchdog::recorder::gaps::Gaps;

use super::{BAD_INPUT, fail};

mod told;

use told::{Named, Told};

const HELP: &str = "\
Examples:
  shard-watchdog suggest /var/lib/shard-watchdog/0/incidents/ID/recording
  shard-watchdog suggest recordings/* --config /etc/shard-watchdog/0.toml > new.toml
  shard-watchdog suggest recordings/* --json | jq '.threads[] | {name, stall_after, longest_seconds}'

It prints TOML that replaces the [[thread]] sections of the config. Read the comments first: they give, for each thread,
the longest time without progress while it was at work and could have run, and the threshold that follows from it. Then:
  shard-watchdog replay RECORDING --config new.toml    whether it would have killed during the recording

Exit codes: 0 · 2 a recording or the config cannot be used";

/// Propose warn_after and stall_after from recorded gaps of progress, with the margin left and why
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Recordings of one shard: of incidents, or of [recorder]
    #[arg(value_name = "RECORDING", required = true)]
    recordings: Vec<PathBuf>,
    /// Propose one rule for each [[thread]] of this config, instead of one for each name
    #[arg(long, env = "SHARD_WATCHDOG_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, env = "SHARD_WATCHDOG_JSON")]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    let config = match args.config.as_deref().map(read::load_rules).transpose() {
        Ok(config) => config,
        Err(problems) => {
            let _ = writeln!(std::io::stderr().lock(), "{problems}");
            return ExitCode::from(BAD_INPUT);
        }
    };
    let mut told = Told::default();
    let mut names = BTreeMap::new();
    for path in &args.recordings {
        if let Err(why) = take_in(path, config.as_ref(), &mut told, &mut names) {
            return fail(BAD_INPUT, why);
        }
    }
    for problem in &told.problems {
        let _ = writeln!(std::io::stderr().lock(), "shard-watchdog: {problem}");
    }
    told.conclude(&names, config.as_ref());
    let text = if args.json { told.json() } else { told.text() };
    // The reader may have closed its end.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Adds the gaps of one recording.
fn take_in(
    path: &Path,
    config: Option<&Config>,
    told: &mut Told,
    names: &mut BTreeMap<String, Named>,
) -> Result<(), String> {
    let recording = Recording::load(path).map_err(|error| error.to_string())?;
    let header = recording.header();
    let policy = match config {
        Some(config) => config.policy(header.facts.poll_threads),
        None => without_rules(header.facts.poll_threads),
    };
    let mut gaps = Gaps::new(policy, header.facts.began);
    let mut looked = None;
    let mut looks = 0;
    let mut records = recording.records();
    while let Some(record) = records.next() {
        match record {
            Record::Look => {
                let seen = records.seen();
                gaps.look(seen);
                let (first, _) = looked.unwrap_or((seen.at, seen.at));
                looked = Some((first, seen.at));
                looks += 1;
            }
            Record::Lost { looks } => told.lost += looks,
            // What people ordered changes no gap.
            Record::Key { .. }
            | Record::Known(_)
            | Record::Cleared { .. }
            | Record::Refused { .. }
            | Record::Reloaded { .. }
            | Record::Paused { .. }
            | Record::Resumed { .. }
            | Record::Requested { .. } => {}
        }
    }
    let problems = records.problems();
    let Some((first, last)) = looked else {
        return Err(format!("{}: nothing in it can be read. Take another recording", path.display()));
    };
    told.problems.extend(problems.iter().map(|problem| format!("{}: {problem}", path.display())));
    told.recording(header, first, last, looks);
    told.void += gaps.void();
    for (name, gaps) in gaps.finish() {
        let known = names.entry(name.to_string()).or_default();
        known.join(&gaps, header);
    }
    Ok(())
}

/// What a judge goes by that only counts.
fn without_rules(poll_threads: bool) -> Policy {
    // How long a restart may take is irrelevant to the gaps.
    shard_watchdog::config::policy::policy(&[], &[], &JudgeConfig::default(), Duration::MAX, poll_threads)
}
