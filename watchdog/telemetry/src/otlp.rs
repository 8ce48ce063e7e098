//! OTLP: the metrics of the catalogue, the log and the traces of incidents, sent to a collector.
//!
//! Each signal has a thread of its own that alone waits for the collector, behind a bounded queue.
//! A collector that never answers, refuses or is gone for minutes costs memory up to those bounds,
//! then what is dropped is counted; nobody else waits for it, the watch loop least of all.
//!
//! Nothing here may keep a process from starting: what is set up wrongly is named in a warning, and
//! the rest is sent.

mod build;
mod endpoint;
mod logs;
mod metrics;
mod outbox;
mod pairs;
mod settings;
mod telling;
mod tls;
mod variables;

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SpanData;
use tokio::runtime::{Builder, Runtime};

use crate::dropped::{Dropped, Signal};
pub use endpoint::{Endpoint, EndpointError};
use outbox::{Outbox, Sender};
use settings::{Kind, Settings};
pub use settings::{OtlpConfig, Transport};
use tls::Tls;
use variables::{Variables, environment};

/// Spans that may wait while the collector is away: about sixty incidents, far more than a budget
/// of kills allows in an hour.
const SPANS: usize = 512;
/// Log lines that may wait. At most 2 KiB a field, so a few MiB at worst.
const LOG_LINES: usize = 2_048;

/// Why a signal is not sent.
#[derive(Debug, thiserror::Error)]
enum OtlpError {
    /// The exporter refuses its settings.
    #[error("{0}; look at [otlp] in the config and at the OTEL_EXPORTER_OTLP_* variables")]
    Build(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The HTTP client cannot be made.
    #[error(
        "the HTTP client cannot be set up: {0}; look at the files that OTEL_EXPORTER_OTLP_CERTIFICATE and its kin name"
    )]
    Client(#[from] reqwest::Error),
    /// A client's certificate without its key, or the other way round.
    #[error(
        "OTEL_EXPORTER_OTLP_{given} is set and OTEL_EXPORTER_OTLP_{missing} is not: give both or neither"
    )]
    Half {
        /// The end of the name of the variable that is set.
        given: &'static str,
        /// That of the one that is missing.
        missing: &'static str,
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
        "a thread cannot be started: {0}; look at the limits of processes and open files (ulimit -u, -n)"
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
    /// gRPC connections live on it. It is never shut down: a request that hangs goes on after the
    /// end, on a thread that cannot be ended, and panics if its runtime is. The process ends next,
    /// and takes all of it along.
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
    /// Starts to send what the config and the standard variables ask for; `None` if that is
    /// nothing. Nothing is connected yet, so that a collector may come later. Beside it one
    /// sentence for each thing that is not as it should be: for a log that may not have started
    /// yet.
    pub fn start(
        config: Option<&OtlpConfig>,
        resource: Resource,
        dropped: &Arc<Dropped>,
    ) -> (Option<Self>, Vec<String>) {
        let settings = Settings::new(config);
        let mut warnings = warnings_of(&settings);
        if !settings.sends_anything() {
            return (None, warnings);
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                warnings.push(format!("nothing is sent to a collector: {}", OtlpError::Threads(error)));
                return (None, warnings);
            }
        };
        let build = build::Build::new(&settings, &runtime);
        let reader = build
            .metrics()
            .map(|metrics| metrics.map(|metrics| metrics::reader(metrics, settings.interval(), dropped)));
        let reader = kept(Kind::Metrics, reader, &mut warnings);
        let logs = kept(Kind::Logs, start_logs(&build, &resource, dropped), &mut warnings);
        let spans = kept(Kind::Traces, start_spans(&build, &resource, dropped), &mut warnings);
        let otlp = Self { resource, reader, logs, spans, _runtime: ManuallyDrop::new(runtime) };
        (Some(otlp), warnings)
    }

    /// The resource that everything sent is of.
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// What collects the metrics and sends them; for the one provider that `/metrics` is read from
    /// too.
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

    /// Sends what waits, for at most `within` together, and ends. Whatever is left then is dropped
    /// and counted.
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

/// What came of setting up one kind; what failed costs that kind alone.
fn kept<T>(kind: Kind, made: Result<Option<T>, OtlpError>, warnings: &mut Vec<String>) -> Option<T> {
    made.unwrap_or_else(|error| {
        warnings.push(not_sent(kind, &error));
        None
    })
}

fn not_sent(kind: Kind, error: &OtlpError) -> String {
    format!("{} are not sent to a collector: {error}", kind.path())
}

fn start_logs(
    build: &build::Build<'_>,
    resource: &Resource,
    dropped: &Arc<Dropped>,
) -> Result<Option<(SdkLoggerProvider, Outbox<logs::Line>)>, OtlpError> {
    let Some(exporter) = build.logs(resource)? else { return Ok(None) };
    let outbox =
        Outbox::start("otlp-logs", LOG_LINES, Signal::OtlpLogs, dropped, move |some| exporter.export(some))?;
    let provider = SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_log_processor(logs::Processor::new(outbox.sender()))
        .build();
    Ok(Some((provider, outbox)))
}

fn start_spans(
    build: &build::Build<'_>,
    resource: &Resource,
    dropped: &Arc<Dropped>,
) -> Result<Option<Outbox<SpanData>>, OtlpError> {
    let Some(exporter) = build.spans(resource)? else { return Ok(None) };
    let send = move |some: &[SpanData]| exporter.export(some);
    Ok(Some(Outbox::start("otlp-traces", SPANS, Signal::OtlpTraces, dropped, send)?))
}

/// One sentence for each thing in the config's `[otlp]`, the standard variables of this process and
/// the files that they name that is not as it should be. Starts nothing.
pub fn warnings(config: Option<&OtlpConfig>) -> Vec<String> {
    let settings = Settings::new(config);
    let mut warnings = warnings_of(&settings);
    for kind in Kind::ALL {
        if let Some(Err(error)) = settings.route(kind).map(|route| Tls::new(kind, route)) {
            warnings.push(not_sent(kind, &error));
        }
    }
    warnings
}

fn warnings_of(settings: &Settings) -> Vec<String> {
    let mut warnings: Vec<_> = settings.warnings().iter().map(ToString::to_string).collect();
    if settings.sends_anything() {
        let mut variables = Variables::new(&environment);
        given_attributes(&mut variables);
        warnings.extend(variables.into_warnings().iter().map(ToString::to_string));
    }
    warnings
}

/// What `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say; the former goes before the latter.
fn given_attributes(variables: &mut Variables<'_>) -> Vec<KeyValue> {
    let attributes = pairs::attributes(variables, "OTEL_RESOURCE_ATTRIBUTES");
    let name = variables.text("OTEL_SERVICE_NAME").map(|name| KeyValue::new("service.name", name));
    attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).chain(name).collect()
}

/// Who sends: the process of `service` for `shard`. What `OTEL_SERVICE_NAME` and
/// `OTEL_RESOURCE_ATTRIBUTES` say goes before our own.
pub fn resource(service: &'static str, version: &'static str, shard: &str) -> Resource {
    let own = [
        KeyValue::new("service.name", service),
        KeyValue::new("service.version", version),
        KeyValue::new("service.instance.id", shard.to_owned()),
        KeyValue::new("shard", shard.to_owned()),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    let given = given_attributes(&mut Variables::new(&environment));
    Resource::builder_empty().with_attributes(own).with_attributes(given).build()
}
