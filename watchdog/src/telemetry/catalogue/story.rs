//! The sidecar's telemetry other than metrics: attributes, spans and events.

use shard_telemetry::story::{Attribute, Bound, LogEvent, Span, attribute, event};

/// Every attribute.
pub const ATTRIBUTES: &[Attribute] = &[
    attribute("shard", Bound::One, "The shard that the sidecar watches."),
    attribute("incident.id", Bound::Unbounded, "The incident's id, which also names its folder."),
    attribute("incident.reason", Bound::Words, "Why it was opened, as in `reason` of the metrics."),
    attribute("incident.status", Bound::Words, "How it ended: recovered, abandoned or interrupted."),
    attribute("incident.why", Bound::Unbounded, "The reason in one sentence."),
    attribute("watchdog.mode", Bound::Words, "`observe` or `enforce`, at the verdict."),
    attribute("process.pid", Bound::Unbounded, "The process at fault, as the sidecar sees it."),
    attribute("thread.name", Bound::Names, "The thread at fault."),
    attribute("thread.id", Bound::Unbounded, "Its thread id."),
    attribute("stall.kind", Bound::Words, "The kind of a stall."),
    attribute("work.key", Bound::Unbounded, "What it worked on: the block."),
    attribute("work.attempt", Bound::Unbounded, "Which attempt at that work."),
    attribute("work.section", Bound::Unbounded, "In which section of it the thread was, if it names one."),
    attribute("detail", Bound::Unbounded, "More about a step, for a person."),
    attribute("link", Bound::Words, "On the link of the root: what it links to."),
];

/// Every span, in the order in which they begin.
pub const SPANS: &[Span] = &[
    Span {
        name: "incident",
        meaning: "The root: from the last progress to the recovery, or to the end of the incident. Linked to the trace of the work \
                  that was in flight; its events are all steps of the timeline.",
        attributes: &[
            "shard",
            "incident.id",
            "incident.reason",
            "incident.status",
            "incident.why",
            "watchdog.mode",
            "process.pid",
            "thread.name",
            "thread.id",
            "stall.kind",
            "work.key",
            "work.attempt",
            "work.section",
        ],
    },
    Span {
        name: "stall",
        meaning: "From the last progress to the verdict.",
        attributes: &["shard", "detail"],
    },
    Span {
        name: "evidence",
        meaning: "From the verdict until evidence of the process was gathered, or its time limit was reached.",
        attributes: &["shard", "detail"],
    },
    Span {
        name: "signal",
        meaning: "From the verdict, or the signal before, until this signal was sent; an error if the kernel refused it.",
        attributes: &["shard", "detail"],
    },
    Span {
        name: "exit",
        meaning: "From the first signal, or else the verdict, to the death of the process.",
        attributes: &["shard", "detail"],
    },
    Span {
        name: "restart",
        meaning: "From the death to the next process.",
        attributes: &["shard", "detail"],
    },
    Span {
        name: "recover",
        meaning: "From the next process to its first finished work.",
        attributes: &["shard", "detail"],
    },
];

/// Every event.
pub const EVENTS: &[LogEvent] = &[
    event("started", "The sidecar has started; with its version, mode and addresses."),
    event(
        "file_limit_raised",
        "The sidecar has raised its soft limit of open files; with the old limit and the new one.",
    ),
    event(
        "few_descriptors",
        "The limit of open files is too low for the threads to be watched; with one that would be enough.",
    ),
    event(
        "check",
        "What `shard-watchdog check` warns of on this machine, with `topic`, `key` and `line`; each is reported once, at the \
         start or as soon as the target has had time to register its threads.",
    ),
    event("accept_failed", "HTTP could not accept a connection, and why; reported once until it can."),
    event(
        "telemetry_setting",
        "A variable or a file for telemetry cannot be used, and what is done instead; reported once, at the start.",
    ),
    event(
        "service_manager",
        "NOTIFY_SOCKET cannot be used to notify anything, and why; reported once, at the start. The shard is watched.",
    ),
    event("token_refused", "The file with the token for commands cannot be trusted, and why."),
    event(
        "reloaded",
        "The config was read again; what has changed (`now`), and what waits for the next start (`at_start`).",
    ),
    event(
        "reload_refused",
        "The config was read again and cannot be used, and why; the one before stays in force.",
    ),
    event("adopted", "A process was found, checked and is watched from now on."),
    event("refused", "A process was found that must not or cannot be watched, and why."),
    event("verdict", "The verdict has changed; from what, to what, and why."),
    event("excuse", "The time of a thread does not count for now, and why."),
    event("excuse_over", "The time of that thread counts again."),
    event(
        "excuse_over_cap",
        "An excuse has lasted as long as it may. Nothing is killed for it; a person should investigate.",
    ),
    event(
        "channel_late",
        "Messages of a channel have waited longer, or more of them wait, than its rule allows, and why.",
    ),
    event("channel_in_time", "The channel is within its rule again; after how long, and its greatest depth."),
    event(
        "silent",
        "Threads have begun no work for as long as `idle_at_most` allows, although there was some; which, and what showed it.",
    ),
    event("late", "A thread at work has made no progress for `warn_after`; how long, and the threshold."),
    event("near_miss", "That is over; how it ended, how long it lasted, and what the thread was doing."),
    event(
        "evidence_limited",
        "Evidence of an incident would be incomplete for want of a permission; what to grant.",
    ),
    event("silent_over", "Those threads began work; how long after the silence horizon."),
    event(
        "shadow_would_kill",
        "The policy of `[shadow]` would have killed, and why; with the live verdict. No signal is sent.",
    ),
    event("paused", "A person paused killing: until when, why and by whom."),
    event("pause_over", "Killing is no longer paused: its time is over, or a person ended it."),
    event(
        "shadow_withheld",
        "The policy of `[shadow]` would have killed, had its budget not been exhausted.",
    ),
    event(
        "shadow_lifted",
        "What the policy of `[shadow]` would have killed has continued: that kill would have been wrong, or early.",
    ),
    event("incident_opened", "A verdict was a reason to kill, or the process ended by itself."),
    event("incident_step", "The next step of an incident."),
    event(
        "crash_loop",
        "The same work was in flight at too many deaths, and which: nothing is killed for it any more.",
    ),
    event("cleared", "A person ended crash loops; who, and for which work."),
    event("crash_loop_over", "A crash loop was cleared, or forgotten because there were too many."),
    event(
        "no_place",
        "The lock file beside the segment belongs to an unrelated user: the shard is watched, but its executor is not told so.",
    ),
    event(
        "not_listening",
        "A listener cannot be opened, and why; reported once per reason. The shard is watched, and the sidecar retries.",
    ),
    event("listening", "The listener is open now."),
    event(
        "recorder_failing",
        "The long-term recording cannot be written, and why; reported once until it can.",
    ),
    event("recorder_works", "The long-term recording can be written again."),
    event(
        "heartbeat_out_failing",
        "The service of `[heartbeat_out]` does not accept signs of life, and why; reported once until it does.",
    ),
    event("heartbeat_out_works", "That service accepts them again."),
    event("otlp_failing", "The collector does not accept a signal; reported once until it does again."),
    event(
        "otlp_refused",
        "The collector refused items of a signal for good, and why; with the number dropped. Reported at most once in ten minutes.",
    ),
    event("otlp_works", "The collector accepts that signal again."),
];
