//! A cluster in the middle of its work, for faults that show only in a shard that is working.

use super::{Cluster, Plan};
use crate::sidecar::Settings;
use crate::{blocks, faults, wait};

impl Cluster {
    /// A cluster whose shard 0 is in the middle of a part that takes a minute and progresses
    /// throughout. `disarm` at the fault ports lets it finish at once.
    #[track_caller]
    pub fn at_work(settings: Settings) -> Self {
        let plan =
            Plan { settings, block_deadline: "300s".to_owned(), coordinator: false, ..Plan::default() };
        let mut cluster = Self::start(&plan);
        let blocks = blocks::generated(cluster.folder(), 1, 400);
        cluster.shards[0].sidecar.wait_for("healthy");
        faults::order(&cluster.shards[0].faults, &["arm slow 250ms"]);
        cluster.run_blocks(&blocks, "300s");
        wait::until("shard 0 at work", || {
            let status = cluster.shards[0].sidecar.status()?;
            (status["threads"][0]["health"] == "working").then_some(())
        });
        cluster
    }
}
