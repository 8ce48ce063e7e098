//! Waiting for an event, not for a time.

use std::time::{Duration, Instant};

/// Longer than anything takes on the slowest machine that CI runs on: reaching it means that it will not happen.
pub const GENEROUS: Duration = Duration::from_secs(60);

/// Between two looks. Short beside what is waited for, long enough not to take the CPU from it.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `ready` gives something; panics, naming `what`, after [`GENEROUS`].
#[track_caller]
pub fn until<T>(what: &str, ready: impl FnMut() -> Option<T>) -> T {
    within(GENEROUS, what, ready)
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
        std::thread::sleep(LOOK);
    }
}

/// Looks again and again for `time` that `holds` is true all along.
#[track_caller]
pub fn holds_for(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(holds(), "did not hold: {what}");
        std::thread::sleep(LOOK);
    }
}
