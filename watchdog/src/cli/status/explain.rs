//! `--explain`: what prevents a kill of the target.

use std::fmt::Write as _;

use shard_watchdog::status_json::{ChannelJson, StatusJson, ThreadJson, brakes};
use shard_watchdog::verdict::{Health, Unobserved};

use super::table::{columns, plain, seconds};

/// Counted time against the threshold of each thread, the excuses so far, and why it has not
/// killed.
pub(super) fn explained(status: &StatusJson) -> String {
    let rows = status.threads.iter().map(|thread| {
        let (against, share) = if thread.stall_after_seconds > 0.0 {
            let share = 100.0 * thread.counted_seconds / thread.stall_after_seconds;
            (seconds(thread.stall_after_seconds), format!("{share:.0} %"))
        } else {
            ("not judged".to_owned(), "-".to_owned())
        };
        [plain(&thread.name), seconds(thread.counted_seconds), against, share, remark(thread)]
    });
    let mut text = columns(["THREAD", "COUNTED", "THRESHOLD", "USED", "REMARK"], rows);
    let ruled = status.channels.iter().filter(|channel| channel.max_age_seconds.is_some() || channel.late);
    let rows: Vec<_> = ruled.map(channel_row).collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&columns(["CHANNEL", "OLDEST", "MAX AGE", "COUNTED", "REMARK"], rows.into_iter()));
    }
    text.push_str(&excuses(status));
    let excused: Vec<String> = status
        .excused_seconds
        .iter()
        .map(|(kind, time)| format!("{} {}", plain(kind), seconds(*time)))
        .collect();
    if !excused.is_empty() {
        text.push_str(&format!("\nexcused so far: {}\n", excused.join(", ")));
    }
    if let Some(events) = &status.thread_events {
        let how = if events == "pidfd" { "by an event, at once" } else { "by looking, every 20 ms" };
        text.push_str(&format!("\nthe end of a thread is seen {how}\n"));
    }
    text.push_str("\nwhy no kill:\n");
    // A sidecar of an older version does not report this.
    let brakes = if status.no_kill.is_empty() { brakes::of(status) } else { status.no_kill.clone() };
    for brake in brakes {
        text.push_str(&format!("  {}: {}\n", plain(&brake.because), plain(&brake.why)));
    }
    text
}

/// Every excuse of every thread since its last progress, and those of the whole process.
fn excuses(status: &StatusJson) -> String {
    let of_threads = status.threads.iter().flat_map(|thread| {
        thread.excuses.iter().map(move |excuse| {
            let cap = excuse.at_most_seconds.map_or_else(|| "none".to_owned(), seconds);
            let now = match (excuse.running, thread.excuse_over_cap) {
                (true, true) => "holds, beyond its cap",
                (true, false) => "holds",
                (false, _) => "over",
            };
            [plain(&thread.name), excuse.kind.to_string(), seconds(excuse.seconds), cap, now.to_owned()]
        })
    });
    let of_process = status.deadlines.iter().map(|deadline| {
        let then = if deadline.kills { "runs, then it is condemned" } else { "runs" };
        let [lasted, cap] = [deadline.seconds, deadline.at_most_seconds].map(seconds);
        ["the process".to_owned(), plain(&deadline.what), lasted, cap, then.to_owned()]
    });
    columns(["OF", "EXCUSE", "LASTED", "CAP", "NOW"], of_threads.chain(of_process))
}

fn channel_row(channel: &ChannelJson) -> [String; 5] {
    let limit = channel.max_age_seconds.map_or_else(|| "-".to_owned(), seconds);
    let counted = channel.counted_seconds.map_or_else(|| "not judged".to_owned(), seconds);
    let remark = match (channel.depth, channel.late, channel.counted_seconds) {
        (0, _, _) => "nothing waits",
        (_, false, _) => "within its rule",
        (_, true, None) => "beyond its rule, which only reports",
        (_, true, Some(0.0)) => "beyond its rule; its consumer receives, is at work or could not run",
        (_, true, Some(_)) => "beyond its rule; its consumer could have received and did not",
    };
    [plain(&channel.name), seconds(channel.age_seconds), limit, counted, remark.to_owned()]
}

fn remark(thread: &ThreadJson) -> String {
    let mut told = state(thread);
    if let (Some(section), Some(given)) = (&thread.section, thread.section_stall_after_seconds) {
        // Writing to a String cannot fail.
        let _ = write!(told, "; its section {} is allowed {}", plain(section), seconds(given));
        if let Some(rule) = thread.rule_stall_after_seconds {
            let _ = write!(told, ", its rule allows {} otherwise", seconds(rule));
        }
    } else if let Some(section) = &thread.section {
        let _ = write!(told, "; in its section {}", plain(section));
    }
    let given = thread.section_stall_after_seconds.or(thread.rule_stall_after_seconds);
    let Some(given) = given.filter(|given| *given != thread.stall_after_seconds) else { return told };
    let whose = if thread.section_stall_after_seconds.is_some() { "section" } else { "rule" };
    let allowed = seconds(given);
    told + &if thread.stall_after_seconds < given {
        format!("; its work has a deadline of its own, its {whose} allows {allowed}")
    } else {
        format!("; this is its first piece of work, its {whose} allows {allowed} for later ones")
    }
}

fn state(thread: &ThreadJson) -> String {
    let because = |what: &str| match &thread.kind {
        Some(kind) => format!("{what}: {}", plain(kind)),
        None => what.to_owned(),
    };
    match thread.health {
        _ if thread.unobserved == Some(Unobserved::NoDescriptors) => {
            "not observed: the sidecar has no descriptors left for it".to_owned()
        }
        _ if thread.unobserved == Some(Unobserved::Unreadable) => {
            "not observed: /proc tells nothing of it; nothing counts".to_owned()
        }
        Health::Starting => "not seen yet, within startup_grace".to_owned(),
        Health::Idle => idle(thread),
        Health::Working => "makes progress".to_owned(),
        Health::Late if thread.silent_seconds.is_some() => idle(thread),
        Health::Late => "past warn_after".to_owned(),
        Health::Stalled => because("past its threshold"),
        Health::Gone if thread.tid.is_none() => "no thread of this name is there".to_owned(),
        Health::Gone => "has ended while its process lives on".to_owned(),
        Health::Excused if thread.excuse_over_cap => {
            because("its time does not count, for longer than it should")
        }
        Health::Excused => because("its time does not count"),
    }
}

/// What counts against a thread that is idle.
fn idle(thread: &ThreadJson) -> String {
    let Some((counted, limit)) = thread.idle_counted_seconds.zip(thread.idle_at_most_seconds) else {
        return "waits for work; nothing counts, however long".to_owned();
    };
    let (so_far, limit) = (seconds(counted), seconds(limit));
    match thread.silent_seconds {
        Some(beyond) => {
            let beyond = seconds(beyond);
            format!("begins no work although there is some: for {so_far} of {limit}; silent for {beyond}")
        }
        None if counted > 0.0 => {
            format!("has begun no work although there was some: for {so_far} of {limit}")
        }
        None => format!("waits for work; nothing counts until there is some (at most {limit} then)"),
    }
}
