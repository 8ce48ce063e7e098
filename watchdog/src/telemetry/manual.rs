//! `docs/telemetry.md`, written from the catalogue, so that it cannot say anything else.

use shard_telemetry::manual;

use super::catalogue;
use super::catalogue::story::{ATTRIBUTES, EVENTS, SPANS};

/// The whole page.
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("## Metrics\n\nEvery metric also has the label `shard`.\n\n");
    manual::metrics(&mut page, catalogue::ALL);
    page.push_str("\n## The trace of an incident\n\n");
    page.push_str(
        "One trace, with the times at which each part really began and ended. A span is sent once it has ended; the ids stand in \
         `incident.json`, so that an incident that spans a restart of the sidecar is still one trace.\n\n",
    );
    manual::spans(&mut page, SPANS);
    page.push_str("\n## Attributes\n\n");
    manual::attributes(&mut page, ATTRIBUTES);
    page.push_str("\n## Events in the log\n\nThe field `event` of a line says which kind it is.\n\n");
    manual::events(&mut page, EVENTS);
    page
}

const INTRODUCTION: &str = "\
# Telemetry

Written from the catalogue in `watchdog/src/telemetry/catalogue.rs`; a test fails when the two differ. To write it anew:
`UPDATE_DOCS=1 cargo test -p shard-watchdog --test telemetry_manual`.

The same numbers are on `/metrics` and, with `[otlp]` or the standard `OTEL_EXPORTER_OTLP_*` variables, in a collector: metrics,
traces and logs, over `http/protobuf` or `grpc`. Variables go before the config; `OTEL_METRICS_EXPORTER=none` (`TRACES`, `LOGS`) switches
one off, `OTEL_SDK_DISABLED=true` all. Over `https://` the collector must be certified by whom this machine trusts, or by those in
`OTEL_EXPORTER_OTLP_CERTIFICATE` and nobody else; `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` and `_CLIENT_KEY` certify the sidecar. A collector that is slow, refuses or is gone delays nothing in the sidecar: what does not fit into the
bounded queues is dropped and counted in `shard_watchdog_telemetry_dropped_total`. The executor has [a page of its own](telemetry-executor.md).

";
