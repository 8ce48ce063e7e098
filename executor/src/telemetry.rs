//! The metrics and spans of a coordinator or a shard: on `--metrics` for Prometheus, and sent to a
//! collector by OTLP.
//!
//! Threads that execute add to plain counters and hand spans to a bounded queue; other threads
//! collect and send them. No executing thread waits for a collector or a client.

pub mod catalogue;
pub mod counts;
pub mod manual;
mod observed;
mod page;
mod sampler;
pub mod spans;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use shard_telemetry::dropped::Dropped;
pub use shard_telemetry::http::host::HostPattern;
use shard_telemetry::instruments::{self, Recording, Workshop};
use shard_telemetry::otlp::{self, Otlp};
use shard_telemetry::prometheus::{Page, PrometheusError};

pub use catalogue::COORDINATOR;
use counts::Counts;
use page::Server;
use sampler::Sampler;
use spans::Tracer;

/// Why telemetry cannot be started. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The address for `/metrics` cannot be opened.
    #[error(
        "cannot listen on {address} for metrics: {source}. Give --metrics a free address of this machine, or leave it out; if what listens there is an instance before this one, see why that lives on"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The metrics cannot be set up.
    #[error("{0}. Leave out --metrics and OTLP to run without them")]
    Metrics(#[from] PrometheusError),
    /// A thread or the runtime cannot be started.
    #[error(
        "cannot start the threads for metrics: {0}. The limit on threads or descriptors is probably reached (ulimit -u, ulimit -n)"
    )]
    Threads(#[from] std::io::Error),
}

/// The telemetry of one process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    counts: Arc<Counts>,
    tracer: Tracer,
    block_seconds: Option<Recording>,
}

/// The parts that have to be shut down in order.
#[derive(Debug, Default)]
pub struct Running {
    provider: Option<SdkMeterProvider>,
    otlp: Option<Otlp>,
    server: Option<Server>,
    /// Settings that cannot be used, one sentence each.
    warnings: Vec<String>,
}

impl Telemetry {
    /// Starts the telemetry of `shard`: on `metrics` if given, also under the names of `hosts`, and
    /// to a collector if the standard variables name one.
    ///
    /// # Errors
    /// If the address cannot be opened, or a thread cannot be started. A variable that cannot be
    /// used is only a warning.
    pub fn start(
        shard: &str,
        metrics: Option<SocketAddr>,
        hosts: &[HostPattern],
    ) -> Result<(Self, Running), TelemetryError> {
        let listener = metrics.map(bind).transpose()?;
        let dropped = Arc::new(Dropped::default());
        let resource = otlp::resource(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), shard);
        let (mut otlp, warnings) = Otlp::start(None, &resource, &dropped);
        let mut telemetry = Self::default();
        let mut running = Running { warnings, ..Running::default() };
        if let Some(spans) = otlp.as_ref().and_then(Otlp::spans) {
            let sampler = Sampler::from_environment().unwrap_or_else(|error| {
                running.warnings.push(format!("{error}. Every block is traced"));
                Sampler::ALWAYS
            });
            telemetry.tracer = Tracer::new(spans, shard, sampler);
        }
        if listener.is_some() || otlp.is_some() {
            let (page, reader) = Page::new()?;
            let mut provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource);
            if let Some(sends) = otlp.as_mut().and_then(Otlp::take_reader) {
                provider = provider.with_reader(sends);
            }
            let provider = provider.build();
            let workshop = Workshop::new(provider.meter(env!("CARGO_PKG_NAME")), shard);
            observed::register(&workshop, shard, &telemetry.counts, &dropped);
            if shard == COORDINATOR {
                telemetry.block_seconds = Some(workshop.histogram(&catalogue::BLOCK_SECONDS));
            }
            running.provider = Some(provider);
            if let Some(listener) = listener {
                running.server = Some(Server::start(listener, hosts, page, dropped)?);
            }
        }
        running.otlp = otlp;
        Ok((telemetry, running))
    }

    /// The counters.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// The tracer, which begins spans.
    pub const fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Records that a block ended, with whatever outcome, `after` it was begun.
    pub fn block_took(&self, after: Duration) {
        if let Some(block_seconds) = &self.block_seconds {
            block_seconds.record(after.as_secs_f64(), []);
        }
    }
}

impl Running {
    /// The provider that sends log records to a collector, if there is one.
    pub fn logger_provider(&self) -> Option<&SdkLoggerProvider> {
        self.otlp.as_ref().and_then(Otlp::logger_provider)
    }

    /// One sentence for each variable or file that cannot be used, to be logged once the log has
    /// started.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The address of `/metrics`, if it is served.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// Sends what is left and shuts down, within at most `within`.
    pub fn shutdown(self, within: Duration) {
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        if let (Some(provider), Some(_)) = (&self.provider, &self.otlp) {
            instruments::end(provider, left());
        }
        if let Some(otlp) = self.otlp {
            otlp.shutdown(left());
        }
        if let Some(server) = self.server {
            server.end();
        }
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, TelemetryError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| TelemetryError::Bind { address, source })
}
