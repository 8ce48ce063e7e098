//! The definition of a metric, and how a crate declares all of its own in one place: with
//! [`catalogue!`](crate::catalogue).
//!
//! Every metric also has the label `shard`, which is therefore not repeated. No label ever holds a
//! thread id, a process id, a work key or a trace id: each value would be a new series for ever.

/// Thread and channel names come from the target, which may be hostile: this many of each get a
/// label of their own, and the rest share [`OTHER`]. With seven values of `health` this stays below
/// the SDK's limit of 2,000 series.
pub const NAMES: usize = 256;
/// The label of all names beyond [`NAMES`].
pub const OTHER: &str = "other";

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// The name, exactly as Prometheus shows it.
    pub name: &'static str,
    /// The kind of its values.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: Unit,
    /// Its labels besides `shard`.
    pub labels: &'static [Label],
    /// What it measures, as a sentence.
    pub meaning: &'static str,
}

impl Metric {
    /// The largest number of its series in one sidecar (for a histogram: of sets of buckets).
    pub fn most_series(&self) -> usize {
        self.labels.iter().map(|label| label.values.most()).product()
    }
}

/// The kind of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, except when what it counts restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, with the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// The unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Seconds since 1970.
    UnixSeconds,
    /// Bytes.
    Bytes,
    /// A number of the named things.
    Count(&'static str),
    /// 0 or 1.
    Flag,
}

impl Unit {
    /// The unit in UCUM, as OpenTelemetry requires. What is counted stands in braces, and so does
    /// the unit of a flag: on a gauge, `1` would become `_ratio` on the way to Prometheus.
    pub const fn ucum(self) -> &'static str {
        match self {
            Self::Seconds | Self::UnixSeconds => "s",
            Self::Bytes => "By",
            Self::Count(of) => of,
            Self::Flag => "{flag}",
        }
    }
}

/// One label.
#[derive(Debug)]
pub struct Label {
    /// The name of the label.
    pub name: &'static str,
    /// The values that it may have.
    pub values: Values,
}

/// The values that a label may have.
#[derive(Debug)]
pub enum Values {
    /// One of these words.
    Words(fn() -> Vec<&'static str>),
    /// Names that the target chose, at most [`NAMES`] and [`OTHER`].
    Names,
    /// One value in the life of a sidecar.
    One,
}

impl Values {
    fn most(&self) -> usize {
        match self {
            Self::Words(words) => words().len(),
            Self::Names => NAMES + 1,
            Self::One => 1,
        }
    }
}

/// A label whose values are names that a target chose.
pub const fn names(name: &'static str) -> Label {
    Label { name, values: Values::Names }
}

/// A label with one of a few words as its value.
pub const fn words(name: &'static str, words: fn() -> Vec<&'static str>) -> Label {
    Label { name, values: Values::Words(words) }
}

/// A label with one value in the life of a process.
pub const fn one(name: &'static str) -> Label {
    Label { name, values: Values::One }
}

/// Declares metrics, each as a constant, and `ALL` of them in the order of the documentation.
#[macro_export]
macro_rules! catalogue {
    ($($const:ident: $name:literal, $kind:expr, $unit:expr, [$($label:expr),*], $meaning:literal;)+) => {
        $(#[doc = $meaning] pub const $const: $crate::metric::Metric = $crate::metric::Metric {
            name: $name, kind: $kind, unit: $unit, labels: &[$($label),*], meaning: $meaning,
        };)+
        /// All of them, in the order of the documentation.
        pub const ALL: &[&$crate::metric::Metric] = &[$(&$const),+];
    };
}

/// The SDK combines series beyond this limit into one of its own.
const SDK_LIMIT: usize = 2_000;

/// Labels whose values would be new series for ever, or that are always present.
const NO_LABELS: [&str; 7] = ["tid", "pid", "work_key", "attempt", "block", "trace_id", "shard"];

/// The problems of a catalogue, one sentence each; for a test in the crate that declares it.
pub fn complaints(all: &[&Metric]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut names: Vec<_> = all.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() != all.len() {
        wrong.push("a name stands twice".to_owned());
    }
    for metric in all {
        let name = metric.name;
        let before = wrong.len();
        if metric.most_series() >= SDK_LIMIT {
            wrong.push(format!("{name} may have {} series", metric.most_series()));
        }
        if (metric.kind == Kind::Counter) != name.ends_with("_total") {
            wrong.push(format!("{name} does not say its kind"));
        }
        let stem = name.trim_end_matches("_total");
        let seconds = matches!(metric.unit, Unit::Seconds | Unit::UnixSeconds);
        let bytes = metric.unit == Unit::Bytes;
        if seconds != stem.ends_with("_seconds") || bytes != stem.ends_with("_bytes") {
            wrong.push(format!("{name} does not say its unit"));
        }
        for label in metric.labels.iter().filter(|label| NO_LABELS.contains(&label.name)) {
            wrong.push(format!("{name} has the label {}", label.name));
        }
        if let Kind::Histogram(bounds) = metric.kind
            && !bounds.is_sorted_by(|a, b| a < b)
        {
            wrong.push(format!("the bounds of {name} do not ascend"));
        }
        let translated = translated(metric);
        if translated != name && wrong.len() == before {
            wrong.push(format!("{name} becomes {translated} on the way from OTLP to Prometheus"));
        }
    }
    wrong
}

/// The name that a collector or Prometheus itself gives a metric that it received by OTLP. These
/// are the rules of Prometheus' own library for it, `prometheus/otlptranslator`, and of
/// OpenTelemetry's page on compatibility with Prometheus:
///
/// 1. Underscores that follow each other become one.
/// 2. The word for the unit is appended, unless it is one of the name's words already. Braces and
///    what they contain have no word, and neither has `1`.
/// 3. A counter ends in `_total`, once.
/// 4. A gauge with the unit `1` ends in `_ratio`.
fn translated(metric: &Metric) -> String {
    let unit = metric.unit.ucum();
    let mut words: Vec<_> = metric.name.split('_').filter(|word| !word.is_empty()).collect();
    let word = match unit {
        "s" => "seconds",
        "By" => "bytes",
        "1" => "",
        counted if counted.contains(['{', '}']) => "",
        other => other,
    };
    if !word.is_empty() && !words.contains(&word) {
        words.push(word);
    }
    let end = match metric.kind {
        Kind::Counter => "total",
        Kind::Gauge if unit == "1" => "ratio",
        Kind::Gauge | Kind::Histogram(_) => return words.join("_"),
    };
    words.retain(|word| *word != end);
    words.push(end);
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &'static str, kind: Kind, unit: Unit, labels: &'static [Label]) -> Metric {
        Metric { name, kind, unit, labels, meaning: "It." }
    }

    #[test]
    fn a_catalogue_that_would_mislead_is_complained_about() {
        let fine = metric("a_seconds", Kind::Histogram(&[0.1, 1.0]), Unit::Seconds, &[]);
        assert_eq!(complaints(&[&fine]), Vec::<String>::new());
        let each = [
            metric("a", Kind::Counter, Unit::Flag, &[]),
            metric("a_total", Kind::Gauge, Unit::Flag, &[]),
            metric("a", Kind::Gauge, Unit::Bytes, &[]),
            metric("a_seconds", Kind::Gauge, Unit::Flag, &[]),
            metric("a_seconds", Kind::Histogram(&[1.0, 0.1]), Unit::Seconds, &[]),
            metric("a", Kind::Gauge, Unit::Flag, const { &[one("pid")] }),
            metric("a", Kind::Gauge, Unit::Flag, const { &[names("thread"), names("channel")] }),
        ];
        for wrong in &each {
            assert_eq!(complaints(&[wrong]).len(), 1, "{wrong:?}");
        }
        assert_eq!(complaints(&[&fine, &fine]), ["a name stands twice"]);
    }

    #[test]
    fn a_name_that_changes_on_the_way_from_otlp_to_prometheus_is_complained_about() {
        let of = |name, kind, unit| translated(&metric(name, kind, unit, &[]));
        assert_eq!(of("up", Kind::Gauge, Unit::Count("1")), "up_ratio");
        assert_eq!(of("up", Kind::Gauge, Unit::Count("things")), "up_things");
        assert_eq!(of("up", Kind::Gauge, Unit::Flag), "up");
        assert_eq!(of("age__of", Kind::Gauge, Unit::Seconds), "age_of_seconds");
        assert_eq!(of("read_bytes_total", Kind::Counter, Unit::Bytes), "read_bytes_total");
        let ratio = metric("up", Kind::Gauge, Unit::Count("1"), &[]);
        let told = complaints(&[&ratio]);
        assert_eq!(told, ["up becomes up_ratio on the way from OTLP to Prometheus"]);
    }
}
