//! The true state of one incarnation of the target.

use std::sync::Arc;

use shard_watchdog::observation::{Claim, Declared, Survivors, TaskState, ThrottleObservation};
use shard_watchdog::snapshot::TargetIdentity;

use super::channel::Channel;
use super::plan::{Hang, MS, Machine, Nanos, Share};
use super::theft::Theft;
use super::thread::{Doing, Hold, Thread};

/// The longest period of a quota that the kernel allows.
const MAX_PERIOD: Nanos = 1_000 * MS;

/// The end of a process that has begun to end.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// When it began.
    pub since: Nanos,
    /// When its pidfd becomes readable; `None`: never.
    pub exits_at: Option<Nanos>,
    /// When its core has been written; zero: none is written.
    pub core_until: Nanos,
}

/// The CPU share that the cgroup of a process leaves it.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// The share.
    pub share: Share,
    /// Whether a thread beyond it leaves the run queue.
    pub off_queue: bool,
}

/// The target.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its pid and start time, as the watchdog identifies it.
    pub identity: TargetIdentity,
    /// When it started.
    pub born: Nanos,
    /// Its watched threads, one for each slot.
    pub threads: Vec<Thread>,
    /// What it declares about itself.
    pub declared: Declared,
    /// When its stop ends.
    pub stopped_until: Nanos,
    /// When the freezer lets it go.
    pub frozen_until: Nanos,
    /// The share that its cgroup leaves it, and until when.
    pub throttled: Option<(Share, Nanos)>,
    /// The share that the hypervisor leaves it, and until when.
    pub stolen: Option<(Share, Nanos)>,
    /// Whether the hypervisor has taken anything from it.
    pub robbed: bool,
    /// The cgroup's counters of that, and when they last changed.
    pub throttle: (ThrottleObservation, Option<Nanos>),
    /// How long the present throttling has gone without showing in the counters.
    untold: Nanos,
    /// The channel that its threads receive from.
    pub channel: Option<Channel>,
    /// When its main thread ended.
    pub leader_ended: Option<Nanos>,
    /// Its end, if it has begun to end.
    pub ending: Option<Ending>,
    /// When it will run another program.
    pub exec_at: Option<Nanos>,
    /// It has become another program.
    pub execed: bool,
    /// It has exited.
    pub exited: bool,
    /// SIGKILL came while a thread could not die of it.
    pub killed: bool,
}

impl Process {
    /// A new incarnation: every watched thread registered and idle.
    pub fn new(identity: TargetIdentity, born: Nanos, names: &[Arc<str>], machine: &Machine) -> Self {
        let thread = |(slot, name): (u32, &Arc<str>)| {
            let leader = machine.watched_leader && slot == 0;
            let tid = if leader { identity.pid } else { identity.pid + 1 + slot.cast_signed() };
            Thread::new(slot, 1, Arc::clone(name), tid)
        };
        Self {
            identity,
            born,
            threads: (0..).zip(names).map(thread).collect(),
            declared: Declared::Running,
            stopped_until: 0,
            frozen_until: 0,
            throttled: None,
            stolen: None,
            robbed: false,
            throttle: (ThrottleObservation::default(), None),
            untold: 0,
            channel: None,
            leader_ended: None,
            ending: None,
            exec_at: None,
            execed: false,
            exited: false,
            killed: false,
        }
    }

    /// Whether this thread is the main thread.
    pub fn is_leader(&self, thread: &Thread) -> bool {
        thread.tid == self.identity.pid
    }

    /// Lives from `from` to `to`, while nothing else happens.
    pub fn live(&mut self, from: Nanos, to: Nanos, asleep: bool, machine: &Machine) {
        if self.exited || self.execed {
            return;
        }
        let quota = self.throttled.map(|(share, _)| Quota { share, off_queue: machine.throttled_off_queue });
        // A quota that is used up leaves the hypervisor nothing to take.
        let theft = self.stolen.filter(|_| quota.is_none());
        let theft = theft.map(|(share, _)| Theft { share, in_cpu: machine.steal_in_cpu });
        self.robbed |= self.stolen.is_some();
        let mut waiting = self.channel.as_ref().map_or(0, Channel::depth);
        let mut heard = (0, 0);
        for place in 0..self.threads.len() {
            let hold = self.hold_of(&self.threads[place], from, asleep);
            let thread = &mut self.threads[place];
            let hears = thread.consumes.is_some() && from >= thread.deaf_until && thread.claim == Claim::Live;
            (thread.hears, thread.heard) = (if hears { waiting } else { 0 }, (0, 0));
            thread.live(from, to, hold, (quota, theft));
            waiting -= thread.heard.0;
            heard = (heard.0 + thread.heard.0, heard.1.max(thread.heard.1));
        }
        if heard.0 > 0 {
            self.received(heard.0);
            for thread in &mut self.threads {
                thread.deaf.slept(to - heard.1);
            }
        }
        self.tell_of_throttling(from, to);
    }

    /// This many messages were received: the threads that should receive them are not deaf up to
    /// now.
    pub fn received(&mut self, messages: u64) {
        if self.channel.as_mut().is_some_and(|channel| channel.receive(messages)) {
            self.hears_again();
        }
    }

    /// Messages are sent.
    pub fn send(&mut self, now: Nanos, messages: u64) {
        let Some(channel) = &mut self.channel else { return };
        let first = channel.depth() == 0;
        channel.send(now, messages);
        if first {
            self.hears_again();
        }
    }

    /// A new beginning for all threads that should receive.
    pub fn hears_again(&mut self) {
        for thread in &mut self.threads {
            thread.deaf.progressed();
        }
    }

    /// The counters of its cgroup stand still when they should count, and then jump.
    fn tell_of_throttling(&mut self, from: Nanos, to: Nanos) {
        let Some((share, until)) = self.throttled else {
            self.untold = 0;
            return;
        };
        self.untold += to - from;
        let period = (share.run + share.wait).min(MAX_PERIOD);
        if share.wait > 0 && (self.untold >= period || to >= until) {
            self.throttle.0.periods += 1;
            self.throttle.0.time_ns += self.untold;
            self.throttle.1 = Some(to);
            self.untold = 0;
        }
    }

    /// What keeps a thread from running.
    pub fn hold_of(&self, thread: &Thread, at: Nanos, asleep: bool) -> Option<Hold> {
        if self.ending.is_some() || self.exec_at.is_some() {
            Some(Hold::Ending)
        } else if asleep {
            Some(Hold::Asleep)
        } else if at < self.frozen_until {
            Some(Hold::Frozen)
        } else if at < thread.traced_until {
            Some(Hold::Traced)
        } else if at < self.stopped_until {
            Some(Hold::Stopped)
        } else if at < thread.memory_until {
            Some(Hold::Memory)
        } else {
            None
        }
    }

    /// The next moment at which something in it changes by itself.
    pub fn next_change(&self, now: Nanos) -> Nanos {
        let mut next = Nanos::MAX;
        let mut at = |moment: Nanos| {
            if moment > now {
                next = next.min(moment);
            }
        };
        at(self.stopped_until);
        at(self.frozen_until);
        at(self.throttled.map_or(0, |(_, until)| until));
        at(self.stolen.map_or(0, |(_, until)| until));
        at(self.ending.and_then(|ending| ending.exits_at).filter(|_| !self.exited).unwrap_or(0));
        at(self.exec_at.unwrap_or(0));
        for thread in &self.threads {
            at(thread.traced_until);
            at(thread.memory_until);
            at(thread.deaf_until);
            for thread in std::iter::once(thread).chain(&thread.pool) {
                at(thread.starved.map_or(0, |(_, until)| until));
            }
            at(thread.ends_at.unwrap_or(0));
        }
        next
    }

    /// Releases whatever is over at `now`. True if that shows on the watchdog's pidfds.
    pub fn settle(&mut self, now: Nanos, machine: &Machine) -> bool {
        let mut told = false;
        if self.throttled.is_some_and(|(_, until)| until <= now) {
            self.throttled = None;
        }
        self.stolen = self.stolen.filter(|(_, until)| *until > now);
        let mut ended = false;
        for thread in &mut self.threads {
            if thread.starved.is_some_and(|(_, until)| until <= now) {
                thread.starved = None;
            }
            for worker in &mut thread.pool {
                worker.starved = worker.starved.filter(|(_, until)| *until > now);
            }
            if thread.ends_at.is_some_and(|at| at <= now) && thread.ended.is_none() {
                thread.ended = Some(now);
                ended = true;
            }
        }
        told |= ended && !machine.poll_threads;
        if ended && self.going_on(machine) == 0 {
            self.begin_end(now, machine.teardown, machine);
        }
        if self.exec_at.is_some_and(|at| at <= now) {
            self.execed = true;
            told = true;
        }
        if self.ending.and_then(|ending| ending.exits_at).is_some_and(|at| at <= now) && !self.exited {
            self.exited = true;
            told = true;
        }
        told
    }

    /// How many threads go on.
    pub fn going_on(&self, machine: &Machine) -> u32 {
        let watched = self.threads.iter().filter(|t| t.ended.is_none() && !self.is_leader(t)).count();
        let leader = u32::from(self.leader_ended.is_none());
        u32::try_from(watched).unwrap_or(u32::MAX) + leader + machine.others - 1
    }

    /// The process begins to end at `now`; giving back its memory takes `teardown`.
    pub fn begin_end(&mut self, now: Nanos, teardown: Nanos, machine: &Machine) {
        self.begin_end_with(0, now, teardown, machine);
    }

    /// A fatal signal, with a core that takes `length` to write. No thread is gone before that.
    pub fn begin_core(&mut self, now: Nanos, length: Nanos, machine: &Machine) {
        if self.ending.is_none() {
            // All of its threads are sent SIGKILL.
            self.killed = true;
            self.begin_end_with(length, now, machine.teardown, machine);
        }
    }

    fn begin_end_with(&mut self, core: Nanos, now: Nanos, teardown: Nanos, machine: &Machine) {
        if self.ending.is_some() {
            return;
        }
        // A thread that holds a kernel lock, or is in a freezer of the old kind, cannot die.
        let stuck = self.threads.iter().any(|t| t.ended.is_none() && t.doing == Doing::Hang(Hang::Disk));
        let ends = self.thaws_at(now, machine) + core;
        let exits_at = (!stuck).then_some(ends + teardown.max(machine.alone + 1));
        // It is written once every thread has come to a stop.
        let core_until = match core {
            0 => 0,
            _ if stuck => Nanos::MAX,
            _ => ends,
        };
        // The thread that begins the end is the last to go.
        let goes_first = machine.alone / 2 + if self.going_on(machine) > 1 { 1 } else { machine.alone };
        self.ending = Some(Ending { since: now, exits_at, core_until });
        for thread in &mut self.threads {
            // The pidfds of threads fire early in the end of a process.
            if thread.ended.is_none() && thread.doing != Doing::Hang(Hang::Disk) && !(stuck && core > 0) {
                thread.ends_at = Some(ends + goes_first);
            }
        }
    }

    /// When a signal reaches threads in a freezer of the old kind, if it does.
    fn thaws_at(&self, now: Nanos, machine: &Machine) -> Nanos {
        if machine.frozen_is_d { self.frozen_until.max(now) } else { now }
    }

    /// Whether the kernel shows that it writes the core of the process. In the first moments that
    /// looks like any other end.
    pub fn dumps_core(&self, now: Nanos, machine: &Machine) -> bool {
        let begun = |ending: Ending| (ending.since + machine.alone..ending.core_until).contains(&now);
        !self.exited && self.ending.is_some_and(begun)
    }

    /// SIGKILL, ours or anybody's. It also ends the writing of a core.
    pub fn die(&mut self, now: Nanos, machine: &Machine) {
        self.killed = true;
        self.begin_end(now, machine.teardown, machine);
        let thawed = self.thaws_at(now, machine);
        if let Some(ending) = self.ending.as_mut().filter(|ending| ending.core_until > thawed)
            && let Some(exits_at) = &mut ending.exits_at
        {
            ending.core_until = thawed;
            *exits_at = thawed + machine.teardown.max(machine.alone + 1);
            for thread in self.threads.iter_mut().filter(|thread| thread.ended.is_none()) {
                thread.ends_at = Some(thawed + 1);
            }
        }
    }

    /// The disk answers at last: a thread that was sent SIGKILL dies of it now.
    pub fn disk_answers(&mut self, now: Nanos, machine: &Machine) {
        if let Some(ending) = &mut self.ending
            && ending.exits_at.is_none()
            && self.killed
        {
            ending.exits_at = Some(now + machine.teardown + MS);
            ending.core_until = ending.core_until.min(now);
        }
    }

    /// When it began to end, or to become another program.
    pub fn ends_since(&self, machine: &Machine) -> Option<Nanos> {
        self.ending.map(|ending| ending.since).or(self.exec_at.map(|at| at - machine.alone - 1))
    }

    /// State of the main thread.
    pub fn leader(&self, now: Nanos, asleep: bool, machine: &Machine) -> TaskState {
        if self.exited || self.leader_ended.is_some() {
            return TaskState::Zombie;
        }
        if let Some(leader) = self.threads.iter().find(|t| self.is_leader(t)) {
            let hold = self.hold_of(leader, now, asleep);
            return leader.task(now, hold, machine).map_or(TaskState::Sleeping, |task| task.state);
        }
        if self.ending.is_none() && now >= self.frozen_until && now < self.stopped_until {
            return TaskState::Stopped;
        }
        TaskState::Sleeping
    }

    /// What a check of its threads finds, if a thread or the leader has ended.
    pub fn survivors(&self, now: Nanos, machine: &Machine) -> Survivors {
        if self.going_on(machine) == 0 || self.dumps_core(now, machine) {
            return Survivors::None;
        }
        if let Some(began) = self.ends_since(machine) {
            return if now < began + machine.alone { Survivors::Alone } else { Survivors::None };
        }
        match self.going_on(machine) {
            0 => Survivors::None,
            1 => Survivors::Alone,
            _ => Survivors::Some,
        }
    }

    /// Whether the probe would ask for survivors.
    pub fn asks_for_survivors(&self) -> bool {
        let lost = self.threads.iter().filter(|t| t.seen).any(|t| match t.claim {
            Claim::Live => t.ended.is_some(),
            Claim::Dropped => true,
            Claim::Left => false,
        });
        lost || self.leader_ended.is_some() || self.exited || self.ending.is_some()
    }
}
