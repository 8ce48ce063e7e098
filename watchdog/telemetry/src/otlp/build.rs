//! Builds one exporter for each signal, over HTTP or gRPC.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use axum::http::HeaderValue;
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig,
    WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use reqwest::blocking::Client;
use tokio::runtime::{Handle, Runtime};

use super::answer::{Answer, persistently};
use super::grpc::{self, Grpc};
use super::settings::{Kind, Route, Settings, Transport};
use super::telling::Telling;
use super::tls::Tls;
use super::witness::Witness;
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

/// Sets up the exporter of one kind over HTTP. The builders of the exporters share no trait that
/// could do this.
macro_rules! over_http {
    ($builder:expr, $route:expr, $witness:expr) => {{
        let route: &Route = $route;
        let builder = $builder.with_http().with_http_client($witness.clone());
        let builder = builder.with_protocol(Protocol::HttpBinary).with_headers(text_headers(route));
        let builder = builder.with_endpoint(route.endpoint.url()).with_timeout(route.timeout);
        if route.gzip { builder.with_compression(Compression::Gzip) } else { builder }
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

    fn witness(&self, kind: Kind, route: &Route) -> Result<Witness, OtlpError> {
        Ok(Witness::new(self.client(kind, route)?))
    }

    /// `None` if metrics are not sent.
    pub(super) fn metrics(&self) -> Result<Option<Metrics>, OtlpError> {
        let kind = Kind::Metrics;
        let Some(route) = self.settings.route(kind) else { return Ok(None) };
        let _inside = self.runtime.enter();
        let (exporter, witness) = match route.transport {
            Transport::Http => {
                let witness = self.witness(kind, route)?;
                (over_http!(MetricExporter::builder(), route, witness).build()?, Some(witness))
            }
            Transport::Grpc => {
                let builder = MetricExporter::builder().with_tonic();
                let builder = builder.with_tls_config(Tls::new(kind, route)?.channel());
                let builder = builder.with_metadata(grpc::metadata(route));
                let builder = builder.with_endpoint(route.endpoint.url()).with_timeout(route.timeout);
                let exporter = if route.gzip {
                    builder.with_compression(Compression::Gzip).build()?
                } else {
                    builder.build()?
                };
                (exporter, None)
            }
        };
        let telling = Telling::new(Signal::OtlpMetrics, route.clone());
        Ok(Some(Metrics { exporter, witness, runner: self.runner(route), telling }))
    }

    /// `None` if log records are not sent.
    pub(super) fn logs(&self, resource: &Resource) -> Result<Option<Logs>, OtlpError> {
        let kind = Kind::Logs;
        let Some(route) = self.settings.route(kind) else { return Ok(None) };
        let way = match route.transport {
            Transport::Http => {
                let witness = self.witness(kind, route)?;
                let builder = over_http!(LogExporter::builder(), route, witness);
                let mut exporter = builder.with_retry_policy(RetryPolicy::disabled()).build()?;
                exporter.set_resource(resource);
                Way::Http(exporter, witness)
            }
            Transport::Grpc => Way::Grpc(self.grpc(kind, route, resource)?),
        };
        let telling = Telling::new(Signal::OtlpLogs, route.clone());
        Ok(Some(Logs { way, runner: self.runner(route), limit: route.timeout, telling }))
    }

    /// `None` if spans are not sent.
    pub(super) fn spans(&self, resource: &Resource) -> Result<Option<Traces>, OtlpError> {
        let kind = Kind::Traces;
        let Some(route) = self.settings.route(kind) else { return Ok(None) };
        let way = match route.transport {
            Transport::Http => {
                let witness = self.witness(kind, route)?;
                let builder = over_http!(SpanExporter::builder(), route, witness);
                let mut exporter = builder.with_retry_policy(RetryPolicy::disabled()).build()?;
                exporter.set_resource(resource);
                Way::Http(exporter, witness)
            }
            Transport::Grpc => Way::Grpc(self.grpc(kind, route, resource)?),
        };
        let telling = Telling::new(Signal::OtlpTraces, route.clone());
        Ok(Some(Traces { way, runner: self.runner(route), limit: route.timeout, telling }))
    }

    fn grpc(&self, kind: Kind, route: &Route, resource: &Resource) -> Result<Grpc, OtlpError> {
        let _inside = self.runtime.enter();
        Grpc::new(kind, route, resource, self.runner(route))
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

/// Sends metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) exporter: MetricExporter,
    /// Over gRPC there is none.
    pub(super) witness: Option<Witness>,
    pub(super) runner: Runner,
    pub(super) telling: Telling,
}

/// How log records or spans reach the collector.
#[derive(Debug)]
enum Way<E> {
    Http(E, Witness),
    Grpc(Grpc),
}

/// Sends log records.
#[derive(Debug)]
pub(super) struct Logs {
    way: Way<LogExporter>,
    runner: Runner,
    /// The time limit of one request, including all of its tries.
    limit: Duration,
    telling: Telling,
}

impl Logs {
    pub(super) fn export(&self, some: &[logs::Line]) -> Answer {
        let batch: Vec<_> = some.iter().map(|(record, scope)| (record, scope)).collect();
        let batch = || LogBatch::new(&batch);
        let answer = persistently(self.limit, || match &self.way {
            Way::Http(exporter, witness) => witness.answer(|| self.runner.wait(exporter.export(batch()))),
            Way::Grpc(grpc) => grpc.send_logs(&batch()),
        });
        self.telling.note(&answer, some.len());
        answer
    }
}

/// Sends spans.
#[derive(Debug)]
pub(super) struct Traces {
    way: Way<SpanExporter>,
    runner: Runner,
    /// The time limit of one request, including all of its tries.
    limit: Duration,
    telling: Telling,
}

impl Traces {
    pub(super) fn export(&self, some: &[SpanData]) -> Answer {
        let answer = persistently(self.limit, || match &self.way {
            Way::Http(exporter, witness) => {
                witness.answer(|| self.runner.wait(exporter.export(some.to_vec())))
            }
            Way::Grpc(grpc) => grpc.send_spans(some),
        });
        self.telling.note(&answer, some.len());
        answer
    }
}
