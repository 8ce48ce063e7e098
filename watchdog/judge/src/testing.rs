//! The scene of every test of the judge: a process, its threads and its channels in virtual time,
//! and a judge that observes them. Behind the feature `testing`, which no shipped program has: it
//! panics where a test should fail.
//!
//! A test takes a [`Scene`], changes what is to be observed next (`scene.thread().progress += 1`),
//! lets time pass ([`Scene::pass`], [`Scene::run`]), and asks the judge. [`at_work`] and [`well`]
//! are the two beginnings that most tests share.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use alloc::borrow::ToOwned as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use globset::{Glob, GlobMatcher};

use crate::channel::ChannelTrial;
use crate::clock::Monotonic;
use crate::excuse::Caps;
use crate::incarnation::Incarnation;
use crate::observation::{
    ChannelObservation, Declared, Observation, Presence, ProcessObservation, TaskObservation, TaskState,
    ThreadObservation, WaitChannel, WorkerObservation,
};
use crate::policy::{ByKind, ChannelLimits, On, Policy, Rule};
use crate::target::TargetIdentity;
use crate::thread::ThreadTrial;
use crate::verdict::{ExcuseKind, Reason};
use crate::{Condemnation, Decision, Judge, Note};

pub mod at_work;
pub mod well;

/// The rule of every scene is about threads with such a name.
pub const THREADS: &str = "exec-s*";

/// The moment of the first observation.
pub const BEGAN: Monotonic = Monotonic(1_000_000_000);

/// A glob that is known to be one.
pub fn glob(text: &str) -> GlobMatcher {
    Glob::new(text).unwrap().compile_matcher()
}

/// `time` as the kernel counts it. Panics beyond 584 years.
pub fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

/// A rule that kills, about one thread of this name.
pub fn rule(name: &str, stall_after: Duration, warn_after: Duration) -> Rule {
    Rule {
        name: name.to_owned(),
        glob: glob(name),
        count: 1,
        stall_after,
        warn_after,
        warm_up: Duration::ZERO,
        sections: Vec::new(),
        on: On::Kill,
        by_kind: ByKind::default(),
        silence: None,
    }
}

/// The limits of a channel whose consumers are the threads of [`THREADS`], and which kill.
pub fn limits(name: &str, max_age: Duration, max_depth: Option<u64>) -> ChannelLimits {
    ChannelLimits {
        name: name.to_owned(),
        max_age: Some(max_age),
        max_depth,
        consumer: Some(glob(THREADS)),
        on: On::Kill,
    }
}

/// A policy with these rules, no channels, and round numbers for the rest.
pub fn policy(rules: Vec<Rule>) -> Policy {
    Policy {
        rules,
        channels: Vec::new(),
        startup_grace: Duration::from_secs(30),
        exit_within: Duration::from_secs(30),
        stopped_at_most: Duration::from_secs(60),
        stopped_kills: true,
        excuse_caps: Caps::default(),
        restart_within: Duration::from_secs(30),
        poison_after: 2,
        poll_threads: false,
    }
}

/// The incarnation of this number; each has another start time.
pub const fn identity(incarnation: u64) -> TargetIdentity {
    TargetIdentity { pid: 100, start_time: 6 + incarnation, incarnation }
}

/// A process that is up.
pub const fn process(identity: TargetIdentity) -> ProcessObservation {
    ProcessObservation {
        declared: Declared::Running,
        leader: Some(TaskState::Sleeping),
        ..ProcessObservation::blank(identity)
    }
}

/// An idle thread about which the kernel was not asked.
pub fn thread(slot: u32, name: &str) -> ThreadObservation {
    ThreadObservation::blank(slot, 1, Arc::from(name), 101 + i32::try_from(slot).unwrap())
}

/// A channel through which ten messages went, none of which waits.
pub fn channel(slot: u32, name: &str) -> ChannelObservation {
    ChannelObservation { sent: 10, received: 10, ..ChannelObservation::blank(slot, 1, Arc::from(name)) }
}

/// The kernel's view of a thread that has used this much CPU time and never waited for a CPU.
pub const fn task(state: TaskState, wait: Option<WaitChannel>, cpu_ns: u64) -> TaskObservation {
    TaskObservation { state, cpu_ns: Some(cpu_ns), run_delay_ns: Some(0), wait }
}

/// A worker in `lane` that exists.
pub const fn worker(lane: u32, task: Option<TaskObservation>) -> WorkerObservation {
    WorkerObservation { lane, generation: 1, presence: Presence::Present, task }
}

/// A history: what is to be observed next, and the judge that has observed all before it.
#[derive(Debug)]
pub struct Scene {
    /// What the judge goes by. After a change of a rule, call [`Scene::reload`].
    pub policy: Policy,
    /// The judge.
    pub judge: Judge,
    /// The next observation.
    pub now: Observation,
    /// Time between two observations of [`Scene::run`].
    pub every: Duration,
    /// When the thread last made progress by [`Scene::progress`].
    pub began: Monotonic,
    /// All notes since the beginning, or since the test cleared them.
    pub notes: Vec<Note>,
    incarnations: u64,
}

impl Scene {
    /// A running process with these threads and channels, observed once.
    pub fn begin(
        policy: Policy,
        every: Duration,
        threads: Vec<ThreadObservation>,
        channels: Vec<ChannelObservation>,
    ) -> Self {
        let mut scene = Self::empty(policy, every);
        scene.now.process = Some(process(identity(1)));
        (scene.now.threads, scene.now.channels, scene.incarnations) = (threads, channels, 1);
        scene.look();
        scene
    }

    /// No process yet, and nothing observed.
    pub fn empty(policy: Policy, every: Duration) -> Self {
        let now = Observation { at: BEGAN, ..Observation::default() };
        let (judge, began) = (Judge::new(Monotonic(0)), now.at);
        Self { policy, judge, now, every, began, notes: Vec::new(), incarnations: 0 }
    }

    /// The process.
    pub const fn process(&mut self) -> &mut ProcessObservation {
        self.now.process.as_mut().unwrap()
    }

    /// The first thread.
    pub fn thread(&mut self) -> &mut ThreadObservation {
        &mut self.now.threads[0]
    }

    /// The first channel.
    pub fn channel(&mut self) -> &mut ChannelObservation {
        &mut self.now.channels[0]
    }

    /// Another thread in the next slot. Returns its place.
    pub fn add(&mut self, name: &str) -> usize {
        let place = self.now.threads.len();
        self.now.threads.push(thread(u32::try_from(place).unwrap(), name));
        place
    }

    /// What the kernel reports of the first thread from now on.
    pub fn shows(&mut self, state: TaskState, wait: Option<WaitChannel>, cpu_ns: u64) {
        self.thread().task = Some(task(state, wait, cpu_ns));
    }

    /// The same, somewhere unknown and with no CPU time used.
    pub fn stand_in(&mut self, state: TaskState) {
        self.shows(state, None, 0);
    }

    /// Observes now.
    pub fn look(&mut self) -> Decision {
        let decision = self.judge.observe(&self.policy, &self.now);
        self.notes.extend_from_slice(self.judge.notes());
        decision
    }

    /// Observes once, after `time`.
    pub fn pass(&mut self, time: Duration) -> Decision {
        self.now.at = self.now.at.plus(time);
        self.look()
    }

    /// Observes again and again for `time`, or until condemned.
    pub fn run(&mut self, time: Duration) -> Decision {
        self.run_with(time, |_| ())
    }

    /// The same, with something that happens before each observation.
    pub fn run_with(&mut self, time: Duration, mut happens: impl FnMut(&mut Self)) -> Decision {
        let end = self.now.at.plus(time);
        loop {
            happens(self);
            let decision = self.pass(self.every);
            if decision.condemned || self.now.at >= end {
                return decision;
            }
        }
    }

    /// Observes for all of `time`, condemned or not.
    pub fn run_on(&mut self, time: Duration) -> Decision {
        let end = self.now.at.plus(time);
        loop {
            let decision = self.pass(self.every);
            if self.now.at >= end {
                return decision;
            }
        }
    }

    /// Observes whenever the judge asks, until condemned. Returns how long that took since the
    /// thread began to stand still.
    pub fn run_as_asked(&mut self, at_most: Duration) -> Option<Duration> {
        let mut due = self.pass(self.every).look_at;
        while self.now.at.since(self.began) < at_most {
            self.now.at = due;
            let decision = self.look();
            if decision.condemned {
                return Some(self.now.at.since(self.began));
            }
            due = decision.look_at;
        }
        None
    }

    /// The first thread begins work, and is observed.
    pub fn begin_work(&mut self, key: u64) {
        let thread = self.thread();
        thread.activity += 1;
        thread.work_key = key;
        self.pass(self.every);
    }

    /// The first thread makes progress with the next observation.
    pub fn progress(&mut self) -> Decision {
        let task = self.thread().task.take();
        self.thread().progress += 1;
        let decision = self.pass(self.every);
        self.thread().task = task;
        self.began = self.now.at;
        decision
    }

    /// Messages are sent into the first channel, and it is observed.
    pub fn send(&mut self, messages: u64) {
        self.channel().sent += messages;
        self.pass(self.every);
    }

    /// Messages are received from the first channel, and it is observed.
    pub fn receive(&mut self, messages: u64) {
        self.channel().received += messages;
        self.pass(self.every);
    }

    /// Another incarnation is up, with these threads, and is observed.
    pub fn start(&mut self, threads: Vec<ThreadObservation>) -> Decision {
        self.incarnations += 1;
        self.now.process = Some(process(identity(self.incarnations)));
        self.now.threads = threads;
        self.pass(self.every)
    }

    /// The process ends, by a signal of ours or otherwise, and is observed at its end and after it.
    pub fn die(&mut self) {
        self.process().exited = true;
        self.pass(self.every);
        self.now.process = None;
        self.now.threads.clear();
        self.pass(self.every);
    }

    /// The config is read again.
    pub fn reload(&mut self) {
        self.judge.rules_changed(&self.policy);
    }

    /// The incarnation under watch.
    pub const fn incarnation(&self) -> &Incarnation {
        self.judge.incarnation().unwrap()
    }

    /// The trial of the first thread.
    pub fn trial(&self) -> &ThreadTrial {
        &self.incarnation().threads()[0]
    }

    /// The trial of the first channel.
    pub fn channel_trial(&self) -> &ChannelTrial {
        &self.incarnation().channels()[0]
    }

    /// Time that counts against the first thread.
    pub fn counted(&self) -> Duration {
        self.trial().counted()
    }

    /// Why the process is condemned, if it is.
    pub fn condemned(&self) -> Option<&Condemnation> {
        self.judge.incarnation()?.condemned()
    }

    /// The class of the fault for which it is condemned, if it is.
    pub fn reason(&self) -> Option<Reason> {
        Some(self.condemned()?.reason)
    }

    /// Time excused so far by `kind`.
    pub fn excused(&self, kind: ExcuseKind) -> Duration {
        self.judge.excused()[kind as usize]
    }

    /// How many notes of the last observation satisfy `matches`.
    pub fn noted(&self, matches: impl Fn(&Note) -> bool) -> usize {
        self.judge.notes().iter().filter(|note| matches(note)).count()
    }
}
