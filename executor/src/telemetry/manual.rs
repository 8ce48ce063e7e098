//! `docs/telemetry-executor.md`, generated from the catalogue, so that they cannot differ.

use shard_telemetry::manual;

use super::catalogue;
use super::catalogue::story::{ATTRIBUTES, SPANS};

/// The whole page.
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str(
        "## Metrics\n\nEvery metric also has the label `shard`: a shard's number, or `coordinator`.\n\n",
    );
    manual::metrics(&mut page, catalogue::ALL);
    page.push_str("\n## The trace of a block\n\n");
    page.push_str(
        "One trace a block, through the coordinator and its shards. If a block takes a shard with it, the sidecar's `incident` links to \
         the `part` that was in flight.\n\n",
    );
    manual::spans(&mut page, SPANS);
    page.push_str("\n## Attributes\n\n");
    manual::attributes(&mut page, ATTRIBUTES);
    page
}

const INTRODUCTION: &str = "\
# Telemetry of the executor

Written from the catalogue in `executor/src/telemetry/catalogue.rs`; a test fails if the two differ. To regenerate it:
`UPDATE_DOCS=1 cargo test -p shard-executor --test telemetry`. The sidecar has [a page of its own](telemetry.md).

`coordinator` and `shard` serve `GET /metrics` on `--metrics ADDR`, and send metrics, traces and logs to a collector if the standard
variables name one: `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_METRICS_ENDPOINT`, `…_TRACES_ENDPOINT`, `…_LOGS_ENDPOINT`),
`OTEL_EXPORTER_OTLP_PROTOCOL` = `http/protobuf` or `grpc`, `OTEL_METRIC_EXPORT_INTERVAL` in milliseconds; `OTEL_METRICS_EXPORTER=none`
(`TRACES`, `LOGS`) switches one off, `OTEL_SDK_DISABLED=true` all. `OTEL_TRACES_SAMPLER` = `traceidratio` with `OTEL_TRACES_SAMPLER_ARG` = `0.01` on the coordinator traces every
hundredth block. All variables, and what happens with one that cannot be used, are in [the table](telemetry.md#variables-of-opentelemetry): none prevents
the executor from running. What a collector does not accept is sent again or dropped and counted ([which](telemetry.md#what-a-collector-answers)), and no block waits for it. `--metrics` answers to
addresses and `localhost`, and to the names of `--metrics-hosts`.

";
