//! The machine: processes, clocks, the supervisor, and what the plan does to them.

use std::sync::Arc;

use shard_watchdog::config::KillSignal;
use shard_watchdog::observation::{Claim, Declared};
use shard_watchdog::snapshot::TargetIdentity;

use super::channel::Channel;
use super::plan::{Event, MS, Nanos, Plan};
use super::process::Process;
use super::random::Random;
use super::thread::{Doing, Thread};

/// What distinguishes the chance of mixed words from that of random ones.
const MIXED: u64 = 0x4d49_5845;

/// What is wrong with the segment at one observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Torn {
    /// Nothing.
    #[default]
    Nothing,
    /// It cannot be read.
    Unreadable,
    /// Every word is random.
    All,
    /// The words of this thread are random.
    Thread(usize),
    /// The words of this thread are from different moments: one still shows what the observation
    /// before showed, although both activity and progress have changed since.
    Mixed(usize),
    /// The words of the channel are random.
    Channel,
}

impl Torn {
    /// Whether the words of the thread at `place` show what never was.
    pub fn spoils(self, place: usize) -> bool {
        matches!(self, Self::All) || self == Self::Thread(place) || self == Self::Mixed(place)
    }
}

/// Everything that the watchdog does not control.
#[derive(Debug)]
pub struct World<'a> {
    plan: &'a Plan,
    /// The monotonic clock.
    pub now: Nanos,
    /// How far the boot clock is ahead of it: the sum of all suspends.
    pub suspended: Nanos,
    /// The wall clock, seconds ahead of the boot clock. No decision may use it.
    pub wall: i64,
    /// The process that runs, or the last that ran, preceded by one that the watchdog may still
    /// hold.
    pub processes: Vec<Process>,
    /// The plan's orders to the watchdog, in sequence.
    pub orders: Vec<Event>,
    /// Until when the watchdog gets no CPU.
    pub away_until: Nanos,
    /// Until when nothing runs.
    pub asleep_until: Nanos,
    /// Until when the segment cannot be read.
    pub unreadable_until: Nanos,
    /// Until when its words are random.
    pub garbage_until: Nanos,
    /// How rarely a single observation finds it so (one in this many), and until when.
    pub flaky: (u64, Nanos),
    /// What this observation finds wrong with the segment.
    pub torn: Torn,
    /// Floods under way: how many messages, how many more times, how often, and when next.
    floods: Vec<(u64, u32, Nanos, Nanos)>,
    names: Vec<Arc<str>>,
    channel: Arc<str>,
    next_event: usize,
    starts_at: Option<Nanos>,
    starts: u64,
}

impl<'a> World<'a> {
    /// The machine of `plan`, with the first incarnation running.
    pub fn new(plan: &'a Plan, names: &[Arc<str>]) -> Self {
        let mut world = Self {
            plan,
            now: 0,
            suspended: 0,
            wall: 0,
            processes: Vec::with_capacity(2),
            orders: Vec::new(),
            away_until: 0,
            asleep_until: 0,
            unreadable_until: 0,
            garbage_until: 0,
            flaky: (1, 0),
            torn: Torn::Nothing,
            floods: Vec::new(),
            names: names.to_vec(),
            channel: "commands".into(),
            next_event: 0,
            starts_at: None,
            starts: 0,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.starts += 1;
        let pid =
            if self.plan.machine.same_pid { 100 } else { 100 * i32::try_from(self.starts).unwrap_or(1) };
        let identity =
            TargetIdentity { pid, start_time: self.now / (10 * MS) + self.starts, incarnation: self.starts };
        self.begin(identity);
        self.starts_at = None;
    }

    fn begin(&mut self, identity: TargetIdentity) {
        let mut process = Process::new(identity, self.now, &self.names, &self.plan.machine);
        if let Some(rule) = self.plan.rules.channel {
            process.channel = Some(Channel::new(1, Arc::clone(&self.channel)));
            for thread in process.threads.iter_mut().filter(|thread| rule.means(thread.slot)) {
                thread.consumes = Some(rule.work);
            }
        }
        self.processes.push(process);
        self.floods.clear();
    }

    /// Decides what the coming observation finds wrong with the segment.
    pub fn tear(&mut self) {
        let mut chance = Random::new(self.now);
        self.torn = if self.now < self.unreadable_until {
            Torn::Unreadable
        } else if self.now < self.garbage_until {
            Torn::All
        } else if self.now < self.flaky.1 && chance.one_in(self.flaky.0) {
            let thread = chance.pick(&[0, 1, 2]);
            chance.pick(&[Torn::Unreadable, Torn::All, Torn::Thread(thread), Torn::Channel])
        } else if self.now < self.flaky.1 {
            // Drawn by itself, so that nothing else depends on it.
            let mut chance = Random::new(self.now ^ MIXED);
            if chance.one_in(self.flaky.0) { Torn::Mixed(chance.pick(&[0, 0, 1, 2])) } else { Torn::Nothing }
        } else {
            Torn::Nothing
        };
    }

    /// Whether the machine is suspended.
    pub const fn asleep(&self) -> bool {
        self.now < self.asleep_until
    }

    /// The process that runs now.
    pub fn running(&mut self) -> Option<&mut Process> {
        self.processes.last_mut().filter(|process| !process.exited && !process.execed)
    }

    /// Lives until `due`, or until something wakes the watchdog.
    pub fn live_until(&mut self, due: Nanos) {
        while self.now < due {
            let event = self.plan.events.get(self.next_event);
            let mut next = due.min(event.map_or(Nanos::MAX, |timed| timed.at.max(self.now)));
            let floods = self.floods.iter().map(|flood| flood.3);
            for moment in [self.starts_at.unwrap_or(0), self.asleep_until].into_iter().chain(floods) {
                if moment > self.now {
                    next = next.min(moment);
                }
            }
            for process in &self.processes {
                next = next.min(process.next_change(self.now));
            }
            let asleep = self.asleep();
            for process in &mut self.processes {
                process.live(self.now, next, asleep, &self.plan.machine);
            }
            self.now = next;
            let mut told = false;
            for process in &mut self.processes {
                told |= process.settle(self.now, &self.plan.machine);
            }
            if self.starts_at.is_some_and(|at| at <= self.now) {
                self.start();
            }
            self.supervise();
            self.flood();
            while let Some(timed) = self.plan.events.get(self.next_event).filter(|timed| timed.at <= self.now)
            {
                self.next_event += 1;
                told |= self.happen(timed.event);
            }
            if told && self.now >= self.away_until && !self.asleep() {
                return;
            }
        }
    }

    /// Sends what the floods have due.
    fn flood(&mut self) {
        let now = self.now;
        let floods = &mut self.floods;
        let Some(process) =
            self.processes.last_mut().filter(|process| !process.exited && process.ending.is_none())
        else {
            return;
        };
        for (messages, times, every, next) in floods.iter_mut().filter(|flood| flood.3 <= now) {
            process.send(now, *messages);
            *times -= 1;
            *next = now + *every;
        }
        floods.retain(|flood| flood.1 > 0);
    }

    /// Starts the next incarnation once the last has ended.
    fn supervise(&mut self) {
        let Some(last) = self.processes.last() else { return };
        if self.starts_at.is_some() || !(last.exited || last.execed) {
            return;
        }
        if last.execed {
            // The same process, running another program with a segment of its own.
            self.starts += 1;
            let identity = TargetIdentity { incarnation: self.starts, ..last.identity };
            self.begin(identity);
        } else {
            self.starts_at = Some(self.now + self.plan.machine.restart);
        }
    }

    /// Forgets processes that have ended and that nobody holds.
    pub fn reap(&mut self, held: Option<TargetIdentity>) {
        let last = self.processes.len().saturating_sub(1);
        let mut place = 0;
        self.processes.retain(|process| {
            let keep = place == last || Some(process.identity) == held;
            place += 1;
            keep
        });
    }

    /// A signal through the pidfd of `target`. It reaches that very process or none.
    pub fn signal(&mut self, target: TargetIdentity, signal: KillSignal) {
        let (now, machine) = (self.now, &self.plan.machine);
        let same = |process: &&mut Process| {
            (process.identity.pid, process.identity.start_time) == (target.pid, target.start_time)
                && !process.exited
                && !process.execed
        };
        let Some(process) = self.processes.iter_mut().rev().find(same) else { return };
        match signal {
            KillSignal::Kill => process.die(now, machine),
            // Any other signal waits until the process continues.
            _ if now < process.stopped_until => {}
            KillSignal::Abort if machine.core > 0 => process.begin_core(now, machine.core, machine),
            _ => process.die(now, machine),
        }
    }

    /// Carries out one event. True if it shows on the watchdog's descriptors.
    #[allow(clippy::too_many_lines, reason = "one arm an event")]
    fn happen(&mut self, event: Event) -> bool {
        let (now, machine) = (self.now, &self.plan.machine);
        let until = |length: Nanos| now + length;
        match event {
            Event::Away { length } => self.away_until = self.away_until.max(until(length)),
            Event::Suspend { mono, boot } => {
                self.asleep_until = self.asleep_until.max(until(mono));
                self.away_until = self.away_until.max(until(mono));
                self.suspended += boot;
            }
            Event::WallClock { seconds } => self.wall += seconds,
            Event::Unreadable { length } => self.unreadable_until = self.unreadable_until.max(until(length)),
            Event::Garbage { length } => self.garbage_until = self.garbage_until.max(until(length)),
            Event::Flaky { one_in, length } => self.flaky = (one_in, until(length)),
            Event::Restart { .. }
            | Event::Reload { .. }
            | Event::Pause { .. }
            | Event::Resume
            | Event::Kill
            | Event::Clear { .. } => {
                self.orders.push(event);
                // The inbox wakes the loop.
                return true;
            }
            _ => {}
        }
        let Some(process) = self.running().filter(|process| process.ending.is_none()) else {
            if matches!(event, Event::Unhang { .. })
                && let Some(process) = self.running()
            {
                process.disk_answers(now, machine);
            }
            return false;
        };
        if process.exec_at.is_some() {
            return false;
        }
        let slot = match event {
            Event::Work { thread, .. }
            | Event::Join { thread, .. }
            | Event::HangWorker { thread, .. }
            | Event::StarveWorker { thread, .. }
            | Event::LoseWorker { thread, .. }
            | Event::Hang { thread, .. }
            | Event::Unhang { thread }
            | Event::Deadline { thread, .. }
            | Event::Enter { thread, .. }
            | Event::Starve { thread, .. }
            | Event::Trace { thread, .. }
            | Event::Memory { thread, .. }
            | Event::Deaf { thread, .. }
            | Event::End { thread }
            | Event::Drop { thread, .. }
            | Event::Leave { thread }
            | Event::Register { thread } => Some(thread),
            _ => None,
        };
        if let Some(slot) = slot {
            let leader = process.threads.get(slot).is_some_and(|t| process.is_leader(t));
            let Some(thread) = process.threads.get_mut(slot) else { return false };
            let ended = happen_to(thread, event, now, leader);
            if ended && leader {
                process.leader_ended = Some(now);
            }
            if ended && process.going_on(machine) == 0 {
                process.begin_end(now, machine.teardown, machine);
            }
            return ended && !leader && !machine.poll_threads;
        }
        match event {
            Event::Send { messages } => process.send(now, messages),
            Event::Take { messages } => process.received(messages),
            Event::Reopen => {
                if let Some(channel) = &mut process.channel {
                    *channel = Channel::new(channel.generation + 1, Arc::clone(&channel.name));
                    process.hears_again();
                }
            }
            Event::Flood { messages, times, every } if process.channel.is_some() => {
                self.floods.push((messages, times, every, now + every));
            }
            Event::Stop { length } => process.stopped_until = until(length),
            Event::Freeze { length } => process.frozen_until = process.frozen_until.max(until(length)),
            Event::Throttle { share, length } => process.throttled = Some((share, until(length))),
            Event::Steal { share, length } => process.stolen = Some((share, until(length))),
            Event::Core { length } => process.begin_core(now, length, machine),
            Event::Exit { said } => {
                if said {
                    process.declared = Declared::Stopping;
                }
                process.begin_end(now, machine.teardown, machine);
            }
            Event::SaysStopping => process.declared = Declared::Stopping,
            Event::SaysRunning => process.declared = Declared::Running,
            Event::ExitHangs => {
                process.begin_end(now, machine.teardown, machine);
                if let Some(ending) = &mut process.ending {
                    ending.exits_at = None;
                }
            }
            Event::LeaderEnds if process.going_on(machine) > 1 => {
                process.leader_ended = Some(now);
                let leader = process.identity.pid;
                for thread in process.threads.iter_mut().filter(|thread| thread.tid == leader) {
                    thread.ended = Some(now);
                }
            }
            Event::Exec => {
                process.exec_at = Some(now + machine.alone + 1);
                // The caller of exec goes on under the tid of the main thread; the others end.
                let (leader, alone) = (process.identity.pid, process.going_on(machine) == 1);
                let others =
                    process.threads.iter_mut().filter(|t| t.ended.is_none() && t.tid != leader && !alone);
                for thread in others {
                    thread.ends_at = Some(now + machine.alone / 2 + 1);
                }
            }
            _ => {}
        }
        false
    }
}

/// Applies an event to one thread. True if the thread has ended.
fn happen_to(thread: &mut Thread, event: Event, now: Nanos, leader: bool) -> bool {
    match event {
        Event::Work { beat, beats, on_cpu, more, deadline, .. } => {
            thread.begin(Doing::Work { beat, left: beats, beats, on_cpu, more }, deadline);
        }
        Event::Join { workers, beat, beats, on_cpu, deadline, .. } => {
            thread.join(workers, Doing::Work { beat, left: beats, beats, on_cpu, more: 0 }, deadline);
        }
        Event::Deadline { deadline, .. } if thread.claim == Claim::Live => thread.deadline = deadline,
        Event::Enter { section, torn, .. } => thread.enter(section, torn),
        Event::HangWorker { worker, how, .. } => {
            thread.account.changed_ways();
            if let Some(worker) = thread.pool.get_mut(worker).filter(|worker| worker.doing != Doing::Idle) {
                worker.hang(how);
            }
        }
        Event::StarveWorker { worker, share, length, .. } => {
            if let Some(worker) = thread.pool.get_mut(worker) {
                worker.starved = Some((share, now + length));
            }
        }
        Event::LoseWorker { worker, said, .. } => {
            thread.account.changed_ways();
            if let Some(worker) = thread.pool.get_mut(worker) {
                worker.ended.get_or_insert(now);
                worker.claim = if said { Claim::Dropped } else { worker.claim };
            }
        }
        Event::Hang { how, .. } => thread.hang(how),
        Event::Unhang { .. } => thread.unhang(),
        Event::Starve { share, length, .. } => thread.starved = Some((share, now + length)),
        Event::Trace { length, .. } => thread.traced_until = now + length,
        Event::Memory { length, .. } => thread.memory_until = now + length,
        Event::Deaf { length, .. } => thread.deaf_until = now + length,
        Event::End { .. } if thread.ended.is_none() => {
            thread.ended = Some(now);
            return true;
        }
        Event::Drop { then, .. } if thread.ended.is_none() && thread.claim == Claim::Live => {
            thread.claim = Claim::Dropped;
            thread.dropped = Some(now);
            if !leader {
                thread.ends_at = Some(now + then);
            }
        }
        Event::Leave { .. } if thread.ended.is_none() && thread.claim == Claim::Live => {
            thread.claim = Claim::Left;
            thread.activity += thread.activity & 1;
            thread.doing = Doing::Idle;
            thread.account.progressed();
            if !leader {
                thread.ended = Some(now);
                return true;
            }
        }
        Event::Register { .. } if thread.claim == Claim::Left => {
            let consumes = thread.consumes;
            *thread = Thread::new(thread.slot, thread.generation + 1, Arc::clone(&thread.name), thread.tid);
            thread.consumes = consumes;
        }
        _ => {}
    }
    false
}
