//! A second policy beside the live one: it gets the same observations and makes its own decisions,
//! but nobody acts on them.
//!
//! It uses the machinery of `replay` on live observations: a judge, a ladder and a budget, but no
//! process to signal. It shares nothing with the live judge but the observation, which it cannot
//! change. It may request observations that the live policy does not need; the live judge then
//! decides on more observations, which brings none of its verdicts nearer.

use crate::act::ladder::Rung;
use crate::clock::Monotonic;
use crate::config::ShadowConfig;
use crate::event::{Event, ShadowStep};
use crate::judge::crash_loop::CrashLoops;
use crate::judge::policy::Policy;
use crate::judge::{Condemnation, Judge, Note};
use crate::observation::Observation;
use crate::recorder::Facts;
use crate::recorder::replay::Replay;
use crate::snapshot::ShadowStatus;
use crate::verdict::{Reason, Verdict};

use super::publish::Publisher;

/// The second policy and its state.
#[derive(Debug)]
pub struct Shadow {
    replay: Replay,
    look_at: Monotonic,
    kills: u64,
    last: Option<(Monotonic, Reason, String)>,
    kills_left: u32,
}

impl Shadow {
    /// A shadow that has seen nothing yet. It shares with `live` what is not a matter of policy.
    pub fn new(config: &ShadowConfig, live: &Policy, known: CrashLoops, at: Monotonic) -> Self {
        let facts = Facts { began: at, poll_threads: live.poll_threads, ..Facts::default() };
        Self {
            replay: Replay::with_policy(policy(config, live), &config.kill, &facts).remembering(known),
            look_at: at,
            kills: 0,
            last: None,
            kills_left: config.kill.budget_kills,
        }
    }

    /// Applies a new config: changes the policy, ends it, or starts the first one.
    pub fn reload(
        shadow: &mut Option<Self>,
        config: Option<&ShadowConfig>,
        live: &Policy,
        known: CrashLoops,
        at: Monotonic,
    ) {
        match (shadow.as_mut(), config) {
            (Some(shadow), Some(config)) => shadow.replay.go_by(policy(config, live), &config.kill, at),
            (None, Some(config)) => *shadow = Some(Self::new(config, live, known, at)),
            (_, None) => *shadow = None,
        }
    }

    /// The current policy.
    pub const fn policy(&self) -> &Policy {
        self.replay.policy()
    }

    /// When it wants the next observation.
    pub const fn look_at(&self) -> Monotonic {
        self.look_at
    }

    /// Whether it wants the next observation to read what the hypervisor took.
    pub fn wants_steal(&self) -> bool {
        self.replay.judge().wants_steal()
    }

    /// A target was refused.
    pub fn refused(&mut self, why: &str, at: Monotonic) {
        self.replay.refused(why, at);
    }

    /// Judges one observation; `live` is the live policy's verdict on it.
    pub fn look(&mut self, seen: &Observation, live: Verdict, publisher: &mut Publisher) {
        let outcome = self.replay.look(seen);
        self.look_at = outcome.decision.look_at;
        self.kills_left = outcome.kills_left;
        let at = seen.at;
        let mut tell = |step| {
            publisher.send(Event::Shadow { at, live, step });
            publisher.hurry();
        };
        for note in self.replay.judge().notes() {
            if let Note::Lifted { why } = note {
                tell(ShadowStep::Lifted { why: why.clone() });
            }
        }
        let Some(condemned) = condemned(self.replay.judge()) else { return };
        for rung in &outcome.rungs {
            match rung {
                Rung::Send(_) => {
                    self.kills = self.kills.saturating_add(1);
                    self.last = Some((at, condemned.reason, condemned.why.clone()));
                    tell(ShadowStep::WouldKill {
                        reason: condemned.reason,
                        why: condemned.why.clone(),
                        thread: condemned.thread.as_ref().map(|thread| thread.name.clone()),
                    });
                }
                Rung::Withhold(_) => tell(ShadowStep::Withheld { why: condemned.why.clone() }),
                // Nothing was really sent, so it means nothing that the process lives.
                Rung::NotDead | Rung::Wait => {}
            }
        }
    }

    /// A person orders that work be judged like any other again.
    pub fn clear(&mut self, key: Option<u64>) {
        self.replay.clear(key);
    }

    /// Its judge.
    pub const fn judge(&self) -> &Judge {
        self.replay.judge()
    }

    /// Its state, for display.
    pub fn status(&self) -> ShadowStatus {
        let judge = self.replay.judge();
        ShadowStatus {
            verdict: judge.verdict(),
            reason: judge.why().to_owned(),
            since: judge.since(),
            kills: self.kills,
            last: self.last.clone(),
            kills_left: self.kills_left,
        }
    }
}

fn condemned(judge: &Judge) -> Option<&Condemnation> {
    judge.incarnation()?.condemned()
}

fn policy(config: &ShadowConfig, live: &Policy) -> Policy {
    crate::config::policy::policy(
        &config.threads,
        &config.channels,
        &config.judge,
        live.restart_within,
        live.poll_threads,
    )
}

#[cfg(test)]
#[path = "shadow/tests.rs"]
mod tests;
