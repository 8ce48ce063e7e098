//! What is told besides numbers: spans, their attributes, and the events in the log. Each crate
//! declares its own once, like its metrics.

/// How many different values an attribute or field may have, which decides where it may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// One of a few words of ours.
    Words,
    /// One in the life of a process.
    One,
    /// As many as threads may be told apart: see [`NAMES`](crate::metric::NAMES).
    Names,
    /// Without bound: never a label of a metric.
    Unbounded,
}

impl Bound {
    /// The word in the documentation.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Words => "a few words",
            Self::One => "one a process",
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

/// One span of a trace.
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

/// Declares an attribute.
pub const fn attribute(key: &'static str, bound: Bound, meaning: &'static str) -> Attribute {
    Attribute { key, bound, meaning }
}

/// Declares an event.
pub const fn event(name: &'static str, meaning: &'static str) -> LogEvent {
    LogEvent { name, meaning }
}
