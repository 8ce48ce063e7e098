//! `incidents list`: those that are alike as one row, so that the fiftieth does not look new.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use shard_watchdog::incident::Summary;
use shard_watchdog::incident::near_miss::NearMiss;

use super::super::fail;
use super::super::status::table::{columns, plain, rough};
use super::EXIT_CODES;
use super::shelf::{Listed, Source};

const HELP: &str = "\
Examples:
  shard-watchdog incidents list
  shard-watchdog incidents list --all --directory /var/lib/shard-watchdog/0
  shard-watchdog incidents list --json | jq '.incidents[] | select(.reason == \"stalled\") | .id'

Incidents are alike if they have the same reason, the same kind of stall and the same thread. AWAY is the time from the fault to
the first finished work of the new process, of the latest one. Below stand near misses: threads that made no progress for
warn_after, and how that ended. Many of them mean that stall_after is too short, or that something is slow.
";

/// List incidents, the latest first; those that are alike as one row
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{EXIT_CODES}"))]
pub(super) struct Args {
    /// A row for each incident, with its work
    #[arg(long, env = "SHARD_WATCHDOG_ALL")]
    all: bool,
    /// Print one JSON object, with every incident
    #[arg(long, env = "SHARD_WATCHDOG_JSON")]
    json: bool,
    #[command(flatten)]
    source: Source,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> ExitCode {
    let listed = args.source.shelf().and_then(|shelf| {
        let listed = shelf.list()?;
        Ok((listed, shelf.place()))
    });
    let (listed, place) = match listed {
        Ok(listed) => listed,
        Err(failed) => return fail(failed.code, failed.why),
    };
    for problem in &listed.unreadable {
        let _ = writeln!(std::io::stderr().lock(), "shard-watchdog: cannot be read: {}", plain(problem));
    }
    let text = if args.json {
        format!("{}\n", document(&listed))
    } else {
        told(&listed, &place, args.all, Timestamp::now())
    };
    // The reader may have closed its end.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn document(listed: &Listed) -> Value {
    let Listed { incidents, near_misses, unreadable } = listed;
    json!({ "incidents": incidents, "near_misses": near_misses, "unreadable": unreadable })
}

fn told(listed: &Listed, place: &str, all: bool, now: Timestamp) -> String {
    let mut text = incidents(listed, place, all, now);
    if !listed.near_misses.is_empty() {
        text.push_str("\nnear misses: no progress for warn_after\n");
        text.push_str(&near_misses(&listed.near_misses, all, now));
    }
    text
}

/// A row for each, or for each thread, section and outcome.
fn near_misses(near_misses: &[NearMiss], all: bool, now: Timestamp) -> String {
    let alike = |one: &NearMiss, other: &NearMiss| {
        let what = |near: &NearMiss| (near.thread.name.clone(), near.thread.section.clone(), near.outcome);
        !all && what(one) == what(other)
    };
    let mut groups: Vec<(&NearMiss, usize, f64)> = Vec::new();
    for near_miss in near_misses {
        match groups.iter_mut().find(|(latest, ..)| alike(latest, near_miss)) {
            Some((_, count, longest)) => {
                *count += 1;
                *longest = longest.max(near_miss.lasted_seconds);
            }
            None => groups.push((near_miss, 1, near_miss.lasted_seconds)),
        }
    }
    let rows = groups.into_iter().map(|(latest, count, longest)| {
        let section = latest.thread.section.as_ref().map(|section| format!(" ({section})"));
        [
            count.to_string(),
            ago(latest.at, now),
            plain(&format!("{}{}", latest.thread.name, section.unwrap_or_default())),
            latest.thread.work_key.map_or_else(|| "-".to_owned(), |key| key.to_string()),
            latest.outcome.to_string(),
            format!("{longest:.3} s"),
            format!("{:.3} s", latest.stall_after_seconds),
            latest.guess.as_deref().map_or_else(|| "-".to_owned(), plain),
        ]
    });
    columns(["TIMES", "LATEST", "THREAD", "WORK", "OUTCOME", "LONGEST", "STALL AFTER", "IT"], rows)
}

fn incidents(listed: &Listed, place: &str, all: bool, now: Timestamp) -> String {
    if listed.incidents.is_empty() {
        return format!("no incidents at {}\n", plain(place));
    }
    let table = if all { each(&listed.incidents, now) } else { grouped(&listed.incidents, now) };
    // Without the empty line in front of it.
    table.trim_start_matches('\n').to_owned()
}

fn each(incidents: &[Summary], now: Timestamp) -> String {
    let rows = incidents.iter().map(|incident| {
        [
            ago(incident.opened_at, now),
            reason(incident),
            thread(incident),
            incident.work_key.map_or_else(|| "-".to_owned(), |key| key.to_string()),
            status(incident),
            away(incident),
            incident.id.to_string(),
        ]
    });
    columns(["WHEN", "REASON", "THREAD", "WORK", "STATUS", "AWAY", "ID"], rows)
}

fn grouped(incidents: &[Summary], now: Timestamp) -> String {
    let mut groups: Vec<(&Summary, usize, Timestamp)> = Vec::new();
    for incident in incidents {
        match groups.iter_mut().find(|(latest, ..)| latest.fingerprint == incident.fingerprint) {
            Some((_, count, first)) => {
                *count += 1;
                *first = incident.opened_at.min(*first);
            }
            None => groups.push((incident, 1, incident.opened_at)),
        }
    }
    let rows = groups.into_iter().map(|(latest, count, first)| {
        [
            count.to_string(),
            ago(latest.opened_at, now),
            if count == 1 { "-".to_owned() } else { ago(first, now) },
            reason(latest),
            thread(latest),
            status(latest),
            away(latest),
            latest.id.to_string(),
        ]
    });
    columns(["TIMES", "LATEST", "FIRST", "REASON", "THREAD", "STATUS", "AWAY", "ID OF THE LATEST"], rows)
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    let ago = Duration::try_from(now.duration_since(at)).unwrap_or_default();
    format!("{} ago", rough(ago))
}

fn reason(incident: &Summary) -> String {
    match incident.kind {
        Some(kind) => format!("{}: {kind}", incident.reason),
        None => incident.reason.to_string(),
    }
}

fn thread(incident: &Summary) -> String {
    incident.thread.as_deref().map_or_else(|| "-".to_owned(), plain)
}

/// In observe mode nothing was killed, which the status alone does not tell.
fn status(incident: &Summary) -> String {
    let mode =
        if incident.mode == "enforce" { String::new() } else { format!(", {}", plain(&incident.mode)) };
    format!("{}{mode}", incident.status.label())
}

fn away(incident: &Summary) -> String {
    let away = incident.durations.fault_to_recovered_ms;
    away.map_or_else(|| "-".to_owned(), |ms| rough(Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-28T12:10:00Z";

    fn summary(number: u32, reason: &str, thread: &str) -> Summary {
        serde_json::from_value(json!({
            "id": format!("20261128T120{number}00000Z-00aa"),
            "shard": "0",
            "status": "recovered",
            "reason": reason,
            "kind": if reason == "stalled" { Some("deadlock") } else { None },
            "why": "it stood still",
            "mode": if number == 0 { "observe" } else { "enforce" },
            "opened_at": format!("2026-11-28T12:0{number}:00Z"),
            "thread": thread,
            "work_key": number,
            "durations": { "fault_to_recovered_ms": 1_250.0 },
            "fingerprint": format!("{reason}/{thread}"),
        }))
        .unwrap()
    }

    fn listed() -> Listed {
        let incidents = vec![
            summary(9, "stalled", "exec-s0"),
            summary(7, "thread_gone", "net\u{1b}[2J"),
            summary(5, "stalled", "exec-s0"),
            summary(0, "stalled", "exec-s0"),
        ];
        Listed { incidents, ..Listed::default() }
    }

    #[test]
    fn those_that_are_alike_are_one_row_and_names_cannot_move_the_cursor() {
        insta::assert_snapshot!(told(&listed(), "here", false, NOW.parse().unwrap()), @r"
        TIMES  LATEST     FIRST       REASON             THREAD        STATUS     AWAY    ID OF THE LATEST
        3      1 min ago  10 min ago  stalled: deadlock  exec-s0       recovered  1.25 s  20261128T120900000Z-00aa
        1      3 min ago  -           thread_gone        net\u{1b}[2J  recovered  1.25 s  20261128T120700000Z-00aa
        ");
    }

    #[test]
    fn on_request_each_has_its_row_and_says_if_nothing_was_killed() {
        let text = told(&listed(), "here", true, NOW.parse().unwrap());
        assert_eq!(text.lines().count(), 5);
        assert!(text.lines().last().unwrap().contains("recovered, observe"), "{text}");
        assert_eq!(told(&Listed::default(), "here", true, NOW.parse().unwrap()), "no incidents at here\n");
    }
}
