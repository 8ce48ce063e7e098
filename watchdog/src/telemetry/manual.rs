//! `docs/telemetry.md`, generated from the catalogue so that the two cannot differ.

use shard_telemetry::manual;

use super::catalogue;
use super::catalogue::story::{ATTRIBUTES, EVENTS, SPANS};

/// The whole page.
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str(VARIABLES);
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

Written from the catalogue in `watchdog/src/telemetry/catalogue.rs`; a test fails if the two differ. To regenerate it:
`UPDATE_DOCS=1 cargo test -p shard-watchdog --test telemetry_manual`.

The same numbers are on `/metrics` and, with `[otlp]` or the standard `OTEL_EXPORTER_OTLP_*` variables, in a collector: metrics,
traces and logs, over `http/protobuf` or `grpc`. Variables override the config. Over `https://` the collector's certificate must be signed by an authority that this machine trusts, or, if it is set, by one in
`OTEL_EXPORTER_OTLP_CERTIFICATE`; `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` and `_CLIENT_KEY` authenticate the sidecar. A collector that is slow, refuses or is gone delays nothing in the sidecar: items that it refuses, or that do not fit into the
bounded queues, are dropped and counted in `shard_watchdog_telemetry_dropped_total`. The executor has [a page of its own](telemetry-executor.md).

## What a collector answers

As OTLP specifies. What may be sent again is kept, in order, until the queue is full; the longest pause is 30 s, or up to 5 minutes if
the collector asks for it (`Retry-After` in seconds, `RetryInfo`). What is refused for good leaves the queue at once, so that it holds up nothing behind it.

| answer over HTTP | over gRPC | log records and spans |
| --- | --- | --- |
| none; 429, 502, 503, 504 | none; `CANCELLED`, `DEADLINE_EXCEEDED`, `ABORTED`, `OUT_OF_RANGE`, `UNAVAILABLE`, `DATA_LOSS`; `RESOURCE_EXHAUSTED` with `RetryInfo` | kept and sent again (events `otlp_failing`, `otlp_works`) |
| 413 | `RESOURCE_EXHAUSTED` or `OUT_OF_RANGE` whose message says that the request is too large | sent again in halves; an item that is too large by itself is dropped and counted (`otlp_refused`) |
| any other | any other | dropped and counted (`otlp_refused`) |
| 200 with rejected items | OK with rejected items | the rejected ones are counted (`otlp_refused`) |

Metrics are cumulative, so the next collection makes up for one that was not accepted; each such collection counts as one.

## Names and resource

A collector or Prometheus that translates OTLP changes no name: a metric has the same name on `/metrics` and by every other way. Metrics
carry a resource that outlives the process (`service.name`, `service.version`, `service.instance.id` and `shard`), so that a restart of the sidecar begins no
new series; log records and spans carry `process.pid` as well.

";

const VARIABLES: &str = "\
## Variables of OpenTelemetry

Telemetry is optional: a variable that cannot be used counts as not set, is named in one warning at the start (event `telemetry_setting`;
`check` reports the same for its own environment), and prevents nothing from running. Blanks around a value are ignored. A value in the
config file that cannot be used is an error of that file. No value of a header, and nothing in an address that may be a secret, is logged.

| variable | allowed values | if not set, or not usable |
| --- | --- | --- |
| `OTEL_EXPORTER_OTLP_ENDPOINT` | base address, `http://` or `https://`; over HTTP `/v1/metrics`, `/v1/logs` or `/v1/traces` is put after its path, before its query | `otlp.endpoint` of the config; without one nothing is sent |
| `OTEL_EXPORTER_OTLP_{METRICS,LOGS,TRACES}_ENDPOINT` | address of that kind, used unchanged | the base address |
| `OTEL_EXPORTER_OTLP_PROTOCOL`, `…_{METRICS,LOGS,TRACES}_PROTOCOL` | `http/protobuf`, `grpc` | `otlp.protocol`, or `http/protobuf`; the same for `http/json`, which is not supported |
| `OTEL_EXPORTER_OTLP_TIMEOUT`, `…_{METRICS,LOGS,TRACES}_TIMEOUT` | milliseconds, at most 300000; 0 means the maximum | 10000 |
| `OTEL_EXPORTER_OTLP_COMPRESSION`, `…_{METRICS,LOGS,TRACES}_COMPRESSION` | `gzip`, `none` | `none` |
| `OTEL_EXPORTER_OTLP_HEADERS`, `…_{METRICS,LOGS,TRACES}_HEADERS` | `key=value,key=value`, percent-encoded | a bad entry is left out, the others are sent |
| `OTEL_EXPORTER_OTLP_CERTIFICATE`, `…_CLIENT_CERTIFICATE`, `…_CLIENT_KEY`, and each for one kind | PEM files | if a file cannot be read, the kinds that need it are not sent: without it, others would be trusted |
| `OTEL_EXPORTER_OTLP_INSECURE`, `…_{METRICS,LOGS,TRACES}_INSECURE` | `true`: an address without a scheme is `http://` | `https://`, and `http://` on loopback |
| `OTEL_METRIC_EXPORT_INTERVAL` | milliseconds from 1, at most a day | `otlp.interval`, or 10000 |
| `OTEL_{METRICS,LOGS,TRACES}_EXPORTER` | `otlp`, `none` | `otlp`; another name: that kind is not sent |
| `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative`, `delta`, `lowmemory` | `cumulative` |
| `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | a name; `key=value,key=value`, percent-encoded | the sidecar's own attributes; one bad entry discards the variable, as specified |
| `OTEL_SDK_DISABLED` | `true`: nothing is sent, and the log says so | `false` |
| `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, also in capitals | the proxy for HTTP; never used for a collector on loopback (`localhost`, 127.0.0.0/8, ::1) | no proxy; gRPC never uses one |

A user and password in an address are not sent: `OTEL_EXPORTER_OTLP_HEADERS=authorization=Basic%20…` does that. gRPC ignores a path.
Other variables of OpenTelemetry, such as those of batches (`OTEL_BSP_…`, `OTEL_BLRP_…`), change nothing: the queues have their own bounds.

";
