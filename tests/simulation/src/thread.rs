//! The true state of one thread: what it does, what it would need to go on, and what the kernel
//! would report of it.

use std::sync::Arc;

use shard_watchdog::observation::{Claim, TaskObservation, TaskState, WaitChannel};
use shard_watchdog::verdict::ExcuseKind;

use super::account::Account;
use super::plan::{Hang, Machine, Nanos, Share};
use super::process::Quota;
use super::theft::{Stolen, Theft};

/// CPU time that a thread needs between two sleeps to make its step of progress.
const STEP: Nanos = 50_000;

/// The unit of CPU time on a kernel without `schedstat`: clock ticks of `stat`.
pub const COARSE: Nanos = 10_000_000;

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Waiting for work.
    Idle,
    /// Making progress, one step every `beat` in which it can.
    #[allow(missing_docs, reason = "as in the event that began it")]
    Work { beat: Nanos, left: u32, beats: u32, on_cpu: bool, more: u32 },
    /// Asleep until its workers are done.
    Join,
    /// At work, for ever.
    Hang(Hang),
}

/// What keeps a thread from running, whatever it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// SIGSTOP.
    Stopped,
    /// A debugger.
    Traced,
    /// The freezer.
    Frozen,
    /// Its cgroup, over `memory.high`.
    Memory,
    /// Its process is ending or dumping core.
    Ending,
    /// The machine sleeps. The thread's state shows as it was before.
    Asleep,
}

/// What the scheduler gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// It wants no CPU.
    Off,
    /// On a CPU since then.
    On { since: Nanos, cpu: Nanos },
    /// In the run queue since then.
    Waiting { since: Nanos },
}

/// A watched thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Index of its slot.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u64,
    /// Registered name.
    pub name: Arc<str>,
    /// Its tid.
    pub tid: i32,
    /// What it claims of its slot.
    pub claim: Claim,
    /// When it ended.
    pub ended: Option<Nanos>,
    /// When it will end, if it is unwinding.
    pub ends_at: Option<Nanos>,
    /// When it dropped its slot.
    pub dropped: Option<Nanos>,
    /// Activity word.
    pub activity: u64,
    /// Progress counter.
    pub progress: u64,
    /// Work key; the attempt is always 1.
    pub work_key: u64,
    /// The deadline it gives this work, during which it may stand still; zero: none.
    pub deadline: Nanos,
    /// The word of the section of its work that it is in; zero: none.
    pub section: u64,
    /// It was interrupted before the progress that belongs to entering that section.
    pub owes_beat: bool,
    /// What it is doing.
    pub doing: Doing,
    /// What it was doing before it hung.
    pub before_hang: Doing,
    /// The share that neighbours leave it, and until when.
    pub starved: Option<(Share, Nanos)>,
    /// What the hypervisor took of its CPU.
    pub stolen: Stolen,
    /// When its debugger lets it go.
    pub traced_until: Nanos,
    /// Until when its cgroup makes it wait for memory.
    pub memory_until: Nanos,
    /// The truth about its present period without progress.
    pub account: Account,
    /// Whether the probe has opened it.
    pub seen: bool,
    /// The workers in its lanes, from lane 1 on.
    pub pool: Vec<Thread>,
    /// What held one of them at the last observation.
    pub worker_held: Option<ExcuseKind>,
    /// Set if it should receive from the channel: the length and number of steps of work for each
    /// message.
    pub consumes: Option<Option<(Nanos, u32)>>,
    /// Until when it does not notice messages.
    pub deaf_until: Nanos,
    /// Messages that it may take in the next period lived through.
    pub hears: u64,
    /// Messages that it took in the last period lived through, and when it took the last of them.
    pub heard: (u64, Nanos),
    /// The truth about its present period without receiving.
    pub deaf: Account,
    /// It moved, or seems to have, between the last observation and the one before it.
    pub moved: bool,
    /// It only seems to have moved, since its words were random at the observation before.
    pub only_seemed_to_move: bool,
    /// Its deafness did not count at the last observation.
    pub deaf_paused: bool,
    /// When it last made progress in the last period lived through.
    last_beat: Option<Nanos>,
    /// It is a worker of another thread, so its time matters even while it rests.
    worker: bool,
    into_beat: Nanos,
    step_left: Nanos,
    /// Its position in its share: whether it runs, and the time left of this run or wait.
    turn: (bool, Nanos),
    queue: Queue,
    cpu: Nanos,
    delay: Nanos,
}

impl Thread {
    /// A thread that has just registered.
    pub fn new(slot: u32, generation: u64, name: Arc<str>, tid: i32) -> Self {
        Self {
            slot,
            generation,
            name,
            tid,
            claim: Claim::Live,
            ended: None,
            ends_at: None,
            dropped: None,
            activity: 0,
            progress: 0,
            work_key: 0,
            deadline: 0,
            section: 0,
            owes_beat: false,
            doing: Doing::Idle,
            before_hang: Doing::Idle,
            starved: None,
            stolen: Stolen::default(),
            traced_until: 0,
            memory_until: 0,
            account: Account::default(),
            seen: false,
            pool: Vec::new(),
            worker_held: None,
            consumes: None,
            deaf_until: 0,
            hears: 0,
            heard: (0, 0),
            deaf: Account::default(),
            moved: false,
            only_seemed_to_move: false,
            deaf_paused: false,
            last_beat: None,
            worker: false,
            into_beat: 0,
            step_left: 0,
            turn: (false, 0),
            queue: Queue::Off,
            // It has run for an instant: a kernel that counts does not report zero.
            cpu: 100_000,
            delay: 0,
        }
    }

    /// Whether its words say that it is at work.
    pub const fn working(&self) -> bool {
        self.activity & 1 == 1
    }

    /// Whether its use of time is accounted for.
    const fn counts(&self) -> bool {
        self.working() || self.worker
    }

    /// Whether it waits for work, and would take some.
    fn takes_work(&self) -> bool {
        self.doing == Doing::Idle && self.ended.is_none() && self.claim == Claim::Live
    }

    /// Begins a piece of work, and declares how long that may stand still.
    pub fn begin(&mut self, doing: Doing, deadline: Nanos) {
        if !self.takes_work() {
            return;
        }
        self.activity += 1;
        self.work_key += 1;
        self.deadline = deadline;
        (self.section, self.owes_beat) = (0, false);
        self.into_beat = 0;
        self.step_left = 0;
        self.doing = doing;
        self.account.progressed();
    }

    /// Stops making progress. An idle thread takes up work for it.
    pub fn hang(&mut self, how: Hang) {
        if self.claim != Claim::Live || self.ended.is_some() {
            return;
        }
        if matches!(self.doing, Doing::Idle) {
            // The deadline stays whatever it was.
            self.begin(Doing::Hang(how), self.deadline);
            return;
        }
        if !matches!(self.doing, Doing::Hang(_)) {
            self.before_hang = self.doing;
        }
        self.doing = Doing::Hang(how);
        self.account.changed_ways();
    }

    /// Resumes what it was doing.
    pub fn unhang(&mut self) {
        if matches!(self.doing, Doing::Hang(_)) {
            self.account.changed_ways();
            match self.before_hang {
                Doing::Idle => self.finish(),
                work => self.doing = work,
            }
            self.before_hang = Doing::Idle;
        }
    }

    /// Begins a piece of work that `workers` do in parts, while this thread waits for all of them.
    pub fn join(&mut self, workers: u32, part: Doing, deadline: Nanos) {
        if !self.takes_work() {
            return;
        }
        // No counter of a slot goes back when its lanes change hands.
        self.progress = self.total_progress();
        let generation = self.pool.first().map_or(1, |before| before.generation + 1);
        self.pool = (1..=workers)
            .map(|lane| {
                let mut worker = Self::new(lane, generation, Arc::clone(&self.name), self.tid);
                worker.worker = true;
                worker.begin(part, 0);
                worker
            })
            .collect();
        self.progress = self.progress.wrapping_sub(self.pool.iter().map(Self::total_progress).sum::<u64>());
        self.begin(Doing::Join, deadline);
    }

    /// The sum over its lanes.
    pub fn total_progress(&self) -> u64 {
        let lanes = self.pool.iter().map(|worker| worker.progress + worker.activity).sum::<u64>();
        self.progress.wrapping_add(lanes)
    }

    fn finish(&mut self) {
        self.activity += 1;
        self.doing = Doing::Idle;
        self.account.progressed();
    }

    /// Whether what it is doing sometimes takes a CPU.
    pub const fn wants_cpu_at_times(&self) -> bool {
        matches!(self.doing, Doing::Work { .. } | Doing::Hang(Hang::Livelock))
    }

    const fn wants_cpu(&self) -> bool {
        match self.doing {
            Doing::Idle => self.hears > 0,
            Doing::Join => false,
            Doing::Work { on_cpu, .. } => on_cpu || self.step_left > 0,
            Doing::Hang(how) => matches!(how, Hang::Livelock),
        }
    }

    /// Lives from `from` to `to`, during which nothing else changes. `left` is what the whole
    /// process is left with by its cgroup, and by the hypervisor.
    pub fn live(&mut self, from: Nanos, to: Nanos, hold: Option<Hold>, left: (Option<Quota>, Option<Theft>)) {
        if self.ended.is_some() {
            return;
        }
        self.live_alone(from, to, hold, left);
        for worker in &mut self.pool {
            worker.live(from, to, hold, left);
        }
        // Where one of them makes progress, so does the thread that waits for it.
        if let Some(beat) = self.pool.iter_mut().filter_map(|worker| worker.last_beat.take()).max() {
            for account in
                std::iter::once(&mut self.account).chain(self.pool.iter_mut().map(|w| &mut w.account))
            {
                account.progressed();
                account.slept(to - beat);
            }
        }
        let done = |worker: &Self| worker.doing == Doing::Idle && worker.ended.is_none();
        if self.doing == Doing::Join && hold.is_none() && self.pool.iter().all(done) {
            self.finish();
        }
    }

    fn live_alone(
        &mut self,
        from: Nanos,
        to: Nanos,
        hold: Option<Hold>,
        (quota, theft): (Option<Quota>, Option<Theft>),
    ) {
        let mut now = from;
        if theft.is_none() || hold.is_some() {
            self.cpu += self.stolen.show();
        }
        if hold.is_some() {
            self.leave_queue(now);
            if self.counts() {
                self.account.held(to - now);
            }
            if self.consumes.is_some() {
                self.deaf.held(to - now);
            }
            return;
        }
        let theft = theft.filter(|_| self.starved.is_none());
        let left = quota.map(|quota| quota.share).or(theft.map(|theft| theft.share));
        let share = left.or(self.starved.map(|(share, _)| share));
        let off_queue = quota.is_some_and(|quota| quota.off_queue);
        while now < to {
            if self.doing == Doing::Idle && self.hears > 0 && self.step_left == 0 {
                self.step_left = STEP;
            }
            if !self.wants_cpu() {
                self.leave_queue(now);
                self.cpu += self.stolen.show();
                let left = match self.doing {
                    Doing::Work { beat, .. } => beat.saturating_sub(self.into_beat),
                    _ => Nanos::MAX,
                };
                let step = (to - now).min(left);
                self.into_beat += step;
                now += step;
                if self.counts() {
                    self.account.slept(step);
                }
                if self.consumes.is_some() {
                    self.deaf.slept(step);
                }
                if let Doing::Work { beat, .. } = self.doing
                    && self.into_beat >= beat
                {
                    self.step_left = STEP;
                }
                continue;
            }
            let (runs, turn) = self.turn_of(share);
            let step = if runs { (to - now).min(turn).min(self.need()) } else { (to - now).min(turn) };
            if self.turn.1 != Nanos::MAX {
                self.turn.1 -= step.min(self.turn.1);
            }
            if runs {
                self.cpu += self.stolen.show();
                self.enter_cpu(now);
                self.cpu += step;
                self.account.ran(step);
                self.deaf.ran(step);
                now += step;
                let before = (self.progress, self.activity);
                self.ran(step, now);
                if before != (self.progress, self.activity) {
                    self.last_beat = Some(now);
                }
            } else {
                if let Some(theft) = theft.filter(|_| quota.is_none()) {
                    self.leave_queue(now);
                    self.stolen.take(step, theft);
                    self.account.robbed(theft.in_cpu);
                } else if off_queue {
                    self.leave_queue(now);
                } else {
                    self.enter_queue(now);
                }
                if theft.is_none() {
                    self.account.may_hide_theft(step, self.stolen.is_any());
                }
                self.account.waited(step);
                self.deaf.waited(step);
                now += step;
            }
        }
    }

    /// CPU time until its next step of progress.
    const fn need(&self) -> Nanos {
        match self.doing {
            Doing::Work { beat, on_cpu: true, .. } => beat.saturating_sub(self.into_beat),
            Doing::Work { .. } | Doing::Idle => self.step_left,
            _ => Nanos::MAX,
        }
    }

    fn ran(&mut self, step: Nanos, now: Nanos) {
        let Doing::Work { beat, on_cpu, .. } = self.doing else {
            self.step_left -= step.min(self.step_left);
            if self.doing == Doing::Idle && self.step_left == 0 {
                self.hear(now);
            }
            return;
        };
        if on_cpu {
            self.into_beat += step;
            if self.into_beat >= beat {
                self.beat();
            }
        } else {
            self.step_left -= step.min(self.step_left);
            if self.step_left == 0 {
                self.beat();
            }
        }
    }

    /// Takes a message.
    fn hear(&mut self, now: Nanos) {
        self.hears = self.hears.saturating_sub(1);
        self.heard = (self.heard.0 + 1, now);
        if let Some(Some((beat, beats))) = self.consumes {
            self.begin(Doing::Work { beat, left: beats, beats, on_cpu: false, more: 0 }, 0);
        }
    }

    fn beat(&mut self) {
        self.into_beat = 0;
        self.step_left = 0;
        let Doing::Work { left, beats, more, .. } = &mut self.doing else { return };
        if *left > 1 {
            *left -= 1;
            self.progress += 1;
        } else if *more > 0 {
            // The end of one piece and the beginning of the next.
            *more -= 1;
            *left = *beats;
            self.activity += 2;
            self.work_key += 1;
            self.section = 0;
        } else {
            self.finish();
        }
        self.account.progressed();
    }

    /// Whether it is its turn, and for how long.
    fn turn_of(&mut self, share: Option<Share>) -> (bool, Nanos) {
        match share {
            None => {
                self.turn = (true, 0);
                (true, Nanos::MAX)
            }
            Some(Share { run: 0, .. }) => {
                self.turn = (false, 0);
                (false, Nanos::MAX)
            }
            Some(share) => {
                if self.turn.1 == 0 {
                    let runs = !self.turn.0;
                    self.turn = (runs, if runs { share.run } else { share.wait });
                }
                self.turn
            }
        }
    }

    fn enter_cpu(&mut self, now: Nanos) {
        match self.queue {
            Queue::On { .. } => {}
            Queue::Waiting { since } => {
                self.delay += now - since;
                self.queue = Queue::On { since: now, cpu: self.cpu };
            }
            Queue::Off => self.queue = Queue::On { since: now, cpu: self.cpu },
        }
    }

    fn enter_queue(&mut self, now: Nanos) {
        if !matches!(self.queue, Queue::Waiting { .. }) {
            self.queue = Queue::Waiting { since: now };
        }
    }

    fn leave_queue(&mut self, now: Nanos) {
        if let Queue::Waiting { since } = self.queue {
            self.delay += now - since;
        }
        self.queue = Queue::Off;
    }

    /// What the kernel reports of it at `now`. Its counters lag: time in the run queue shows when
    /// it is over, CPU time at the tick.
    pub fn task(&self, now: Nanos, hold: Option<Hold>, machine: &Machine) -> Option<TaskObservation> {
        let asleep = match self.doing {
            Doing::Hang(Hang::Deadlock) | Doing::Idle | Doing::Join => {
                (TaskState::Sleeping, WaitChannel::Futex)
            }
            Doing::Hang(Hang::Disk) => (TaskState::DiskSleep, WaitChannel::Other),
            Doing::Hang(Hang::Answer) => (TaskState::DiskSleep, WaitChannel::Answer),
            _ => (TaskState::Sleeping, WaitChannel::Other),
        };
        let on_disk = matches!(self.doing, Doing::Hang(Hang::Disk | Hang::Answer));
        let (state, wait) = match hold {
            Some(Hold::Ending) => return None,
            // Uninterruptible means that neither a signal nor the freezer reaches it.
            _ if on_disk => (asleep.0, Some(asleep.1)),
            Some(Hold::Frozen) if machine.frozen_is_d => (TaskState::DiskSleep, Some(WaitChannel::Frozen)),
            Some(Hold::Frozen) => (TaskState::Sleeping, Some(WaitChannel::Frozen)),
            Some(Hold::Memory) => (TaskState::DiskSleep, Some(WaitChannel::Memory)),
            Some(Hold::Traced) => (TaskState::Traced, Some(WaitChannel::Other)),
            Some(Hold::Stopped) => (TaskState::Stopped, Some(WaitChannel::Other)),
            Some(Hold::Asleep) | None if self.wants_cpu() => (TaskState::Running, None),
            Some(Hold::Asleep) | None => (asleep.0, Some(asleep.1)),
        };
        // A thread that leaves the run queue at this very moment has its counter brought up to
        // date.
        let runnable = state == TaskState::Running;
        let delay = match self.queue {
            Queue::Waiting { since } if !runnable => self.delay + (now - since),
            _ => self.delay,
        };
        let cpu = match self.queue {
            Queue::On { since, cpu } if runnable => {
                let tick = now / machine.tick * machine.tick;
                if tick > since { cpu + (tick - since) } else { cpu }
            }
            _ => self.cpu,
        };
        Some(TaskObservation {
            state,
            cpu_ns: Some(if machine.schedstat { cpu } else { cpu / COARSE * COARSE }),
            run_delay_ns: machine.schedstat.then_some(delay),
            wait: match state {
                TaskState::Running => machine.limited_class.then_some(WaitChannel::RealTime),
                _ => wait.filter(|_| machine.wchan),
            },
        })
    }
}
