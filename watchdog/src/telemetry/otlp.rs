//! What the sidecar sends to a collector besides metrics and log lines: the traces of incidents.

pub use shard_telemetry::otlp::{Endpoint, Otlp, OtlpConfig, Spans, Transport, resource, warnings};
