//! What is told besides numbers: spans, their attributes, and the events in the log. Declared once, like the metrics.

/// How many different values an attribute or field may have, which decides where it may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// One of a few words of ours.
    Words,
    /// One in the life of a sidecar.
    One,
    /// As many as threads may be told apart: see [`super::NAMES`].
    Names,
    /// Without bound: never a label of a metric.
    Unbounded,
}

impl Bound {
    /// The word in the documentation.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Words => "a few words",
            Self::One => "one a sidecar",
            Self::Names => "names of threads",
            Self::Unbounded => "unbounded",
        }
    }
}

/// One attribute of spans and log records.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Its key.
    pub key: &'static str,
    /// How many values it may have.
    pub bound: Bound,
    /// What it tells.
    pub meaning: &'static str,
}

/// One span of an incident's trace.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its name.
    pub name: &'static str,
    /// From when to when, and what it tells.
    pub meaning: &'static str,
    /// Its attributes, by key.
    pub attributes: &'static [&'static str],
}

/// One kind of line in the log: the value of its field `event`.
#[derive(Clone, Copy, Debug)]
pub struct LogEvent {
    /// The word.
    pub name: &'static str,
    /// When it is logged.
    pub meaning: &'static str,
}

const fn attribute(key: &'static str, bound: Bound, meaning: &'static str) -> Attribute {
    Attribute { key, bound, meaning }
}

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

const fn event(name: &'static str, meaning: &'static str) -> LogEvent {
    LogEvent { name, meaning }
}

/// Every event.
pub const EVENTS: &[LogEvent] = &[
    event("started", "The sidecar has started; with its version, mode and addresses."),
    event("adopted", "A process was found, checked and is watched from now on."),
    event("refused", "A process that may not or cannot be watched, and why."),
    event("verdict", "The verdict changed; from what, to what, and why."),
    event("excuse", "Time of a thread does not count for now, and why."),
    event("excuse_over", "It counts again."),
    event("channel_late", "A channel waits longer, or is deeper, than its rule allows, and why."),
    event("channel_in_time", "It keeps within its rule again; after how long, and how deep it was at most."),
    event("incident_opened", "A verdict was a reason to kill, or the process ended by itself."),
    event("incident_step", "What happened next in an incident."),
    event("otlp_failing", "The collector does not take a signal; told once until it does again."),
    event("otlp_works", "It does again."),
];
