//! How a person intervenes in the loop: a pause of killing, and a kill requested by name.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::act::ladder::Restraint;
use crate::clock::Monotonic;
use crate::event::{Event, Step};
use crate::judge::incarnation::Incarnation;
use crate::pause::Pause;
use crate::snapshot::TargetIdentity;
use crate::verdict::{Reason, Withheld};

use super::publish::Publisher;
use super::{Acted, Watch};

/// A kill requested by a person.
#[derive(Clone, Debug)]
pub struct KillOrder {
    /// Who requested it and why, as the sentence that the incident will show.
    pub why: String,
    /// The incarnation to kill; `None` means the one watched now.
    pub incarnation: Option<u64>,
}

/// The result of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KillAnswer {
    /// The first signal went out.
    Sent {
        /// Name of the signal.
        signal: &'static str,
        /// The process that it was sent to.
        target: TargetIdentity,
    },
    /// The kill has begun, and the first signal is due later.
    Begun(TargetIdentity),
    /// A signal was already sent to this incarnation, or already requested: nothing more was done.
    Already(TargetIdentity),
    /// No watched process that adoption has checked and the judge has seen.
    NoTarget,
    /// Another incarnation is watched than the requested one.
    Another(TargetIdentity),
    /// The kernel refused the signal.
    Refused {
        /// The kernel's error.
        error: String,
        /// The process that it was meant for.
        target: TargetIdentity,
    },
    /// The process failed the checks before the signal.
    Unproven {
        /// Which check failed, as a sentence.
        why: String,
        /// Whether the checks may still pass: then the kill is retried.
        again: bool,
        /// The process, to which nothing was sent.
        target: TargetIdentity,
    },
    /// The process ended by itself in that moment.
    Ended(TargetIdentity),
}

/// What persons have requested, and the answers still owed to them.
#[derive(Debug, Default)]
pub struct Hand {
    pause: Option<Arc<Pause>>,
    asked: Option<(TargetIdentity, oneshot::Sender<KillAnswer>)>,
    /// Drawn at the start, so that the loop asks the system for nothing when a kill is due.
    seed: RandomState,
}

impl Hand {
    /// Resumes the pause from an earlier life of the sidecar, if there is one.
    pub fn new(pause: Option<Arc<Pause>>, publisher: &mut Publisher) -> Self {
        if let Some(pause) = &pause {
            publisher.send(Event::Paused { at: pause.since, pause: Arc::clone(pause) });
        }
        Self { pause, asked: None, seed: RandomState::new() }
    }

    /// The pause that is in force.
    pub const fn pause(&self) -> Option<&Arc<Pause>> {
        self.pause.as_ref()
    }

    /// Starts a pause; returns the one that it replaces.
    pub fn set(&mut self, pause: Arc<Pause>, at: Monotonic, publisher: &mut Publisher) -> Option<Arc<Pause>> {
        publisher.send(Event::Paused { at, pause: Arc::clone(&pause) });
        publisher.hurry();
        self.pause.replace(pause)
    }

    /// Ends the pause early; returns it.
    pub fn resume(&mut self, by: String, at: Monotonic, publisher: &mut Publisher) -> Option<Arc<Pause>> {
        let pause = self.pause.take()?;
        publisher.send(Event::PauseOver { at, pause: Arc::clone(&pause), by: Some(by) });
        publisher.hurry();
        Some(pause)
    }

    /// Ends the pause if it has expired.
    pub fn tick(&mut self, at: Monotonic, publisher: &mut Publisher) {
        if let Some(pause) = self.pause.take_if(|pause| at >= pause.until) {
            publisher.send(Event::PauseOver { at, pause, by: None });
            publisher.hurry();
        }
    }
}

impl Watch {
    /// What decides, besides the config, whether a signal may be sent after this observation.
    pub(super) fn restraint(&self) -> Restraint {
        Restraint {
            paused: self.hand.pause.is_some(),
            requested: self.judge.incarnation().is_some_and(Incarnation::is_requested),
            spared: self.judge.spares(),
            kills_without_progress: self.judge.crash_loops().kills_without_progress(),
            jitter: self.jitter(),
            gathers_until: self.gathering.until(),
        }
    }

    /// How long the kill that is due waits, by its jitter. A lost thread never recovers, so only a
    /// stall and a silence are given time to.
    fn jitter(&self) -> Duration {
        let condemned = self.judge.incarnation().and_then(Incarnation::condemned);
        let may_recover =
            condemned.filter(|condemned| matches!(condemned.reason, Reason::Stalled | Reason::Silent));
        may_recover.map_or(Duration::ZERO, |condemned| {
            jitter(&self.hand.seed, self.config.kill.jitter, condemned.at)
        })
    }

    /// Accepts an order to kill the watched process, to be carried out with the next observation.
    pub(super) fn take_order(&mut self, order: &KillOrder, answer: oneshot::Sender<KillAnswer>) {
        // Only an adopted process may be signalled, and only a judged one can have an incident.
        let adopted = self.probe.handle().map(|handle| handle.identity());
        let judged = self.judge.incarnation().map(Incarnation::identity);
        let told = match adopted.filter(|_| adopted == judged) {
            None => KillAnswer::NoTarget,
            Some(target) if order.incarnation.is_some_and(|wanted| wanted != target.incarnation) => {
                KillAnswer::Another(target)
            }
            Some(target) => {
                let began = self.ladder.as_ref().is_some_and(|ladder| ladder.began().is_some());
                if began || !self.judge.request(&order.why) {
                    KillAnswer::Already(target)
                } else {
                    self.requested(&order.why);
                    self.hand.asked = Some((target, answer));
                    return;
                }
            }
        };
        // The requester may be gone.
        let _ = answer.send(told);
    }

    fn requested(&mut self, why: &str) {
        let at = crate::clock::now();
        self.recorder.requested(why, at);
        if self.judge.incarnation().is_some_and(|current| current.condemned().is_some()) {
            self.story.step(at, Step::Requested { why: why.to_owned() }, &mut self.publisher);
        }
    }

    /// Answers whoever requested a kill with the result of the observation.
    pub(super) fn answer(&mut self, acted: &Acted, ended: bool) {
        let waits = acted.waits_for_proof || self.gathering.until().is_some();
        if waits && !ended {
            // The next attempts settle it, or the answer reports it.
            return;
        }
        let Some((target, answer)) = self.hand.asked.take() else { return };
        let began = self.ladder.as_ref().is_some_and(|ladder| ladder.began().is_some());
        let _ = answer.send(outcome(target, acted, ended, began));
    }
}

/// The result of the observation that carries out an order.
fn outcome(target: TargetIdentity, acted: &Acted, ended: bool, began: bool) -> KillAnswer {
    let unproven = acted.steps.iter().flatten().find_map(|(_, step)| match step {
        Step::Unproven { by, why } => Some((why.clone(), *by == Withheld::Unproven)),
        _ => None,
    });
    if let Some((why, again)) = unproven {
        return KillAnswer::Unproven { why, again, target };
    }
    let signal = acted.steps.iter().flatten().find_map(|(_, step)| match step {
        Step::Signal { signal, error } => Some((*signal, error.clone())),
        _ => None,
    });
    match signal {
        Some((signal, None)) => KillAnswer::Sent { signal, target },
        Some((_, Some(error))) => KillAnswer::Refused { error, target },
        None if ended => KillAnswer::Ended(target),
        None if began => KillAnswer::Begun(target),
        // It was released between the order and the observation.
        None => KillAnswer::NoTarget,
    }
}

/// Between nothing and `most`: the same whenever it is asked about the same verdict, different for
/// each shard. The seed is random for each process, which is all the randomness that this needs.
fn jitter(seed: &RandomState, most: Duration, verdict: Monotonic) -> Duration {
    if most.is_zero() {
        return Duration::ZERO;
    }
    let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(seed.hash_one(verdict.0) % most.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jitter_stays_the_same_for_one_verdict_and_within_its_limit() {
        let (seed, most) = (RandomState::new(), Duration::from_millis(500));
        let drawn = || (0..1_000).map(|at| jitter(&seed, most, Monotonic(at))).collect::<Vec<_>>();
        assert_eq!(drawn(), drawn());
        assert!(drawn().iter().all(|wait| *wait <= most));
        let early = drawn().iter().filter(|wait| **wait < most / 2).count();
        assert!((300..700).contains(&early), "{early} of 1000 are in the first half");
        assert_eq!(jitter(&seed, Duration::ZERO, Monotonic(7)), Duration::ZERO);
    }

    #[test]
    fn whoever_asked_is_told_what_the_look_came_to() {
        let target = TargetIdentity { pid: 10, start_time: 20, incarnation: 30 };
        let signalled = |error: Option<&str>| {
            let mut acted = Acted::default();
            let error = error.map(str::to_owned);
            acted.steps[1] = Some((Monotonic(1), Step::Signal { signal: "SIGABRT", error }));
            acted
        };
        let nothing = Acted::default();
        let sent = KillAnswer::Sent { signal: "SIGABRT", target };
        assert_eq!(outcome(target, &signalled(None), false, true), sent);
        let refused = KillAnswer::Refused { error: "no".to_owned(), target };
        assert_eq!(outcome(target, &signalled(Some("no")), false, true), refused);
        assert_eq!(outcome(target, &nothing, true, false), KillAnswer::Ended(target));
        assert_eq!(
            outcome(target, &nothing, false, true),
            KillAnswer::Begun(target),
            "the first rung is later"
        );
        assert_eq!(outcome(target, &nothing, false, false), KillAnswer::NoTarget);
    }
}
