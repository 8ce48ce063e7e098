//! The watchdog's own loop in virtual time: the real judge, ladder and budget, in the order of
//! `watchdog/src/watch.rs` and `watch/hand.rs`. It knows of the world only what the observer
//! reports, and what a person does.

use std::time::Duration;

use globset::{Glob, GlobMatcher};
use shard_watchdog::act::budget::{Budget, Past};
use shard_watchdog::act::ladder::{Ladder, Restraint, Rung};
use shard_watchdog::clock::Monotonic;
use shard_watchdog::config::{KillBy, KillConfig, KillMode};
use shard_watchdog::judge::excuse::Caps;
use shard_watchdog::judge::incarnation::Incarnation;
use shard_watchdog::judge::policy::{ChannelLimits, Policy, Rule};
use shard_watchdog::judge::silence::Horizon;
use shard_watchdog::judge::{Decision, Judge};
use shard_watchdog::observation::Observation;
use shard_watchdog::snapshot::TargetIdentity;
use shard_watchdog::verdict::{ExcuseKind, Reason};

use super::canary;
use super::observer::Observer;
use super::plan::{ChannelRule, Consumer, Event, Nanos, Plan};
use super::sections::limits;
use super::silence::Horizon as Silence;
use super::thread::Thread;
use super::world::World;

/// Steps of the ladder that one observation can bring, as in the real loop.
const MOST_STEPS: usize = 8;

/// The reason that a person gives when requesting a kill.
pub const ASKED: &str = "a person asked for the kill: simulated";

/// The orders that the loop carried out, as far as they change what must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obeyed {
    /// It restarted.
    Reborn,
    /// It accepted the order to kill this process.
    Asked(TargetIdentity),
    /// It cleared what it knew of this work, or of all work.
    Cleared(Option<u64>),
}

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
    /// Its last observation.
    pub seen: Observation,
    /// When it was last asked to observe.
    pub asked: Option<Nanos>,
    /// When it last observed.
    pub looked: Option<Nanos>,
    /// Its kills, in this life and those before.
    pub kills: Vec<Nanos>,
    /// How often its rules were reloaded.
    pub reloads: u32,
    budget: Budget,
    ladder: Option<Ladder>,
    /// How long evidence is gathered before the first signal.
    evidence: Duration,
    /// Until when a person has paused killing.
    paused_until: Option<Nanos>,
    due: Nanos,
    born: Nanos,
}

/// The globs of the rules, made once for all histories.
#[derive(Clone, Debug)]
pub struct Globs {
    watched: GlobMatcher,
    first: GlobMatcher,
    nobody: GlobMatcher,
    witness: GlobMatcher,
}

impl Default for Globs {
    fn default() -> Self {
        let glob = |text| Glob::new(text).expect("a glob").compile_matcher();
        let [watched, first, nobody, witness] = ["exec-s*", "exec-s0", "nobody", "commands"].map(glob);
        Self { watched, first, nobody, witness }
    }
}

impl Globs {
    fn horizon(&self, silence: Silence) -> Horizon {
        let witnesses = if silence.witness { vec![self.witness.clone()] } else { Vec::new() };
        Horizon { idle_at_most: silence.idle_at_most, witnesses, kills: silence.kills }
    }

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
    /// The `stall_after` that its rule allows the thread now: more for the first piece of work,
    /// until it has made progress for so long by the judge's own count.
    pub fn allows(&self, thread: &Thread) -> Duration {
        let rule = &self.policy.rules[0];
        let trials = self.judge.incarnation().map(Incarnation::threads).unwrap_or_default();
        let trial = trials.iter().find(|trial| trial.key.0 == thread.slot);
        let warms_up = thread.activity == 1 && trial.is_none_or(|trial| trial.warms_up(rule.warm_up));
        let given = self.given(thread);
        if warms_up { given.max(rule.warm_up) } else { given }
    }

    /// A sidecar that has just started.
    pub fn new(plan: &Plan, globs: &Globs) -> Self {
        let rules = &plan.rules;
        let rule = Rule {
            name: "exec-s*".to_owned(),
            glob: globs.watched.clone(),
            count: 1,
            stall_after: rules.stall_after,
            warn_after: rules.stall_after * 2 / 5,
            warm_up: rules.warm_up,
            sections: rules.sections.iter().filter_map(|own| limits(*own)).collect(),
            on: rules.on,
            by_kind: rules.by_kind,
            silence: rules.silence.map(|silence| globs.horizon(silence)),
        };
        let caps = [
            ExcuseKind::Starved,
            ExcuseKind::Stolen,
            ExcuseKind::Throttled,
            ExcuseKind::MemoryThrottled,
            ExcuseKind::Traced,
            ExcuseKind::Frozen,
            ExcuseKind::CoreDumping,
        ];
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
            poison_after: rules.poison_after,
            poll_threads: plan.machine.poll_threads,
        };
        let kill = KillConfig {
            mode: rules.mode,
            by: KillBy::Signal,
            signals: rules.signals.clone(),
            budget_kills: rules.budget.0,
            budget_per: rules.budget.1,
            progress_brake: rules.brake,
            jitter: rules.jitter,
        };
        Self {
            policy,
            judge: Judge::new(Monotonic(0)),
            observer: Observer::default(),
            seen: Observation::default(),
            asked: None,
            looked: None,
            kills: Vec::new(),
            reloads: 0,
            budget: Budget::new(kill.budget_kills, kill.budget_per, &Past::default(), Monotonic(0)),
            kill,
            evidence: rules.evidence,
            ladder: None,
            paused_until: None,
            due: 0,
            born: 0,
        }
    }

    /// Sleeps until the next observation, as long as the world lets it.
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
    fn found(&self, world: &World<'_>, plan: &Plan) -> Option<(TargetIdentity, Nanos)> {
        let last = world.processes.last().filter(|process| !process.exited && !process.execed)?;
        let found = last.born.max(self.born) + plan.machine.adopt;
        (Some(last.identity) != self.observer.held).then_some((last.identity, found))
    }

    /// Carries out the plan's orders.
    pub fn obey(&mut self, world: &mut World<'_>, plan: &Plan, globs: &Globs) -> Vec<Obeyed> {
        let mut obeyed = Vec::new();
        for order in std::mem::take(&mut world.orders) {
            match order {
                Event::Restart { after } => {
                    let until = world.now + after;
                    while world.now < until {
                        world.live_until(until);
                    }
                    // A reload is forgotten as well: the file has not changed.
                    let kills = std::mem::take(&mut self.kills);
                    let known = *self.judge.crash_loops();
                    let paused_until = self.paused_until;
                    *self = Self::new(plan, globs);
                    let now = Monotonic(world.now);
                    let ages = kills.iter().map(|at| now.since(Monotonic(*at))).collect();
                    let past = Past { ages, cut: false };
                    self.budget = Budget::new(self.kill.budget_kills, self.kill.budget_per, &past, now);
                    self.judge = Judge::new(now).remembering(known);
                    self.kills = kills;
                    self.paused_until = paused_until;
                    self.observer = Observer::begin(world.suspended);
                    self.born = world.now;
                    obeyed.push(Obeyed::Reborn);
                }
                Event::Reload { stall_after, on, channel, mode } => {
                    for rule in &mut self.policy.channels {
                        rule.on = channel;
                    }
                    for rule in &mut self.policy.rules {
                        (rule.stall_after, rule.warn_after, rule.on) = (stall_after, stall_after * 2 / 5, on);
                    }
                    self.kill.mode = mode;
                    self.reloads += 1;
                    self.judge.rules_changed(&self.policy);
                }
                Event::Pause { length } => self.paused_until = Some(world.now + length),
                Event::Resume => self.paused_until = None,
                Event::Clear { key } => {
                    self.judge.clear(key);
                    obeyed.push(Obeyed::Cleared(key));
                }
                Event::Kill => {
                    // A signal may go only to the adopted process; an incident needs the judged
                    // one.
                    let judged = self.judge.incarnation().map(Incarnation::identity);
                    let began = self.ladder.as_ref().is_some_and(|ladder| ladder.began().is_some());
                    if let Some(target) =
                        self.observer.held.filter(|_| self.observer.held == judged && !began)
                    {
                        self.judge.request(ASKED);
                        obeyed.push(Obeyed::Asked(target));
                    }
                }
                _ => {}
            }
        }
        obeyed
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

    /// One observation and one judgement, of something else if `canary`. The flag beside the
    /// decision is true if the process runs another program.
    pub fn look(&mut self, world: &mut World<'_>, plan: &Plan, canary: bool) -> (Decision, bool) {
        self.paused_until.take_if(|until| *until <= world.now);
        let listens = self.policy.channels.iter().any(|rule| rule.kills_after().is_some());
        let asks = self.judge.incarnation().map(|current| current.asks_about().collect()).unwrap_or_default();
        let execed = self.observer.observe(world, &plan.machine, (listens, asks), &mut self.seen);
        let decision = if canary {
            self.judge.observe(&self.policy, &canary::mislead(&self.seen))
        } else {
            self.judge.observe(&self.policy, &self.seen)
        };
        self.observer.want_steal(self.judge.wants_steal());
        (decision, execed)
    }

    /// Acts on the decision. `send` is called with each signal before it goes out.
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
            let restraint = self.restraint();
            let mut ladder = self.ladder.take().unwrap_or_default();
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
        }
        if !decision.condemned {
            self.ladder = None;
        }
        if execed || self.seen.process.as_ref().is_some_and(|process| process.exited) {
            self.observer.hold(None);
            self.ladder = None;
        }
        self.asked = Some(decision.look_at.0);
        self.looked = Some(world.now);
        let restraint = self.restraint();
        let ladder = self.ladder.as_ref().and_then(|ladder| ladder.due(&self.kill, restraint));
        let ladder = ladder.filter(|due| due.0 > world.now);
        let others = [ladder.map(|due| due.0), self.paused_until];
        self.due = others.into_iter().flatten().fold(decision.look_at.0, Nanos::min).max(world.now);
        if signalled {
            self.due = world.now;
        }
    }

    /// What else, besides the config, decides about signals at this observation.
    fn restraint(&self) -> Restraint {
        Restraint {
            paused: self.is_paused(),
            requested: self.judge.incarnation().is_some_and(Incarnation::is_requested),
            spared: self.judge.spares(),
            kills_without_progress: self.judge.crash_loops().kills_without_progress(),
            jitter: self.jitter(),
            gathers_until: self.gathers_until(),
        }
    }

    /// Until when the kill that is due waits for evidence. In this world that always takes as long.
    fn gathers_until(&self) -> Option<Monotonic> {
        let condemned = self.judge.incarnation().and_then(Incarnation::condemned)?;
        let until = condemned.at.plus(self.evidence);
        (!self.evidence.is_zero() && until.0 > self.seen.at.0).then_some(until)
    }

    /// Whether too many kills brought no progress.
    pub fn brakes(&self) -> bool {
        let kills = self.judge.crash_loops().kills_without_progress();
        self.kill.progress_brake > 0 && kills >= self.kill.progress_brake
    }

    /// Whether the first signal waits for its jitter.
    pub fn waits(&self, now: Nanos) -> bool {
        let due = self.ladder.as_ref().filter(|ladder| ladder.began().is_none());
        due.and_then(|ladder| ladder.due(&self.kill, self.restraint())).is_some_and(|due| due.0 > now)
    }

    /// How long a kill for a stall or a silence waits, here always the most that it may.
    fn jitter(&self) -> Duration {
        let condemned = self.judge.incarnation().and_then(Incarnation::condemned);
        let waits = |reason| matches!(reason, Reason::Stalled | Reason::Silent);
        if condemned.is_some_and(|condemned| waits(condemned.reason)) {
            self.kill.jitter
        } else {
            Duration::ZERO
        }
    }

    /// Whether a person has paused killing.
    pub const fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    /// Whether a person has switched killing on.
    pub fn enforces(&self) -> bool {
        self.kill.mode == KillMode::Enforce
    }
}
