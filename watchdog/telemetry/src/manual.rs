//! The tables of a documentation page, generated from a catalogue so that the two cannot differ.

use std::fmt::Write;

use crate::metric::{Kind, Label, Metric, NAMES, OTHER, Unit, Values};
use crate::story::{Attribute, LogEvent, Span};

/// All metrics, with the buckets of histograms.
pub fn metrics(page: &mut String, all: &[&Metric]) {
    page.push_str("| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n");
    for metric in all {
        let Metric { name, kind, unit, meaning, .. } = metric;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let unit = match unit {
            Unit::Seconds => "seconds",
            Unit::UnixSeconds => "seconds since 1970",
            Unit::Bytes => "bytes",
            Unit::Count(of) => of.trim_matches(['{', '}']),
            Unit::Flag => "0 or 1",
        };
        let labels: Vec<_> = metric.labels.iter().map(label).collect();
        row(page, &[&format!("`{name}`"), kind, unit, &labels.join("; "), meaning]);
    }
    page.push('\n');
    if all.iter().flat_map(|metric| metric.labels).any(|label| matches!(label.values, Values::Names)) {
        let _ = write!(
            page,
            "Names of threads and channels come from the target: {NAMES} of each get a label of their own, the rest share `{OTHER}`. "
        );
    }
    page.push_str("No label ever holds a thread id, a process id, a work key or a trace id.\n\n");
    page.push_str("Buckets of the histograms, seconds:\n\n");
    for metric in all {
        if let Kind::Histogram(bounds) = metric.kind {
            let bounds: Vec<_> = bounds.iter().map(ToString::to_string).collect();
            let _ = writeln!(page, "- `{}`: {}", metric.name, bounds.join(", "));
        }
    }
}

fn label(label: &Label) -> String {
    let values = match &label.values {
        Values::Words(words) => words().join(", "),
        Values::Names => "names".to_owned(),
        Values::One => "one value".to_owned(),
    };
    format!("`{}`: {values}", label.name)
}

/// All spans, in the order in which they begin.
pub fn spans(page: &mut String, all: &[Span]) {
    page.push_str("| span | from, to | attributes |\n| --- | --- | --- |\n");
    for span in all {
        let attributes: Vec<_> = span.attributes.iter().map(|key| format!("`{key}`")).collect();
        row(page, &[&format!("`{}`", span.name), span.meaning, &attributes.join(", ")]);
    }
}

/// All attributes of spans.
pub fn attributes(page: &mut String, all: &[Attribute]) {
    page.push_str("| attribute | values | meaning |\n| --- | --- | --- |\n");
    for attribute in all {
        row(page, &[&format!("`{}`", attribute.key), attribute.bound.label(), attribute.meaning]);
    }
}

/// All events in the log.
pub fn events(page: &mut String, all: &[LogEvent]) {
    page.push_str("| event | logged when |\n| --- | --- |\n");
    for event in all {
        row(page, &[&format!("`{}`", event.name), event.meaning]);
    }
}

fn row(page: &mut String, cells: &[&str]) {
    for cell in cells {
        let _ = write!(page, "| {} ", cell.replace('|', "\\|"));
    }
    page.push_str("|\n");
}
