//! Aligned columns of text, built from names that a target chose.

use std::time::Duration;

use shard_watchdog::judge::words::Rounded;
use shard_watchdog::status_json::{ChannelJson, HeartbeatOutJson, ThreadJson};

pub(in crate::cli) use crate::cli::plain;

/// The threads under a heading; empty if there are none.
pub(super) fn threads(threads: &[ThreadJson]) -> String {
    let rows = threads.iter().map(|thread| {
        let work = match (thread.work_key, thread.attempt) {
            (Some(key), Some(attempt)) if attempt > 1 => format!("{key} (attempt {attempt})"),
            (Some(key), _) => key.to_string(),
            (None, _) => none(),
        };
        let work = match &thread.section {
            Some(section) => format!("{work} ({})", plain(section)),
            None => work,
        };
        let health = match &thread.kind {
            _ if thread.unobserved.is_some() => "not observed".to_owned(),
            Some(kind) => format!("{}: {}", thread.health, plain(kind)),
            None => thread.health.to_string(),
        };
        [
            plain(&thread.name),
            thread.tid.map_or_else(none, |tid| tid.to_string()),
            health,
            thread.heartbeat_age_seconds.map_or_else(none, seconds),
            work,
            thread.work_age_seconds.map_or_else(none, seconds),
        ]
    });
    columns(["THREAD", "TID", "HEALTH", "LAST BEAT", "WORK", "FOR"], rows)
}

/// One line about the sign of life.
pub(super) fn sign_of_life(sign: &HeartbeatOutJson) -> String {
    let service = plain(&sign.service);
    let last = sign.age_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let last = last.map_or_else(|| "none yet".to_owned(), |age| format!("the last {} ago", rough(age)));
    let now = match (&sign.withheld, &sign.trouble) {
        (Some(why), _) => format!("; none is sent now: {}", plain(why)),
        (None, Some(why)) => format!("; refused or lost: {}", plain(why)),
        (None, None) => String::new(),
    };
    format!("  sign    of life to {service}, {last}{now}\n")
}

/// The same for channels.
pub(super) fn channels(channels: &[ChannelJson]) -> String {
    let rows = channels.iter().map(|channel| {
        [
            plain(&channel.name),
            channel.depth.to_string(),
            if channel.depth == 0 { none() } else { seconds(channel.age_seconds) },
            channel.sent.to_string(),
            channel.received.to_string(),
        ]
    });
    columns(["CHANNEL", "WAITING", "OLDEST", "SENT", "RECEIVED"], rows)
}

/// Rows under a heading, preceded by an empty line. Empty if there are no rows.
pub(in crate::cli) fn columns<const N: usize>(
    heading: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = vec![heading.map(str::to_owned)];
    table.extend(rows);
    if table.len() == 1 {
        return String::new();
    }
    let mut widths = [0; N];
    for row in &table {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::from("\n");
    for row in &table {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `0.25 s`, `2 min 5 s`: as precise as a person needs.
pub(in crate::cli) fn seconds(seconds: f64) -> String {
    rough(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// The same for a duration.
pub(in crate::cli) fn rough(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..10 => format!("{:.2} s", time.as_secs_f64()),
        10..60 => format!("{whole} s"),
        _ => Rounded(time).to_string(),
    }
}

fn none() -> String {
    "-".to_owned()
}
