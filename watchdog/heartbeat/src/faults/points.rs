//! The armed faults: where they strike, and how they are undone.

#![expect(clippy::panic, reason = "it is what was ordered")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::order::{Armed, Kind, Order};

/// The most faults that can be armed at once: more means that a test forgot to disarm.
const MOST_ARMED: usize = 16;
/// The number of latest strikes remembered.
const MOST_STRUCK: usize = 16;
/// A spinning thread reads the clock once in this many rounds: often enough to end on time, seldom
/// enough to spin.
const CLOCK_EVERY: u32 = 1 << 14;

/// The points of this process.
pub(super) static POINTS: Points = Points::new();

/// The payload with which a thread that has to end unwinds: it is not a panic, so no hook runs.
struct EndedByFault;

/// The fault points of one process.
#[derive(Debug)]
pub(super) struct Points {
    /// Whether anything is armed: the one load that a pass costs.
    active: AtomicBool,
    /// The process that armed it. A forked child has the memory but none of the threads: it must
    /// not even take the lock.
    owner: AtomicU32,
    /// How often faults were disarmed; a spinning thread checks it.
    disarmed: AtomicU64,
    state: Mutex<State>,
    /// Notified when faults are disarmed.
    undone: Condvar,
}

#[derive(Debug)]
struct State {
    armed: Vec<Waiting>,
    struck: VecDeque<String>,
    /// How many threads a fault holds now.
    held: usize,
}

#[derive(Debug)]
struct Waiting {
    armed: Armed,
    /// When it ends; `None` until it has struck.
    until: Option<Instant>,
}

/// A fault that strikes a thread now.
struct Strike {
    kind: Kind,
    until: Instant,
    /// The value of `disarmed` when it struck.
    disarmed: u64,
}

/// Why an order was not carried out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_ARMED} faults are armed already: disarm first")]
pub(super) struct TooMany;

impl Points {
    pub(super) const fn new() -> Self {
        Self {
            active: AtomicBool::new(false),
            owner: AtomicU32::new(0),
            disarmed: AtomicU64::new(0),
            state: Mutex::new(State { armed: Vec::new(), struck: VecDeque::new(), held: 0 }),
            undone: Condvar::new(),
        }
    }

    #[inline]
    pub(super) fn are_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// Carries out an order and returns the answer, one line.
    pub(super) fn obey(&self, order: Order) -> Result<String, TooMany> {
        match order {
            Order::Arm(armed) => self.arm(armed)?,
            Order::Disarm => self.disarm(),
            Order::List => return Ok(self.list()),
            Order::Struck => return Ok(self.told_struck()),
            // The port remembers which connection it is.
            Order::Tied => {}
        }
        Ok("ok".to_owned())
    }

    fn arm(&self, armed: Armed) -> Result<(), TooMany> {
        let mut state = self.lock();
        if state.armed.len() >= MOST_ARMED {
            return Err(TooMany);
        }
        state.armed.push(Waiting { armed, until: None });
        self.owner.store(std::process::id(), Ordering::Relaxed);
        self.active.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn disarm(&self) {
        let mut state = self.lock();
        state.armed.clear();
        self.active.store(false, Ordering::Relaxed);
        // Under the lock, so that a thread about to hang either sees it or is woken.
        self.disarmed.fetch_add(1, Ordering::Relaxed);
        self.undone.notify_all();
    }

    fn list(&self) -> String {
        let state = self.lock();
        let armed: Vec<String> = state.armed.iter().map(|waiting| waiting.armed.to_string()).collect();
        let armed = if armed.is_empty() { "none".to_owned() } else { armed.join(", ") };
        format!("ok: held: {}; armed: {armed}", state.held)
    }

    fn told_struck(&self) -> String {
        let state = self.lock();
        let struck: Vec<&str> = state.struck.iter().map(String::as_str).collect();
        format!("ok: struck: {}", if struck.is_empty() { "none".to_owned() } else { struck.join(", ") })
    }

    /// A thread passes a point while something is armed.
    #[cold]
    pub(super) fn pass(&self, place: &str) {
        // A fault during a panic would abort the process, which is not one of the kinds.
        if self.owner.load(Ordering::Relaxed) != std::process::id() || std::thread::panicking() {
            return;
        }
        let Some(strike) = self.due(place) else { return };
        match strike.kind {
            Kind::Hang => self.hang(&strike),
            Kind::Spin => self.spin(&strike),
            Kind::Slow(by) => {
                let until = strike.until.min(Instant::now() + by);
                self.hang(&Strike { until, ..strike });
            }
            Kind::End => std::panic::resume_unwind(Box::new(EndedByFault)),
            Kind::Panic => panic!("the fault point {place:?} was ordered to panic"),
        }
    }

    /// The fault that strikes this thread here and now, if any.
    fn due(&self, place: &str) -> Option<Strike> {
        let thread = name_of_this_thread();
        let now = Instant::now();
        let mut state = self.lock();
        state.armed.retain(|waiting| waiting.until.is_none_or(|until| now < until));
        let mut found = None;
        for (index, Waiting { armed, .. }) in state.armed.iter_mut().enumerate() {
            let other = |wanted: &Option<String>, is: &str| wanted.as_ref().is_some_and(|name| name != is);
            if other(&armed.place, place) || other(&armed.thread, &thread) {
                continue;
            }
            if armed.after > 0 {
                armed.after -= 1;
                continue;
            }
            // Faults that strike always come last: they would keep the others from their turn.
            match found {
                Some((_, false)) => {}
                Some((_, true)) if armed.always => {}
                _ => found = Some((index, armed.always)),
            }
        }
        let strike = found.map(|(index, always)| {
            let waiting = &mut state.armed[index];
            let first = waiting.until.is_none();
            let until = *waiting.until.get_or_insert(now + waiting.armed.lasts);
            let kind = waiting.armed.kind;
            if !always {
                state.armed.remove(index);
            }
            // A `slow` fault may strike a thousand times a second; only its first strike is of
            // interest.
            if first {
                if state.struck.len() == MOST_STRUCK {
                    state.struck.pop_front();
                }
                let at = monotonic_ns();
                state.struck.push_back(format!("{kind} at {place} thread {thread} at_monotonic_ns={at}"));
            }
            Strike { kind, until, disarmed: self.disarmed.load(Ordering::Relaxed) }
        });
        self.active.store(!state.armed.is_empty(), Ordering::Relaxed);
        strike
    }

    /// Sleeps on a futex without using CPU, like any deadlock.
    fn hang(&self, strike: &Strike) {
        let mut state = self.lock();
        state.held += 1;
        while self.disarmed.load(Ordering::Relaxed) == strike.disarmed {
            let left = strike.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.undone.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.held -= 1;
    }

    fn spin(&self, strike: &Strike) {
        self.lock().held += 1;
        let mut rounds: u32 = 0;
        while self.disarmed.load(Ordering::Relaxed) == strike.disarmed {
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(CLOCK_EVERY) && Instant::now() >= strike.until {
                break;
            }
            std::hint::spin_loop();
        }
        self.lock().held -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data stays consistent even if the thread that held the lock panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clock that sidecars use.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

thread_local! {
    /// The names under which this thread is watched; usually one.
    static NAMES: RefCell<Vec<Box<str>>> = const { RefCell::new(Vec::new()) };
}

/// The thread's registered name, else the kernel's.
fn name_of_this_thread() -> String {
    let registered = NAMES.try_with(|names| names.borrow().last().map(|name| String::from(&**name)));
    registered.ok().flatten().unwrap_or_else(|| {
        let kernels = rustix::thread::name().map(|name| name.to_string_lossy().into_owned());
        // The name is printed in one line, between spaces.
        let plain = |c: char| if c.is_control() || c.is_whitespace() { '?' } else { c };
        kernels.unwrap_or_default().chars().map(plain).collect()
    })
}

/// While this lives, fault points know the calling thread by this name.
#[derive(Debug)]
pub(crate) struct Named(Box<str>);

impl Named {
    pub(crate) fn new(name: &str) -> Self {
        let named = Self(name.into());
        // A thread that is ending has no thread-local memory any more, and passes no point either.
        let _ = NAMES.try_with(|names| names.borrow_mut().push(named.0.clone()));
        named
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = NAMES.try_with(|names| {
            let mut names = names.borrow_mut();
            if let Some(last) = names.iter().rposition(|name| *name == self.0) {
                names.remove(last);
            }
        });
    }
}

#[cfg(test)]
#[path = "points/tests.rs"]
mod tests;
