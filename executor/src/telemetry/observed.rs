//! The metrics that are read from the counters at each collection.

use std::sync::Arc;

use opentelemetry::KeyValue;
use shard_telemetry::dropped::{Dropped, Signal};
use shard_telemetry::instruments::{Points, Workshop};
use shard_telemetry::metric::Metric;

use super::catalogue::{self, COORDINATOR};
use super::counts::{Count, Counts, Late, Outcome, SIGNALS, Useless};

/// Registers all of these metrics. Those of the other kind of process are left out, so that they
/// are absent instead of zero.
pub(super) fn register(workshop: &Workshop, shard: &str, counts: &Arc<Counts>, dropped: &Arc<Dropped>) {
    let observe = |metric: &'static Metric, read: fn(&Counts) -> Points| {
        let counts = Arc::clone(counts);
        workshop.observe(metric, move || read(&counts));
    };
    if shard == COORDINATOR {
        observe(&catalogue::BLOCKS, |counts| {
            each(Outcome::ALL, |outcome| (counts.blocks(*outcome), "outcome", outcome.label()))
        });
        observe(&catalogue::REEXECUTED, |counts| alone(&counts.reexecuted));
        observe(&catalogue::AGAIN, |counts| alone(&counts.again));
        observe(&catalogue::RETRIES, |counts| alone(&counts.retries));
        observe(&catalogue::QUARANTINED, |counts| alone(&counts.quarantined));
    } else {
        observe(&catalogue::HELPED, |counts| alone(&counts.helped));
    }
    observe(&catalogue::TRANSACTIONS, |counts| alone(&counts.transactions));
    observe(&catalogue::STATE_REQUESTS, |counts| alone(&counts.state_requests));
    observe(&catalogue::NETWORK_BYTES, |counts| {
        let both = [("sent", &counts.bytes_sent), ("received", &counts.bytes_received)];
        both.map(|(direction, bytes)| point(bytes, "direction", direction)).into()
    });
    observe(&catalogue::DEADLINES_MISSED, |counts| {
        each(Late::ALL, |late| (counts.late(*late), "step", late.label()))
    });
    observe(&catalogue::MESSAGES_DISCARDED, |counts| {
        each(Useless::ALL, |useless| (counts.useless(*useless), "reason", useless.label()))
    });
    observe(&catalogue::WATCHDOG_AGE, |counts| {
        counts.watchdog_age().map(|age| (age.as_secs_f64(), vec![])).into_iter().collect()
    });
    let dropped = Arc::clone(dropped);
    workshop.observe(&catalogue::TELEMETRY_DROPPED, move || {
        let told =
            |signal: Signal| (number(dropped.get(signal)), vec![KeyValue::new("signal", signal.label())]);
        SIGNALS.map(told).into()
    });
    workshop.observe(&catalogue::BUILD_INFO, || {
        vec![(1.0, vec![KeyValue::new("version", env!("CARGO_PKG_VERSION"))])]
    });
}

fn alone(count: &Count) -> Points {
    vec![(number(count.get()), vec![])]
}

fn point(count: &Count, key: &'static str, word: &'static str) -> (f64, Vec<KeyValue>) {
    (number(count.get()), vec![KeyValue::new(key, word)])
}

fn each<'a, T>(all: &[T], of: impl Fn(&T) -> (&'a Count, &'static str, &'static str)) -> Points {
    all.iter()
        .map(|one| {
            let (count, key, word) = of(one);
            point(count, key, word)
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float; it is exact up to 2^53")]
const fn number(count: u64) -> f64 {
    count as f64
}
