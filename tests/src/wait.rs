//! Waiting for an event, not for a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything takes on the slowest machine that CI runs on: reaching it means that it
/// will not happen.
pub const GENEROUS: Duration = Duration::from_secs(60);

/// Between two looks. Short beside what is waited for, long enough not to take the CPU from it.
const LOOK: Duration = Duration::from_millis(5);

/// Whether somebody has told this process to end.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// What [`until`] waits at the most, seconds.
static PATIENCE: AtomicU64 = AtomicU64::new(GENEROUS.as_secs());

/// From now on [`until`] waits so long at the most, in place of [`GENEROUS`].
pub fn wait_at_most(time: Duration) {
    PATIENCE.store(time.as_secs(), Ordering::Relaxed);
}

/// Waits until `ready` gives something; panics, naming `what`, after [`GENEROUS`].
#[track_caller]
pub fn until<T>(what: &str, ready: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(PATIENCE.load(Ordering::Relaxed)), what, ready)
}

/// The same with another bound.
#[track_caller]
pub fn within<T>(bound: Duration, what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(done) = ready() {
            return done;
        }
        assert!(began.elapsed() < bound, "waited {bound:?} in vain for: {what}");
        assert_wanted(what);
        std::thread::sleep(LOOK);
    }
}

/// Looks again and again for `time` that `holds` is true all along.
#[track_caller]
pub fn holds_for(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(holds(), "did not hold: {what}");
        assert_wanted(what);
        std::thread::sleep(LOOK);
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP end no process at once: its next wait panics instead, so
/// that what it has started and changed is put right on the way out.
pub fn give_up_at_signals() {
    extern "C" fn give_up(_: libc::c_int) {
        GIVEN_UP.store(true, Ordering::Relaxed);
    }
    let handler = give_up as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler stores into a static atomic, which is async-signal-safe, and touches
        // nothing else.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Whether such a signal has come.
pub fn given_up() -> bool {
    GIVEN_UP.load(Ordering::Relaxed)
}

/// What cleans up on the way out waits on.
#[track_caller]
fn assert_wanted(what: &str) {
    assert!(!given_up() || std::thread::panicking(), "told to end while it waited for: {what}");
}
