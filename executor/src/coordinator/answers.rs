//! State requests that the network threads answer by themselves. Waking the coordinating thread for
//! each request, and the network again for its answer, is more than half of the context switches
//! that a request costs the coordinator; and a block makes up to a thousand, one after the other.
//!
//! Only clear cases are answered here: a request that can be read, from a part that runs on the
//! link it came over. The coordinating thread gets all others, and knows the reasons to refuse
//! them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::serve;
use crate::faults::Faults;
use crate::net::wire;
use crate::telemetry::counts::Counts;
use crate::vm::StateView;

/// What shards read in a round.
pub(super) type SharedView = Arc<dyn StateView + Send + Sync>;

/// The state that may be served now. Every link has a clone.
#[derive(Clone)]
pub(super) struct Answers {
    round: Arc<Mutex<Option<ServedRound>>>,
    /// Which links have spoken since this was last read: a shard that sends requests is not stuck.
    spoken: Arc<[AtomicBool]>,
    faults: Faults,
    counts: Arc<Counts>,
}

struct ServedRound {
    state: SharedView,
    /// Parts that are being executed, each with its link.
    running: Vec<(usize, wire::Tag)>,
}

impl Answers {
    /// For `links` links; at first no request may be answered.
    pub(super) fn new(links: usize, faults: Faults, counts: Arc<Counts>) -> Self {
        let spoken = (0..links).map(|_| AtomicBool::new(false)).collect();
        Self { round: Arc::default(), spoken, faults, counts }
    }

    /// Begins a round on `state`. Dropping the returned guard ends the round and releases the
    /// state.
    pub(super) fn begin(&self, state: SharedView) -> OpenRound {
        *lock(&self.round) = Some(ServedRound { state, running: Vec::new() });
        OpenRound(Arc::clone(&self.round))
    }

    /// From now on `tag` runs on `link`; the attempt that it replaces no longer does.
    pub(super) fn begin_attempt(&self, link: usize, tag: wire::Tag) {
        if let Some(round) = &mut *lock(&self.round) {
            round.running.retain(|(_, other)| other.part != tag.part);
            round.running.push((link, tag));
        }
    }

    /// Ends the attempt, whatever its outcome.
    pub(super) fn end_attempt(&self, tag: &wire::Tag) {
        if let Some(round) = &mut *lock(&self.round) {
            round.running.retain(|(_, other)| other != tag);
        }
    }

    /// Whether the link has spoken since this was last asked.
    pub(super) fn take_has_spoken(&self, link: usize) -> bool {
        self.spoken.get(link).is_some_and(|spoken| {
            // Read before it is written: this is read all the time, and other threads write it.
            spoken.load(Ordering::Relaxed) && spoken.swap(false, Ordering::Relaxed)
        })
    }

    /// The answer to `request`; `None` if the coordinating thread has to handle it.
    pub(super) fn answer(&self, link: usize, request: &wire::StateRequest) -> Option<wire::StateReply> {
        let state = {
            let round = lock(&self.round);
            let round = round.as_ref()?;
            let wanted = |(on, tag): &(usize, wire::Tag)| *on == link && Some(*tag) == request.tag;
            round.running.iter().any(wanted).then(|| Arc::clone(&round.state))?
        };
        // When a test mutes requests, `coord` does it.
        if self.faults.may_mute_state() {
            return None;
        }
        let reply = serve::answer(request, &*state).ok()?;
        if let Some(spoken) = self.spoken.get(link) {
            spoken.store(true, Ordering::Relaxed);
        }
        self.counts.state_requests.add(1);
        Some(reply)
    }
}

/// While this exists, network threads answer.
pub(super) struct OpenRound(Arc<Mutex<Option<ServedRound>>>);

impl Drop for OpenRound {
    fn drop(&mut self) {
        *lock(&self.0) = None;
    }
}

/// The content is only ever replaced as a whole, so a panic leaves nothing half done.
fn lock(mutex: &Mutex<Option<ServedRound>>) -> MutexGuard<'_, Option<ServedRound>> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Order, Role};
    use crate::net::Key;
    use crate::state::State;
    use crate::vm::Address;

    fn answers() -> (Answers, Faults) {
        let faults = Faults::inert(Role::Coordinator, crossbeam_channel::bounded(1).0);
        (Answers::new(2, faults.clone(), Arc::default()), faults)
    }

    fn request(tag: wire::Tag) -> wire::StateRequest {
        let keys = vec![wire::StateKey::from(&Key::Account(Address::ZERO))];
        wire::StateRequest { tag: Some(tag), id: 1, keys }
    }

    fn tag(attempt: u32) -> wire::Tag {
        wire::Tag { block: 7, attempt, ..wire::Tag::default() }
    }

    #[test]
    fn only_the_running_attempt_is_answered_and_only_on_its_link() {
        let (answers, _) = answers();
        assert!(answers.answer(0, &request(tag(0))).is_none(), "no round");
        let open = answers.begin(Arc::new(State::default()));
        assert!(answers.answer(0, &request(tag(0))).is_none(), "no part");
        answers.begin_attempt(0, tag(0));
        assert!(answers.answer(1, &request(tag(0))).is_none(), "another link's");
        let reply = answers.answer(0, &request(tag(0))).expect("an answer");
        assert_eq!((reply.tag, reply.id, reply.values.len()), (Some(tag(0)), 1, 1));
        answers.begin_attempt(1, tag(1));
        assert!(answers.answer(0, &request(tag(0))).is_none(), "replaced by another attempt");
        answers.end_attempt(&tag(1));
        assert!(answers.answer(1, &request(tag(1))).is_none(), "over");
        answers.begin_attempt(1, tag(1));
        drop(open);
        assert!(answers.answer(1, &request(tag(1))).is_none(), "the round has ended");
    }

    #[test]
    fn what_is_wrong_or_to_be_muted_is_left_to_the_coordinating_thread() {
        let (answers, faults) = answers();
        let _open = answers.begin(Arc::new(State::default()));
        answers.begin_attempt(0, tag(0));
        let wrong = wire::StateRequest { keys: vec![wire::StateKey { key: None }], ..request(tag(0)) };
        assert!(answers.answer(0, &wrong).is_none());
        assert!(!answers.take_has_spoken(0), "it has not said anything of use");
        assert!(answers.answer(0, &request(tag(0))).is_some());
        assert!(answers.take_has_spoken(0) && !answers.take_has_spoken(0), "told once");
        faults.obey_all(&["arm mute-state".parse::<Order>().expect("an order")]).expect("armed");
        assert!(answers.answer(0, &request(tag(0))).is_none());
    }
}
