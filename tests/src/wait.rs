//! Waits for events, not for fixed times.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything takes on the slowest CI machine: once it has passed, the event will not
/// happen.
pub const GENEROUS: Duration = Duration::from_secs(60);

/// Between two polls. Short compared with the event, long enough not to take the CPU from it.
const LOOK: Duration = Duration::from_millis(5);

/// Whether a signal has told this process to end.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// The longest that [`until`] waits, in seconds.
static PATIENCE: AtomicU64 = AtomicU64::new(GENEROUS.as_secs());

/// Replaces [`GENEROUS`] as the longest that [`until`] waits from now on.
pub fn wait_at_most(time: Duration) {
    PATIENCE.store(time.as_secs(), Ordering::Relaxed);
}

/// Waits until `ready` returns something; panics, naming `what`, after [`GENEROUS`].
#[track_caller]
pub fn until<T>(what: &str, ready: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(PATIENCE.load(Ordering::Relaxed)), what, ready)
}

/// The same with a different bound.
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

/// Polls for `time`, and asserts that `holds` is true throughout.
#[track_caller]
pub fn holds_for(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(holds(), "did not hold: {what}");
        assert_wanted(what);
        std::thread::sleep(LOOK);
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP do not end this process at once: its next wait panics
/// instead, so that what it has started and changed is cleaned up on the way out.
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

/// Whether such a signal has arrived.
pub fn given_up() -> bool {
    GIVEN_UP.load(Ordering::Relaxed)
}

/// While the thread unwinds, cleanup may continue to wait.
#[track_caller]
fn assert_wanted(what: &str) {
    assert!(!given_up() || std::thread::panicking(), "told to end while it waited for: {what}");
}
