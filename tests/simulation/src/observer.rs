//! What the probe would report of the world: the same fields, the same `None`s, the same memory of
//! the observation before (`watchdog/src/probe/segment.rs` and `probe.rs`).

use shard_watchdog::clock::Monotonic;
use shard_watchdog::observation::{
    ChannelObservation, Claim, Declared, Observation, Presence, ProcessObservation, Survivors,
    TaskObservation, TaskState, ThreadObservation, ThrottleObservation, WorkerObservation,
};
use shard_watchdog::snapshot::TargetIdentity;

use super::channel::Channel;
use super::plan::{MS, Machine, Nanos};
use super::process::Process;
use super::random::Random;
use super::thread::Thread;
use super::world::{Torn, World};

/// What the probe remembers of `/proc/stat`.
#[derive(Debug, Default)]
struct StealReader {
    /// The next observation must read it.
    wanted: bool,
    read_at: Option<Nanos>,
    total: Nanos,
    /// What was stolen from each thread and worker by then: slot, lane, generation, time.
    before: Vec<(u32, u32, u64, Nanos)>,
    /// Those that were runnable since, and at, the last reading.
    used: Vec<(u32, u32, u64)>,
}

impl StealReader {
    fn read(&mut self, now: Nanos, process: &Process, into: &Observation) -> Option<Nanos> {
        let runs = |task: Option<TaskObservation>| task.is_some_and(|task| task.state == TaskState::Running);
        let mut runnable = Vec::new();
        for seen in &into.threads {
            let workers = seen.workers.iter().map(|worker| (worker.lane, worker.generation, worker.task));
            let own = std::iter::once((0, seen.generation, seen.task));
            let those = own.chain(workers).filter(|of| runs(of.2));
            runnable.extend(those.map(|(lane, generation, _)| (seen.slot, lane, generation)));
        }
        self.used.extend(&runnable);
        let age = self.read_at.map(|before| now - before);
        let due = !self.used.is_empty() && age.is_none_or(|age| age >= 100 * MS);
        if !due && !self.wanted {
            return None;
        }
        let of = |thread: &Thread| {
            let (slot, own) = (thread.slot, (thread.slot, 0, thread.generation, thread.stolen.shown()));
            let pool = thread.pool.iter().map(move |w| (slot, w.slot, w.generation, w.stolen.shown()));
            std::iter::once(own).chain(pool).collect::<Vec<_>>()
        };
        let all: Vec<_> = process.threads.iter().flat_map(of).collect();
        let mut most = 0;
        for (slot, lane, generation, shown) in &all {
            let key = (*slot, *lane, *generation);
            let before = self.before.iter().find(|known| (known.0, known.1, known.2) == key);
            if self.used.contains(&key) {
                most = most.max(shown - before.map_or(0, |known| known.3));
            }
        }
        self.total += if age.is_some_and(|age| age <= 1_000 * MS) { most } else { 0 };
        self.before = all;
        self.used = runnable;
        self.read_at = Some(now);
        Some(self.total)
    }
}

/// The probe's own state.
#[derive(Debug, Default)]
pub struct Observer {
    /// The process it holds.
    pub held: Option<TargetIdentity>,
    /// When the first signal went to that process.
    pub signalled: Option<Monotonic>,
    declared: Declared,
    /// How long the machine had been suspended when the sidecar began. The probe reports every
    /// suspend, however short.
    suspended_before: Nanos,
    /// When the counters of its cgroup were last read, and their values.
    throttle: (Option<Nanos>, Option<ThrottleObservation>),
    /// What the hypervisor took, as read from `/proc/stat`.
    steal: StealReader,
    /// The last observation of each slot.
    before: Vec<Option<ThreadObservation>>,
}

impl Observer {
    /// The probe of a sidecar that starts on a machine that has been suspended for this long.
    pub fn begin(suspended_before: Nanos) -> Self {
        Self { suspended_before, ..Self::default() }
    }

    /// Watches that process from now on, or none.
    pub fn hold(&mut self, target: Option<TargetIdentity>) {
        *self = Self { held: target, ..Self::begin(self.suspended_before) };
    }

    /// Whether the next observation must read what the hypervisor took.
    pub const fn want_steal(&mut self, wanted: bool) {
        self.steal.wanted = wanted;
    }

    /// The process it holds, in its true state.
    pub fn process<'w>(&self, world: &'w mut World<'_>) -> Option<&'w mut Process> {
        let held = self.held?;
        world.processes.iter_mut().find(|process| process.identity == held)
    }

    /// Reads the counters at most ten times a second, and only while a thread that stands still is
    /// runnable.
    fn read_throttle(&mut self, now: Nanos, machine: &Machine, process: &Process, into: &Observation) {
        let runnable =
            |task: Option<TaskObservation>| task.is_some_and(|task| task.state == TaskState::Running);
        let due = self.throttle.0.is_none_or(|before| now - before >= 100 * MS);
        let wanted = into
            .threads
            .iter()
            .any(|thread| runnable(thread.task) || thread.workers.iter().any(|worker| runnable(worker.task)));
        if machine.cpu_stat && due && wanted {
            self.throttle = (Some(now), Some(process.throttle.0));
        }
    }

    /// Observes everything once. True if the process runs another program. `listens`: whether a
    /// rule about the channel may kill; `asks`: idle threads about which the judge asks.
    pub fn observe(
        &mut self,
        world: &mut World<'_>,
        machine: &Machine,
        (listens, asks): (bool, Vec<(u32, u64)>),
        into: &mut Observation,
    ) -> bool {
        let now = world.now;
        into.at = Monotonic(now);
        into.suspended_ns = world.suspended - self.suspended_before;
        (into.stolen_ns, into.process) = (None, None);
        into.threads.clear();
        world.tear();
        let torn = world.torn;
        let readable = torn != Torn::Unreadable;
        let garbage = torn == Torn::All;
        let asleep = world.asleep();
        let mut trash = Random::new(now);
        let Some(process) = self.process(world) else {
            into.channels.clear();
            return false;
        };
        if process.execed {
            into.channels.clear();
            return true;
        }
        let channel = if readable {
            let spoilt = garbage || torn == Torn::Channel;
            process.channel.as_ref().and_then(|channel| channel_words(channel, spoilt.then_some(&mut trash)))
        } else {
            into.channels.pop()
        };
        // A message that has not been received since the observation before.
        let before = std::mem::take(&mut into.channels).pop();
        let waits = channel.as_ref().zip(before).is_some_and(|(now, before)| {
            (now.generation, now.received) == (before.generation, before.received)
                && now.sent.wrapping_sub(now.received).cast_signed() > 0
        });
        into.channels.extend(channel);
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
            let spoilt = garbage || torn == Torn::Thread(place);
            let before = &mut self.before[place];
            let same = before.as_ref().filter(|old| old.generation == thread.generation);
            let mut seen = words(thread);
            match (readable, same) {
                (true, _) if spoilt => spoil(&mut seen, &mut trash),
                (true, Some(old)) if torn == Torn::Mixed(place) => mix(&mut seen, old, &mut trash),
                (false, Some(old)) => seen = ThreadObservation { presence: seen.presence, ..old.clone() },
                _ => {}
            }
            let unmoved = same.is_some_and(|old| {
                (old.activity, old.progress, old.section) == (seen.activity, seen.progress, seen.section)
            });
            seen.task = None;
            seen.workers.clear();
            let asked = seen.working()
                || asks.contains(&(seen.slot, seen.generation))
                || listens && waits && thread.consumes.is_some();
            if readable && unmoved && seen.presence != Presence::Gone && asked {
                let hold = process.hold_of(thread, now, asleep);
                seen.task = thread.task(now, hold, machine);
                if seen.task.is_some() && seen.working() {
                    seen.workers = workers(thread, |worker| worker.task(now, hold, machine));
                }
            }
            *before = Some(seen.clone());
            into.threads.push(seen);
            process.threads[place].seen = true;
        }
        self.read_throttle(now, machine, process, into);
        into.stolen_ns = self.steal.read(now, process, into);
        let asked = process.asks_for_survivors();
        into.process = Some(ProcessObservation {
            identity: process.identity,
            declared: self.declared,
            segment_readable: readable,
            exited: process.exited,
            leader: Some(process.leader(now, asleep, machine)),
            survivors: if asked { process.survivors(now, machine) } else { Survivors::NotAsked },
            signalled: self.signalled,
            throttle: self.throttle.1,
            core_dumping: asked && process.dumps_core(now, machine),
        });
        false
    }
}

/// The channel's words, or random ones, sometimes with a use for which the probe has no name.
fn channel_words(channel: &Channel, trash: Option<&mut Random>) -> Option<ChannelObservation> {
    let mut seen = ChannelObservation::blank(0, channel.generation, channel.name.clone());
    (seen.sent, seen.received) = (channel.sent, channel.received);
    if let Some(trash) = trash {
        (seen.sent, seen.received) = (trash.word(), trash.word());
        if trash.one_in(4) {
            return None;
        }
    }
    Some(seen)
}

/// The words of the thread's slot, as they are.
pub(crate) fn words(thread: &Thread) -> ThreadObservation {
    ThreadObservation {
        claim: thread.claim,
        presence: if thread.ended.is_some() { Presence::Gone } else { Presence::Present },
        activity: thread.activity,
        progress: thread.total_progress(),
        work_key: thread.work_key,
        attempt: u64::from(thread.working()),
        deadline_ns: thread.deadline,
        section: thread.section,
        ..ThreadObservation::blank(thread.slot, thread.generation, thread.name.clone(), thread.tid)
    }
}

/// The workers that hold a lane.
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

/// Shows one word of a slot as it was at the observation before, if all have changed since.
fn mix(seen: &mut ThreadObservation, old: &ThreadObservation, trash: &mut Random) {
    if seen.activity == old.activity || seen.progress == old.progress {
        return;
    }
    if trash.one_in(2) {
        seen.activity = old.activity;
    } else {
        seen.progress = old.progress;
    }
}

/// Writes random words into a slot.
fn spoil(seen: &mut ThreadObservation, trash: &mut Random) {
    match trash.between(0, 3) {
        // Only the numbers change.
        0..=1 => {
            seen.activity = trash.word();
            seen.progress = trash.word();
            seen.work_key = trash.word();
            seen.deadline_ns = trash.word();
            seen.section = trash.word();
        }
        // A use of the slot that the probe does not know: it takes the thread for one that left.
        2 => {
            seen.claim = Claim::Left;
            (seen.activity, seen.progress, seen.work_key, seen.section) = (0, 0, 0, 0);
        }
        // Another thread, which never existed and has no name.
        _ => {
            seen.generation = trash.word();
            seen.name = "".into();
            seen.tid = 0;
            seen.presence = Presence::Unknown;
            seen.activity = trash.word();
        }
    }
}
