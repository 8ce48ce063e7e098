//! `incidents show`: the report of one incident.

mod stack;
mod threads;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use shard_watchdog::incident::folder::STACKS;
use shard_watchdog::incident::timeline::Durations;
use shard_watchdog::incident::{Incident, Status};

use super::super::status::table::{columns, plain, rough};
use super::super::{colour, fail};
use super::shelf::Source;
use super::{EXIT_CODES, Which, which};

const HELP: &str = "\
Examples:
  shard-watchdog incidents show latest
  shard-watchdog incidents show 20261122T221503500Z-7f3a --directory /var/lib/shard-watchdog/0
  shard-watchdog incidents show latest --json | jq '.timeline[] | {step, since_last_progress_ms}'
";

/// Show one incident: why it was opened, on which line its thread stood, its work, each step until
/// recovery, and what each thread was doing
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{EXIT_CODES}"))]
pub(super) struct Args {
    /// The id of an incident, or "latest"
    #[arg(value_name = "ID", value_parser = which)]
    id: Which,
    /// Print its document, incident.json, as it is
    #[arg(long, env = "SHARD_WATCHDOG_JSON")]
    json: bool,
    #[command(flatten)]
    source: Source,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> ExitCode {
    let found = args.source.shelf().and_then(|shelf| {
        let id = shelf.id(&args.id)?;
        let (document, incident) = shelf.document(&id)?;
        if args.json {
            return Ok((document, incident, Ok(None), Ok(None)));
        }
        let (evidence, stacks) = (shelf.evidence(&id), shelf.file(&id, STACKS));
        Ok((document, incident, evidence, stacks))
    });
    let (document, incident, evidence, stacks) = match found {
        Ok(found) => found,
        Err(failed) => return fail(failed.code, failed.why),
    };
    // The reader may have closed its end.
    if args.json {
        let _ = std::io::stdout().write_all(document.trim_ascii_end());
        let _ = std::io::stdout().write_all(b"\n");
    } else {
        let stack = match &stacks {
            Ok(Some(stacks)) => stack::told(&incident, &String::from_utf8_lossy(stacks)),
            Ok(None) => String::new(),
            Err(failed) => format!("  stack   {}\n", plain(&failed.why)),
        };
        let mut text = told(&incident, &stack, Timestamp::now(), colour());
        match evidence {
            Ok(evidence) => text.push_str(&threads::told(&incident, evidence.as_ref())),
            Err(failed) => {
                let _ = writeln!(text, "\nthreads before the first signal: {}", plain(&failed.why));
            }
        }
        text.push_str(&next(&incident));
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
    ExitCode::SUCCESS
}

/// The report for a person, with the rows of `stack` in its head. What comes from the target is
/// escaped.
fn told(incident: &Incident, stack: &str, now: Timestamp, colour: bool) -> String {
    let mut text = String::new();
    let (on, off) = if colour { (paint(incident.status), "\x1b[0m") } else { ("", "") };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "incident {} of shard {}: {on}{}{off}",
        incident.id,
        plain(&incident.shard),
        incident.status.label()
    );
    let kind = incident.thread.as_ref().and_then(|thread| thread.kind);
    let kind = kind.map(|kind| format!(": {kind}")).unwrap_or_default();
    let _ = writeln!(text, "  why     {}", plain(&incident.why));
    let _ = writeln!(text, "  reason  {}{kind}", incident.reason);
    text.push_str(stack);
    let ago = Duration::try_from(now.duration_since(incident.opened_at)).unwrap_or_default();
    let _ = writeln!(text, "  opened  {:.3} ({} ago)", incident.opened_at, rough(ago));
    if let Some(closed) = incident.closed_at {
        let _ = writeln!(text, "  closed  {closed:.3}");
    }
    if let Some(thread) = &incident.thread {
        let _ = writeln!(text, "  thread  {}, tid {}", plain(&thread.name), thread.tid);
        if let Some(key) = thread.work_key {
            let attempt = thread.attempt.filter(|attempt| *attempt > 1);
            let attempt = attempt.map(|attempt| format!(", attempt {attempt}")).unwrap_or_default();
            let _ = writeln!(text, "  work    {key}{attempt}");
        }
        if let Some(trace) = &thread.trace_id {
            let _ = writeln!(text, "          in trace {}", plain(trace));
        }
    }
    let target = &incident.target;
    let _ = writeln!(text, "  target  pid {}, incarnation {}", target.pid, target.incarnation);
    let _ = writeln!(text, "  mode    {}", plain(&incident.mode));
    if let Some(tracer) = &incident.tracer {
        let _ = writeln!(text, "  tracer  {}", plain(&tracer.to_string()));
    }
    if let Some(trace) = &incident.trace {
        let _ = writeln!(text, "  trace   {}", plain(&trace.trace_id));
    }
    text.push_str(&durations(&incident.durations));
    text.push_str(&timeline(incident));
    if let Some(words) = &incident.last_words {
        text.push_str("\nlast words of the process\n");
        indented(words, &mut text);
    }
    if !incident.observations.is_empty() {
        text.push_str("\nobservations that the verdict rests on\n");
        incident.observations.iter().for_each(|seen| indented(seen, &mut text));
    }
    text
}

const fn paint(status: Status) -> &'static str {
    match status {
        Status::Recovered => "\x1b[1;32m",
        Status::Interrupted | Status::Abandoned => "\x1b[1;33m",
        Status::Open => "\x1b[1;31m",
    }
}

fn durations(durations: &Durations) -> String {
    let us = |us: Option<u64>| us.map(Duration::from_micros);
    let ms = |ms: Option<f64>| Some(Duration::try_from_secs_f64(ms? / 1e3).unwrap_or_default());
    let parts = [
        ("last progress to verdict", us(durations.last_progress_to_verdict_us)),
        ("seen to verdict", us(durations.seen_to_verdict_us)),
        ("verdict to signal", us(durations.verdict_to_signal_us)),
        ("signal to death", us(durations.signal_to_dead_us)),
        ("death to new process", ms(durations.dead_to_restarted_ms)),
        ("new process to its first finished work", ms(durations.restarted_to_recovered_ms)),
        ("fault to recovery", ms(durations.fault_to_recovered_ms)),
    ];
    let rows = parts.into_iter().filter_map(|(name, took)| Some([name.to_owned(), exact(took?)]));
    columns(["PART", "TOOK"], rows)
}

fn timeline(incident: &Incident) -> String {
    let rows = incident.timeline.iter().map(|entry| {
        let since = entry.since_last_progress_ms;
        let since = since.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.3} ms"));
        let detail = entry.detail.as_deref().map(plain).unwrap_or_default();
        [format!("{:.6}", entry.at), since, entry.step.label().to_owned(), detail]
    });
    columns(["TIME", "SINCE PROGRESS", "STEP", "DETAIL"], rows)
}

/// With as many digits as matter: these times reach from microseconds to minutes.
fn exact(took: Duration) -> String {
    match took.as_micros() {
        0..1_000 => format!("{} us", took.as_micros()),
        1_000..10_000_000 => format!("{:.3} ms", took.as_secs_f64() * 1e3),
        _ => rough(took),
    }
}

fn indented(told: &str, text: &mut String) {
    for line in told.lines() {
        let _ = writeln!(text, "  {}", plain(line));
    }
}

/// What a person may do next.
fn next(incident: &Incident) -> String {
    format!(
        "\nnext\n  shard-watchdog incidents export {} --out DIR    all that is kept of it, as one file\n  \
         shard-watchdog replay RECORDING --config FILE    what another config would have done\n",
        incident.id
    )
}

#[cfg(test)]
#[path = "show/tests.rs"]
mod tests;
