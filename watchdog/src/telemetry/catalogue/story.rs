//! The sidecar's telemetry other than metrics: attributes, spans and events.

use shard_telemetry::story::{Attribute, Bound, LogEvent, Span, attribute, event};

/// Every attribute.
pub const ATTRIBUTES: &[Attribute] = &[
    attribute("shard", Bound::One, "The shard that the sidecar watches."),
    attribute("incident.id", Bound::Unbounded, "The incident's id, which also names its folder."),
    attribute("incident.reason", Bound::Words, "Why it was opened, as in `reason` of the metrics."),
    attribute("incident.status", Bound::Words, "How it ended: recovered, abandoned or interrupted."),
    attribute("incident.why", Bound::Unbounded, "The sentence that a person reads."),
    attribute("watchdog.mode", Bound::Words, "`observe` or `enforce`, at the verdict."),
    attribute("process.pid", Bound::Unbounded, "The process at fault, as the sidecar sees it."),
    attribute("thread.name", Bound::Names, "The thread at fault."),
    attribute("thread.id", Bound::Unbounded, "Its thread id."),
    attribute("stall.kind", Bound::Words, "How it stands still, for a stall."),
    attribute("work.key", Bound::Unbounded, "What it worked on: the block."),
    attribute("work.attempt", Bound::Unbounded, "Which attempt at it."),
    attribute("detail", Bound::Unbounded, "More about a step, for a person."),
    attribute("link", Bound::Words, "On the link of the root: what is linked to."),
];

/// Every span, in the order in which they begin.
pub const SPANS: &[Span] = &[
    Span {
        name: "incident",
        meaning: "The root: from the last progress to the recovery, or to where the story ends. Linked to the trace of the work \
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
        ],
    },
    Span {
        name: "stall",
        meaning: "From the last progress to the verdict.",
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
    event("file_limit_raised", "The sidecar has lifted its soft limit of open files; from what to what."),
    event(
        "few_descriptors",
        "Its limit of open files is too low for the threads that are to be watched, and what would be enough.",
    ),
    event("accept_failed", "HTTP could not accept a connection, and why; told once until it can."),
    event(
        "telemetry_setting",
        "A variable or a file for telemetry cannot be used, and what is done instead; told once, at the start.",
    ),
    event(
        "service_manager",
        "NOTIFY_SOCKET names nothing that can be told anything, and why; told once, at the start. The shard is watched.",
    ),
    event("token_refused", "The file with the token for commands cannot be trusted, and why."),
    event("adopted", "A process was found, checked and is watched from now on."),
    event("refused", "A process that may not or cannot be watched, and why."),
    event("verdict", "The verdict changed; from what, to what, and why."),
    event("excuse", "Time of a thread does not count for now, and why."),
    event("excuse_over", "It counts again."),
    event(
        "excuse_over_cap",
        "An excuse has lasted as long as it may. Nobody is killed for it; a person should look.",
    ),
    event("channel_late", "A channel waits longer, or is deeper, than its rule allows, and why."),
    event("channel_in_time", "It keeps within its rule again; after how long, and how deep it was at most."),
    event(
        "shadow_would_kill",
        "The policy of `[shadow]` would have killed, and why; with the live verdict. Nobody is signalled for it.",
    ),
    event("paused", "A person paused killing: until when, why and by whom."),
    event("pause_over", "Killing is no longer paused: its time is over, or somebody ended it."),
    event("shadow_withheld", "The same, had its budget not been spent."),
    event("shadow_lifted", "What it would have killed goes on: that kill would have been wrong, or early."),
    event("incident_opened", "A verdict was a reason to kill, or the process ended by itself."),
    event("incident_step", "What happened next in an incident."),
    event(
        "crash_loop",
        "The same work was in flight at one death too many, and which: nothing is killed for it any more.",
    ),
    event("cleared", "A person ended crash loops; who, and of which work."),
    event("crash_loop_over", "It was cleared, or forgotten because there were too many."),
    event(
        "no_place",
        "The lock file beside the segment is a stranger's: the shard is watched, and its executor is not told so.",
    ),
    event(
        "not_listening",
        "A listener cannot be had, and why; told once for each reason. The shard is watched, and it is tried again.",
    ),
    event("listening", "It is there now."),
    event("recorder_failing", "The long-term recording cannot be written, and why; told once until it can."),
    event("recorder_works", "It can again."),
    event("otlp_failing", "The collector does not take a signal; told once until it does again."),
    event("otlp_works", "It does again."),
];
