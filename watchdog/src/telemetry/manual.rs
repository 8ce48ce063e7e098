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

Written from the catalogue in `watchdog/src/telemetry/catalogue.rs`; a test fails when the two differ. To write it anew:
`UPDATE_DOCS=1 cargo test -p shard-watchdog --test telemetry_manual`.

The same numbers are on `/metrics` and, with `[otlp]` or the standard `OTEL_EXPORTER_OTLP_*` variables, in a collector: metrics,
traces and logs, over `http/protobuf` or `grpc`. Variables go before the config. Over `https://` the collector must be certified by whom this machine trusts, or by those in
`OTEL_EXPORTER_OTLP_CERTIFICATE` and nobody else; `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` and `_CLIENT_KEY` certify the sidecar. A collector that is slow, refuses or is gone delays nothing in the sidecar: what does not fit into the
bounded queues is dropped and counted in `shard_watchdog_telemetry_dropped_total`. The executor has [a page of its own](telemetry-executor.md).

";

const VARIABLES: &str = "\
## Variables of OpenTelemetry

Telemetry is optional: a variable that cannot be used counts as not set, is named in one warning at the start (event `telemetry_setting`;
`check` tells the same of its own environment), and keeps nothing from running. Blanks around a value do not count. A value in the
config file that cannot be used is an error of that file. No value of a header, and nothing in an address that may be a secret, is logged.

| variable | what it may say | unless set, or where it cannot be used |
| --- | --- | --- |
| `OTEL_EXPORTER_OTLP_ENDPOINT` | base address, `http://` or `https://`; over HTTP `/v1/metrics`, `/v1/logs` or `/v1/traces` is put after its path, before its query | `otlp.endpoint` of the config; without one nothing is sent |
| `OTEL_EXPORTER_OTLP_{METRICS,LOGS,TRACES}_ENDPOINT` | address of that kind, used as it stands | the base address |
| `OTEL_EXPORTER_OTLP_PROTOCOL`, `…_{METRICS,LOGS,TRACES}_PROTOCOL` | `http/protobuf`, `grpc` | `otlp.protocol`, or `http/protobuf`; so does `http/json`, which is not spoken |
| `OTEL_EXPORTER_OTLP_TIMEOUT`, `…_{METRICS,LOGS,TRACES}_TIMEOUT` | milliseconds, at most 300000; 0 is as the most | 10000 |
| `OTEL_EXPORTER_OTLP_COMPRESSION`, `…_{METRICS,LOGS,TRACES}_COMPRESSION` | `gzip`, `none` | `none` |
| `OTEL_EXPORTER_OTLP_HEADERS`, `…_{METRICS,LOGS,TRACES}_HEADERS` | `key=value,key=value`, percent-encoded | a bad entry is left out, the others are sent |
| `OTEL_EXPORTER_OTLP_CERTIFICATE`, `…_CLIENT_CERTIFICATE`, `…_CLIENT_KEY`, and each for one kind | PEM files | a file that cannot be read costs the kinds that need it: sending without would trust others |
| `OTEL_EXPORTER_OTLP_INSECURE`, `…_{METRICS,LOGS,TRACES}_INSECURE` | `true`: an address without a scheme is `http://` | `https://`, and `http://` on loopback |
| `OTEL_METRIC_EXPORT_INTERVAL` | milliseconds from 1, at most a day | `otlp.interval`, or 10000 |
| `OTEL_{METRICS,LOGS,TRACES}_EXPORTER` | `otlp`, `none` | `otlp`; another name: that kind is not sent |
| `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative`, `delta`, `lowmemory` | `cumulative` |
| `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | a name; `key=value,key=value`, percent-encoded | our own attributes; one bad entry discards the variable, as the specification has it |
| `OTEL_SDK_DISABLED` | `true`: nothing is sent, and the log says so | `false` |
| `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, also in capitals | the proxy for HTTP; never asked for a collector on loopback (`localhost`, 127.0.0.0/8, ::1) | no proxy; gRPC never takes one |

A user and password in an address are not sent: `OTEL_EXPORTER_OTLP_HEADERS=authorization=Basic%20…` gives them. gRPC has no use for a path.
Other variables of OpenTelemetry, such as those of batches (`OTEL_BSP_…`, `OTEL_BLRP_…`), change nothing: the queues have their own bounds.

";
