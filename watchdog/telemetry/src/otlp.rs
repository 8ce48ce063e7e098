//! OTLP: the metrics of the catalogue, the log and the traces of incidents, sent to a collector.
//!
//! Each signal has a thread of its own behind a bounded queue, and only that thread waits for the
//! collector. A collector that never answers, refuses or is gone for minutes costs memory up to
//! those bounds; beyond them data is dropped and counted. Nothing else waits for the collector,
//! least of all the watch loop.
//!
//! Nothing here may prevent a process from starting: each wrong setting is named in a warning, and
//! the rest is sent.

mod answer;
mod build;
mod endpoint;
mod grpc;
mod logs;
mod metrics;
mod outbox;
mod pairs;
mod settings;
mod telling;
mod tls;
mod variables;
mod witness;

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
pub(crate) use answer::chain;
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
    /// The gRPC connection cannot be set up.
    #[error(
        "the connection cannot be set up: {0}; look at the files that OTEL_EXPORTER_OTLP_CERTIFICATE and its kin name"
    )]
    Connection(#[from] tonic::transport::Error),
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
        /// The suffix of the name of the variable that is set.
        given: &'static str,
        /// The suffix of the name of the variable that is missing.
        missing: &'static str,
    },
    /// A file that a variable names cannot be read.
    #[error("{variable} names {path}, which cannot be read: {error}", path = path.display())]
    File {
        /// The name of the variable.
        variable: String,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// A thread or the runtime cannot be started.
    #[error(
        "a thread cannot be started: {0}; look at the limits of processes and open files (ulimit -u, -n)"
    )]
    Threads(#[from] std::io::Error),
}

/// The exporters of all signals, and the threads that send.
#[derive(Debug)]
pub struct Otlp {
    reader: Option<metrics::Reader>,
    logs: Option<(SdkLoggerProvider, Outbox<logs::Line>)>,
    spans: Option<Outbox<SpanData>>,
    /// The runtime of the gRPC connections. It is never shut down: a request that hangs goes on
    /// after the end, on a thread that cannot be ended, and would panic if its runtime were. The
    /// process ends next, and takes all of it along.
    _runtime: ManuallyDrop<Runtime>,
}

/// The queue for finished spans.
#[derive(Clone, Debug)]
pub struct Spans(Sender<SpanData>);

impl Spans {
    /// Queues finished spans without waiting. Spans that do not fit are dropped and counted.
    pub fn send(&self, spans: impl IntoIterator<Item = SpanData>) {
        for span in spans {
            self.0.send(span);
        }
    }
}

impl Otlp {
    /// Starts to send what the config and the standard variables request; `None` if that is
    /// nothing. It does not connect yet, so a collector may start later. Also returns one sentence
    /// for each wrong setting, to be logged by the caller, whose log may not have started yet.
    pub fn start(
        config: Option<&OtlpConfig>,
        resource: &Resource,
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
        let resource = of_this_process(resource);
        let logs = kept(Kind::Logs, start_logs(&build, &resource, dropped), &mut warnings);
        let spans = kept(Kind::Traces, start_spans(&build, &resource, dropped), &mut warnings);
        let otlp = Self { reader, logs, spans, _runtime: ManuallyDrop::new(runtime) };
        (Some(otlp), warnings)
    }

    /// The reader that collects and sends the metrics; for the one provider that also serves
    /// `/metrics`.
    pub fn take_reader(&mut self) -> Option<metrics::Reader> {
        self.reader.take()
    }

    /// The provider that takes log records.
    pub fn logger_provider(&self) -> Option<&SdkLoggerProvider> {
        self.logs.as_ref().map(|(provider, _)| provider)
    }

    /// The queue for finished spans.
    pub fn spans(&self) -> Option<Spans> {
        self.spans.as_ref().map(|outbox| Spans(outbox.sender()))
    }

    /// Sends what waits and ends, within `within` for all signals together. Whatever is left then
    /// is dropped and counted.
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

/// The result of setting up one kind; a failure affects that kind only.
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

/// One sentence for each wrong setting in the config's `[otlp]`, the standard variables of this
/// process and the files that they name. Starts nothing.
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

/// Attributes from `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`; the former takes precedence.
fn given_attributes(variables: &mut Variables<'_>) -> Vec<KeyValue> {
    let attributes = pairs::attributes(variables, "OTEL_RESOURCE_ATTRIBUTES");
    let name = variables.text("OTEL_SERVICE_NAME").map(|name| KeyValue::new("service.name", name));
    attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).chain(name).collect()
}

/// The resource of the sender: `service` for `shard`. `OTEL_SERVICE_NAME` and
/// `OTEL_RESOURCE_ATTRIBUTES` take precedence over this program's own attributes.
///
/// It is the same for every process of the shard: some databases make labels of these attributes,
/// and each restart would begin every series of the metrics anew. Log records and spans also say
/// which process sent them.
pub fn resource(service: &'static str, version: &'static str, shard: &str) -> Resource {
    let own = [
        KeyValue::new("service.name", service),
        KeyValue::new("service.version", version),
        KeyValue::new("service.instance.id", shard.to_owned()),
        KeyValue::new("shard", shard.to_owned()),
    ];
    let given = given_attributes(&mut Variables::new(&environment));
    Resource::builder_empty().with_attributes(own).with_attributes(given).build()
}

/// The resource of log records and spans.
fn of_this_process(resource: &Resource) -> Resource {
    let pid = KeyValue::new("process.pid", i64::from(std::process::id()));
    let given = resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty().with_attributes([pid]).with_attributes(given).build()
}

#[cfg(test)]
#[path = "otlp/tests.rs"]
mod tests;
