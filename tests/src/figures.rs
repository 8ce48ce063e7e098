//! Times of a run: distributions for benchmarks, and the record that each fault scenario leaves.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::incident;
use crate::sidecar::Sidecar;

/// A distribution in JSON, for scripts.
pub fn distribution(values: &[f64]) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    json!({
        "n": sorted.len(),
        "p50": quantile(&sorted, 0.50),
        "p99": quantile(&sorted, 0.99),
        "max": sorted.last().copied().unwrap_or(f64::NAN),
    })
}

/// Nearest-rank quantile of sorted values.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among values that fit in memory"
    )]
    let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// What a scenario leaves for people: `target/fault-times/row-NN.json`, or `row-NN-CASE.json` where
/// a row has several scenarios. Not every row has a verdict or a death, so each record holds the
/// times that apply.
#[derive(Clone, Debug)]
pub struct Record {
    name: String,
    fields: Map<String, Value>,
}

impl Record {
    /// The record of a row.
    pub fn row(row: u32) -> Self {
        Self { name: format!("row-{row:02}"), fields: Map::new() }.fact("row", &json!(row))
    }

    /// A record that belongs to no row.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), fields: Map::new() }
    }

    /// Marks it as one of several scenarios of the row.
    #[must_use]
    pub fn case(mut self, case: &str) -> Self {
        self.name = format!("{}-{case}", self.name);
        self.fact("case", &json!(case))
    }

    /// Adds a duration in milliseconds; put the unit into the name.
    #[must_use]
    pub fn time(self, name: &str, from: u64, to: u64) -> Self {
        self.fact(name, &json!(milliseconds(from, to)))
    }

    /// Adds any other fact.
    #[must_use]
    pub fn fact(mut self, name: &str, value: &Value) -> Self {
        self.fields.insert(name.to_owned(), value.clone());
        self
    }

    /// Prints the record and writes its file.
    pub fn keep(self) {
        let Self { name, fields } = self;
        println!("{name}: {}", Value::Object(fields.clone()));
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/fault-times");
        // A record is for people; a read-only target folder must not fail a scenario.
        let _ = std::fs::create_dir_all(&folder);
        let _ = std::fs::write(folder.join(format!("{name}.json")), format!("{:#}\n", Value::Object(fields)));
    }
}

/// The times of a fault that ended a process, in milliseconds since it fired.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultTimes {
    /// Until the verdict.
    pub verdict_ms: f64,
    /// Until the process was dead.
    pub dead_ms: f64,
    /// Until the next block was verified.
    pub verified_ms: f64,
}

impl FaultTimes {
    /// Waits for the recovery of shard `number`, and stores the times as the record of `row`.
    #[track_caller]
    pub fn record(row: u32, cluster: &Cluster, number: usize, fired: u64) -> Self {
        Self::keep(Record::row(row), &cluster.shards[number].sidecar, cluster, fired)
    }

    /// Waits until `sidecar` has seen the next process after the fault that fired at `fired`, and
    /// stores the times in `record`.
    #[track_caller]
    pub fn keep(record: Record, sidecar: &Sidecar, cluster: &Cluster, fired: u64) -> Self {
        let incident = sidecar.incident_with("restarted");
        let dead = incident::step_at(&incident, "exited").expect("it died");
        let verdict = incident::step_at(&incident, "verdict").expect("it was judged");
        let verified = cluster.verified_after(dead.max(fired)).at;
        record
            .time("verdict_ms", fired, verdict)
            .time("dead_ms", fired, dead)
            .time("verified_ms", fired, verified)
            .fact("reason", &incident["reason"])
            .fact("why", &incident["why"])
            .keep();
        Self {
            verdict_ms: milliseconds(fired, verdict),
            dead_ms: milliseconds(fired, dead),
            verified_ms: milliseconds(fired, verified),
        }
    }
}

/// Milliseconds between two monotonic times; negative if the second came first.
pub fn milliseconds(from: u64, to: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "exact up to a hundred days")]
    let nanoseconds = to.wrapping_sub(from).cast_signed() as f64;
    nanoseconds / 1e6
}
