//! Telemetry other than metrics: spans, their attributes, and the events in the log. Each crate
//! declares its own once, like its metrics.

/// How many different values an attribute or field may have, which decides where it may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// One of a few words of this project.
    Words,
    /// One value in the life of a process.
    One,
    /// At most as many as there are distinct thread names: see [`NAMES`](crate::metric::NAMES).
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
    /// The key of the attribute.
    pub key: &'static str,
    /// How many values it may have.
    pub bound: Bound,
    /// What its value means.
    pub meaning: &'static str,
}

/// One span of a trace.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The name of the span.
    pub name: &'static str,
    /// Its beginning and end, and what it represents.
    pub meaning: &'static str,
    /// The keys of its attributes.
    pub attributes: &'static [&'static str],
}

/// One kind of line in the log: the value of its field `event`.
#[derive(Clone, Copy, Debug)]
pub struct LogEvent {
    /// The value of the field.
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
