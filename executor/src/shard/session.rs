//! Which coordinator the shard currently serves, and counts of what it had to drop.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::net::wire::{Tag, Up};

/// Counts of what the shard has discarded since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Results and errors whose coordinator had gone.
    pub results_dropped: AtomicU64,
    /// Messages of another attempt, another incarnation, or of work that is over.
    pub stale: AtomicU64,
    /// Messages that could not be understood.
    pub malformed: AtomicU64,
    /// Coordinators that were lost or replaced.
    pub coordinators_lost: AtomicU64,
}

/// One line of `name=count` pairs.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Self { results_dropped, stale, malformed, coordinators_lost } = self;
        let (dropped, stale, malformed) = (get(results_dropped), get(stale), get(malformed));
        let lost = get(coordinators_lost);
        write!(f, "results_dropped={dropped} stale={stale} malformed={malformed} coordinators_lost={lost}")
    }
}

impl Counters {
    /// All counters as `name=count`, on one line.
    pub fn line(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "results_dropped={} stale={} malformed={} coordinators_lost={}",
            count(&self.results_dropped),
            count(&self.stale),
            count(&self.malformed),
            count(&self.coordinators_lost)
        )
    }

    /// Adds one; returns the previous count.
    pub(super) fn count(counter: &AtomicU64) -> u64 {
        counter.fetch_add(1, Ordering::Relaxed)
    }
}

/// One coordinator's stream.
#[derive(Debug)]
pub(super) struct Session {
    /// The coordinator's incarnation.
    pub(super) coordinator: u64,
    /// The coordinator's address, if the connection knows it.
    peer: Option<SocketAddr>,
    /// This process's incarnation.
    shard: u64,
    /// The stream to the coordinator. `None` once the session is over, which also ends the stream.
    up: Mutex<Option<mpsc::Sender<Result<Up, Status>>>>,
    /// Work up to this sequence is no longer wanted.
    finished: AtomicU64,
    /// How long a request for one key takes, in nanoseconds; 0: none was made for a single key yet.
    single_ns: AtomicU64,
    over: watch::Sender<bool>,
}

impl Session {
    /// Whether work under `tag` is still wanted by this session's coordinator.
    pub(super) fn wants(&self, tag: &Tag) -> bool {
        !*self.over.borrow() && self.is_ours(tag) && tag.sequence > self.finished.load(Ordering::Relaxed)
    }

    /// Whether `tag` names the two processes at the ends of this session.
    pub(super) fn is_ours(&self, tag: &Tag) -> bool {
        tag.coordinator == self.coordinator && tag.shard == self.shard
    }

    /// Marks work up to `sequence` as no longer wanted.
    pub(super) fn finish(&self, sequence: u64) {
        self.finished.fetch_max(sequence, Ordering::Relaxed);
    }

    /// Records that a request for a single key was answered after `took`. The new value counts for
    /// an eighth, as in the smoothed round-trip time of RFC 6298, so an outlier changes little.
    pub(super) fn answered_single(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let before = self.single_ns.load(Ordering::Relaxed);
        let now = if before == 0 { took } else { before - before / 8 + took / 8 };
        self.single_ns.store(now, Ordering::Relaxed);
    }

    /// How long a request for a single key has taken recently.
    pub(super) fn single(&self) -> Option<Duration> {
        let single = self.single_ns.load(Ordering::Relaxed);
        (single > 0).then(|| Duration::from_nanos(single))
    }

    /// The queue to the coordinator; `None` if the session is over.
    pub(super) fn up(&self) -> Option<mpsc::Sender<Result<Up, Status>>> {
        self.lock().clone()
    }

    /// Ends the session. A coordinator that still reads gets the reason.
    pub(super) fn close(&self, reason: &str) {
        if let Some(up) = self.lock().take() {
            // A full queue: the coordinator does not read, so it would not read why either.
            let _ = up.try_send(Err(Status::unavailable(reason.to_owned())));
        }
        self.over.send_replace(true);
    }

    /// Resolves when the session is over.
    pub(super) async fn over(&self) {
        let mut over = self.over.subscribe();
        // An error means that the sender has gone, and this session with it.
        let _ = over.wait_for(|over| *over).await;
    }

    /// The answer to another coordinator.
    fn refusal(&self) -> Status {
        let from = self.peer.map_or_else(String::new, |peer| format!(" from {peer}"));
        Status::already_exists(format!(
            "it serves coordinator {}{from} and takes no second one before that has gone",
            self.coordinator
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Option<mpsc::Sender<Result<Up, Status>>>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The current session, if any. At most one: a second coordinator waits until the first has gone.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    pub(super) incarnation: u64,
    pub(super) counters: Arc<Counters>,
    current: Arc<Mutex<Option<Arc<Session>>>>,
    /// Why no session may begin any more, once that is so.
    refused: Arc<OnceLock<String>>,
}

impl Sessions {
    pub(super) fn new(incarnation: u64, counters: Arc<Counters>) -> Self {
        Self { incarnation, counters, current: Arc::default(), refused: Arc::default() }
    }

    /// Ends the current session and lets none begin any more: the shard cannot do its work.
    pub(super) fn refuse(&self, reason: &str) {
        // The first reason is the one that counts.
        let _ = self.refused.set(reason.to_owned());
        self.close_current(reason);
    }

    /// Why no session may begin; `None`: it may.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }

    /// Begins a session with the coordinator of that incarnation. If it already has one, that one's
    /// connection is broken and nobody has noticed yet: it ends.
    ///
    /// # Errors
    /// The answer to a second coordinator while one is served, which keep-alive checks: two would
    /// take the shard from each other for ever, or one of them would believe for a while that its
    /// blocks are executed.
    pub(super) fn begin(
        &self,
        coordinator: u64,
        peer: Option<SocketAddr>,
        up: mpsc::Sender<Result<Up, Status>>,
    ) -> Result<Arc<Session>, Status> {
        let session = Arc::new(Session {
            coordinator,
            peer,
            shard: self.incarnation,
            up: Mutex::new(Some(up)),
            finished: AtomicU64::new(0),
            single_ns: AtomicU64::new(0),
            over: watch::Sender::new(false),
        });
        let before = {
            let mut current = self.lock();
            if let Some(served) = current.as_ref().filter(|served| served.coordinator != coordinator) {
                return Err(served.refusal());
            }
            current.replace(Arc::clone(&session))
        };
        if let Some(before) = before {
            before.close("its coordinator has connected again");
        }
        Ok(session)
    }

    /// Removes a session that has ended, unless another has already taken its place.
    pub(super) fn ended(&self, session: &Arc<Session>, reason: &str) {
        session.close(reason);
        Counters::count(&self.counters.coordinators_lost);
        let mut current = self.lock();
        if current.as_ref().is_some_and(|now| Arc::ptr_eq(now, session)) {
            *current = None;
        }
    }

    /// Ends the current session.
    pub(super) fn close_current(&self, reason: &str) {
        if let Some(session) = self.lock().take() {
            session.close(reason);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(coordinator: u64, shard: u64, sequence: u64) -> Tag {
        Tag { coordinator, shard, sequence, ..Tag::default() }
    }

    #[test]
    fn a_second_coordinator_waits_until_the_first_has_gone() {
        let sessions = Sessions::new(1, Arc::default());
        let (up, mut first_stream) = mpsc::channel(1);
        let peer = Some(([127, 0, 0, 1], 5000).into());
        let first = sessions.begin(10, peer, up).expect("free");
        for second in [9, 11] {
            let (up, mut stream) = mpsc::channel(1);
            let refusal = sessions.begin(second, None, up).expect_err("taken");
            assert_eq!(refusal.code(), tonic::Code::AlreadyExists);
            assert!(refusal.message().contains("coordinator 10 from 127.0.0.1:5000"), "{refusal}");
            assert!(stream.try_recv().is_err());
        }
        assert!(
            first.wants(&tag(10, 1, 1)) && first_stream.try_recv().is_err(),
            "nothing has become of the first"
        );
        sessions.ended(&first, "its connection broke");
        let (up, _stream) = mpsc::channel(1);
        assert!(sessions.begin(9, None, up).is_ok());
    }

    #[test]
    fn a_coordinator_that_connects_again_takes_the_place_of_its_own_stream() {
        let sessions = Sessions::new(1, Arc::default());
        let (up, mut old_stream) = mpsc::channel(1);
        let old = sessions.begin(10, None, up).expect("free");
        let (up, _new_stream) = mpsc::channel(1);
        let new = sessions.begin(10, None, up).expect("the same");
        assert!(!old.wants(&tag(10, 1, 1)) && new.wants(&tag(10, 1, 1)));
        assert!(old_stream.try_recv().is_ok_and(|last| last.is_err()), "it is told why");
        assert!(old_stream.try_recv().is_err() && old.up().is_none(), "and its stream ends");
        sessions.ended(&old, "late news");
        assert!(new.up().is_some(), "the end of the old one is no concern of the new one");
        let (up, _stream) = mpsc::channel(1);
        assert!(sessions.begin(11, None, up).is_err());
    }

    #[test]
    fn only_work_of_these_two_processes_and_not_yet_over_is_wanted() {
        let sessions = Sessions::new(1, Arc::default());
        let (up, _stream) = mpsc::channel(1);
        let session = sessions.begin(10, None, up).expect("free");
        assert!(session.wants(&tag(10, 1, 3)));
        assert!(!session.wants(&tag(9, 1, 3)), "another coordinator's");
        assert!(!session.wants(&tag(10, 2, 3)), "meant for another incarnation of this shard");
        session.finish(3);
        session.finish(2);
        assert!(!session.wants(&tag(10, 1, 3)), "over");
        assert!(session.wants(&tag(10, 1, 4)));
    }
}
