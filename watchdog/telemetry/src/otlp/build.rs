//! Builds one exporter for each signal, over HTTP or gRPC.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use reqwest::blocking::Client;
use tokio::runtime::{Handle, Runtime};
use tonic::metadata::MetadataMap;

use super::settings::{Kind, Route, Settings, Transport};
use super::telling::Telling;
use super::tls::Tls;
use super::{OtlpError, logs};
use crate::dropped::Signal;

/// Waits for an exporter's future in the way that the exporter requires.
#[derive(Clone, Debug)]
pub(super) enum Runner {
    /// The blocking HTTP client does all of its work within the first poll, and must not run inside
    /// a runtime.
    Plain,
    /// gRPC needs a runtime's timers and sockets.
    Tokio(Handle),
}

impl Runner {
    /// Waits for `future`. It ends by itself: the exporter limits each try and the number of tries.
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

/// The state that all exporters share.
#[derive(Debug)]
pub(super) struct Build<'a> {
    settings: &'a Settings,
    runtime: &'a Runtime,
    /// Each client has a thread of its own, so kinds with the same needs share one.
    clients: RefCell<Vec<(Wants, Client)>>,
}

/// The needs of a client.
#[derive(Debug, PartialEq, Eq)]
struct Wants {
    tls: Tls,
    timeout: Duration,
    loopback: bool,
}

/// Builds the exporter of one kind, for HTTP or gRPC. The builders of the exporters share no trait
/// that could do this.
macro_rules! exporter {
    ($self:ident, $builder:expr, $route:expr, $kind:expr) => {{
        let _inside = $self.runtime.enter();
        let route: &Route = $route;
        match route.transport {
            Transport::Http => {
                let builder = $builder.with_http().with_http_client($self.client($kind, route)?);
                let builder = builder.with_protocol(Protocol::HttpBinary).with_headers(text_headers(route));
                let builder = builder.with_endpoint(route.endpoint.url()).with_timeout(route.timeout);
                if route.gzip {
                    builder.with_compression(Compression::Gzip).build()?
                } else {
                    builder.build()?
                }
            }
            Transport::Grpc => {
                let builder = $builder.with_tonic().with_tls_config(Tls::new($kind, route)?.channel());
                let builder = builder.with_metadata(metadata(route));
                let builder = builder.with_endpoint(route.endpoint.url()).with_timeout(route.timeout);
                if route.gzip {
                    builder.with_compression(Compression::Gzip).build()?
                } else {
                    builder.build()?
                }
            }
        }
    }};
}

impl<'a> Build<'a> {
    pub(super) fn new(settings: &'a Settings, runtime: &'a Runtime) -> Self {
        // Fails only if another one was installed already, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { settings, runtime, clients: RefCell::default() }
    }

    fn runner(&self, route: &Route) -> Runner {
        match route.transport {
            Transport::Http => Runner::Plain,
            Transport::Grpc => Runner::Tokio(self.runtime.handle().clone()),
        }
    }

    /// The reporter of a signal's failures.
    fn telling(&self, signal: Signal, kind: Kind, route: &Route) -> Result<Telling, OtlpError> {
        let client = match route.transport {
            Transport::Http => Some(self.client(kind, route)?),
            Transport::Grpc => None,
        };
        Ok(Telling::new(signal, route.clone(), client))
    }

    /// `None` if metrics are not sent.
    pub(super) fn metrics(&self) -> Result<Option<Metrics>, OtlpError> {
        let kind = Kind::Metrics;
        let Some(route) = self.settings.route(kind) else { return Ok(None) };
        let exporter = exporter!(self, MetricExporter::builder(), route, kind);
        let telling = self.telling(Signal::OtlpMetrics, kind, route)?;
        Ok(Some(Metrics { exporter, runner: self.runner(route), telling }))
    }

    /// `None` if log records are not sent.
    pub(super) fn logs(&self, resource: &Resource) -> Result<Option<Logs>, OtlpError> {
        let kind = Kind::Logs;
        let Some(route) = self.settings.route(kind) else { return Ok(None) };
        let mut exporter: LogExporter = exporter!(self, LogExporter::builder(), route, kind);
        exporter.set_resource(resource);
        let telling = self.telling(Signal::OtlpLogs, kind, route)?;
        Ok(Some(Logs { exporter, runner: self.runner(route), telling }))
    }

    /// `None` if spans are not sent.
    pub(super) fn spans(&self, resource: &Resource) -> Result<Option<Traces>, OtlpError> {
        let kind = Kind::Traces;
        let Some(route) = self.settings.route(kind) else { return Ok(None) };
        let mut exporter: SpanExporter = exporter!(self, SpanExporter::builder(), route, kind);
        exporter.set_resource(resource);
        let telling = self.telling(Signal::OtlpTraces, kind, route)?;
        Ok(Some(Traces { exporter, runner: self.runner(route), telling }))
    }

    fn client(&self, kind: Kind, route: &Route) -> Result<Client, OtlpError> {
        let loopback = route.endpoint.is_loopback();
        let wants = Wants { tls: Tls::new(kind, route)?, timeout: route.timeout, loopback };
        let mut clients = self.clients.borrow_mut();
        if let Some((_, client)) = clients.iter().find(|(has, _)| *has == wants) {
            return Ok(client.clone());
        }
        let builder = Client::builder().timeout(wants.timeout).redirect(reqwest::redirect::Policy::none());
        // A proxy cannot reach this machine's own loopback, even if http_proxy is set for all
        // programs on it.
        let builder = if loopback { builder.no_proxy() } else { builder };
        let client = wants.tls.client(builder)?.build()?;
        clients.push((wants, client.clone()));
        Ok(client)
    }
}

/// The exporter reads the variables too, but not in the way of this crate: for the exporter a blank
/// variable of one kind hides that of all kinds.
fn text_headers(route: &Route) -> HashMap<String, String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    route.headers.iter().map(|(key, value)| (key.as_str().to_owned(), text(value))).collect()
}

fn metadata(route: &Route) -> MetadataMap {
    MetadataMap::from_headers(route.headers.iter().cloned().collect::<HeaderMap>())
}

/// Sends metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) exporter: MetricExporter,
    pub(super) runner: Runner,
    pub(super) telling: Telling,
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
