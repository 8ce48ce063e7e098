//! The common rule of the fault matrix: the coordinator gets its answer by its deadline, the
//! retried block verifies, other shards are not affected, and no result is lost.

use std::collections::HashMap;

use super::coordinator::told_at;
use super::{Cluster, Shard};

impl Cluster {
    /// Asserts the rule after a fault that may have affected only the shards in `lost`.
    #[track_caller]
    pub fn assert_common_rule(&mut self, lost: &[usize]) {
        self.assert_unharmed_except(lost);
        let coordinator = self.coordinator_mut();
        // It ends with a typed error when a block misses its deadline.
        let ended = coordinator.process.ended();
        assert!(ended.is_none(), "the coordinator ended: {ended:?}");
        let retries: Vec<_> =
            coordinator.events().into_iter().filter(|event| event["event"] == "retry").collect();
        for retry in &retries {
            assert!(
                retry["reason"].as_str().is_some_and(|why| !why.is_empty()),
                "a retry has a reason: {retry}"
            );
            let block = retry["block"].as_u64().expect("a retry names its block");
            coordinator.verified_block_after(block, told_at(retry));
        }
        if coordinator.sidecar.is_none() {
            assert_in_order(
                &coordinator.verified().iter().map(|verified| verified.block).collect::<Vec<_>>(),
            );
        }
    }

    /// Asserts that all shards not in `lost` never had an incident and are still the same
    /// processes.
    #[track_caller]
    pub fn assert_unharmed_except(&self, lost: &[usize]) {
        for (number, shard) in self.shards.iter().enumerate() {
            if self.plan.watched && !lost.contains(&number) {
                shard.assert_unharmed();
            }
        }
    }
}

impl Shard {
    /// Asserts that the shard is still the same process and never had an incident.
    #[track_caller]
    pub fn assert_unharmed(&self) {
        let incidents = self.sidecar.told_incidents();
        assert!(incidents.is_empty(), "no incident: {incidents:#?}");
        assert_eq!(self.sidecar.pid(), self.first_pid, "the same process");
    }
}

/// The chain is run repeatedly: each block is followed by the same one every time, and only the
/// last by an earlier one.
#[track_caller]
fn assert_in_order(blocks: &[u64]) {
    let mut after = HashMap::new();
    for pair in blocks.windows(2) {
        let [this, next] = *pair else { continue };
        let known = *after.entry(this).or_insert(next);
        assert_eq!(known, next, "block {known} is missing after block {this} in {blocks:?}");
        assert!(next > this || Some(&next) == blocks.first(), "{next} after {this} in {blocks:?}");
    }
}
