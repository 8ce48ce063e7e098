//! Builds one exporter for each signal, over HTTP or gRPC.

use std::future::Future;
use std::time::Duration;

use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use reqwest::blocking::Client;
use tokio::runtime::{Handle, Runtime};
use tonic::transport::ClientTlsConfig;

use super::settings::{Kind, Settings, TIMEOUT, Transport};
use super::{OtlpError, logs};

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
    client: Client,
    runtime: &'a Runtime,
}

impl<'a> Build<'a> {
    pub(super) fn new(settings: &'a Settings, runtime: &'a Runtime) -> Result<Self, OtlpError> {
        // Fails only if somebody has chosen one already, which then is the one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            Client::builder().timeout(timeout()).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { settings, client, runtime })
    }

    pub(super) fn runner(&self) -> Runner {
        match self.settings.transport() {
            Transport::Http => Runner::Plain,
            Transport::Grpc => Runner::Tokio(self.runtime.handle().clone()),
        }
    }

    pub(super) fn metrics(&self) -> Result<MetricExporter, OtlpError> {
        let _inside = self.runtime.enter();
        let builder = MetricExporter::builder();
        let endpoint = self.settings.endpoint(Kind::Metrics);
        Ok(match self.settings.transport() {
            Transport::Http => {
                let builder = builder.with_http().with_http_client(self.client.clone());
                at(builder.with_protocol(Protocol::HttpBinary), endpoint).build()?
            }
            Transport::Grpc => at(builder.with_tonic().with_tls_config(tls()), endpoint).build()?,
        })
    }

    pub(super) fn logs(&self, resource: &Resource) -> Result<Logs, OtlpError> {
        let _inside = self.runtime.enter();
        let builder = LogExporter::builder();
        let endpoint = self.settings.endpoint(Kind::Logs);
        let mut exporter = match self.settings.transport() {
            Transport::Http => {
                let builder = builder.with_http().with_http_client(self.client.clone());
                at(builder.with_protocol(Protocol::HttpBinary), endpoint).build()?
            }
            Transport::Grpc => at(builder.with_tonic().with_tls_config(tls()), endpoint).build()?,
        };
        exporter.set_resource(resource);
        Ok(Logs { exporter, runner: self.runner() })
    }

    pub(super) fn spans(&self, resource: &Resource) -> Result<Traces, OtlpError> {
        let _inside = self.runtime.enter();
        let builder = SpanExporter::builder();
        let endpoint = self.settings.endpoint(Kind::Traces);
        let mut exporter = match self.settings.transport() {
            Transport::Http => {
                let builder = builder.with_http().with_http_client(self.client.clone());
                at(builder.with_protocol(Protocol::HttpBinary), endpoint).build()?
            }
            Transport::Grpc => at(builder.with_tonic().with_tls_config(tls()), endpoint).build()?,
        };
        exporter.set_resource(resource);
        Ok(Traces { exporter, runner: self.runner() })
    }
}

/// Without an endpoint the exporter takes the one that a variable gives.
fn at<B: WithExportConfig>(builder: B, endpoint: Option<String>) -> B {
    match endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint),
        None => builder,
    }
}

/// Used only for `https://`; what the system trusts is trusted.
fn tls() -> ClientTlsConfig {
    ClientTlsConfig::new().with_native_roots()
}

/// The exporter bounds its tries by this too; a client of our own has to be told.
fn timeout() -> Duration {
    let given = std::env::var("OTEL_EXPORTER_OTLP_TIMEOUT").ok().and_then(|text| text.parse().ok());
    given.map_or(TIMEOUT, Duration::from_millis)
}

/// Sends log records.
#[derive(Debug)]
pub(super) struct Logs {
    exporter: LogExporter,
    runner: Runner,
}

impl Logs {
    pub(super) fn export(&self, some: &[logs::Line]) -> Result<(), String> {
        let batch: Vec<_> = some.iter().map(|(record, scope)| (record, scope)).collect();
        self.runner.wait(self.exporter.export(LogBatch::new(&batch))).map_err(|error| error.to_string())
    }
}

/// Sends spans.
#[derive(Debug)]
pub(super) struct Traces {
    exporter: SpanExporter,
    runner: Runner,
}

impl Traces {
    pub(super) fn export(&self, some: &[SpanData]) -> Result<(), String> {
        self.runner.wait(self.exporter.export(some.to_vec())).map_err(|error| error.to_string())
    }
}
