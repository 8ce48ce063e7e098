//! Rows in which shard 0 loses a thread, makes no progress or ends, as data.

use std::time::Duration;

use super::super::recovers::{ENDED, GONE, STALLED};
use super::super::strike::{Step, Who};
use super::super::{Course, Need, Part, Recovers, Row};
use crate::cluster::Plan;
use crate::sidecar::Settings;

const fn row(
    number: &'static str,
    case: &'static str,
    what: &'static str,
    fault: &'static str,
    recovers: Recovers,
) -> Row {
    Row {
        number,
        case,
        part: Part::Seen,
        what,
        fault,
        needs: &[],
        alone: false,
        course: Course::Recovers(recovers),
    }
}

/// What `kill-thread` needs.
const PERL: &[Need] = &[Need::Program("perl", "perl-base"), Need::Root];

fn one_shard() -> Plan {
    Plan { shards: 1, ..Plan::coordinator_first() }
}

fn polling() -> Plan {
    Plan { settings: Settings { thread_events: "poll".to_owned(), ..Settings::default() }, ..Plan::default() }
}

fn on_two_threads() -> Plan {
    Plan { shard_arguments: vec!["--threads".to_owned(), "2".to_owned()], ..Plan::default() }
}

/// A rule of its own watches the thread that sends.
fn watched_sender() -> Plan {
    Plan { settings: Settings::default().thread_rule("send-s*", "1s"), ..Plan::default() }
}

fn stopped_for_two_seconds() -> Plan {
    let append = "[judge.excuse]\nstopped = { at_most = \"2s\", then = \"kill\" }\n".to_owned();
    Plan { settings: Settings { append, ..Settings::default() }, ..Plan::default() }
}

fn commands_kill() -> Plan {
    // A stall must not be detected first: the channel is what is tested.
    let settings = Settings { stall_after: "30s".to_owned(), ..Settings::default() };
    let limits = "max_age = \"1s\"\nconsumer = \"exec-s*\"";
    Plan { settings: settings.channel_rule("commands", limits, "kill"), ..Plan::default() }
}

fn exit_within_a_second() -> Plan {
    let judge = "exit_within = \"1s\"".to_owned();
    Plan { settings: Settings { judge, ..Settings::default() }, ..Plan::default() }
}

const PANIC: &[Step] = &[Step::Orders(&["hook off", "arm panic after 3"])];
const LOST_FROM_OUTSIDE: &[Step] = &[Step::Script("kill-thread", Who::Thread("exec-s0"))];
/// Otherwise the shard's own guard would end it.
const UNGUARDED: Step = Step::Set(&["hook off", "guard off"]);
const SENDER: Recovers = Recovers { plan: watched_sender, thread: Some("send-s0"), ..GONE };
const LEADER: Recovers = Recovers { reason: "leader_gone", thread: None, ..GONE };

pub(super) const ROWS: &[Row] = &[
    row(
        "poc",
        "",
        "the executor thread of the only shard dies, the coordinator asks",
        "order: panic, with hook and guard off",
        Recovers {
            plan: one_shard,
            steps: &[Step::Orders(&["hook off", "guard off", "arm panic after 3"])],
            ..GONE
        },
    ),
    row(
        "1",
        "",
        "panic on the executor thread, hook off",
        "order: panic, with the hook off",
        Recovers { steps: PANIC, ..GONE },
    ),
    row(
        "1",
        "polling",
        "the same, where the kernel has no pidfds of threads",
        "order: panic, with the hook off; the sidecar polls",
        Recovers { plan: polling, steps: PANIC, ..GONE },
    ),
    row(
        "1",
        "from-outside",
        "the executor thread ends, whoever wrote the process",
        "kill-thread --thread exec-s0",
        Recovers { steps: LOST_FROM_OUTSIDE, ..GONE },
    )
    .on(PERL),
    row(
        "2",
        "",
        "the same, hook on",
        "order: panic",
        Recovers {
            steps: &[Step::Orders(&["arm panic after 3"])],
            ends: Some("exit code 12"),
            says: &["a test armed this panic", "exec-s0"],
            ..ENDED
        },
    ),
    row(
        "3",
        "",
        "a pool worker panics while a sibling waits, hook off",
        "order: worker-panic, with the hook off",
        Recovers { steps: &[Step::Orders(&["hook off", "arm worker-panic after 3"])], ..STALLED },
    ),
    row(
        "3",
        "helper-spin",
        "a helper of the shard spins, and its owner waits for it",
        "order: helper-spin, with --threads 2",
        Recovers { plan: on_two_threads, steps: &[Step::Orders(&["arm helper-spin"])], ..STALLED },
    ),
    row(
        "3",
        "helper-panic",
        "a helper of the shard panics, and its owner ends",
        "order: helper-panic, with --threads 2 and the hook off",
        Recovers { plan: on_two_threads, steps: &[Step::Orders(&["hook off", "arm helper-panic"])], ..GONE },
    ),
    row(
        "4",
        "",
        "endless loop",
        "order: spin",
        Recovers { steps: &[Step::Orders(&["arm spin after 3"])], kind: Some("livelock"), ..STALLED },
    ),
    row(
        "5",
        "",
        "lock never given back",
        "order: deadlock",
        Recovers { steps: &[Step::Orders(&["arm deadlock after 3"])], kind: Some("deadlock"), ..STALLED },
    ),
    row(
        "9",
        "",
        "the thread that sends panics",
        "order: send-panic, with hook and guard off",
        Recovers { steps: &[Step::Orders(&["hook off", "guard off", "arm send-panic"])], ..SENDER },
    ),
    row(
        "9",
        "returns",
        "the thread that sends returns",
        "order: send-exit, with hook and guard off",
        Recovers { steps: &[Step::Orders(&["hook off", "guard off", "arm send-exit"])], ..SENDER },
    ),
    row(
        "9",
        "from-outside",
        "the thread that sends ends, whoever wrote the process",
        "kill-thread --thread send-s0, with hook and guard off",
        Recovers { steps: &[UNGUARDED, Step::Script("kill-thread", Who::Thread("send-s0"))], ..SENDER },
    )
    .on(PERL),
    row(
        "9",
        "guard",
        "the same, watched by no rule: the shard's own guard ends the process",
        "order: send-exit",
        Recovers { steps: &[Step::Orders(&["arm send-exit"])], ends: Some("exit code 14"), ..ENDED },
    ),
    row(
        "12",
        "",
        "SIGKILL",
        "SIGKILL through a pidfd",
        Recovers { steps: &[Step::Kill], ends: Some("SIGKILL"), ..ENDED },
    ),
    row(
        "13",
        "",
        "SIGSTOP for longer than its cap, 2 s",
        "stop-process",
        Recovers {
            plan: stopped_for_two_seconds,
            steps: &[Step::Held("stop-process", Who::Shard, &[])],
            reason: "stopped",
            thread: None,
            not_before: Duration::from_secs(2),
            ..GONE
        },
    ),
    row(
        "19",
        "",
        "the main thread ends, others live",
        "order: leader-exit",
        Recovers { steps: &[Step::Orders(&["arm leader-exit"])], ..LEADER },
    ),
    row(
        "19",
        "from-outside",
        "the same, whoever wrote the process",
        "kill-thread --thread PID",
        Recovers { steps: &[Step::Script("kill-thread", Who::Leader)], ..LEADER },
    )
    .on(PERL),
    row(
        "21",
        "",
        "the panic hook hangs",
        "order: hook-hang",
        Recovers { steps: &[Step::Orders(&["arm hook-hang after 3"])], says: &["last_words"], ..STALLED },
    ),
    row(
        "23",
        "",
        "commands pile up and nobody receives",
        "order: deaf",
        Recovers {
            plan: commands_kill,
            steps: &[Step::Orders(&["arm deaf"])],
            reason: "channel_lag",
            not_before: Duration::from_secs(1),
            says: &["commands"],
            ..GONE
        },
    ),
    row(
        "26",
        "",
        "a process begins to end and does not finish",
        "order: exit-hang",
        Recovers {
            plan: exit_within_a_second,
            steps: &[Step::Orders(&["arm exit-hang"])],
            reason: "exit_hung",
            thread: None,
            not_before: Duration::from_secs(1),
            ..GONE
        },
    ),
];
