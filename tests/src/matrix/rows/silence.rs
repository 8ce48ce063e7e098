//! Rows in which the executor thread of shard 0 begins no work although there is some: it is idle,
//! so it never stalls, and the blocks go on without it.

use std::time::Duration;

use super::super::recovers::GONE;
use super::super::strike::{Step, strike};
use super::super::{Course, Part, Recovers, Row, Told, scene};
use crate::clock::monotonic_ns;
use crate::cluster::{Blocks, Cluster, Plan};
use crate::sidecar::Settings;
use crate::wait;

/// Silent after three seconds, in a cluster whose other shard finishes block after block. The first
/// part that is lost takes the coordinator a deadline; it leaves the silent shard alone after that.
fn silent_after_three_seconds(on_idle: &str) -> Plan {
    let rule = format!(
        "[[thread]]\nname = \"exec-s*\"\nstall_after = \"3s\"\nidle_at_most = \"3s\"\nidle_witness = [\"blocks\"]\n\
         on_idle = {on_idle:?}\n"
    );
    // The rule that every config of a scenario begins with is about another thread.
    let settings = Settings { thread: Some("send-s*".to_owned()), append: rule, ..Settings::default() };
    let blocks = Blocks::Generated { blocks: 10, transactions: 40 };
    Plan { settings, block_deadline: "4s".to_owned(), blocks, ..Plan::default() }
}

const DEAF: &[Step] = &[Step::Orders(&["arm deaf"])];
const WHAT: &str = "idle though there was work: the thread never begins";

pub(super) const ROWS: &[Row] = &[
    scene(Part::Seen, "27", "report", WHAT, "order: deaf; on_idle = \"report\"", only_told),
    Row {
        number: "27",
        case: "kill",
        part: Part::Seen,
        what: WHAT,
        fault: "order: deaf; on_idle = \"kill\"",
        needs: &[],
        alone: false,
        course: Course::Recovers(Recovers {
            plan: || silent_after_three_seconds("kill"),
            steps: DEAF,
            reason: "silent",
            not_before: Duration::from_secs(3),
            says: &["channel blocks went on"],
            ..GONE
        }),
    },
];

fn only_told(told: &Told) {
    let mut cluster = Cluster::start(&silent_after_three_seconds("report"));
    wait::holds_for(Duration::from_secs(4), "healthy, for longer than the horizon", || {
        cluster.shards.iter().all(|shard| shard.sidecar.verdict() != "degraded")
    });
    let struck = strike(DEAF, &cluster);
    let status = cluster.shards[0].sidecar.wait_for("degraded");
    told.time("verdict", struck.at, monotonic_ns());
    let why = status["reason"].as_str().unwrap_or_default();
    assert!(why.contains("exec-s0 has begun no work") && why.contains("channel blocks"), "{status:#}");
    let thread = wait::until("the thread to be late", || {
        let status = cluster.shards[0].sidecar.status()?;
        let threads = status["threads"].as_array()?;
        threads.iter().find(|thread| thread["name"] == "exec-s0" && thread["health"] == "late").cloned()
    });
    assert!(thread["silent_seconds"].is_f64(), "{thread:#}");
    told.saw("degraded, alert");
    let other = &cluster.shards[1].sidecar;
    wait::holds_for(Duration::from_secs(3), "the shard that does the work stays healthy", || {
        other.verdict() != "degraded"
    });
    cluster.verified_after(monotonic_ns());
    cluster.assert_common_rule(&[]);
}
