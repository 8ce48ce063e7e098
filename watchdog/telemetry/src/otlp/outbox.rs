//! A bounded queue and the thread that sends its items. Only this thread waits for the collector.
//!
//! Items leave the queue once they are accepted, or refused for good: one item that no collector
//! would ever take must not hold up all that follow. A request that is too large is sent again with
//! half of its items, until the item is alone that is too large by itself.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::answer::Answer;
use crate::dropped::{Dropped, Signal};

/// The largest number of items in one request.
const AT_ONCE: usize = 256;
/// How long an item may wait for others before it is sent: as fresh as a person can use, and with
/// few requests.
const LINGER: Duration = Duration::from_secs(1);
/// The pause after a request that failed finally (after a few tries of the exporter); doubled at
/// each further failure.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: a collector that returns is detected within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause that a collector may ask for. The queue fills behind it.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// How often a pausing thread checks whether it should finish.
const LOOK: Duration = Duration::from_millis(50);

enum Item<T> {
    Send(T),
    /// Send everything that came before, then end; the caller waits for the answer.
    Finish,
}

/// The queue and its thread.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    sender: Sender<T>,
    thread: JoinHandle<()>,
}

/// The sending end of the queue.
pub(super) struct Sender<T> {
    queue: SyncSender<Item<T>>,
    dropped: Arc<Dropped>,
    signal: Signal,
}

// Derived, both would put a bound on the items.
impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), dropped: Arc::clone(&self.dropped), signal: self.signal }
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("signal", &self.signal).finish_non_exhaustive()
    }
}

impl<T> Sender<T> {
    /// Queues an item, or drops and counts it.
    pub(super) fn send(&self, item: T) {
        if self.queue.try_send(Item::Send(item)).is_err() {
            self.dropped.add(self.signal, 1);
        }
    }
}

impl<T: Send + 'static> Outbox<T> {
    /// Starts the thread `name`. Items for which `export` answers "later" are tried again, as long
    /// as there is room for them: twice `capacity` in all.
    pub(super) fn start(
        name: &str,
        capacity: usize,
        signal: Signal,
        dropped: &Arc<Dropped>,
        export: impl FnMut(&[T]) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, items) = sync_channel(capacity);
        let sender = Sender { queue, dropped: Arc::clone(dropped), signal };
        let dropped = Arc::clone(dropped);
        let waiting = Vec::new();
        let sending = Sending { items, waiting, capacity, at_once: AT_ONCE, signal, dropped, export };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || sending.run())?;
        Ok(Self { sender, thread })
    }

    /// The sending end of the queue.
    pub(super) fn sender(&self) -> Sender<T> {
        self.sender.clone()
    }

    /// Sends what waits and ends, within `within`; after that the thread is left alone.
    pub(super) fn finish(self, within: Duration) {
        let until = Instant::now() + within;
        let mut item = Item::Finish;
        while Instant::now() < until && !self.thread.is_finished() {
            match self.sender.queue.try_send(item) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => break,
                Err(TrySendError::Full(back)) => item = back,
            }
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
        while Instant::now() < until && !self.thread.is_finished() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

struct Sending<T, F> {
    items: Receiver<Item<T>>,
    waiting: Vec<T>,
    capacity: usize,
    /// The number of items in the next request.
    at_once: usize,
    signal: Signal,
    dropped: Arc<Dropped>,
    export: F,
}

/// Why items still wait: the collector wants them later, and perhaps says after how long.
struct Later(Option<Duration>);

impl<T, F: FnMut(&[T]) -> Answer> Sending<T, F> {
    fn run(mut self) {
        let mut pause = PAUSE;
        loop {
            let last = self.gather(Instant::now() + LINGER, AT_ONCE);
            let sent = self.send();
            if last {
                self.dropped.add(self.signal, self.waiting.len() as u64);
                return;
            }
            let Err(Later(asked)) = sent else {
                pause = PAUSE;
                continue;
            };
            let pausing = asked.unwrap_or_default().min(LONGEST_ASKED).max(pause);
            if self.gather(Instant::now() + pausing, usize::MAX) {
                let _ = self.send();
                self.dropped.add(self.signal, self.waiting.len() as u64);
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Receives items until `until`, or until there is `enough`; returns whether the queue has
    /// ended.
    fn gather(&mut self, until: Instant, enough: usize) -> bool {
        while self.waiting.len() < enough {
            let left = until.saturating_duration_since(Instant::now());
            match self.items.recv_timeout(left) {
                Ok(Item::Send(item)) => self.keep(item),
                Ok(Item::Finish) | Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
        false
    }

    fn keep(&mut self, item: T) {
        if self.waiting.len() >= self.capacity {
            // The oldest item is dropped: current events matter more.
            self.waiting.remove(0);
            self.dropped.add(self.signal, 1);
        }
        self.waiting.push(item);
    }

    /// Sends what waits, until nothing does or the collector wants the rest later.
    fn send(&mut self) -> Result<(), Later> {
        while !self.waiting.is_empty() {
            let some = self.waiting.len().min(self.at_once);
            let lost = match (self.export)(self.waiting.get(..some).unwrap_or_default()) {
                Answer::Accepted { rejected, .. } => {
                    self.at_once = (self.at_once * 2).min(AT_ONCE);
                    rejected.min(some as u64)
                }
                Answer::Later { after, .. } => return Err(Later(after)),
                Answer::TooLarge { .. } if some > 1 => {
                    self.at_once = some / 2;
                    continue;
                }
                Answer::TooLarge { .. } | Answer::Refused { .. } => some as u64,
            };
            self.dropped.add(self.signal, lost);
            self.waiting.drain(..some);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn later() -> Answer {
        Answer::Later { after: None, why: "no".to_owned() }
    }

    /// Sends the numbers from 0 to `count` through `answers`, which sees each request. Returns what
    /// was accepted, and how many were dropped.
    fn through(count: u32, answers: impl Fn(&[u32]) -> Answer + Send + 'static) -> (Vec<u32>, u64) {
        let taken: Arc<Mutex<Vec<u32>>> = Arc::default();
        let dropped = Arc::new(Dropped::default());
        let into = Arc::clone(&taken);
        let outbox = Outbox::start("test", 1_000, Signal::OtlpLogs, &dropped, move |some: &[u32]| {
            let answer = answers(some);
            if matches!(answer, Answer::Accepted { .. }) {
                into.lock().expect("whole").extend(some);
            }
            answer
        });
        let outbox = outbox.expect("a thread");
        let sender = outbox.sender();
        (0..count).for_each(|number| sender.send(number));
        outbox.finish(PATIENCE);
        let taken = taken.lock().expect("whole").clone();
        (taken, dropped.get(Signal::OtlpLogs))
    }

    #[test]
    fn what_is_refused_for_good_is_counted_and_holds_up_nothing() {
        let poison = |some: &[u32]| match some.contains(&5) {
            true => Answer::Refused { why: "HTTP status 400".to_owned() },
            false => Answer::accepted(0, ""),
        };
        let (taken, dropped) = through(600, poison);
        // The whole request is lost: which of its items was wrong is not known.
        assert_eq!(dropped + taken.len() as u64, 600);
        assert!((1..=AT_ONCE as u64).contains(&dropped), "{dropped}");
        assert_eq!(taken.last(), Some(&599));
    }

    #[test]
    fn a_request_that_is_too_large_loses_only_the_item_that_is_too_large_by_itself() {
        let limited = |some: &[u32]| match some.len() > 10 || some.contains(&300) {
            true => Answer::TooLarge { why: "HTTP status 413".to_owned() },
            false => Answer::accepted(0, ""),
        };
        let (taken, dropped) = through(600, limited);
        assert_eq!(taken, (0..600).filter(|number| *number != 300).collect::<Vec<_>>());
        assert_eq!(dropped, 1);
    }

    #[test]
    fn what_a_collector_rejects_of_a_request_is_counted() {
        let (taken, dropped) = through(1, |_| Answer::accepted(i64::MAX, "no"));
        assert_eq!((taken.len(), dropped), (1, 1), "never more than were sent");
    }

    #[test]
    fn what_is_wanted_later_is_kept_and_sent_in_order() {
        let asked = AtomicU32::new(0);
        let busy = move |_: &[u32]| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Later { after: Some(Duration::from_millis(1)), why: "HTTP status 429".to_owned() },
            _ => Answer::accepted(0, ""),
        };
        let (taken, dropped) = through(600, busy);
        assert_eq!((taken, dropped), ((0..600).collect(), 0));
    }

    #[test]
    fn what_was_put_in_is_sent_in_order_before_it_ends() {
        let taken: Arc<Mutex<Vec<u32>>> = Arc::default();
        let dropped = Arc::new(Dropped::default());
        let into = Arc::clone(&taken);
        let outbox = Outbox::start("test", 1_000, Signal::OtlpLogs, &dropped, move |some: &[u32]| {
            into.lock().expect("whole").extend(some);
            Answer::accepted(0, "")
        });
        let outbox = outbox.expect("a thread");
        let sender = outbox.sender();
        (0..600).for_each(|number| sender.send(number));
        outbox.finish(PATIENCE);
        assert_eq!(*taken.lock().expect("whole"), (0..600).collect::<Vec<_>>());
        assert_eq!(dropped.get(Signal::OtlpLogs), 0);
    }

    #[test]
    fn a_collector_that_takes_nothing_costs_no_more_than_the_queue_and_all_is_counted() {
        let dropped = Arc::new(Dropped::default());
        let refuse = |_: &[u32]| later();
        let outbox = Outbox::start("test", 10, Signal::OtlpTraces, &dropped, refuse).expect("a thread");
        let sender = outbox.sender();
        (0..1_000).for_each(|number| sender.send(number));
        outbox.finish(PATIENCE);
        assert_eq!(dropped.get(Signal::OtlpTraces), 1_000);
    }

    #[test]
    fn a_request_that_hangs_holds_up_neither_sender_nor_end() {
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let dropped = Arc::new(Dropped::default());
        let hang = move |_: &[u32]| match hold.recv_timeout(PATIENCE) {
            Ok(()) => Answer::accepted(0, ""),
            Err(_) => later(),
        };
        let outbox = Outbox::start("test", 10, Signal::OtlpLogs, &dropped, hang).expect("a thread");
        let sender = outbox.sender();
        let began = Instant::now();
        (0..1_000).for_each(|number| sender.send(number));
        outbox.finish(Duration::from_millis(100));
        assert!(began.elapsed() < PATIENCE, "it went on without the collector");
        drop(release);
    }
}
