//! The ladder of signals after a verdict: which signal is due, and whether it may be sent at all.
//! Pure, like the judge.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::config::{KillConfig, KillMode, KillSignal};
use crate::verdict::Withheld;

use super::budget::Budget;

/// Most rungs climbed in one observation: a reason to withhold, then each signal, then the report
/// that the process is not dead.
pub const MOST_STEPS: usize = 8;

/// If SIGKILL has not worked within this time, the process cannot die: it is in uninterruptible
/// sleep or in a frozen cgroup. Teardown of a large heap takes 180–630 ms.
const DEAD_WITHIN: Duration = Duration::from_secs(5);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// Nothing, for now.
    Wait,
    /// Send this signal.
    Send(KillSignal),
    /// A kill is due and must not be sent; returned once for each reason.
    Withhold(Withheld),
    /// SIGKILL was sent long ago and the process still lives; returned once.
    NotDead,
}

/// What decides, besides the config, whether a signal may be sent now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restraint {
    /// A person has paused killing.
    pub paused: bool,
    /// A person requested this kill by name: it proceeds in observe mode, during a pause and with a
    /// spent budget.
    pub requested: bool,
    /// The process is condemned for work in a crash loop, and another kill would not help.
    pub spared: bool,
    /// How many times in a row it was killed without a finished piece of work in between.
    pub kills_without_progress: u32,
    /// How long the first signal waits after the verdict. Another shard may stand still for the
    /// same heavy piece of work: drawn at random, so that not all of them are killed at once, and
    /// long enough for some of them to recover. Zero for all but a stall.
    pub jitter: Duration,
    /// Until when the first signal waits at most, while evidence is being gathered.
    pub gathers_until: Option<Monotonic>,
}

impl Restraint {
    const fn pauses(self) -> bool {
        self.paused && !self.requested
    }

    /// Whether so many kills in a row have brought no progress that none follows.
    pub const fn brakes(self, config: &KillConfig) -> bool {
        config.progress_brake > 0 && self.kills_without_progress >= config.progress_brake
    }
}

/// How far one condemned process has come on the ladder.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    /// Until when the first signal waits, by its jitter.
    jitter_until: Option<Monotonic>,
    /// Whether at the last step it waited for that, or for evidence.
    waits: bool,
    began: Option<Monotonic>,
    sent: usize,
    killed_at: Option<Monotonic>,
    withheld: Option<Withheld>,
    not_dead_told: bool,
}

impl Ladder {
    /// The next step at `at` for a condemned process. Call again until it returns [`Rung::Wait`].
    pub fn step(
        &mut self,
        at: Monotonic,
        config: &KillConfig,
        budget: &mut Budget,
        restraint: Restraint,
    ) -> Rung {
        self.step_if(at, config, budget, restraint, &mut || Ok(()))
    }

    /// Like `step`, but calls `may` just before a signal goes out. If `may` refuses, nothing is
    /// sent or spent, its reason (if it gives one) is reported, and it is called again at the next
    /// step.
    pub fn step_if(
        &mut self,
        at: Monotonic,
        config: &KillConfig,
        budget: &mut Budget,
        restraint: Restraint,
        may: &mut dyn FnMut() -> Result<(), Option<Withheld>>,
    ) -> Rung {
        let Some(began) = self.began else {
            return self.begin(at, config, budget, restraint, may);
        };
        if restraint.pauses() && self.killed_at.is_none() {
            // Whoever pauses between SIGABRT and SIGKILL wants the core dump to be completed.
            return self.withhold(Withheld::Paused);
        }
        if let Some(&(signal, after)) = config.signals.get(self.sent)
            && at.since(began) >= after
        {
            if let Err(refused) = may() {
                return self.refused(refused);
            }
            self.sent += 1;
            if signal == KillSignal::Kill {
                self.killed_at = Some(at);
            }
            return Rung::Send(signal);
        }
        if self.killed_at.is_none() && self.sent >= config.signals.len() {
            // A reload removed the remaining rungs, so finish with the last signal, SIGKILL.
            if let Err(refused) = may() {
                return self.refused(refused);
            }
            self.killed_at = Some(at);
            return Rung::Send(KillSignal::Kill);
        }
        if let Some(killed_at) = self.killed_at
            && at.since(killed_at) >= DEAD_WITHIN
            && !self.not_dead_told
        {
            self.not_dead_told = true;
            return Rung::NotDead;
        }
        Rung::Wait
    }

    fn begin(
        &mut self,
        at: Monotonic,
        config: &KillConfig,
        budget: &mut Budget,
        restraint: Restraint,
        may: &mut dyn FnMut() -> Result<(), Option<Withheld>>,
    ) -> Rung {
        let withheld = match config.mode {
            _ if restraint.requested => None,
            // First, since no other mode or later moment would carry out this kill.
            _ if restraint.spared => Some(Withheld::CrashLoop),
            _ if restraint.brakes(config) => Some(Withheld::NoProgress),
            KillMode::Observe => Some(Withheld::Observe),
            KillMode::Enforce if restraint.paused => Some(Withheld::Paused),
            KillMode::Enforce if budget.left(at) == 0 => Some(Withheld::Budget),
            KillMode::Enforce => None,
        };
        if let Some(reason) = withheld {
            return self.withhold(reason);
        }
        // A person does not want to wait.
        let until = *self.jitter_until.get_or_insert(at.plus(restraint.jitter));
        let gathers = restraint.gathers_until.is_some_and(|until| at < until);
        self.waits = !restraint.requested && (gathers || at < until);
        // For evidence even a person waits: whatever is not read before the signal is lost.
        if self.waits || gathers {
            return Rung::Wait;
        }
        let first = config.signals.first().is_none_or(|&(_, after)| after.is_zero());
        if first && let Err(refused) = may() {
            return self.refused(refused);
        }
        // A requested kill counts too, even if none is left: it consumes the supervisor's own limit
        // like any other.
        budget.spend(at);
        self.began = Some(at);
        self.withheld = None;
        // `may` has just agreed.
        if first {
            self.step(at, config, budget, restraint)
        } else {
            self.step_if(at, config, budget, restraint, may)
        }
    }

    fn refused(&mut self, why: Option<Withheld>) -> Rung {
        why.map_or(Rung::Wait, |why| self.withhold(why))
    }

    /// Reports each reason once.
    fn withhold(&mut self, reason: Withheld) -> Rung {
        if self.withheld == Some(reason) {
            return Rung::Wait;
        }
        self.withheld = Some(reason);
        Rung::Withhold(reason)
    }

    /// Whether a kill is due but must not be sent, or waits for its jitter or for evidence, and no
    /// signal has been sent yet. A person's kill that waits for evidence is not withheld: no excuse
    /// holds it.
    pub const fn is_withheld(&self) -> bool {
        self.began.is_none() && (self.withheld.is_some() || self.waits)
    }

    /// When the next rung is due if no event arrives first.
    pub fn due(&self, config: &KillConfig, restraint: Restraint) -> Option<Monotonic> {
        let Some(began) = self.began else {
            return self.jitter_until.filter(|_| self.waits).max(restraint.gathers_until);
        };
        if restraint.pauses() && self.killed_at.is_none() {
            return None;
        }
        match config.signals.get(self.sent) {
            Some(&(_, after)) => Some(began.plus(after)),
            None if self.not_dead_told => None,
            None => self.killed_at.map(|at| at.plus(DEAD_WITHIN)),
        }
    }

    /// When the first signal was due, which is also when it was sent.
    pub const fn began(&self) -> Option<Monotonic> {
        self.began
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::budget::Past;
    use crate::config::KillBy;

    const SECOND: u64 = 1_000_000_000;
    const FREE: Restraint = Restraint {
        paused: false,
        requested: false,
        spared: false,
        kills_without_progress: 0,
        jitter: Duration::ZERO,
        gathers_until: None,
    };
    const PAUSED: Restraint = Restraint { paused: true, ..FREE };
    const REQUESTED: Restraint = Restraint { paused: true, requested: true, spared: true, ..FREE };

    fn config(mode: KillMode, signals: &[(KillSignal, u64)]) -> KillConfig {
        KillConfig {
            mode,
            by: KillBy::Signal,
            signals: signals.iter().map(|&(s, after)| (s, Duration::from_secs(after))).collect(),
            budget_kills: 3,
            budget_per: Duration::from_secs(600),
            progress_brake: 3,
            jitter: Duration::ZERO,
        }
    }

    fn budget() -> Budget {
        Budget::new(3, Duration::from_secs(600), &Past::default(), Monotonic(0))
    }

    #[test]
    fn observe_sends_nothing_and_says_so_once() {
        let config = config(KillMode::Observe, &[(KillSignal::Kill, 0)]);
        let (mut ladder, mut budget) = (Ladder::default(), budget());
        assert_eq!(ladder.step(Monotonic(0), &config, &mut budget, FREE), Rung::Withhold(Withheld::Observe));
        assert_eq!(ladder.step(Monotonic(SECOND), &config, &mut budget, FREE), Rung::Wait);
        assert_eq!(budget.left(Monotonic(0)), 3);
    }

    #[test]
    fn a_spared_process_is_told_once_in_any_mode_and_killed_once_it_is_cleared() {
        const SPARED: Restraint = Restraint { spared: true, ..FREE };
        for mode in [KillMode::Observe, KillMode::Enforce] {
            let config = config(mode, &[(KillSignal::Kill, 0)]);
            let rung = Ladder::default().step(Monotonic(0), &config, &mut budget(), SPARED);
            assert_eq!(rung, Rung::Withhold(Withheld::CrashLoop));
        }
        let config = config(KillMode::Enforce, &[(KillSignal::Kill, 0)]);
        let (mut ladder, mut budget) = (Ladder::default(), budget());
        ladder.step(Monotonic(0), &config, &mut budget, SPARED);
        assert_eq!(ladder.step(Monotonic(SECOND), &config, &mut budget, SPARED), Rung::Wait);
        assert_eq!(budget.left(Monotonic(0)), 3);
        assert_eq!(ladder.step(Monotonic(0), &config, &mut budget, FREE), Rung::Send(KillSignal::Kill));
    }

    #[test]
    fn signals_go_out_in_order_and_one_kill_is_spent() {
        let config = config(KillMode::Enforce, &[(KillSignal::Abort, 0), (KillSignal::Kill, 5)]);
        let (mut ladder, mut budget) = (Ladder::default(), budget());
        assert_eq!(ladder.step(Monotonic(0), &config, &mut budget, FREE), Rung::Send(KillSignal::Abort));
        assert_eq!(ladder.step(Monotonic(SECOND), &config, &mut budget, FREE), Rung::Wait);
        assert_eq!(ladder.due(&config, FREE), Some(Monotonic(5 * SECOND)));
        assert_eq!(
            ladder.step(Monotonic(5 * SECOND), &config, &mut budget, FREE),
            Rung::Send(KillSignal::Kill)
        );
        assert_eq!(ladder.step(Monotonic(9 * SECOND), &config, &mut budget, FREE), Rung::Wait);
        assert_eq!(ladder.step(Monotonic(10 * SECOND), &config, &mut budget, FREE), Rung::NotDead);
        assert_eq!(ladder.step(Monotonic(99 * SECOND), &config, &mut budget, FREE), Rung::Wait);
        assert_eq!(budget.left(Monotonic(0)), 2);
    }

    #[test]
    fn after_so_many_kills_without_progress_no_more_are_sent_but_by_a_person() {
        let config = config(KillMode::Enforce, &[(KillSignal::Kill, 0)]);
        let mut budget = budget();
        for (kills, limit, rung) in [
            (2, 3, Rung::Send(KillSignal::Kill)),
            (3, 3, Rung::Withhold(Withheld::NoProgress)),
            (9, 3, Rung::Withhold(Withheld::NoProgress)),
            (9, 0, Rung::Send(KillSignal::Kill)),
        ] {
            let config = KillConfig { progress_brake: limit, ..config.clone() };
            let restraint = Restraint { kills_without_progress: kills, ..FREE };
            let first = Ladder::default().step(Monotonic(0), &config, &mut budget, restraint);
            assert_eq!(first, rung, "{kills} of {limit}");
        }
        let asked = Restraint { kills_without_progress: 9, ..REQUESTED };
        let first = Ladder::default().step(Monotonic(0), &config, &mut budget, asked);
        assert_eq!(first, Rung::Send(KillSignal::Kill));
    }

    #[test]
    fn a_kill_waits_for_its_jitter_and_spends_nothing_meanwhile() {
        let config = config(KillMode::Enforce, &[(KillSignal::Kill, 0)]);
        let mut budget = budget();
        let jittered = Restraint { jitter: Duration::from_secs(1), ..FREE };
        let mut ladder = Ladder::default();
        let left = budget.left(Monotonic(0));
        for at in [0, 1, SECOND - 1] {
            assert_eq!(ladder.step(Monotonic(at), &config, &mut budget, jittered), Rung::Wait);
            assert_eq!(ladder.due(&config, jittered), Some(Monotonic(SECOND)));
            assert!(ladder.began().is_none() && ladder.is_withheld(), "an excuse holds it meanwhile");
        }
        assert_eq!(budget.left(Monotonic(SECOND)), left);
        let refuse = &mut || Err(None);
        assert_eq!(ladder.step_if(Monotonic(SECOND), &config, &mut budget, jittered, refuse), Rung::Wait);
        assert_eq!(ladder.due(&config, jittered), None, "what it waits for now is no time");
        let sent = ladder.step(Monotonic(SECOND), &config, &mut budget, jittered);
        assert_eq!((sent, ladder.began()), (Rung::Send(KillSignal::Kill), Some(Monotonic(SECOND))));
        let asked = Restraint { requested: true, ..jittered };
        let first = Ladder::default().step(Monotonic(0), &config, &mut budget, asked);
        assert_eq!(first, Rung::Send(KillSignal::Kill), "a person does not wait");
    }

    #[test]
    fn a_kill_waits_for_evidence_until_it_is_there_or_late() {
        let config = config(KillMode::Enforce, &[(KillSignal::Kill, 0)]);
        let until = Monotonic(SECOND);
        for requested in [false, true] {
            let gathers = Restraint { gathers_until: Some(until), requested, ..FREE };
            let there = Restraint { gathers_until: None, ..gathers };
            for (at, then) in [(1, there), (SECOND, gathers)] {
                let (mut ladder, mut budget) = (Ladder::default(), budget());
                assert_eq!(ladder.step(Monotonic(0), &config, &mut budget, gathers), Rung::Wait);
                assert_eq!(ladder.due(&config, gathers), Some(until));
                assert_eq!(ladder.is_withheld(), !requested, "an excuse holds it, unless a person wants it");
                assert!(ladder.began().is_none());
                assert_eq!(budget.left(Monotonic(0)), 3, "nothing is spent meanwhile");
                let sent = ladder.step(Monotonic(at), &config, &mut budget, then);
                assert_eq!(sent, Rung::Send(KillSignal::Kill), "at {at}");
            }
        }
        let both = Restraint { jitter: Duration::from_secs(2), gathers_until: Some(until), ..FREE };
        let mut ladder = Ladder::default();
        assert_eq!(ladder.step(Monotonic(0), &config, &mut budget(), both), Rung::Wait);
        assert_eq!(ladder.due(&config, both), Some(Monotonic(2 * SECOND)), "they run side by side");
        let gathered = Restraint { gathers_until: None, ..both };
        assert_eq!(ladder.step(until, &config, &mut budget(), gathered), Rung::Wait, "its jitter remains");
    }

    #[test]
    fn a_spent_budget_withholds_until_it_refills() {
        let config = config(KillMode::Enforce, &[(KillSignal::Kill, 0)]);
        let (mut ladder, mut budget) =
            (Ladder::default(), Budget::new(1, Duration::from_secs(60), &Past::unknown(), Monotonic(0)));
        assert_eq!(ladder.step(Monotonic(0), &config, &mut budget, FREE), Rung::Withhold(Withheld::Budget));
        assert_eq!(ladder.step(Monotonic(59 * SECOND), &config, &mut budget, FREE), Rung::Wait);
        assert_eq!(
            ladder.step(Monotonic(61 * SECOND), &config, &mut budget, FREE),
            Rung::Send(KillSignal::Kill)
        );
    }

    #[test]
    fn a_pause_withholds_spends_nothing_and_lets_the_kill_through_at_its_end() {
        let config = config(KillMode::Enforce, &[(KillSignal::Kill, 0)]);
        let (mut ladder, mut budget) = (Ladder::default(), budget());
        assert_eq!(ladder.step(Monotonic(0), &config, &mut budget, PAUSED), Rung::Withhold(Withheld::Paused));
        assert!(ladder.is_withheld());
        assert_eq!(ladder.step(Monotonic(SECOND), &config, &mut budget, PAUSED), Rung::Wait);
        assert_eq!(budget.left(Monotonic(SECOND)), 3);
        let end = Monotonic(2 * SECOND);
        assert_eq!(ladder.step(end, &config, &mut budget, FREE), Rung::Send(KillSignal::Kill));
    }

    #[test]
    fn what_is_not_proven_is_not_sent_spends_nothing_and_is_asked_again() {
        let config = config(KillMode::Enforce, &[(KillSignal::Abort, 0), (KillSignal::Kill, 5)]);
        let (mut ladder, mut budget) = (Ladder::default(), budget());
        for (refusal, rung) in [
            (Err(None), Rung::Wait),
            (Err(Some(Withheld::Unproven)), Rung::Withhold(Withheld::Unproven)),
            (Err(Some(Withheld::Unproven)), Rung::Wait),
        ] {
            assert_eq!(ladder.step_if(Monotonic(0), &config, &mut budget, FREE, &mut || refusal), rung);
            assert_eq!(budget.left(Monotonic(0)), 3);
        }
        let mut asked = 0;
        let mut agree = || {
            asked += 1;
            Ok(())
        };
        let sent = ladder.step_if(Monotonic(0), &config, &mut budget, FREE, &mut agree);
        assert_eq!((sent, asked), (Rung::Send(KillSignal::Abort), 1));
        let late = Monotonic(6 * SECOND);
        let refused =
            ladder.step_if(late, &config, &mut budget, FREE, &mut || Err(Some(Withheld::NotTarget)));
        assert_eq!(refused, Rung::Withhold(Withheld::NotTarget), "each signal anew");
    }

    #[test]
    fn a_pause_between_two_signals_holds_back_the_second_and_nobody_spins_meanwhile() {
        let config = config(KillMode::Enforce, &[(KillSignal::Abort, 0), (KillSignal::Kill, 5)]);
        let (mut ladder, mut budget) = (Ladder::default(), budget());
        assert_eq!(ladder.step(Monotonic(0), &config, &mut budget, FREE), Rung::Send(KillSignal::Abort));
        let late = Monotonic(6 * SECOND);
        assert_eq!(ladder.step(late, &config, &mut budget, PAUSED), Rung::Withhold(Withheld::Paused));
        assert_eq!(ladder.step(late, &config, &mut budget, PAUSED), Rung::Wait);
        assert_eq!(ladder.due(&config, PAUSED), None);
        assert!(!ladder.is_withheld(), "it has begun, and is no kill that never was");
        assert_eq!(ladder.step(late, &config, &mut budget, FREE), Rung::Send(KillSignal::Kill));
    }

    #[test]
    fn what_a_person_asked_for_goes_ahead_in_observe_mode_in_a_pause_and_with_a_spent_budget_and_counts() {
        let config = config(KillMode::Observe, &[(KillSignal::Kill, 0)]);
        let (mut ladder, mut budget) = (Ladder::default(), budget());
        assert_eq!(ladder.step(Monotonic(0), &config, &mut budget, REQUESTED), Rung::Send(KillSignal::Kill));
        assert_eq!(ladder.step(Monotonic(0), &config, &mut budget, REQUESTED), Rung::Wait, "once");
        assert_eq!(budget.left(Monotonic(0)), 2);
        let mut spent = Budget::new(3, Duration::from_secs(600), &Past::unknown(), Monotonic(0));
        let rung = Ladder::default().step(Monotonic(0), &config, &mut spent, REQUESTED);
        assert_eq!(rung, Rung::Send(KillSignal::Kill));
        assert_eq!(spent.left(Monotonic(0)), 0);
    }
}
