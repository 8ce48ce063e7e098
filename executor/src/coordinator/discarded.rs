//! Messages that nobody waits for: all are counted, and the first of each kind is reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::net::wire;

/// Why a message is useless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// It carries no tag.
    Untagged,
    /// It was meant for another coordinator, or for an earlier life of this one.
    Coordinator,
    /// It is from an earlier life of the shard, or from one that never existed.
    Incarnation,
    /// It is about another block, or another run of this one.
    Block,
    /// It is about an attempt that is over, or that was given to another shard.
    Attempt,
}

impl Stale {
    /// Why a message from the shard with that incarnation is stale, given that no part waits for
    /// it.
    pub(super) const fn of(
        tag: Option<&wire::Tag>,
        coordinator: u64,
        shard: Option<u64>,
        sequence: u64,
    ) -> Self {
        let Some(tag) = tag else { return Self::Untagged };
        if tag.coordinator != coordinator {
            return Self::Coordinator;
        }
        match shard {
            Some(shard) if tag.shard == shard => {}
            _ => return Self::Incarnation,
        }
        if tag.sequence == sequence { Self::Attempt } else { Self::Block }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Untagged => "without a tag",
            Self::Coordinator => "for another coordinator",
            Self::Incarnation => "of another incarnation",
            Self::Block => "of another block",
            Self::Attempt => "of another attempt",
        }
    }
}

/// The tag of a message: its block, part and attempt.
pub(super) const fn tag(message: &wire::up::Message) -> Option<&wire::Tag> {
    use wire::up::Message;
    match message {
        Message::Hello(_) => None,
        Message::State(request) => request.tag.as_ref(),
        Message::Result(result) => result.tag.as_ref(),
        Message::Error(error) => error.tag.as_ref(),
    }
}

const fn what(message: &wire::up::Message) -> &'static str {
    use wire::up::Message;
    match message {
        Message::Hello(_) => "hello",
        Message::State(_) => "state request",
        Message::Result(_) => "result",
        Message::Error(_) => "error",
    }
}

/// Everything discarded so far.
#[derive(Debug, Default)]
pub(super) struct Discarded {
    total: Arc<AtomicU64>,
    /// The kinds already reported: at most one entry for each kind of message and reason.
    told: Vec<(&'static str, Stale)>,
}

impl Discarded {
    /// How many messages were discarded.
    pub(super) fn so_far(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// The same count, for other threads to read.
    pub(super) fn total(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.total)
    }

    /// Counts one more; returns a description of it if it is the first of its kind.
    pub(super) fn count(&mut self, message: &wire::up::Message, stale: Stale) -> Option<String> {
        self.total.fetch_add(1, Ordering::Relaxed);
        let kind = (what(message), stale);
        if self.told.contains(&kind) {
            return None;
        }
        self.told.push(kind);
        Some(format!("{} {}", kind.0, stale.words()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_difference_is_told() {
        let own = wire::Tag { coordinator: 1, shard: 2, sequence: 3, ..wire::Tag::default() };
        let of = |tag: wire::Tag| Stale::of(Some(&tag), 1, Some(2), 3);
        assert_eq!(of(wire::Tag { coordinator: 9, shard: 9, ..own }), Stale::Coordinator);
        assert_eq!(of(wire::Tag { shard: 9, sequence: 9, ..own }), Stale::Incarnation);
        assert_eq!(of(wire::Tag { sequence: 2, ..own }), Stale::Block);
        assert_eq!(of(wire::Tag { attempt: 5, ..own }), Stale::Attempt);
        assert_eq!(Stale::of(None, 1, Some(2), 3), Stale::Untagged);
        assert_eq!(Stale::of(Some(&own), 1, None, 3), Stale::Incarnation);
    }

    #[test]
    fn every_one_is_counted_and_each_kind_told_once() {
        let mut discarded = Discarded::default();
        let result = wire::up::Message::Result(wire::PartResult::default());
        let error = wire::up::Message::Error(wire::PartError::default());
        assert_eq!(discarded.count(&result, Stale::Block).as_deref(), Some("result of another block"));
        assert_eq!(discarded.count(&result, Stale::Block), None);
        assert!(discarded.count(&result, Stale::Attempt).is_some());
        assert!(discarded.count(&error, Stale::Block).is_some());
        assert_eq!((discarded.so_far(), discarded.total().load(Ordering::Relaxed)), (4, 4));
    }
}
