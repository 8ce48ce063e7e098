//! The sidecar's metrics, logs and traces. Everything here lives on the far side of the watch
//! loop's queue.

pub mod catalogue;
pub mod logs;
pub mod manual;
mod observed;
pub mod otlp;

pub use shard_telemetry::{dropped, instruments, labels, prometheus};

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::board::Board;
use crate::event::{Opening, StacksOutcome, Timings};
use crate::verdict::{NearMissOutcome, Reason, Withheld};

use instruments::{Adding, Recording, Workshop, named};
use labels::Names;
use otlp::Otlp;
use prometheus::{Page, PrometheusError};

/// The metrics of one sidecar.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkMeterProvider,
    page: Page,
    names: Arc<Names>,
    detection: Recording,
    restart: Recording,
    late: Recording,
    gap: Recording,
    kills: Adding,
    withheld: Adding,
    shadow_kills: Adding,
    near_misses: Adding,
    stacks: Adding,
}

impl Telemetry {
    /// Builds every instrument of the catalogue. Those that are read on demand read from `board`.
    /// One provider feeds the page and, if there is one, the collector.
    ///
    /// # Errors
    /// If the exporter cannot be built.
    pub fn new(board: &Arc<Board>, otlp: Option<&mut Otlp>) -> Result<Self, PrometheusError> {
        let (page, reader) = Page::new()?;
        let mut provider =
            SdkMeterProvider::builder().with_reader(reader).with_resource(resource(board.shard()));
        if let Some(sends) = otlp.and_then(Otlp::take_reader) {
            provider = provider.with_reader(sends);
        }
        let provider = provider.build();
        let workshop = Workshop::new(provider.meter(env!("CARGO_PKG_NAME")), board.shard());
        let names = Arc::new(Names::default());
        observed::register(&workshop, board, &names);
        let telemetry = Self {
            page,
            names,
            detection: workshop.histogram(&catalogue::DETECTION_SECONDS),
            restart: workshop.histogram(&catalogue::RESTART_SECONDS),
            late: workshop.histogram(&catalogue::LOOP_LATE),
            gap: workshop.histogram(&catalogue::PROGRESS_GAP),
            kills: workshop.counter(&catalogue::KILLS),
            withheld: workshop.counter(&catalogue::KILLS_WITHHELD),
            shadow_kills: workshop.counter(&catalogue::SHADOW_KILLS),
            near_misses: workshop.counter(&catalogue::NEAR_MISSES),
            stacks: workshop.counter(&catalogue::STACKS),
            provider,
        };
        // A counter that is absent until the first kill makes `increase()` miss that kill.
        for reason in Reason::ALL {
            telemetry.kills.add(0.0, [KeyValue::new("reason", reason.label())]);
            telemetry.shadow_kills.add(0.0, [KeyValue::new("reason", reason.label())]);
        }
        for withheld in Withheld::ALL {
            telemetry.withheld.add(0.0, [KeyValue::new("reason", withheld.label())]);
        }
        for outcome in StacksOutcome::ALL {
            telemetry.stacks.add(0.0, [KeyValue::new("outcome", outcome.label())]);
        }
        Ok(telemetry)
    }

    /// The page for `/metrics`.
    ///
    /// # Errors
    /// If a metric cannot be written as text.
    pub fn page(&self) -> Result<Arc<str>, PrometheusError> {
        self.page.render()
    }

    /// Records a verdict: how long after the earliest possible moment it was reached.
    pub fn detected(&self, opening: &Opening) {
        let possible = match opening.threshold {
            Some(threshold) => opening.last_progress.plus(threshold),
            None => opening.seen,
        };
        let took = opening.at.since(possible);
        self.detection.record(took.as_secs_f64(), [KeyValue::new("reason", opening.reason.label())]);
    }

    /// Counts a kill: the first signal of an incident was sent.
    pub fn killed(&self, reason: Reason) {
        self.kills.add(1.0, [KeyValue::new("reason", reason.label())]);
    }

    /// Counts a kill that the second policy would have carried out.
    pub fn shadow_killed(&self, reason: Reason) {
        self.shadow_kills.add(1.0, [KeyValue::new("reason", reason.label())]);
    }

    /// Counts a kill that was due but was not carried out.
    pub fn withheld(&self, by: Withheld) {
        self.withheld.add(1.0, [KeyValue::new("reason", by.label())]);
    }

    /// Counts a near miss.
    pub fn near_miss(&self, thread: &str, outcome: NearMissOutcome) {
        let thread = named("thread", self.names.label(thread));
        self.near_misses.add(1.0, [thread, KeyValue::new("outcome", outcome.label())]);
    }

    /// Counts a minidump by what became of its stacks.
    pub fn stacks(&self, outcome: StacksOutcome) {
        self.stacks.add(1.0, [KeyValue::new("outcome", outcome.label())]);
    }

    /// Records that a new process started `after` the death of the old one.
    pub fn restarted(&self, after: Duration) {
        self.restart.record(after.as_secs_f64(), []);
    }

    /// Records a batch of the loop's own measurements.
    pub fn timings(&self, timings: &Timings) {
        for late in &timings.late {
            self.late.record(late.as_secs_f64(), []);
        }
        for (thread, gap) in &timings.gaps {
            self.gap.record(gap.as_secs_f64(), [named("thread", self.names.label(thread))]);
        }
    }

    /// Sends what is left and ends, within `within`.
    pub fn shutdown(&self, within: Duration) {
        instruments::end(&self.provider, within);
    }
}

/// The resource that identifies this sidecar.
pub fn resource(shard: &str) -> Resource {
    otlp::resource(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), shard)
}

#[cfg(test)]
#[path = "telemetry/tests.rs"]
mod tests;
