//! Feeds recorded observations to the judge under any policy, and climbs the ladder as the watch
//! loop would: the same judge, ladder and budget, but no process to signal.

use std::time::Duration;

use crate::act::budget::Budget;
use crate::act::ladder::{Ladder, MOST_STEPS, Restraint, Rung};
use crate::clock::Monotonic;
use crate::config::{Config, KillConfig};
use crate::judge::crash_loop::CrashLoops;
use crate::judge::incarnation::Incarnation;
use crate::judge::policy::Policy;
use crate::judge::{Decision, Judge};
use crate::observation::{Observation, ProcessObservation};
use crate::snapshot::TargetIdentity;
use crate::verdict::Withheld;

use super::Facts;

/// A judge, a ladder and a budget that receive what was recorded.
#[derive(Debug)]
pub struct Replay {
    policy: Policy,
    kill: KillConfig,
    judge: Judge,
    ladder: Option<Ladder>,
    budget: Budget,
    kills_before: Vec<Monotonic>,
    paused: Option<Monotonic>,
    target: Option<TargetIdentity>,
    first_seen: Option<Monotonic>,
    begun: bool,
    would_kill: bool,
}

/// The result of one observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The judge's decision. Details are in [`Judge::notes`].
    pub decision: Decision,
    /// What would have been done about it.
    pub rungs: Vec<Rung>,
    /// Kills that the budget still allows.
    pub kills_left: u32,
}

impl Replay {
    /// A replay under `config`, of a recording to which `facts` apply.
    pub fn new(config: &Config, facts: &Facts) -> Self {
        Self::with_policy(config.policy(facts.poll_threads), &config.kill, facts)
    }

    /// The same with an existing policy.
    pub fn with_policy(policy: Policy, kill: &KillConfig, facts: &Facts) -> Self {
        Self {
            policy,
            judge: Judge::new(facts.began),
            ladder: None,
            budget: Budget::new(kill.budget_kills, kill.budget_per, &facts.past, facts.began),
            kill: kill.clone(),
            kills_before: facts.kills.clone(),
            paused: None,
            target: None,
            first_seen: None,
            begun: false,
            would_kill: false,
        }
    }

    /// The same, with what was known of deaths before the first observation.
    #[must_use]
    pub fn remembering(mut self, known: CrashLoops) -> Self {
        self.judge = self.judge.remembering(known);
        self
    }

    /// What was known of deaths when a chunk began. Only the first chunk's matters; later ones
    /// contain what this judge itself knows.
    pub fn known(&mut self, known: CrashLoops) {
        if !self.begun {
            self.judge.remember(known);
        }
    }

    /// A person cleared work.
    pub fn clear(&mut self, key: Option<u64>) {
        self.judge.clear(key);
    }

    /// Continues under another policy.
    pub fn go_by(&mut self, policy: Policy, kill: &KillConfig, at: Monotonic) {
        self.budget.limit(kill.budget_kills, kill.budget_per, at);
        self.judge.rules_changed(&policy);
        self.policy = policy;
        self.kill = kill.clone();
    }

    /// The current policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The judge, with its notes on the last observation.
    pub const fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Whether any kill became due that was sent, or withheld only by `observe` or a pause. A kill
    /// withheld by the budget does not count in either mode, and neither does one that a person
    /// requested, since it is not due to the config.
    pub const fn would_kill(&self) -> bool {
        self.would_kill
    }

    /// A chunk begins. For the first chunk, it matters when the process was met: `startup_grace`
    /// counts from then.
    pub fn met(&mut self, first_seen: Option<Monotonic>) {
        if !self.begun {
            self.first_seen = first_seen;
        }
    }

    /// A target was refused.
    pub fn refused(&mut self, why: &str, at: Monotonic) {
        self.judge.refused(why, at);
    }

    /// Killing is paused until then, or no longer. Returns whether that is new.
    pub fn pause(&mut self, until: Option<Monotonic>) -> bool {
        std::mem::replace(&mut self.paused, until) != until
    }

    /// A person requested the kill of the watched process.
    pub fn request(&mut self, why: &str) {
        self.judge.request(why);
    }

    /// Judges one observation.
    pub fn look(&mut self, seen: &Observation) -> Outcome {
        if !std::mem::replace(&mut self.begun, true) {
            self.begin(seen);
        }
        let target = seen.process.as_ref().map(|process| process.identity);
        if target != self.target {
            self.target = target;
            self.ladder = None;
        }
        let decision = self.judge.observe(&self.policy, seen);
        let waits = decision.held && self.ladder.as_ref().is_some_and(Ladder::is_withheld);
        let rungs = if decision.condemned && !waits { self.climb(seen.at) } else { Vec::new() };
        if !decision.condemned {
            self.ladder = None;
        }
        Outcome { decision, rungs, kills_left: self.budget.left(seen.at) }
    }

    fn climb(&mut self, at: Monotonic) -> Vec<Rung> {
        let requested = self.judge.incarnation().is_some_and(Incarnation::is_requested);
        let paused = self.paused.is_some_and(|until| at < until);
        let restraint = Restraint {
            paused,
            requested,
            spared: self.judge.spares(),
            kills_without_progress: self.judge.crash_loops().kills_without_progress(),
            // Drawn at random: another run would wait for another time.
            jitter: Duration::ZERO,
            // It delays the signal by milliseconds, in which nothing is decided anew.
            gathers_until: None,
        };
        let ladder = self.ladder.get_or_insert_default();
        let mut rungs = Vec::new();
        for _ in 0..MOST_STEPS {
            match ladder.step(at, &self.kill, &mut self.budget, restraint) {
                Rung::Wait => break,
                rung => rungs.push(rung),
            }
        }
        let kills = |rung: &Rung| {
            matches!(rung, Rung::Send(_) | Rung::Withhold(Withheld::Observe | Withheld::Paused))
        };
        // A requested kill is not due to the config.
        self.would_kill |= !requested && rungs.iter().any(kills);
        rungs
    }

    /// A recording rarely begins with the life of its sidecar. This restores what came before and
    /// matters to any policy: since when the process has been known, and which kills the budget has
    /// paid for.
    fn begin(&mut self, first: &Observation) {
        for at in self.kills_before.iter().filter(|at| **at < first.at) {
            self.budget.spend(*at);
        }
        let (Some(since), Some(process)) = (self.first_seen, &first.process) else { return };
        if since >= first.at {
            return;
        }
        // A bare process, then and just before now: because of the second time, the first recorded
        // observation is not late.
        let mut bare = Observation {
            at: since,
            suspended_ns: first.suspended_ns,
            stolen_ns: None,
            process: Some(ProcessObservation::blank(process.identity)),
            threads: Vec::new(),
            channels: Vec::new(),
        };
        self.judge.observe(&self.policy, &bare);
        bare.at = Monotonic(first.at.0.saturating_sub(1));
        self.judge.observe(&self.policy, &bare);
    }
}
