//! Faults that tests arm in a running process: compiled in always, inert unless `--faults` opened the port.
//!
//! What a fault does is what a bug would do: the thread is really gone, really spins, really waits for a lock. Nothing in
//! here may be reachable without the port, and the port refuses to be opened to anybody but this machine.

mod order;
mod port;

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;

pub use order::{Order, OrderError};
pub use port::{PortError, serve};

use crate::clock::monotonic_ns;

/// The most faults that can be armed at once: more is a test that forgot to disarm.
const MAX_ARMED: usize = 16;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The thread panics.
    Panic,
    /// The thread returns without a word.
    Exit,
    /// The thread burns CPU for ever and gets nowhere.
    Spin,
    /// The thread waits for a lock that is never given back.
    Deadlock,
    /// The process's first thread ends while the others live on.
    LeaderExit,
    /// The process begins to stop and never finishes.
    ExitHang,
    /// Each transaction takes so much longer, and the thread says so as it goes: slow is not stuck.
    Slow(Duration),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic => f.write_str("panic"),
            Self::Exit => f.write_str("exit"),
            Self::Spin => f.write_str("spin"),
            Self::Deadlock => f.write_str("deadlock"),
            Self::LeaderExit => f.write_str("leader-exit"),
            Self::ExitHang => f.write_str("exit-hang"),
            Self::Slow(by) => write!(f, "slow {}ms", by.as_millis()),
        }
    }
}

/// A fault that waits for its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    /// What will go wrong.
    pub kind: Kind,
    /// How many more transactions are let through first.
    pub after: u64,
    /// Only in this block.
    pub block: Option<u64>,
}

impl fmt::Display for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.after > 0 {
            write!(f, " after {} transactions", self.after)?;
        }
        self.block.map_or(Ok(()), |block| write!(f, " block {block}"))
    }
}

/// A fault that the main thread must carry out, because it concerns the process as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessFault {
    /// See [`Kind::LeaderExit`].
    LeaderExit,
    /// See [`Kind::ExitHang`].
    ExitHang,
}

/// The working thread must return now, as if it had ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadMustEnd;

/// The fault points of one process. Clones are the same.
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

struct Shared {
    /// Whether anything is armed: the one load that a transaction pays.
    active: AtomicBool,
    /// Whether a panic ends the process.
    hook: AtomicBool,
    armed: Mutex<Vec<Armed>>,
    process: Sender<ProcessFault>,
}

impl Faults {
    /// Nothing armed. Faults of the whole process are handed to `process`.
    pub fn inert(process: Sender<ProcessFault>) -> Self {
        let shared = Shared {
            active: AtomicBool::new(false),
            hook: AtomicBool::new(true),
            armed: Mutex::new(Vec::new()),
            process,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Whether a panic anywhere ends the process.
    pub fn panic_ends_process(&self) -> bool {
        self.shared.hook.load(Ordering::Relaxed)
    }

    /// Carries out one order of a test; the answer is one line.
    pub fn obey(&self, order: Order) -> Result<String, OrderError> {
        match order {
            Order::Hook(on) => self.shared.hook.store(on, Ordering::Relaxed),
            Order::Disarm => self.change(Vec::clear),
            Order::List => return Ok(self.list()),
            Order::Arm(Armed { kind: Kind::LeaderExit, after: 0, block: None }) => {
                self.begin(ProcessFault::LeaderExit);
            }
            Order::Arm(Armed { kind: Kind::ExitHang, after: 0, block: None }) => {
                self.begin(ProcessFault::ExitHang);
            }
            Order::Arm(armed) => {
                if self.armed().len() >= MAX_ARMED {
                    return Err(OrderError::TooMany(MAX_ARMED));
                }
                self.change(|all| all.push(armed));
            }
        }
        Ok("ok".to_owned())
    }

    fn list(&self) -> String {
        let armed: Vec<String> = self.armed().iter().map(ToString::to_string).collect();
        let hook = if self.panic_ends_process() { "on" } else { "off" };
        format!(
            "ok: hook {hook}; armed: {}",
            if armed.is_empty() { "none".to_owned() } else { armed.join(", ") }
        )
    }

    /// The fault point of a thread that is about to execute `transactions` transactions of `block`. It may not return;
    /// with `Err` the thread must end at once and call [`LastWords`] on its way.
    pub fn point(
        &self,
        block: u64,
        transactions: u64,
        last_words: &mut LastWords,
    ) -> Result<(), ThreadMustEnd> {
        if !self.shared.active.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.due(block, transactions) {
            None => Ok(()),
            Some(Kind::Slow(by)) => {
                std::thread::sleep(by);
                Ok(())
            }
            Some(Kind::LeaderExit) => {
                self.begin(ProcessFault::LeaderExit);
                Ok(())
            }
            Some(Kind::ExitHang) => {
                self.begin(ProcessFault::ExitHang);
                Ok(())
            }
            Some(Kind::Exit) => {
                last_words.0 = Some(Kind::Exit);
                Err(ThreadMustEnd)
            }
            Some(Kind::Panic) => self.panic(last_words),
            Some(Kind::Spin) => {
                announce(Kind::Spin);
                loop {
                    std::hint::spin_loop();
                }
            }
            Some(Kind::Deadlock) => {
                announce(Kind::Deadlock);
                wait_for_ever()
            }
        }
    }

    fn due(&self, block: u64, transactions: u64) -> Option<Kind> {
        let mut armed = self.armed();
        for (place, fault) in armed.iter_mut().enumerate() {
            if fault.block.is_some_and(|wanted| wanted != block) {
                continue;
            }
            if fault.after >= transactions {
                fault.after -= transactions;
                continue;
            }
            let kind = fault.kind;
            // Slowness lasts until it is disarmed; everything else happens once.
            if !matches!(kind, Kind::Slow(_)) {
                armed.remove(place);
                self.shared.active.store(!armed.is_empty(), Ordering::Relaxed);
            }
            return Some(kind);
        }
        None
    }

    #[expect(clippy::panic, reason = "it is what was ordered")]
    fn panic(&self, last_words: &mut LastWords) -> ! {
        if self.panic_ends_process() {
            announce(Kind::Panic);
        } else {
            last_words.0 = Some(Kind::Panic);
        }
        panic!("a test armed this panic");
    }

    fn begin(&self, fault: ProcessFault) {
        // A second order while the first is being carried out changes nothing.
        let _ = self.shared.process.try_send(fault);
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Armed>)) {
        let mut armed = self.armed();
        change(&mut armed);
        self.shared.active.store(!armed.is_empty(), Ordering::Relaxed);
    }

    fn armed(&self) -> MutexGuard<'_, Vec<Armed>> {
        // A list of plain data is whole whatever happened to the thread that held it.
        self.shared.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a fault struck, as the last thing that the thread does: measurements start from it. Make it before anything
/// else in the thread, so that it is dropped after everything else, unwinding included.
#[derive(Default)]
pub struct LastWords(Option<Kind>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if let Some(kind) = self.0 {
            announce(kind);
        }
    }
}

/// One line on stderr, in one write: two threads' lines must not mix, and a time is only good if nothing delays it.
pub fn announce(kind: Kind) {
    let line = format!("fault {kind} fired at_monotonic_ns={}\n", monotonic_ns());
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Waits for a lock whose holder never lets go: asleep in the kernel, no CPU, like any deadlock.
fn wait_for_ever() -> ! {
    static HELD: Mutex<()> = Mutex::new(());
    let (holding, held) = crossbeam_channel::bounded::<()>(1);
    let holder = move || {
        let _guard = HELD.lock();
        let _ = holding.try_send(());
        loop {
            std::thread::park();
        }
    };
    let holder = std::thread::Builder::new().name("lock-holder".to_owned()).spawn(holder);
    if holder.is_ok() {
        // The holder has nothing else to do; should it be late all the same, the loop below waits in its place.
        let _ = held.recv_timeout(Duration::from_secs(1));
    }
    loop {
        let _never = HELD.lock();
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(kind: Kind, after: u64, block: Option<u64>) -> (Faults, LastWords) {
        let (process, _) = crossbeam_channel::bounded(1);
        let faults = Faults::inert(process);
        faults.obey(Order::Arm(Armed { kind, after, block })).expect("armed");
        (faults, LastWords::default())
    }

    #[test]
    fn a_fault_lets_the_ordered_number_of_transactions_through() {
        let (faults, mut words) = armed(Kind::Exit, 2, None);
        assert_eq!(faults.point(1, 1, &mut words), Ok(()));
        assert_eq!(faults.point(1, 1, &mut words), Ok(()));
        assert_eq!(faults.point(1, 1, &mut words), Err(ThreadMustEnd));
        assert_eq!(faults.point(1, 1, &mut words), Ok(()), "it happens once");
    }

    #[test]
    fn a_fault_for_one_block_leaves_others_alone() {
        let (faults, mut words) = armed(Kind::Exit, 0, Some(7));
        assert_eq!(faults.point(6, 1, &mut words), Ok(()));
        assert_eq!(faults.point(7, 1, &mut words), Err(ThreadMustEnd));
    }

    #[test]
    fn what_is_disarmed_does_not_happen() {
        let (faults, mut words) = armed(Kind::Exit, 0, None);
        faults.obey(Order::Disarm).expect("disarmed");
        assert_eq!(faults.point(1, 1, &mut words), Ok(()));
        assert_eq!(faults.obey(Order::List).expect("listed"), "ok: hook on; armed: none");
    }
}
