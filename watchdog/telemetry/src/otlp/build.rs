//! Builds one exporter for each signal, over HTTP or gRPC.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use reqwest::blocking::Client;
use tokio::runtime::{Handle, Runtime};

use super::settings::{Kind, Settings, TIMEOUT, Transport};
use super::telling::Telling;
use super::tls::Tls;
use super::{OtlpError, logs};
use crate::dropped::Signal;

/// Waits for an exporter's future where that exporter can be waited for.
#[derive(Clone, Debug)]
pub(super) enum Runner {
    /// The blocking HTTP client does all of its work within the first poll, and must not see a runtime.
    Plain,
    /// gRPC needs a runtime's timers and sockets.
    Tokio(Handle),
}

impl Runner {
    /// Waits for `future`. It ends by itself: the exporter bounds each try and the number of tries.
    pub(super) fn wait<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Plain => futures_executor::block_on(future),
            #[expect(
                clippy::disallowed_methods,
                reason = "the exporter bounds each try and the number of tries"
            )]
            Self::Tokio(runtime) => runtime.block_on(future),
        }
    }
}

/// What all exporters share.
#[derive(Debug)]
pub(super) struct Build<'a> {
    settings: &'a Settings,
    runtime: &'a Runtime,
    /// Each client has a thread of its own, so kinds that want the same share one.
    clients: RefCell<Vec<((Tls, Duration), Client)>>,
}

impl<'a> Build<'a> {
    pub(super) fn new(settings: &'a Settings, runtime: &'a Runtime) -> Self {
        // Fails only if somebody has chosen one already, which then is the one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { settings, runtime, clients: RefCell::default() }
    }

    pub(super) fn runner(&self) -> Runner {
        match self.settings.transport() {
            Transport::Http => Runner::Plain,
            Transport::Grpc => Runner::Tokio(self.runtime.handle().clone()),
        }
    }

    /// Who tells that a signal fails.
    pub(super) fn telling(&self, signal: Signal, kind: Kind) -> Result<Telling, OtlpError> {
        let cause = match (self.settings.transport(), self.settings.url(kind)) {
            (Transport::Http, Some(to)) => Some((self.client(kind)?, to)),
            _ => None,
        };
        Ok(Telling::new(signal, cause))
    }

    pub(super) fn metrics(&self) -> Result<MetricExporter, OtlpError> {
        let _inside = self.runtime.enter();
        let (builder, kind) = (MetricExporter::builder(), Kind::Metrics);
        let endpoint = self.settings.endpoint(kind);
        Ok(match self.settings.transport() {
            Transport::Http => {
                let builder = builder.with_http().with_http_client(self.client(kind)?);
                at(builder.with_protocol(Protocol::HttpBinary), endpoint).build()?
            }
            Transport::Grpc => {
                at(builder.with_tonic().with_tls_config(self.tls(kind)?.channel()), endpoint).build()?
            }
        })
    }

    pub(super) fn logs(&self, resource: &Resource) -> Result<Logs, OtlpError> {
        let _inside = self.runtime.enter();
        let (builder, kind) = (LogExporter::builder(), Kind::Logs);
        let endpoint = self.settings.endpoint(kind);
        let mut exporter = match self.settings.transport() {
            Transport::Http => {
                let builder = builder.with_http().with_http_client(self.client(kind)?);
                at(builder.with_protocol(Protocol::HttpBinary), endpoint).build()?
            }
            Transport::Grpc => {
                at(builder.with_tonic().with_tls_config(self.tls(kind)?.channel()), endpoint).build()?
            }
        };
        exporter.set_resource(resource);
        Ok(Logs { exporter, runner: self.runner(), telling: self.telling(Signal::OtlpLogs, kind)? })
    }

    pub(super) fn spans(&self, resource: &Resource) -> Result<Traces, OtlpError> {
        let _inside = self.runtime.enter();
        let (builder, kind) = (SpanExporter::builder(), Kind::Traces);
        let endpoint = self.settings.endpoint(kind);
        let mut exporter = match self.settings.transport() {
            Transport::Http => {
                let builder = builder.with_http().with_http_client(self.client(kind)?);
                at(builder.with_protocol(Protocol::HttpBinary), endpoint).build()?
            }
            Transport::Grpc => {
                at(builder.with_tonic().with_tls_config(self.tls(kind)?.channel()), endpoint).build()?
            }
        };
        exporter.set_resource(resource);
        Ok(Traces { exporter, runner: self.runner(), telling: self.telling(Signal::OtlpTraces, kind)? })
    }

    fn tls(&self, kind: Kind) -> Result<Tls, OtlpError> {
        Tls::new(kind, self.settings.url(kind).as_deref())
    }

    fn client(&self, kind: Kind) -> Result<Client, OtlpError> {
        let wants = (self.tls(kind)?, timeout(kind));
        let mut clients = self.clients.borrow_mut();
        if let Some((_, client)) = clients.iter().find(|(has, _)| *has == wants) {
            return Ok(client.clone());
        }
        let builder = Client::builder().timeout(wants.1).redirect(reqwest::redirect::Policy::none());
        let client = wants.0.client(builder)?.build()?;
        clients.push((wants, client.clone()));
        Ok(client)
    }
}

/// Without an endpoint the exporter takes the one that a variable gives.
fn at<B: WithExportConfig>(builder: B, endpoint: Option<String>) -> B {
    match endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint),
        None => builder,
    }
}

/// The exporter bounds its tries by this too; a client of our own has to be told.
fn timeout(kind: Kind) -> Duration {
    let of_kind = format!("OTEL_EXPORTER_OTLP_{}_TIMEOUT", kind.word());
    let given = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse().ok());
    let given = given(&of_kind).or_else(|| given("OTEL_EXPORTER_OTLP_TIMEOUT"));
    given.map_or(TIMEOUT, Duration::from_millis)
}

/// Sends log records.
#[derive(Debug)]
pub(super) struct Logs {
    exporter: LogExporter,
    runner: Runner,
    telling: Telling,
}

impl Logs {
    pub(super) fn export(&self, some: &[logs::Line]) -> OTelSdkResult {
        let batch: Vec<_> = some.iter().map(|(record, scope)| (record, scope)).collect();
        let sent = self.runner.wait(self.exporter.export(LogBatch::new(&batch)));
        self.telling.note(&sent);
        sent
    }
}

/// Sends spans.
#[derive(Debug)]
pub(super) struct Traces {
    exporter: SpanExporter,
    runner: Runner,
    telling: Telling,
}

impl Traces {
    pub(super) fn export(&self, some: &[SpanData]) -> OTelSdkResult {
        let sent = self.runner.wait(self.exporter.export(some.to_vec()));
        self.telling.note(&sent);
        sent
    }
}
