//! `docs/telemetry.md`, written from the catalogue, so that it cannot say anything else.

use std::fmt::Write;

use super::catalogue::story::{ATTRIBUTES, EVENTS, SPANS};
use super::catalogue::{self, Kind, Metric, NAMES, Unit, Values};

/// The whole page.
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    metrics(&mut page);
    spans(&mut page);
    attributes(&mut page);
    events(&mut page);
    page
}

const INTRODUCTION: &str = "\
# Telemetry

Written from the catalogue in `watchdog/src/telemetry/catalogue.rs`; a test fails when the two differ. To write it anew:
`UPDATE_DOCS=1 cargo test -p shard-watchdog --test telemetry_manual`.

The same numbers are on `/metrics` and, with `[otlp]` or the standard `OTEL_EXPORTER_OTLP_*` variables, in a collector: metrics,
traces and logs, over `http/protobuf` or `grpc`. Variables go before the config; `OTEL_METRICS_EXPORTER=none` (`TRACES`, `LOGS`) switches
one off, `OTEL_SDK_DISABLED=true` all. A collector that is slow, refuses or is gone delays nothing in the sidecar: what does not fit into the
bounded queues is dropped and counted in `shard_watchdog_telemetry_dropped_total`.

";

fn metrics(page: &mut String) {
    page.push_str("## Metrics\n\nEvery metric also has the label `shard`.\n\n");
    page.push_str("| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n");
    for metric in catalogue::ALL {
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
    let _ = writeln!(
        page,
        "\nNames of threads and channels come from the target: {NAMES} of each get a label of their own, the rest share `{}`. No label \
         ever holds a thread id, a process id, a work key or a trace id.\n",
        catalogue::OTHER
    );
    page.push_str("Buckets of the histograms, seconds:\n\n");
    for metric in catalogue::ALL {
        if let Kind::Histogram(bounds) = metric.kind {
            let bounds: Vec<_> = bounds.iter().map(ToString::to_string).collect();
            let _ = writeln!(page, "- `{}`: {}", metric.name, bounds.join(", "));
        }
    }
}

fn label(label: &catalogue::Label) -> String {
    let values = match &label.values {
        Values::Words(words) => words().join(", "),
        Values::Names => "names".to_owned(),
        Values::One => "one value".to_owned(),
    };
    format!("`{}`: {values}", label.name)
}

fn spans(page: &mut String) {
    page.push_str("\n## The trace of an incident\n\n");
    page.push_str(
        "One trace, with the times at which each part really began and ended. A span is sent once it has ended; the ids stand in \
         `incident.json`, so that an incident that spans a restart of the sidecar is still one trace.\n\n",
    );
    page.push_str("| span | from, to | attributes |\n| --- | --- | --- |\n");
    for span in SPANS {
        let attributes: Vec<_> = span.attributes.iter().map(|key| format!("`{key}`")).collect();
        row(page, &[&format!("`{}`", span.name), span.meaning, &attributes.join(", ")]);
    }
}

fn attributes(page: &mut String) {
    page.push_str("\n## Attributes\n\n| attribute | values | meaning |\n| --- | --- | --- |\n");
    for attribute in ATTRIBUTES {
        row(page, &[&format!("`{}`", attribute.key), attribute.bound.label(), attribute.meaning]);
    }
}

fn events(page: &mut String) {
    page.push_str("\n## Events in the log\n\nThe field `event` of a line says which kind it is.\n\n");
    page.push_str("| event | logged when |\n| --- | --- |\n");
    for event in EVENTS {
        row(page, &[&format!("`{}`", event.name), event.meaning]);
    }
}

fn row(page: &mut String, cells: &[&str]) {
    for cell in cells {
        let _ = write!(page, "| {} ", cell.replace('|', "\\|"));
    }
    page.push_str("|\n");
}
