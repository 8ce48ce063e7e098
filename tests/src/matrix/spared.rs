//! Rows in which shard 0 is held up while it works, and must live: the verdict stays as it must for
//! as long as the fault holds, nothing is condemned, and the same process continues afterwards.

use std::time::Duration;

use serde_json::json;

use super::strike::{Who, hold};
use super::told::Told;
use crate::clock::monotonic_ns;
use crate::cluster::{Cluster, Plan, Shard};
use crate::sidecar::Settings;
use crate::{api, faults, wait};

/// What the shard is doing while the fault holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One part that takes a minute and progresses throughout: the shard is never idle.
    LongPart,
    /// One block after another.
    Blocks,
}

/// What is done to shard 0, and what must be observed.
#[derive(Clone, Copy, Debug)]
pub struct Spared {
    /// Settings of its sidecar.
    pub settings: fn() -> Settings,
    /// What it works on.
    pub work: Work,
    /// The script of the fault kit.
    pub script: &'static str,
    /// The target of the script.
    pub who: Who,
    /// Further arguments of the script.
    pub more: &'static [&'static str],
    /// The excuses that may be observed, the wanted one first; empty: none, and the verdict stays
    /// healthy.
    pub excuses: &'static [&'static str],
    /// Whether it is excused throughout. Otherwise excuses come and go, and some time must count.
    pub throughout: bool,
    /// The excuse that must exceed its cap before the fault ends, which pages.
    pub pages: Option<&'static str>,
    /// How long the fault is held once it is observed.
    pub held: Duration,
}

/// Excused throughout, by a fault that holds the whole shard, for several thresholds of one second.
pub(super) const EXCUSED: Spared = Spared {
    settings: Settings::default,
    work: Work::LongPart,
    script: "",
    who: Who::Shard,
    more: &[],
    excuses: &[],
    throughout: true,
    pages: None,
    held: Duration::from_secs(3),
};

impl Spared {
    pub(super) fn play(&self, told: &Told) {
        let settings = (self.settings)();
        let mut cluster = match self.work {
            Work::LongPart => Cluster::at_work(settings),
            // A shard slowed a hundred times must not lose the block: that is not tested here.
            Work::Blocks => {
                Cluster::start(&Plan { settings, block_deadline: "300s".to_owned(), ..Plan::default() })
            }
        };
        let fault = hold(&cluster, self.script, self.who, self.more);
        let began = monotonic_ns();
        let shard = &cluster.shards[0];
        self.wait_for_excuse(shard);
        told.time("verdict", began, monotonic_ns());
        told.saw(
            self.excuses.first().map_or("healthy".to_owned(), |kind| format!("excused ({kind})")).as_str(),
        );
        wait::holds_for(self.held, "nobody is condemned, and the verdict holds", || self.holds(shard));
        if let Some(kind) = self.pages {
            wait::until(&format!("the excuse {kind} to be past its cap"), || {
                over_cap(shard, kind).then_some(())
            });
            told.saw(&format!("excused ({kind}), page"));
        }
        told.held(Duration::from_nanos(monotonic_ns() - began));
        told.fact(
            "excused_seconds",
            &shard.sidecar.status().map_or(json!(null), |all| all["excused_seconds"].clone()),
        );
        fault.undo();
        let undone = monotonic_ns();
        if self.work == Work::LongPart {
            for shard in &cluster.shards {
                faults::order(&shard.faults, &["disarm"]);
            }
        }
        cluster.shards[0].sidecar.wait_for("healthy");
        told.time("healthy", undone, monotonic_ns());
        cluster.verified_after(undone);
        cluster.assert_common_rule(&[]);
    }

    /// Waits until one of the excuses is observed.
    #[track_caller]
    fn wait_for_excuse(&self, shard: &Shard) {
        let Some(wanted) = self.excuses.first() else { return };
        let what = format!("one of the excuses {:?}, not {:?}", self.excuses, shard.sidecar.status());
        wait::until(&what, || {
            let status = shard.sidecar.status()?;
            let seen = if self.throughout {
                self.excuses.contains(&status["threads"][0]["kind"].as_str()?)
            } else {
                // A poll may miss an excuse that comes and goes.
                status["excused_seconds"][*wanted].as_f64()? > 0.0
            };
            seen.then_some(())
        });
    }

    fn holds(&self, shard: &Shard) -> bool {
        // Whether a busy sidecar answers at once is not tested here.
        shard.sidecar.status().is_none_or(|status| {
            let verdict = status["verdict"].as_str().unwrap_or_default();
            let good: &[&str] = match (self.excuses.is_empty(), self.throughout) {
                (false, true) => &["excused"],
                _ => &["healthy", "excused", "degraded"],
            };
            status["pid"] == shard.first_pid && good.contains(&verdict)
        })
    }
}

/// Whether the sidecar reports this excuse as past its cap, by the metric that the alert uses.
pub(super) fn over_cap(shard: &Shard, kind: &str) -> bool {
    let label = format!("kind=\"{kind}\"");
    let page = api::get(shard.sidecar.http, "/metrics").map(|answer| answer.body).unwrap_or_default();
    page.lines().any(|line| {
        line.starts_with("shard_watchdog_excuse_over_cap{") && line.contains(&label) && line.ends_with(" 1")
    })
}
