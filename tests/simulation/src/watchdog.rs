//! The watchdog's own loop in virtual time: the real judge, the real ladder and the real budget, in the order of
//! `watchdog/src/watch.rs`. What it knows of the world is what the observer tells it.

use globset::{Glob, GlobMatcher};
use shard_watchdog::act::budget::{Budget, Past};
use shard_watchdog::act::ladder::{Ladder, Restraint, Rung};
use shard_watchdog::clock::Monotonic;
use shard_watchdog::config::{KillConfig, KillMode};
use shard_watchdog::judge::excuse::Caps;
use shard_watchdog::judge::policy::{ChannelLimits, Policy, Rule};
use shard_watchdog::judge::{Decision, Judge};
use shard_watchdog::observation::Observation;
use shard_watchdog::verdict::ExcuseKind;

use super::observer::Observer;
use super::plan::{ChannelRule, Consumer, Event, Nanos, Plan};
use super::world::World;

/// Steps of the ladder that one look can bring, as in the real loop.
const MOST_STEPS: usize = 8;

/// The sidecar.
#[derive(Debug)]
pub struct Watchdog {
    /// Its policy.
    pub policy: Policy,
    /// How it kills.
    pub kill: KillConfig,
    /// Its judge.
    pub judge: Judge,
    /// Its probe.
    pub observer: Observer,
    /// What it saw last.
    pub seen: Observation,
    /// When it was last told to look.
    pub asked: Option<Nanos>,
    /// When it last looked.
    pub looked: Option<Nanos>,
    /// Its kills, in this life and before.
    pub kills: Vec<Nanos>,
    budget: Budget,
    ladder: Option<Ladder>,
    due: Nanos,
    born: Nanos,
}

/// The globs of the rules, made once for all histories.
#[derive(Clone, Debug)]
pub struct Globs {
    watched: GlobMatcher,
    first: GlobMatcher,
    nobody: GlobMatcher,
}

impl Default for Globs {
    fn default() -> Self {
        let glob = |text| Glob::new(text).expect("a glob").compile_matcher();
        Self { watched: glob("exec-s*"), first: glob("exec-s0"), nobody: glob("nobody") }
    }
}

impl Globs {
    fn channel(&self, rule: &ChannelRule) -> ChannelLimits {
        let consumer = match rule.consumer {
            Consumer::First => &self.first,
            Consumer::All => &self.watched,
            Consumer::Nobody => &self.nobody,
        };
        ChannelLimits {
            name: "commands".to_owned(),
            max_age: Some(rule.max_age),
            max_depth: Some(rule.max_depth),
            consumer: Some(consumer.clone()),
            on: rule.on,
        }
    }
}

impl Watchdog {
    /// A sidecar that has just started.
    pub fn new(plan: &Plan, globs: &Globs) -> Self {
        let rules = &plan.rules;
        let rule = Rule {
            name: "exec-s*".to_owned(),
            glob: globs.watched.clone(),
            count: 1,
            stall_after: rules.stall_after,
            warn_after: rules.stall_after * 2 / 5,
            on: rules.on,
        };
        let caps = [ExcuseKind::Starved, ExcuseKind::Throttled, ExcuseKind::Traced, ExcuseKind::Frozen];
        let policy = Policy {
            rules: vec![rule],
            channels: rules.channel.iter().map(|rule| globs.channel(rule)).collect(),
            startup_grace: rules.stall_after,
            exit_within: rules.exit_within,
            stopped_at_most: rules.stopped_at_most,
            stopped_kills: rules.stopped_kills,
            excuse_caps: caps
                .into_iter()
                .fold(Caps::default(), |caps, kind| caps.with(kind, rules.excuse_cap)),
            restart_within: rules.restart_within,
            poison_after: 2,
            poll_threads: plan.machine.poll_threads,
        };
        let kill = KillConfig {
            mode: rules.mode,
            signals: rules.signals.clone(),
            budget_kills: rules.budget.0,
            budget_per: rules.budget.1,
        };
        Self {
            policy,
            judge: Judge::new(Monotonic(0)),
            observer: Observer::default(),
            seen: Observation::default(),
            asked: None,
            looked: None,
            kills: Vec::new(),
            budget: Budget::new(kill.budget_kills, kill.budget_per, &Past::default(), Monotonic(0)),
            kill,
            ladder: None,
            due: 0,
            born: 0,
        }
    }

    /// Sleeps until the next look, as long as the world lets it.
    pub fn sleep(&mut self, world: &mut World<'_>, plan: &Plan, jitter: Nanos) {
        let mut wake = self.due.max(world.now) + jitter;
        if let Some((_, found)) = self.found(world, plan) {
            // The adopter wakes the loop.
            wake = wake.min(found.max(world.now));
        }
        loop {
            world.live_until(wake);
            let up = world.away_until.max(world.asleep_until);
            if world.now >= up {
                return;
            }
            wake = up + jitter;
        }
    }

    /// A process other than the one it holds that the adopter has found, or will find, and when.
    fn found(
        &self,
        world: &World<'_>,
        plan: &Plan,
    ) -> Option<(shard_watchdog::snapshot::TargetIdentity, Nanos)> {
        let last = world.processes.last().filter(|process| !process.exited && !process.execed)?;
        let found = last.born.max(self.born) + plan.machine.adopt;
        (Some(last.identity) != self.observer.held).then_some((last.identity, found))
    }

    /// Does what the plan tells it. Returns whether it began a new life.
    pub fn obey(&mut self, world: &mut World<'_>, plan: &Plan, globs: &Globs) -> bool {
        let mut reborn = false;
        for order in std::mem::take(&mut world.orders) {
            match order {
                Event::Restart { after } => {
                    let until = world.now + after;
                    while world.now < until {
                        world.live_until(until);
                    }
                    // A reload is forgotten as well: the file says what it says.
                    let kills = std::mem::take(&mut self.kills);
                    let known = *self.judge.crash_loops();
                    *self = Self::new(plan, globs);
                    let now = Monotonic(world.now);
                    let ages = kills.iter().map(|at| now.since(Monotonic(*at))).collect();
                    let past = Past { ages, cut: false };
                    self.budget = Budget::new(self.kill.budget_kills, self.kill.budget_per, &past, now);
                    self.judge = Judge::new(now).remembering(known);
                    self.kills = kills;
                    self.born = world.now;
                    reborn = true;
                }
                Event::Reload { stall_after, on, channel, mode } => {
                    for rule in &mut self.policy.channels {
                        rule.on = channel;
                    }
                    for rule in &mut self.policy.rules {
                        (rule.stall_after, rule.warn_after, rule.on) = (stall_after, stall_after * 2 / 5, on);
                    }
                    self.kill.mode = mode;
                    self.judge.rules_changed(&self.policy);
                }
                _ => {}
            }
        }
        reborn
    }

    /// Takes over what the adopter found. True if it watches another process now.
    pub fn adopt(&mut self, world: &World<'_>, plan: &Plan) -> bool {
        let Some((target, _)) = self.found(world, plan).filter(|(_, found)| *found <= world.now) else {
            return false;
        };
        if self.observer.held.is_some_and(|held| held.pid != target.pid) {
            return false;
        }
        self.ladder = None;
        self.observer.hold(Some(target));
        true
    }

    /// One look and one judgement. True beside it if the process runs another program.
    pub fn look(&mut self, world: &mut World<'_>, plan: &Plan) -> (Decision, bool) {
        let listens = self.policy.channels.iter().any(|rule| rule.kills_after().is_some());
        let execed = self.observer.observe(world, &plan.machine, listens, &mut self.seen);
        let decision = self.judge.observe(&self.policy, &self.seen);
        (decision, execed)
    }

    /// What follows from it. `send` is told of each signal before it goes out.
    pub fn act(
        &mut self,
        world: &mut World<'_>,
        decision: Decision,
        execed: bool,
        mut send: impl FnMut(&Self, &World<'_>, bool),
    ) {
        let now = Monotonic(world.now);
        let mut signalled = false;
        let waits = decision.held && self.ladder.as_ref().is_some_and(Ladder::is_withheld);
        if decision.condemned && !waits {
            let mut ladder = self.ladder.take().unwrap_or_default();
            let restraint = Restraint { spared: decision.spared, ..Restraint::default() };
            for _ in 0..MOST_STEPS {
                let first = ladder.began().is_none();
                match ladder.step(now, &self.kill, &mut self.budget, restraint) {
                    Rung::Wait => break,
                    Rung::Withhold(_) | Rung::NotDead => {}
                    Rung::Send(signal) => {
                        if first {
                            self.kills.push(world.now);
                        }
                        send(self, world, first);
                        let Some(target) = self.observer.held else { break };
                        world.signal(target, signal);
                        self.observer.signalled.get_or_insert(now);
                        signalled = true;
                    }
                }
            }
            self.ladder = Some(ladder);
        } else {
            self.ladder = None;
        }
        if execed || self.seen.process.as_ref().is_some_and(|process| process.exited) {
            self.observer.hold(None);
            self.ladder = None;
        }
        self.asked = Some(decision.look_at.0);
        self.looked = Some(world.now);
        let ladder = self.ladder.as_ref().and_then(|ladder| ladder.due(&self.kill, Restraint::default()));
        self.due = ladder.map_or(decision.look_at.0, |due| due.0.min(decision.look_at.0)).max(world.now);
        if signalled {
            self.due = world.now;
        }
    }

    /// Whether a person has switched killing on.
    pub fn enforces(&self) -> bool {
        self.kill.mode == KillMode::Enforce
    }
}
