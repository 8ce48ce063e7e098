//! OTLP: the metrics of the catalogue, the log and the traces of incidents, sent to a collector.
//!
//! Each signal has a thread of its own that alone waits for the collector, behind a bounded queue. A collector that never
//! answers, refuses or is gone for minutes costs memory up to those bounds, then what is dropped is counted; nobody else
//! waits for it, the watch loop least of all.

mod build;
mod logs;
mod metrics;
mod outbox;
mod settings;
mod telling;
mod tls;

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::SpanData;
use tokio::runtime::{Builder, Runtime};

use crate::dropped::{Dropped, Signal};
use outbox::{Outbox, Sender};
pub use settings::{OtlpConfig, Settings};

/// Spans that may wait while the collector is away: about sixty incidents, far more than a budget of kills allows in an hour.
const SPANS: usize = 512;
/// Log lines that may wait. At most 2 KiB a field, so a few MiB at worst.
const LOG_LINES: usize = 2_048;

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The address, a header or the TLS set-up is wrong.
    #[error(
        "OTLP cannot be set up: {0}. Look at [otlp] in the config and at the OTEL_EXPORTER_OTLP_* variables"
    )]
    Build(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The HTTP client cannot be made.
    #[error("the OTLP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    /// A variable says something that cannot be understood.
    #[error("{variable}={value:?} is not understood: {allowed}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        allowed: &'static str,
    },
    /// A file that a variable names cannot be read.
    #[error("{variable} names {path}, which cannot be read: {error}", path = path.display())]
    File {
        /// The variable's name.
        variable: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A thread or the runtime cannot be started.
    #[error(
        "the OTLP threads cannot be started: {0}. Look at the limits of processes and open files (ulimit -u, -n)"
    )]
    Threads(#[from] std::io::Error),
}

/// What is sent where, and the threads that send it.
#[derive(Debug)]
pub struct Otlp {
    resource: Resource,
    reader: Option<metrics::Reader>,
    logs: Option<(SdkLoggerProvider, Outbox<logs::Line>)>,
    spans: Option<Outbox<SpanData>>,
    /// gRPC connections live on it. It is never shut down: a request that hangs goes on after the end, on a thread that
    /// cannot be ended, and panics if its runtime is. The process ends next, and takes all of it along.
    _runtime: ManuallyDrop<Runtime>,
}

/// Where finished spans go.
#[derive(Clone, Debug)]
pub struct Spans(Sender<SpanData>);

impl Spans {
    /// Hands over finished spans, without waiting. What does not fit is dropped and counted.
    pub fn send(&self, spans: impl IntoIterator<Item = SpanData>) {
        for span in spans {
            self.0.send(span);
        }
    }
}

impl Otlp {
    /// Starts to send what `settings` asks for. Nothing is connected yet, so that a collector may come later.
    ///
    /// # Errors
    /// If an exporter cannot be built or a thread cannot be started.
    pub fn start(settings: &Settings, resource: Resource, dropped: &Arc<Dropped>) -> Result<Self, OtlpError> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build()?;
        let build = build::Build::new(settings, &runtime);
        let reader = if settings.sends_metrics() {
            Some(metrics::reader(&build, settings.interval(), dropped)?)
        } else {
            None
        };
        let logs = if settings.sends_logs() {
            let exporter = build.logs(&resource)?;
            let outbox = Outbox::start("otlp-logs", LOG_LINES, Signal::OtlpLogs, dropped, move |some| {
                exporter.export(some)
            })?;
            let provider = SdkLoggerProvider::builder()
                .with_resource(resource.clone())
                .with_log_processor(logs::Processor::new(outbox.sender()))
                .build();
            Some((provider, outbox))
        } else {
            None
        };
        let spans = if settings.sends_traces() {
            let exporter = build.spans(&resource)?;
            Some(Outbox::start("otlp-traces", SPANS, Signal::OtlpTraces, dropped, move |some| {
                exporter.export(some)
            })?)
        } else {
            None
        };
        Ok(Self { resource, reader, logs, spans, _runtime: ManuallyDrop::new(runtime) })
    }

    /// The resource that everything sent is of.
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// What collects the metrics and sends them; for the one provider that `/metrics` is read from too.
    pub fn take_reader(&mut self) -> Option<metrics::Reader> {
        self.reader.take()
    }

    /// Where log records go.
    pub fn logger_provider(&self) -> Option<&SdkLoggerProvider> {
        self.logs.as_ref().map(|(provider, _)| provider)
    }

    /// Where finished spans go.
    pub fn spans(&self) -> Option<Spans> {
        self.spans.as_ref().map(|outbox| Spans(outbox.sender()))
    }

    /// Sends what waits, for at most `within` together, and ends. Whatever is left then is dropped and counted.
    pub fn shutdown(self, within: Duration) {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        if let Some(spans) = self.spans {
            spans.finish(left());
        }
        if let Some((_, logs)) = self.logs {
            logs.finish(left());
        }
    }
}

/// Who sends: the process of `service` for `shard`. What `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say goes before our own.
pub fn resource(service: &'static str, version: &'static str, shard: &str) -> Resource {
    let own = [
        KeyValue::new("service.name", service),
        KeyValue::new("service.version", version),
        KeyValue::new("service.instance.id", shard.to_owned()),
        KeyValue::new("shard", shard.to_owned()),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    let builder = Resource::builder_empty().with_attributes(own);
    let builder = builder.with_detector(Box::new(EnvResourceDetector::new()));
    match std::env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => builder.with_service_name(name).build(),
        _ => builder.build(),
    }
}
