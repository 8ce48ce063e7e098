//! Times of a run: distributions for benchmarks, and the record that each fault scenario leaves behind.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::incident;

/// A distribution as scripts read it.
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

/// The times of one fault, milliseconds from the moment at which it fired.
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
    /// Reads them from the incident of shard `number` and from the coordinator, and keeps them as the record of
    /// `row` in `target/fault-times`.
    #[track_caller]
    pub fn record(row: u32, cluster: &mut Cluster, number: usize, fired: u64) -> Self {
        let incident = cluster.shards[number].sidecar.incident("recovered");
        let dead = incident::step_at(&incident, "exited").expect("it died");
        let verdict = incident::step_at(&incident, "verdict").expect("it was judged");
        let verified = cluster.verified_after(dead.max(fired)).at;
        let times = Self {
            verdict_ms: milliseconds(fired, verdict),
            dead_ms: milliseconds(fired, dead),
            verified_ms: milliseconds(fired, verified),
        };
        let Self { verdict_ms, dead_ms, verified_ms } = times;
        let record = json!({"row": row, "verdict_ms": verdict_ms, "dead_ms": dead_ms, "verified_ms": verified_ms,
            "reason": incident["reason"], "why": incident["why"]});
        println!(
            "row {row}: verdict {verdict_ms:.2} ms, dead {dead_ms:.2} ms, next verified block {verified_ms:.2} ms"
        );
        keep(row, &record);
        times
    }
}

/// Milliseconds between two monotonic times; negative if the second came first.
pub fn milliseconds(from: u64, to: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "exact up to a hundred days")]
    let nanoseconds = to.wrapping_sub(from).cast_signed() as f64;
    nanoseconds / 1e6
}

fn keep(row: u32, record: &Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/fault-times");
    // A record is for people; a read-only target folder must not fail a scenario.
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(folder.join(format!("row-{row:02}.json")), format!("{record:#}\n"));
}
