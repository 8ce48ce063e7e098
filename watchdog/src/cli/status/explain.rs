//! `--explain`: what stands between the target and a kill.

use shard_watchdog::status_json::{ChannelJson, StatusJson, ThreadJson};
use shard_watchdog::verdict::{Health, Verdict};

use super::table::{columns, plain, seconds};

/// Counted time against threshold for each thread, the excuses so far, and why it has not killed.
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
    text.push_str(&format!("\nwhy no kill: {}\n", why_not(status)));
    text
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
    let because = |what: &str| match &thread.kind {
        Some(kind) => format!("{what}: {}", plain(kind)),
        None => what.to_owned(),
    };
    match thread.health {
        Health::Starting => "not seen yet, within startup_grace".to_owned(),
        Health::Idle => "waits for work; nothing counts, however long".to_owned(),
        Health::Working => "makes progress".to_owned(),
        Health::Late => "past warn_after".to_owned(),
        Health::Stalled => because("past stall_after"),
        Health::Gone if thread.tid.is_none() => "no thread of this name is there".to_owned(),
        Health::Gone => "has ended while its process lives on".to_owned(),
        Health::Excused if thread.excuse_over_cap => {
            because("its time does not count, for longer than it should")
        }
        Health::Excused => because("its time does not count"),
    }
}

fn why_not(status: &StatusJson) -> &'static str {
    match status.verdict {
        Verdict::Healthy => "nothing is wrong",
        Verdict::Excused if status.threads.iter().any(|thread| thread.excuse_over_cap) => {
            "an excuse has reached its limit (judge.excuse): that is for a person to look at, never a reason to kill"
        }
        Verdict::Excused => {
            "what stands still is not the target's fault, and no excuse has reached its limit"
        }
        Verdict::Starting => "the target is within startup_grace",
        Verdict::Degraded => {
            "what is wrong is only reported: it is late, missing, or its rule says on = \"report\""
        }
        Verdict::Unguarded => "no target is watched: see the reason above",
        Verdict::Dying => "the target is ending already",
        Verdict::Dead | Verdict::Restarting => "the target is dead; its supervisor has to start it",
        Verdict::CrashLoop => "the same work killed it before; more killing would not help",
        Verdict::Condemned if status.mode == "observe" => {
            "kill.mode is \"observe\": it says what it would do, and a person switches killing on with \"enforce\""
        }
        Verdict::Condemned if status.paused_until.is_some() => "killing is paused",
        Verdict::Condemned if status.kills_left == Some(0) => {
            "the kill budget is spent; it refills with time (kill.budget)"
        }
        Verdict::Condemned => {
            "the kill is on its way, or the kernel refused the signal: see the incident and the log"
        }
    }
}
