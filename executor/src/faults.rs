//! Faults that tests arm in a running process: always compiled in, inert unless `--faults` opened
//! the port.
//!
//! A fault does what a bug would do: the thread is really gone, really spins, really waits for a
//! lock. Nothing in here may be reachable without the port, and the port is open only to this user,
//! or to those who know a token, on this machine.
//!
//! | point | who passes it | its kinds |
//! | --- | --- | --- |
//! | [`Faults::point`] | `exec-sN` before a transaction, `coord` before a block | panic, exit, spin, deadlock, hook-hang, worker-panic, slow, core, leader-exit, exit-hang |
//! | [`Faults::start_point`] | `exec-sN` before it is ready | never-ready |
//! | [`Faults::look_point`] | `exec-sN` before it looks for a part | deaf |
//! | [`Faults::answer_point`] | `exec-sN` with a result in hand | drop-result, part-error, ghost |
//! | [`Faults::send_point`] | `send-sN` with a message in hand | send-panic, send-exit |
//! | [`Faults::network_point`] | `net-sN` with a message in hand | net-block |
//! | [`Faults::dispatch_point`] | `coord` with a part in hand | drop-part, flood |
//! | [`Faults::mutes_state`] | `coord` with a state request in hand | mute-state |
//!
//! Two switches besides, both on at the start: `hook`, whether a panic ends the process, and
//! `guard`, whether a lost thread does. `hook on|off` sets both, `guard on|off` only its own.

mod kind;
mod last_words;
mod order;
mod port;
mod strike;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_channel::Sender;
use shard_heartbeat::ThreadBeat;

pub use kind::{Armed, Kind, Role};
pub use last_words::{LastWords, announce};
pub use order::{Order, OrderError};
pub use port::{Port, PortAddress, PortError, PortOptions, serve};
pub use shard_heartbeat::faults::SocketError;

use crate::clock::monotonic_ns;
use kind::Place;

/// The most faults that can be armed at once: more means that a test forgot to disarm.
const MAX_ARMED: usize = 16;

/// How many strikes are remembered. Only the latest are of interest.
const MAX_STRUCK: usize = 16;

/// A fault that the main thread must carry out, because it concerns the process as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessFault {
    /// See [`Kind::LeaderExit`].
    LeaderExit,
    /// See [`Kind::ExitHang`].
    ExitHang,
}

/// What happens to a part's result instead of its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFault {
    /// See [`Kind::DropResult`].
    Drop,
    /// See [`Kind::PartError`].
    Error,
    /// See [`Kind::Ghost`].
    Ghost,
}

/// What happens to a part on its way to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchFault {
    /// See [`Kind::DropPart`].
    Drop,
    /// See [`Kind::Flood`].
    Flood(u64),
}

/// The working thread must return now, as if it had ended on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadMustEnd;

/// The fault points of one process. Clones share the same state.
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

struct Shared {
    role: Role,
    /// Whether anything is armed: a transaction costs only this one load.
    active: AtomicBool,
    /// Whether a panic ends the process.
    hook: AtomicBool,
    /// Whether a lost thread ends the process.
    guard: AtomicBool,
    /// Whether the panic hook hangs: [`Kind::HookHang`] has struck.
    hook_hangs: AtomicBool,
    armed: Mutex<Vec<Waiting>>,
    /// How often faults were disarmed: threads that spin or wait for a lock go on when it changes.
    disarmed: AtomicU64,
    /// The latest strikes and their times.
    struck: Mutex<VecDeque<String>>,
    /// Returns the process's counters as one line.
    counters: OnceLock<Box<dyn Fn() -> String + Send + Sync>>,
    process: Sender<ProcessFault>,
}

struct Waiting {
    armed: Armed,
    /// The fault has struck before, and lasts.
    struck: bool,
}

impl Faults {
    /// Fault points with nothing armed. Faults of the whole process are handed to `process`.
    pub fn inert(role: Role, process: Sender<ProcessFault>) -> Self {
        let shared = Shared {
            role,
            active: AtomicBool::new(false),
            hook: AtomicBool::new(true),
            guard: AtomicBool::new(true),
            hook_hangs: AtomicBool::new(false),
            armed: Mutex::new(Vec::new()),
            disarmed: AtomicU64::new(0),
            struck: Mutex::new(VecDeque::new()),
            counters: OnceLock::new(),
            process,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Whether a panic anywhere ends the process.
    pub fn panic_ends_process(&self) -> bool {
        self.shared.hook.load(Ordering::Relaxed)
    }

    /// Whether a required thread that ended unasked ends the process.
    pub fn thread_loss_ends_process(&self) -> bool {
        self.shared.guard.load(Ordering::Relaxed)
    }

    /// Whether the panic hook must hang for ever, once its last words are in the segment and
    /// without an abort timer. The hook itself asks, since it is the only place where it can hang.
    pub fn hook_hangs(&self) -> bool {
        self.shared.hook_hangs.load(Ordering::Relaxed)
    }

    /// Sets what the order `counters` answers after `ok: `. Only the first call counts.
    pub fn tell_counters(&self, line: impl Fn() -> String + Send + Sync + 'static) {
        // A second call would mean a second thread with the same duty; there is none.
        let _ = self.shared.counters.set(Box::new(line));
    }

    /// Carries out the orders given on the command line. To be called before any thread is started.
    ///
    /// # Errors
    /// At the first order that cannot be carried out.
    pub fn obey_all(&self, orders: &[Order]) -> Result<(), OrderError> {
        orders.iter().try_for_each(|order| self.obey(*order).map(drop))
    }

    /// Carries out one order of a test; the answer is one line.
    ///
    /// # Errors
    /// If the order cannot be carried out in this process or at this time.
    pub fn obey(&self, order: Order) -> Result<String, OrderError> {
        match order {
            Order::Hook(on) => {
                self.shared.hook.store(on, Ordering::Relaxed);
                self.shared.guard.store(on, Ordering::Relaxed);
            }
            Order::Guard(on) => self.shared.guard.store(on, Ordering::Relaxed),
            Order::Disarm => {
                self.change(Vec::clear);
                self.shared.disarmed.fetch_add(1, Ordering::Relaxed);
            }
            Order::List => return Ok(self.list()),
            Order::Struck => return Ok(self.told_struck()),
            // The port knows whose connection it is.
            Order::Tied => {}
            Order::Counters => {
                let line = self.shared.counters.get().map_or_else(String::new, |line| line());
                return Ok(format!("ok: {line}"));
            }
            Order::Arm(Armed { kind: kind @ Kind::LeaderExit, after: 0, block: None }) => {
                self.remember(kind);
                self.begin(ProcessFault::LeaderExit);
            }
            Order::Arm(Armed { kind: kind @ Kind::ExitHang, after: 0, block: None }) => {
                self.remember(kind);
                self.begin(ProcessFault::ExitHang);
            }
            Order::Arm(armed) => self.arm(armed)?,
        }
        Ok("ok".to_owned())
    }

    fn arm(&self, armed: Armed) -> Result<(), OrderError> {
        if let Some(role) = armed.kind.only_in()
            && role != self.shared.role
        {
            return Err(OrderError::Elsewhere { kind: armed.kind.name(), role, here: self.shared.role });
        }
        if self.armed().len() >= MAX_ARMED {
            return Err(OrderError::TooMany(MAX_ARMED));
        }
        self.change(|all| all.push(Waiting { armed, struck: false }));
        Ok(())
    }

    fn list(&self) -> String {
        let armed: Vec<String> = self.armed().iter().map(|waiting| waiting.armed.to_string()).collect();
        let switch = |on| if on { "on" } else { "off" };
        format!(
            "ok: hook {}; guard {}; armed: {}",
            switch(self.panic_ends_process()),
            switch(self.thread_loss_ends_process()),
            if armed.is_empty() { "none".to_owned() } else { armed.join(", ") }
        )
    }

    /// The fault point of a thread that is about to execute `transactions` transactions of `block`;
    /// `beat` is its slot in the heartbeat if it has one. It may not return, or only once the fault
    /// is disarmed. On `Err` the thread must end at once and drop [`LastWords`] on its way.
    ///
    /// # Errors
    /// If the thread is to end without a panic.
    #[inline]
    pub fn point(
        &self,
        block: u64,
        transactions: u64,
        beat: Option<&ThreadBeat>,
        last_words: &mut LastWords,
    ) -> Result<(), ThreadMustEnd> {
        if !self.active() {
            return Ok(());
        }
        let undone = self.until_disarmed();
        match self.due(Place::Work, Some(block), transactions) {
            Some((Kind::Slow(by), _)) => std::thread::sleep(by),
            Some((Kind::LeaderExit, _)) => self.begin(ProcessFault::LeaderExit),
            Some((Kind::ExitHang, _)) => self.begin(ProcessFault::ExitHang),
            Some((Kind::Exit, _)) => {
                last_words.0 = Some(Kind::Exit);
                return Err(ThreadMustEnd);
            }
            Some((kind @ (Kind::Panic | Kind::HookHang), _)) => self.panic(kind, last_words),
            Some((Kind::WorkerPanic, _)) => strike::lose_a_worker(beat),
            Some((Kind::Spin, _)) => {
                announce(Kind::Spin);
                strike::spin(&undone);
            }
            Some((kind @ Kind::Core(size), _)) => {
                announce(kind);
                strike::dump_core(size)
            }
            Some((Kind::Deadlock, _)) => {
                announce(Kind::Deadlock);
                strike::deadlock(undone);
            }
            // The other kinds have fault points of their own.
            Some(_) | None => {}
        }
        Ok(())
    }

    /// The fault point of a helper that is about to execute a transaction ahead. It may not return.
    #[inline]
    pub fn help_point(&self, last_words: &mut LastWords) {
        if !self.active() {
            return;
        }
        let undone = self.until_disarmed();
        match self.due(Place::Help, None, 1) {
            Some((kind @ Kind::HelperPanic, _)) => self.panic(kind, last_words),
            Some((kind, _)) => {
                announce(kind);
                strike::spin(&undone);
            }
            None => {}
        }
    }

    /// The fault point of the executor thread that has received the answer to a state request.
    pub fn answered_point(&self) {
        if !self.active() {
            return;
        }
        if let Some((Kind::SlowState(by), _)) = self.due(Place::Answered, None, 1) {
            std::thread::sleep(by);
        }
    }

    /// The fault point of the executor thread before it reports ready. It may not return.
    pub fn start_point(&self) {
        if self.active() && self.due(Place::Start, None, 1).is_some() {
            announce(Kind::NeverReady);
            strike::park();
        }
    }

    /// The fault point of the executor thread before it looks for a part. It may not return.
    pub fn look_point(&self) {
        if self.active() && self.due(Place::Look, None, 1).is_some() {
            announce(Kind::Deaf);
            strike::park();
        }
    }

    /// The fault point of the executor thread that is about to hand over a part's result.
    pub fn answer_point(&self, block: u64) -> Option<AnswerFault> {
        if !self.active() {
            return None;
        }
        let (kind, _) = self.due(Place::Answer, Some(block), 1)?;
        announce(kind);
        Some(match kind {
            Kind::PartError => AnswerFault::Error,
            Kind::Ghost => AnswerFault::Ghost,
            _ => AnswerFault::Drop,
        })
    }

    /// The fault point of the sending thread that has a message in hand. With `Err` it must end at
    /// once.
    ///
    /// # Errors
    /// If the thread is to end without a panic.
    pub fn send_point(&self, last_words: &mut LastWords) -> Result<(), ThreadMustEnd> {
        if !self.active() {
            return Ok(());
        }
        match self.due(Place::Send, None, 1) {
            Some((kind @ Kind::SendPanic, _)) => self.panic(kind, last_words),
            Some((kind, _)) => {
                last_words.0 = Some(kind);
                Err(ThreadMustEnd)
            }
            None => Ok(()),
        }
    }

    /// The fault point of a network thread that has a message in hand: the first thing that
    /// `Service::sort` does. It may not return, and then no thread of the runtime reads anything
    /// any more.
    #[inline]
    pub fn network_point(&self) {
        if self.active() && self.due(Place::Network, None, 1).is_some() {
            strike::block_runtime();
        }
    }

    /// The fault point of the coordinating thread that has a part of `block` in hand.
    pub fn dispatch_point(&self, block: u64) -> Option<DispatchFault> {
        if !self.active() {
            return None;
        }
        let (kind, _) = self.due(Place::Dispatch, Some(block), 1)?;
        announce(kind);
        Some(if let Kind::Flood(count) = kind { DispatchFault::Flood(count) } else { DispatchFault::Drop })
    }

    /// The fault, if any, to arm in the process that is about to try `block` alone.
    pub fn sacrifice_point(&self, block: u64) -> Option<&'static str> {
        if !self.active() {
            return None;
        }
        let (kind, _) = self.due(Place::Sacrifice, Some(block), 1)?;
        announce(kind);
        Some("arm panic")
    }

    /// Whether some state requests are to get no answer; [`Self::mutes_state`] decides which ones.
    pub fn may_mute_state(&self) -> bool {
        self.active() && self.armed().iter().any(|waiting| waiting.armed.kind.place() == Place::State)
    }

    /// Whether a state request of `block` gets no answer.
    pub fn mutes_state(&self, block: u64) -> bool {
        if !self.active() {
            return false;
        }
        let Some((kind, first)) = self.due(Place::State, Some(block), 1) else { return false };
        if first {
            announce(kind);
        }
        true
    }

    fn active(&self) -> bool {
        self.shared.active.load(Ordering::Relaxed)
    }

    /// The fault that strikes now at `place`, where `weight` items are about to pass, and whether
    /// it strikes for the first time.
    fn due(&self, place: Place, block: Option<u64>, weight: u64) -> Option<(Kind, bool)> {
        let mut all = self.armed();
        // Lasting faults come last: otherwise they would never let the others have their turn.
        let once = all.iter().enumerate().filter(|(_, waiting)| !waiting.armed.kind.lasts());
        let lasting = all.iter().enumerate().filter(|(_, waiting)| waiting.armed.kind.lasts());
        let order: Vec<usize> = once.chain(lasting).map(|(at, _)| at).collect();
        for at in order {
            let Some(Waiting { armed, struck }) = all.get_mut(at) else { continue };
            if armed.kind.place() != place || (armed.block.is_some() && armed.block != block) {
                continue;
            }
            if armed.after >= weight {
                armed.after -= weight;
                continue;
            }
            let kind = armed.kind;
            let first = !std::mem::replace(struck, true);
            // A slow fault strikes a thousand times a second: only its first time is of interest.
            if first {
                self.remember(kind);
            }
            match kind.left() {
                Some(left) => armed.kind = left,
                None => {
                    all.remove(at);
                    self.shared.active.store(!all.is_empty(), Ordering::Relaxed);
                }
            }
            return Some((kind, first));
        }
        None
    }

    #[expect(clippy::panic, reason = "it is what was ordered")]
    fn panic(&self, kind: Kind, last_words: &mut LastWords) -> ! {
        self.shared.hook_hangs.store(kind == Kind::HookHang, Ordering::Relaxed);
        if self.panic_ends_process() {
            announce(kind);
        } else {
            last_words.0 = Some(kind);
        }
        panic!("a test armed this panic");
    }

    /// Returns a check whether a fault that strikes from now on has been disarmed. To be called
    /// before [`Self::due`], or a `disarm` in between would be missed.
    fn until_disarmed(&self) -> impl Fn() -> bool + Clone + Send + 'static {
        let shared = Arc::clone(&self.shared);
        let before = shared.disarmed.load(Ordering::Relaxed);
        move || shared.disarmed.load(Ordering::Relaxed) != before
    }

    fn remember(&self, kind: Kind) {
        let mut struck = self.struck();
        if struck.len() == MAX_STRUCK {
            struck.pop_front();
        }
        struck.push_back(format!("{kind} at_monotonic_ns={}", monotonic_ns()));
    }

    fn told_struck(&self) -> String {
        let struck: Vec<String> = self.struck().iter().cloned().collect();
        format!("ok: struck: {}", if struck.is_empty() { "none".to_owned() } else { struck.join(", ") })
    }

    fn struck(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.shared.struck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, fault: ProcessFault) {
        // A second order while the first is being carried out changes nothing.
        let _ = self.shared.process.try_send(fault);
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Waiting>)) {
        let mut armed = self.armed();
        change(&mut armed);
        self.shared.active.store(!armed.is_empty(), Ordering::Relaxed);
    }

    fn armed(&self) -> MutexGuard<'_, Vec<Waiting>> {
        // A list of plain data is intact whatever happened to the thread that held it.
        self.shared.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
