//! The reader that collects the metrics at each interval and sends them.
//!
//! Metrics are cumulative, so the next successful request makes up for one that failed; failures
//! are counted all the same.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, Temporality};

use super::answer::Answer;
use super::build::{Metrics, Runner};
use super::telling::Telling;
use super::witness::Witness;
use crate::dropped::{Dropped, Signal};

/// The reader, for the provider that also serves `/metrics`.
pub type Reader = PeriodicReader<Counting>;

/// An exporter whose failures are counted, and collections of which a collector rejected a part.
#[derive(Debug)]
pub struct Counting {
    exporter: MetricExporter,
    witness: Option<Witness>,
    runner: Runner,
    telling: Telling,
    dropped: Arc<Dropped>,
}

pub(super) fn reader(metrics: Metrics, interval: Duration, dropped: &Arc<Dropped>) -> Reader {
    let Metrics { exporter, witness, runner, telling } = metrics;
    let exporter = Counting { exporter, witness, runner, telling, dropped: Arc::clone(dropped) };
    PeriodicReader::builder(exporter).with_interval(interval).build()
}

impl PushMetricExporter for Counting {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        if let Some(witness) = &self.witness {
            witness.forget();
        }
        let sending = self.exporter.export(metrics);
        let sent = match &self.runner {
            // The reader's own thread waits, in an executor that cannot be entered twice.
            Runner::Plain => sending.await,
            #[expect(
                clippy::disallowed_methods,
                reason = "the exporter bounds each try and the number of tries"
            )]
            Runner::Tokio(runtime) => runtime.block_on(sending),
        };
        let answer = match (&self.witness, sent) {
            (Some(witness), sent) => witness.explain(sent),
            (None, Ok(())) => Answer::accepted(0, ""),
            // Whether it is for good makes no difference: the next one is sent in any case.
            (None, Err(error)) => Answer::Later { after: None, why: error.to_string() },
        };
        self.telling.note(&answer, 1);
        if !matches!(answer, Answer::Accepted { rejected: 0, .. }) {
            self.dropped.add(Signal::OtlpMetrics, 1);
        }
        // The reader would only log a failure, at every interval again.
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
