//! A process with one thread that is at work and stands still from the first observation on: the
//! starting point for tests of thresholds and excuses.

#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::sync::Arc;
use std::time::Duration;

use globset::Glob;
use shard_judge::clock::Monotonic;
use shard_judge::excuse::Caps;
use shard_judge::incarnation::Incarnation;
use shard_judge::observation::{
    Claim, Declared, Observation, Presence, ProcessObservation, Survivors, TaskObservation, TaskState,
    ThreadObservation, WaitChannel,
};
use shard_judge::policy::{On, Policy, Rule};
use shard_judge::target::TargetIdentity;
use shard_judge::thread::ThreadTrial;
use shard_judge::verdict::{ExcuseKind, Reason};
use shard_judge::{Decision, Judge, Note};

pub const LOOK: Duration = Duration::from_millis(10);
pub const STALL_AFTER: Duration = Duration::from_secs(5);
pub const WARN_AFTER: Duration = Duration::from_secs(2);
pub const EXIT_WITHIN: Duration = Duration::from_secs(30);
pub const STOPPED_AT_MOST: Duration = Duration::from_secs(60);
pub const GRACE: Duration = Duration::from_secs(30);

/// A history: the current observation, and the judge that has seen all before it.
pub struct AtWork {
    pub policy: Policy,
    pub judge: Judge,
    pub now: Observation,
    /// When the thread began to stand still.
    pub began: Monotonic,
}

impl AtWork {
    /// A thread asleep on a lock, with this deadline for its work; zero means none.
    pub fn begin(deadline_ns: u64) -> Self {
        let rule = Rule {
            name: "exec-s*".to_owned(),
            glob: Glob::new("exec-s*").unwrap().compile_matcher(),
            count: 1,
            stall_after: STALL_AFTER,
            warn_after: WARN_AFTER,
            warm_up: Duration::ZERO,
            on: On::Kill,
        };
        let policy = Policy {
            rules: vec![rule],
            channels: Vec::new(),
            startup_grace: GRACE,
            exit_within: EXIT_WITHIN,
            stopped_at_most: STOPPED_AT_MOST,
            stopped_kills: true,
            excuse_caps: Caps::default(),
            restart_within: Duration::from_secs(30),
            poison_after: 2,
            poll_threads: false,
        };
        let thread = ThreadObservation {
            slot: 0,
            generation: 1,
            name: Arc::from("exec-s0"),
            tid: 101,
            claim: Claim::Live,
            presence: Presence::Present,
            activity: 1,
            progress: 0,
            work_key: 7,
            attempt: 1,
            deadline_ns,
            task: None,
            workers: Vec::new(),
        };
        let process = ProcessObservation {
            identity: TargetIdentity { pid: 100, start_time: 7, incarnation: 1 },
            declared: Declared::Running,
            segment_readable: true,
            exited: false,
            leader: Some(TaskState::Sleeping),
            survivors: Survivors::NotAsked,
            signalled: None,
            throttle: None,
            core_dumping: false,
        };
        let at = Monotonic(1_000_000_000);
        let now = Observation {
            at,
            suspended_ns: 77,
            process: Some(process),
            threads: vec![thread],
            channels: Vec::new(),
        };
        let mut history = Self { policy, judge: Judge::new(Monotonic(0)), now, began: at };
        history.look();
        history.shows(TaskState::Sleeping, Some(WaitChannel::Futex), 0);
        history
    }

    pub fn process(&mut self) -> &mut ProcessObservation {
        self.now.process.as_mut().unwrap()
    }

    pub fn thread(&mut self) -> &mut ThreadObservation {
        &mut self.now.threads[0]
    }

    /// What the kernel reports of the thread from now on.
    pub fn shows(&mut self, state: TaskState, wait: Option<WaitChannel>, cpu_ns: u64) {
        let task = TaskObservation { state, cpu_ns: Some(cpu_ns), run_delay_ns: Some(0), wait };
        self.thread().task = Some(task);
    }

    pub fn look(&mut self) -> Decision {
        self.judge.observe(&self.policy, &self.now)
    }

    pub fn pass(&mut self, time: Duration) -> Decision {
        self.now.at = self.now.at.plus(time);
        self.look()
    }

    /// Observes every 10 ms for `time`, or until condemned.
    pub fn run(&mut self, time: Duration) -> Decision {
        let end = self.now.at.plus(time);
        loop {
            let decision = self.pass(LOOK);
            if decision.condemned || self.now.at >= end {
                return decision;
            }
        }
    }

    /// Observes whenever the judge asks, until condemned. Returns how long that took since the
    /// thread began to stand still.
    pub fn run_as_asked(&mut self, at_most: Duration) -> Option<Duration> {
        let mut due = self.pass(LOOK).look_at;
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

    /// Makes progress with the next observation.
    pub fn progress(&mut self) -> Decision {
        let task = self.thread().task.take();
        self.thread().progress += 1;
        let decision = self.pass(LOOK);
        self.thread().task = task;
        self.began = self.now.at;
        decision
    }

    pub fn incarnation(&self) -> &Incarnation {
        self.judge.incarnation().unwrap()
    }

    pub fn trial(&self) -> &ThreadTrial {
        &self.incarnation().threads()[0]
    }

    pub fn reason(&self) -> Option<Reason> {
        Some(self.judge.incarnation()?.condemned()?.reason)
    }

    pub fn excused(&self, kind: ExcuseKind) -> Duration {
        self.judge.excused()[kind as usize]
    }

    /// How many notes of the last observation satisfy `matches`.
    pub fn noted(&self, matches: impl Fn(&Note) -> bool) -> usize {
        self.judge.notes().iter().filter(|note| matches(note)).count()
    }
}
