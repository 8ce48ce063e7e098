//! What the probe would make of the world: the same fields, the same `None`s, the same memory of the look before
//! (`watchdog/src/probe/segment.rs` and `probe.rs`).

use shard_watchdog::clock::Monotonic;
use shard_watchdog::observation::{
    Claim, Declared, Observation, Presence, ProcessObservation, Survivors, TaskObservation,
    ThreadObservation, WorkerObservation,
};
use shard_watchdog::snapshot::TargetIdentity;

use super::plan::Machine;
use super::process::Process;
use super::random::Random;
use super::thread::Thread;
use super::world::World;

/// The probe's own state.
#[derive(Debug, Default)]
pub struct Observer {
    /// Which process it holds.
    pub held: Option<TargetIdentity>,
    /// When the first signal went to it.
    pub signalled: Option<Monotonic>,
    declared: Declared,
    /// What was last seen, by slot.
    before: Vec<Option<ThreadObservation>>,
}

impl Observer {
    /// Watches that process from now on, or none.
    pub fn hold(&mut self, target: Option<TargetIdentity>) {
        *self = Self { held: target, ..Self::default() };
    }

    /// The process it holds, as it really is.
    pub fn process<'w>(&self, world: &'w mut World<'_>) -> Option<&'w mut Process> {
        let held = self.held?;
        world.processes.iter_mut().find(|process| process.identity == held)
    }

    /// Looks at everything once. True if the process runs another program.
    pub fn observe(&mut self, world: &mut World<'_>, machine: &Machine, into: &mut Observation) -> bool {
        let now = world.now;
        into.at = Monotonic(now);
        into.process = None;
        into.threads.clear();
        let readable = now >= world.unreadable_until;
        let garbage = now < world.garbage_until;
        let asleep = world.asleep();
        let mut trash = Random::new(now);
        let Some(process) = self.process(world) else { return false };
        if process.execed {
            return true;
        }
        if readable {
            self.declared = if garbage { Declared::Unknown } else { process.declared };
        }
        self.before.resize_with(process.threads.len(), || None);
        for place in 0..process.threads.len() {
            let thread = &process.threads[place];
            let known = thread.seen || readable && !garbage && thread.claim != Claim::Left;
            if !known {
                continue;
            }
            let before = &mut self.before[place];
            let same = before.as_ref().filter(|old| old.generation == thread.generation);
            let mut seen = words(thread);
            match (readable, same) {
                (true, _) if garbage => spoil(&mut seen, &mut trash),
                (false, Some(old)) => seen = ThreadObservation { presence: seen.presence, ..old.clone() },
                _ => {}
            }
            let unmoved =
                same.is_some_and(|old| (old.activity, old.progress) == (seen.activity, seen.progress));
            seen.task = None;
            seen.workers.clear();
            if readable && unmoved && seen.presence != Presence::Gone && seen.working() {
                let hold = process.hold_of(thread, now, asleep);
                seen.task = thread.task(now, hold, machine);
                if seen.task.is_some() {
                    seen.workers = workers(thread, |worker| worker.task(now, hold, machine));
                }
            }
            *before = Some(seen.clone());
            into.threads.push(seen);
            process.threads[place].seen = true;
        }
        let asked = process.asks_for_survivors();
        into.process = Some(ProcessObservation {
            identity: process.identity,
            declared: self.declared,
            segment_readable: readable,
            exited: process.exited,
            leader: Some(process.leader(now, asleep, machine)),
            survivors: if asked { process.survivors(now, machine) } else { Survivors::NotAsked },
            signalled: self.signalled,
            throttle: None,
        });
        false
    }
}

fn words(thread: &Thread) -> ThreadObservation {
    ThreadObservation {
        slot: thread.slot,
        generation: thread.generation,
        name: thread.name.clone(),
        tid: thread.tid,
        claim: thread.claim,
        presence: if thread.ended.is_some() { Presence::Gone } else { Presence::Present },
        activity: thread.activity,
        progress: thread.total_progress(),
        work_key: thread.work_key,
        attempt: u64::from(thread.working()),
        task: None,
        workers: Vec::new(),
    }
}

/// Whoever holds a lane.
fn workers(thread: &Thread, task: impl Fn(&Thread) -> Option<TaskObservation>) -> Vec<WorkerObservation> {
    let live = thread.pool.iter().filter(|worker| worker.claim == Claim::Live);
    live.map(|worker| WorkerObservation {
        lane: worker.slot,
        generation: worker.generation,
        presence: if worker.ended.is_some() { Presence::Gone } else { Presence::Present },
        task: if worker.ended.is_some() { None } else { task(worker) },
    })
    .collect()
}

/// Random words in a slot.
fn spoil(seen: &mut ThreadObservation, trash: &mut Random) {
    match trash.between(0, 3) {
        // Only numbers.
        0..=1 => {
            seen.activity = trash.word();
            seen.progress = trash.word();
            seen.work_key = trash.word();
        }
        // A use of the slot that the probe does not know: it takes the thread for one that left.
        2 => {
            seen.claim = Claim::Left;
            (seen.activity, seen.progress, seen.work_key) = (0, 0, 0);
        }
        // Another thread altogether, which never existed and has no name.
        _ => {
            seen.generation = trash.word();
            seen.name = "".into();
            seen.tid = 0;
            seen.presence = Presence::Unknown;
            seen.activity = trash.word();
        }
    }
}
