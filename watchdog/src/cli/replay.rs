//! `replay`: what would this config have done with these observations?

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use shard_watchdog::config::read;
use shard_watchdog::recorder::decode::Record;
use shard_watchdog::recorder::file::Recording;
use shard_watchdog::recorder::replay::Replay;

use super::{BAD_INPUT, fail};

mod perfetto;
mod told;

use perfetto::Trace;
use told::{Decision, Told};

/// Exit code when the config would have killed.
const WOULD_KILL: u8 = 5;

const HELP: &str = "\
Examples:
  shard-watchdog replay /var/lib/shard-watchdog/0/incidents/ID/recording --config /etc/shard-watchdog/0.toml
  shard-watchdog replay recording --config new.toml && echo 'new.toml would have let it live'
  shard-watchdog replay recording --config new.toml --json | jq '.decisions[] | select(.what == \"condemned\")'
  shard-watchdog replay recording --config new.toml --perfetto trace.json    then open it in ui.perfetto.dev

A trace has one track a thread (idle, working, late, stalled, excused by kind), each channel as a counter, and verdicts and
signals as marks.

A kill that mode = \"observe\" or a pause would withhold counts as a kill; one that the budget would withhold does not, nor does
one that a person ordered.

Exit codes: 0 it would not have killed · 5 it would have killed · 2 the recording or the config cannot be used";

/// Feed a recording to the judge under a config, and print every decision that it would have made
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The file `recording` of an incident
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// The config to judge by; nothing is started and nothing is written
    #[arg(long, env = "SHARD_WATCHDOG_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object
    #[arg(long, env = "SHARD_WATCHDOG_JSON")]
    json: bool,
    /// Also write the recording and its verdicts as a trace for ui.perfetto.dev or chrome://tracing
    #[arg(long, env = "SHARD_WATCHDOG_PERFETTO", value_name = "OUT")]
    perfetto: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    let config = match read::load_rules(&args.config) {
        Ok(config) => config,
        Err(problems) => {
            let _ = writeln!(std::io::stderr().lock(), "{problems}");
            return ExitCode::from(BAD_INPUT);
        }
    };
    let recording = match Recording::load(&args.recording) {
        Ok(recording) => recording,
        Err(error) => return fail(BAD_INPUT, error),
    };
    let mut replay = Replay::new(&config, &recording.header().facts);
    let trace = args.perfetto.as_deref().map(|out| Trace::create(out, &args.recording)).transpose();
    let mut trace = match trace {
        Ok(trace) => trace,
        Err(why) => return fail(BAD_INPUT, why),
    };
    let told = feed(&recording, &mut replay, trace.as_mut());
    if let Some(Err(why)) = trace.map(|trace| trace.finish(recording.header())) {
        return fail(BAD_INPUT, why);
    }
    let path = args.recording.display();
    for problem in &told.problems {
        let _ = writeln!(std::io::stderr().lock(), "shard-watchdog: {path}: {problem}");
    }
    if told.looks == 0 {
        let why =
            "nothing in it can be replayed. Take another copy of it, or the recording of another incident";
        return fail(BAD_INPUT, format!("{path}: {why}"));
    }
    let text = if args.json { told.json() } else { told.text() };
    // The reader may have closed its end; the exit code carries the result too.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if told.would_kill { ExitCode::from(WOULD_KILL) } else { ExitCode::SUCCESS }
}

/// Everything that was recorded, one record after the other.
fn feed(recording: &Recording, replay: &mut Replay, mut trace: Option<&mut Trace>) -> Told {
    let header = recording.header();
    let mut told = Told::new(header);
    let mut records = recording.records();
    while let Some(record) = records.next() {
        match record {
            Record::Key { first_seen } => replay.met(first_seen),
            Record::Look => {
                let seen = records.seen();
                let outcome = replay.look(seen);
                told.look(header, seen.at, replay.judge(), &outcome.rungs);
                if let Some(trace) = &mut trace {
                    trace.look(header, seen.at, replay.judge(), &outcome.rungs);
                }
            }
            Record::Refused { at, why } => {
                replay.refused(&why, at);
                told.push(Decision::new(header, at, "refused", why));
            }
            Record::Paused { at, until } => {
                if replay.pause(Some(until)) {
                    let why = format!("a person paused killing until {:.0}", header.wall_of(until));
                    told.push(Decision::new(header, at, "paused", why));
                }
            }
            Record::Resumed { at } => {
                replay.pause(None);
                told.push(Decision::new(header, at, "resumed", "killing is no longer paused".to_owned()));
            }
            Record::Requested { at, why } => {
                replay.request(&why);
                told.push(Decision::new(header, at, "requested", why));
            }
            Record::Reloaded { at } => {
                told.reloads += 1;
                let why = "the sidecar read its config again: from here on another one may have applied";
                told.push(Decision::new(header, at, "reloaded", why.to_owned()));
            }
            Record::Known(known) => replay.known(*known),
            Record::Cleared { at, key } => {
                replay.clear(key);
                let what = key.map_or_else(|| "all work".to_owned(), |key| format!("work {key}"));
                told.push(Decision::new(header, at, "cleared", format!("a person cleared {what}")));
            }
            Record::Lost { looks } => {
                let at = records.seen().at;
                let why = format!("{looks} observations before this one were not recorded");
                told.push(Decision::new(header, at, "lost", why));
            }
        }
    }
    told.problems = records.problems();
    told.would_kill = replay.would_kill();
    told
}
