//! What happens, for those who listen to `GET /api/v1/events`: the latest events in memory, each
//! with an id by which a listener that was interrupted goes on where it was.
//!
//! Nobody waits for a listener. One that falls behind what is held is cut off and counted; it can
//! come back, and is told how much it missed.

mod listeners;
mod told;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::telemetry::dropped::{Dropped, Signal};

pub use listeners::Listeners;
pub use told::{
    IncidentTold, Kind, Missed, NearMissTold, PauseTold, Reload, ResumeTold, ThreadTold, VerdictTold,
};

/// So many events are held. At the most that threads alone may cause, this is a quarter of a
/// minute, and a client comes back within seconds.
const MOST: usize = 256;
/// And so many bytes of them: an event has some hundred, and a sentence from outside may be long.
const MOST_BYTES: usize = 1 << 20;
/// A few dashboards and a person. Each holds a connection for minutes, and the same connections
/// serve probes and scrapes.
pub const STREAMS: usize = 8;

/// The latest events, and who listens.
#[derive(Debug)]
pub struct Feed {
    /// Tells the runs of the sidecar apart: its start in microseconds, hexadecimal.
    run: String,
    held: Mutex<Held>,
    newest: watch::Sender<u64>,
    seats: Arc<Semaphore>,
    dropped: Arc<Dropped>,
}

#[derive(Debug, Default)]
struct Held {
    /// Their numbers have no gaps.
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The number of the newest event, held or not; the first one is 1.
    last: u64,
}

/// One event.
#[derive(Debug)]
struct Event {
    kind: Kind,
    data: String,
}

/// One thing that a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The id after which it may go on.
    pub id: String,
    /// What it is; `None` only tells the id.
    pub kind: Option<Kind>,
    /// JSON on one line.
    pub data: String,
}

/// Somebody who listens, until this is dropped.
#[derive(Debug)]
pub struct Listener {
    feed: Arc<Feed>,
    newest: watch::Receiver<u64>,
    next: u64,
    first: Option<Heard>,
    _seat: OwnedSemaphorePermit,
}

/// What a listener finds at its place.
enum Found {
    Event(Arc<Event>),
    NothingYet,
    /// The place is no longer held.
    Gone,
}

impl Held {
    /// The number of the oldest event that is held, or that of the next one.
    fn oldest(&self) -> u64 {
        self.last + 1 - self.events.len() as u64
    }

    fn find(&self, number: u64) -> Found {
        let Some(place) = number.checked_sub(self.oldest()) else { return Found::Gone };
        let event = usize::try_from(place).ok().and_then(|place| self.events.get(place));
        event.map_or(Found::NothingYet, |event| Found::Event(Arc::clone(event)))
    }
}

impl Feed {
    /// An empty one; listeners that are cut off are counted in `dropped`.
    pub fn new(dropped: Arc<Dropped>) -> Self {
        let run = format!("{:x}", jiff::Timestamp::now().as_microsecond());
        let seats = Arc::new(Semaphore::new(STREAMS));
        Self { run, held: Mutex::default(), newest: watch::Sender::new(0), seats, dropped }
    }

    /// Tells all listeners, now and later. Waits for none of them.
    pub fn tell(&self, kind: Kind, what: &impl Serialize) {
        let data = match serde_json::to_string(what) {
            Ok(data) => data,
            Err(error) => {
                tracing::error!(%error, "an event cannot be written as JSON");
                return;
            }
        };
        let last = {
            let mut held = self.lock();
            held.last += 1;
            held.bytes += data.len();
            held.events.push_back(Arc::new(Event { kind, data }));
            while held.events.len() > MOST || (held.bytes > MOST_BYTES && held.events.len() > 1) {
                let gone = held.events.pop_front();
                held.bytes -= gone.map_or(0, |gone| gone.data.len());
            }
            held.last
        };
        self.newest.send_replace(last);
    }

    /// Begins to listen: after the event with the id `after`, or to what happens from now on.
    /// `None` if [`STREAMS`] others listen.
    pub fn listen(self: &Arc<Self>, after: Option<&str>) -> Option<Listener> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let newest = self.newest.subscribe();
        let held = self.lock();
        let oldest = held.oldest();
        let (next, missed) = match after.map(|id| self.number(id).filter(|number| *number <= held.last)) {
            None => (held.last + 1, None),
            Some(Some(number)) if number + 1 >= oldest => (number + 1, None),
            Some(Some(number)) => (oldest, Some(Missed::some(oldest - number - 1))),
            Some(None) => (oldest, Some(Missed::unknown())),
        };
        drop(held);
        let id = self.id(next - 1);
        let first = match missed {
            None => Heard { id, kind: None, data: String::new() },
            Some(missed) => {
                let data = serde_json::to_string(&missed).unwrap_or_default();
                Heard { id, kind: Some(Kind::Missed), data }
            }
        };
        Some(Listener { feed: Arc::clone(self), newest, next, first: Some(first), _seat: seat })
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// The number in an id of this run. It comes from a client.
    fn number(&self, id: &str) -> Option<u64> {
        let digits = id.strip_prefix(self.run.as_str())?.strip_prefix('-')?;
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// The next event, as soon as there is one; `None` if this listener is too slow, and cut off.
    pub async fn next(&mut self) -> Option<Heard> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            self.newest.borrow_and_update();
            let found = self.feed.lock().find(self.next);
            match found {
                Found::Event(event) => {
                    let id = self.feed.id(self.next);
                    self.next += 1;
                    return Some(Heard { id, kind: Some(event.kind), data: event.data.clone() });
                }
                Found::Gone => {
                    self.feed.dropped.add(Signal::Http, 1);
                    return None;
                }
                Found::NothingYet => {}
            }
            // The feed, which this holds, has the other end.
            self.newest.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
#[path = "feed/tests.rs"]
mod tests;
