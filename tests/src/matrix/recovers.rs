//! Rows in which shard 0 is lost: condemned or ended, then restarted, and the next block verifies.

use std::time::Duration;

use serde_json::{Value, json};

use super::strike::{Step, strike};
use super::told::Told;
use crate::cluster::{Cluster, Plan};
use crate::incident;

/// How long a verdict may take beyond its threshold, on a machine with little CPU time to spare.
/// Without load it takes a millisecond.
const VERDICT_WITHIN: Duration = Duration::from_secs(5);
/// From the verdict to the death of a process that SIGKILL can end.
const DEATH_WITHIN: Duration = Duration::from_secs(10);
/// From the death until the next process reports that it is running: the supervisor's backoff and
/// the start of an executor.
const RUNNING_WITHIN: Duration = Duration::from_secs(20);
/// From the death to the next verified block: the longest block deadline of these rows.
const VERIFIED_WITHIN: Duration = Duration::from_secs(30);

/// What is done to shard 0, and what must be observed.
#[derive(Clone, Copy, Debug)]
pub struct Recovers {
    /// The cluster to start.
    pub plan: fn() -> Plan,
    /// The steps that cause the fault.
    pub steps: &'static [Step],
    /// The expected reason of the incident.
    pub reason: &'static str,
    /// The expected kind, for a stall.
    pub kind: Option<&'static str>,
    /// The thread that the incident must name.
    pub thread: Option<&'static str>,
    /// Whether the sidecar must kill; otherwise it must not.
    pub killed: bool,
    /// The threshold before which nothing may be condemned.
    pub not_before: Duration,
    /// How the supervisor reports the end of the process, such as `exit code 12`.
    pub ends: Option<&'static str>,
    /// Texts that the incident must contain.
    pub says: &'static [&'static str],
}

/// A thread of the shard is gone, and the shard is killed for it.
pub(super) const GONE: Recovers = Recovers {
    plan: Plan::default,
    steps: &[],
    reason: "thread_gone",
    kind: None,
    thread: Some("exec-s0"),
    killed: true,
    not_before: Duration::ZERO,
    ends: None,
    says: &[],
};

/// The executor thread makes no progress for longer than its threshold of one second.
pub(super) const STALLED: Recovers =
    Recovers { reason: "stalled", not_before: Duration::from_secs(1), ..GONE };

/// The process ends by itself, or is ended from outside.
pub(super) const ENDED: Recovers = Recovers { reason: "process_gone", thread: None, killed: false, ..GONE };

impl Recovers {
    pub(super) fn play(&self, told: &Told) {
        let mut cluster = Cluster::start(&(self.plan)());
        let sidecar = cluster.shards[0].sidecar.clone();
        let before = sidecar.pid();
        let struck = strike(self.steps, &cluster);
        let incident = sidecar.incident_with("restarted");
        told.saw(&named(&incident));
        told.fact("why", &incident["why"]);
        let at =
            |step| incident::step_at(&incident, step).unwrap_or_else(|| panic!("no {step}: {incident:#}"));
        let (verdict, dead, running) = (at("verdict"), at("exited"), at("restarted"));
        told.time_within("verdict", struck.at, verdict, self.not_before + VERDICT_WITHIN);
        told.time("dead", struck.at, dead);
        told.time("running", struck.at, running);
        let verified = cluster.verified_after(dead.max(struck.at)).at;
        told.time("verified", struck.at, verified);
        self.assert_told(&incident, struck.at, verdict);
        for (what, from, to, bound) in [
            ("dead after the verdict", verdict, dead, DEATH_WITHIN),
            ("running again after the death", dead, running, RUNNING_WITHIN),
            ("a block verified after the death", dead, verified, VERIFIED_WITHIN),
        ] {
            assert!(
                to.saturating_sub(from) <= nanoseconds(bound),
                "{what}: later than {bound:?}: {incident:#}"
            );
        }
        sidecar.incident("recovered");
        assert_ne!(sidecar.pid(), before, "another process by now");
        assert_eq!(sidecar.incidents().len(), 1, "{:#?}", sidecar.incidents());
        if let Some(ends) = self.ends {
            let ends = format!("ended ({ends})");
            cluster.shards[0].supervisor.line(&ends, 0, |line| line.contains(&ends).then_some(()));
        }
        drop(struck);
        cluster.assert_common_rule(&[0]);
    }

    /// Asserts the content of the incident.
    #[track_caller]
    fn assert_told(&self, incident: &Value, fired: u64, verdict: u64) {
        assert_eq!(incident["reason"], self.reason, "{incident:#}");
        for (key, wanted) in [("kind", self.kind), ("name", self.thread)] {
            if let Some(wanted) = wanted {
                assert_eq!(incident["thread"][key], wanted, "{incident:#}");
            }
        }
        let killed = incident::step_at(incident, "signal").is_some();
        assert_eq!(killed, self.killed, "whether the sidecar has killed: {incident:#}");
        // A fault is told once it has happened: a thread's last progress may be a little earlier.
        let last = incident::step_at(incident, "last_progress").filter(|_| self.reason == "stalled");
        let after = verdict.saturating_sub(last.map_or(fired, |last| last.min(fired)));
        assert!(after >= nanoseconds(self.not_before), "not before {:?}: {incident:#}", self.not_before);
        let text = incident.to_string();
        for says in self.says {
            assert!(text.contains(says), "it does not say {says:?}: {incident:#}");
        }
    }
}

/// Reason and kind of an incident, and whether its process was killed for it.
pub(super) fn named(incident: &Value) -> String {
    let reason = incident["reason"].as_str().unwrap_or_default();
    let kind = incident["thread"]["kind"].as_str().map(|kind| format!(" ({kind})")).unwrap_or_default();
    let killed = incident::step_at(incident, "signal").is_some();
    format!("{reason}{kind}, {}", if killed { "killed" } else { "not killed" })
}

/// Records the times of an incident, relative to its fault at `fired`.
#[track_caller]
pub(super) fn tell(told: &Told, incident: &Value, fired: u64) {
    told.saw(&named(incident));
    told.fact("why", &json!(incident["why"]));
    for (name, step) in [("verdict", "verdict"), ("dead", "exited"), ("running", "restarted")] {
        if let Some(at) = incident::step_at(incident, step) {
            told.time(name, fired, at);
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
