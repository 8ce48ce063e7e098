//! Counts, by signal, what was dropped because a reader was too slow. Shared by everything that may
//! drop.

use std::sync::atomic::{AtomicU64, Ordering};

/// The kind of data that was dropped. The label `signal` of
/// `shard_watchdog_telemetry_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Copies from the watch loop to the slow side.
    Events,
    /// Writes of an incident's document.
    Incidents,
    /// Log lines.
    Logs,
    /// Connections to the HTTP server that were closed unserved, or because their client was too
    /// slow.
    Http,
    /// Collections of metrics that a collector did not accept; the next one makes up for them.
    OtlpMetrics,
    /// Log records on their way to a collector.
    OtlpLogs,
    /// Spans on their way to a collector.
    OtlpTraces,
}

impl Signal {
    /// Every value.
    pub const ALL: &'static [Self] = &[
        Self::Events,
        Self::Incidents,
        Self::Logs,
        Self::Http,
        Self::OtlpMetrics,
        Self::OtlpLogs,
        Self::OtlpTraces,
    ];

    /// The word in metrics and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Incidents => "incidents",
            Self::Logs => "logs",
            Self::Http => "http",
            Self::OtlpMetrics => "otlp_metrics",
            Self::OtlpLogs => "otlp_logs",
            Self::OtlpTraces => "otlp_traces",
        }
    }
}

/// One count for each signal.
#[derive(Debug, Default)]
pub struct Dropped {
    events: AtomicU64,
    incidents: AtomicU64,
    logs: AtomicU64,
    http: AtomicU64,
    otlp_metrics: AtomicU64,
    otlp_logs: AtomicU64,
    otlp_traces: AtomicU64,
}

impl Dropped {
    /// Adds `more` to the count of `signal`.
    pub fn add(&self, signal: Signal, more: u64) {
        self.place(signal).fetch_add(more, Ordering::Relaxed);
    }

    /// Sets a count that is maintained elsewhere.
    pub fn set(&self, signal: Signal, count: u64) {
        self.place(signal).store(count, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self, signal: Signal) -> u64 {
        self.place(signal).load(Ordering::Relaxed)
    }

    const fn place(&self, signal: Signal) -> &AtomicU64 {
        match signal {
            Signal::Events => &self.events,
            Signal::Incidents => &self.incidents,
            Signal::Logs => &self.logs,
            Signal::Http => &self.http,
            Signal::OtlpMetrics => &self.otlp_metrics,
            Signal::OtlpLogs => &self.otlp_logs,
            Signal::OtlpTraces => &self.otlp_traces,
        }
    }
}
