//! One watched thread and one channel that it should receive from, both well, in virtual time.

#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs of it")]

use std::sync::Arc;
use std::time::Duration;

use globset::Glob;
use shard_judge::clock::Monotonic;
use shard_judge::excuse::Caps;
use shard_judge::observation::{
    ChannelObservation, Claim, Declared, Observation, Presence, ProcessObservation, Survivors,
    TaskObservation, TaskState, ThreadObservation,
};
use shard_judge::policy::{ChannelLimits, On, Policy, Rule};
use shard_judge::target::TargetIdentity;
use shard_judge::{Decision, Judge};

pub const LOOK: Duration = Duration::from_millis(4);
pub const STALL_AFTER: Duration = Duration::from_millis(200);
pub const MAX_AGE: Duration = Duration::from_millis(100);

pub fn asleep() -> Option<TaskObservation> {
    Some(TaskObservation { state: TaskState::Sleeping, cpu_ns: Some(5), run_delay_ns: Some(5), wait: None })
}

pub struct Scene {
    pub policy: Policy,
    pub judge: Judge,
    pub now: Observation,
}

pub fn policy() -> Policy {
    let glob = Glob::new("exec-s*").unwrap().compile_matcher();
    let rule = Rule {
        name: "exec-s*".to_owned(),
        glob: glob.clone(),
        count: 1,
        stall_after: STALL_AFTER,
        warn_after: STALL_AFTER / 2,
        warm_up: Duration::ZERO,
        on: On::Kill,
    };
    let channel = ChannelLimits {
        name: "commands".to_owned(),
        max_age: Some(MAX_AGE),
        max_depth: Some(100),
        consumer: Some(glob),
        on: On::Kill,
    };
    Policy {
        rules: vec![rule],
        channels: vec![channel],
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

impl Scene {
    pub fn begin() -> Self {
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
        let thread = ThreadObservation {
            slot: 0,
            generation: 1,
            name: Arc::from("exec-s0"),
            tid: 101,
            claim: Claim::Live,
            presence: Presence::Present,
            activity: 0,
            progress: 0,
            work_key: 0,
            attempt: 0,
            deadline_ns: 0,
            task: asleep(),
            workers: Vec::new(),
        };
        let channel = ChannelObservation {
            slot: 0,
            generation: 1,
            name: Arc::from("commands"),
            sent: 10,
            received: 10,
        };
        let now = Observation {
            at: Monotonic(1_000_000_000),
            process: Some(process),
            threads: vec![thread],
            channels: vec![channel],
            suspended_ns: 0,
        };
        let mut scene = Self { policy: policy(), judge: Judge::new(Monotonic(0)), now };
        scene.look();
        scene
    }

    pub fn look(&mut self) -> Decision {
        self.judge.observe(&self.policy, &self.now)
    }

    pub fn pass(&mut self, time: Duration) -> Decision {
        self.now.at = self.now.at.plus(time);
        self.look()
    }

    /// Observes every 4 ms for `time`, or until condemned.
    pub fn run(&mut self, time: Duration) -> Decision {
        let end = self.now.at.plus(time);
        loop {
            let decision = self.pass(LOOK);
            if decision.condemned || self.now.at >= end {
                return decision;
            }
        }
    }

    /// The thread begins a piece of work.
    pub fn work(&mut self) {
        self.thread().activity += 1;
        self.thread().work_key += 1;
        self.pass(LOOK);
    }

    pub fn process(&mut self) -> &mut ProcessObservation {
        self.now.process.as_mut().unwrap()
    }

    pub fn thread(&mut self) -> &mut ThreadObservation {
        &mut self.now.threads[0]
    }

    pub fn counted(&self) -> Duration {
        self.judge.incarnation().unwrap().threads()[0].counted()
    }
}
