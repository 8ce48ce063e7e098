//! Shows the service manager that a loop makes progress: the watch loop of a sidecar, or that of
//! the embedded supervisor.
//!
//! The loop only counts its rounds in an atomic word. It sends no datagram itself: sending
//! allocates and may wait for memory. A separate thread polls that word and reports a sign of life
//! only when the count has moved, so whatever blocks the loop also ends the beats, even if this
//! thread and all others still run. A loop that sleeps for long is woken first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shard_telemetry::service_manager::{News, ServiceManager};

/// Polls per interval that the manager allows. A loop that sleeps is woken at one poll and reported
/// at the next. With four polls a beat comes at least every half interval, as
/// sd_watchdog_enabled(3) asks.
const LOOKS: u32 = 4;

/// Lower bound of the pause between two polls, whatever the manager asks for: shorter pauses would
/// make polling the sidecar's main work.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// How often to poll for the first round, which means ready. A unit that is ordered after this one
/// waits no longer than that.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// The pause between two polls where the manager asks for a sign of life within `patience`.
pub fn pause(patience: Duration) -> Duration {
    (patience / LOOKS).max(SHORTEST_PAUSE)
}

/// Notifies `manager` at the first round that this process is ready, and from then on that it is
/// alive, as long as `rounds` moves. `call` wakes the loop if it sleeps. Does nothing without a
/// manager.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(
    manager: Arc<ServiceManager>,
    rounds: Arc<AtomicU64>,
    call: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    if !manager.is_there() {
        return Ok(());
    }
    let look = move || {
        let pause = manager.patience().map(pause);
        let mut beats = Beats::default();
        loop {
            match beats.next(rounds.load(Ordering::Relaxed)) {
                Next::Call => call(),
                // A notification that was not delivered is sent again at the next poll.
                Next::Tell(round, news) if manager.tell(news) => beats.told = round,
                Next::Tell(..) => {}
            }
            match (beats.told, pause) {
                (0, _) => std::thread::sleep(FIRST_PAUSE),
                (_, Some(pause)) => std::thread::sleep(pause),
                // It is ready, and the manager asks for no signs of life.
                (_, None) => return,
            }
        }
    };
    std::thread::Builder::new().name("beats".to_owned()).spawn(look).map(drop)
}

#[derive(Debug, Default)]
struct Beats {
    /// The last round that was reported; zero: none.
    told: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// No new round since the last poll: the loop may only be asleep, so wake it.
    Call,
    /// A new round: report it.
    Tell(u64, &'static [News<'static>]),
}

impl Beats {
    const fn next(&self, round: u64) -> Next {
        match self.told {
            told if told == round => Next::Call,
            0 => Next::Tell(round, &[News::Ready, News::Alive]),
            _ => Next::Tell(round, &[News::Alive]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::ffi::OsStr;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_beat_comes_at_least_every_half_of_what_is_allowed() {
        let allowed = Duration::from_secs(10);
        assert!(2 * pause(allowed) <= allowed / 2);
        assert_eq!(pause(Duration::from_micros(1)), SHORTEST_PAUSE);
    }

    #[test]
    fn a_loop_that_stands_still_is_called_and_not_told_of() {
        let mut beats = Beats::default();
        assert_eq!(beats.next(0), Next::Call);
        assert_eq!(beats.next(3), Next::Tell(3, &[News::Ready, News::Alive]));
        // The notification was not delivered.
        assert_eq!(beats.next(4), Next::Tell(4, &[News::Ready, News::Alive]));
        beats.told = 4;
        assert_eq!(beats.next(4), Next::Call);
        assert_eq!(beats.next(5), Next::Tell(5, &[News::Alive]));
    }

    #[test]
    fn it_is_ready_with_the_first_round_of_a_loop_that_had_to_be_called() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let there = UnixDatagram::bind(&path).unwrap();
        there.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let manager = Arc::new(ServiceManager::at(OsStr::new(&path)).unwrap());
        let rounds = Arc::new(AtomicU64::new(0));
        let called = Arc::clone(&rounds);
        let call = move || {
            called.fetch_add(1, Ordering::Relaxed);
        };
        start(manager, rounds, call).unwrap();
        let mut bytes = [0; 100];
        let length = there.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1\nWATCHDOG=1\n");
    }
}
