//! A part of a round: its state, the shard that suits it best, and what it may return.

use std::time::Instant;

use crate::coordinator::shards::Shards;
use crate::coordinator::step::Failure;
use crate::net::wire;
use crate::telemetry::spans::Open;
use crate::vm::{self, TxOutcome};

pub(super) struct Part {
    /// Number of the part in the block's partition.
    pub(super) number: usize,
    pub(super) places: Vec<usize>,
    pub(super) work: Vec<u8>,
    /// How often the part was dispatched.
    pub(super) dispatched: u32,
    /// How many shards were lost while they executed the part.
    pub(super) shards_lost: u32,
    /// How the last attempt failed, if it did.
    pub(super) last_failure: Option<Failure>,
    pub(super) state: PartState,
}

pub(super) enum PartState {
    /// To be dispatched, but not before this time.
    Waiting(Instant),
    Running {
        link: usize,
        tag: wire::Tag,
        until: Instant,
        span: Option<Open>,
        /// The shard's own name for itself.
        shard: String,
    },
    Done,
}

impl Part {
    /// A part that may be dispatched at once.
    pub(super) fn new(number: usize, places: Vec<usize>, work: Vec<u8>) -> Self {
        let state = PartState::Waiting(Instant::now());
        Self { number, places, work, dispatched: 0, shards_lost: 0, last_failure: None, state }
    }

    /// The deadline of the current attempt, if one is under way.
    pub(super) const fn until(&self) -> Option<Instant> {
        if let PartState::Running { until, .. } = self.state { Some(until) } else { None }
    }

    /// Whether an attempt is under way on the shard of this link.
    pub(super) fn runs_on(&self, link: usize) -> bool {
        matches!(self.state, PartState::Running { link: on, .. } if on == link)
    }

    /// Whether the attempt of this tag is under way on the shard of this link.
    pub(super) fn runs_as(&self, link: usize, tag: Option<&wire::Tag>) -> bool {
        matches!(&self.state, PartState::Running { link: on, tag: own, .. } if *on == link && Some(own) == tag)
    }

    /// Whether the part is to be dispatched, and may be by now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, PartState::Waiting(from) if from <= now)
    }

    /// When the part next needs attention after `now`: the end of its pause or of its attempt.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        match self.state {
            PartState::Waiting(from) => (from > now).then_some(from),
            PartState::Running { until, .. } => Some(until),
            PartState::Done => None,
        }
    }
}

/// The best shard for a part: a trusted one before a suspect, then the least busy, then the one
/// that the part was cut for.
pub(super) fn pick(part: &Part, parts: &[Part], shards: &Shards) -> Option<usize> {
    let busy = |link: usize| parts.iter().filter(|part| part.runs_on(link)).count();
    let connected =
        shards.connected().map(|(link, shard)| (shard.is_suspect(), busy(link), link != part.number, link));
    connected.min().map(|(.., link)| link)
}

/// Stores the outcomes of a part if they are valid and complete.
pub(super) fn accept(
    encoded: &[u8],
    places: &[usize],
    outcomes: &mut [Option<TxOutcome>],
) -> Result<(), String> {
    let part: Vec<TxOutcome> = vm::decode(encoded).map_err(|error| error.to_string())?;
    // Both are in ascending order, so one walk checks that each outcome belongs to this part and
    // comes once.
    let mut expected = places.iter();
    for outcome in &part {
        let index = outcome.index as usize;
        if !expected.any(|place| *place == index) {
            return Err(format!("transaction {index} is not of this part, or comes twice"));
        }
    }
    for outcome in part {
        if let Some(place) = outcomes.get_mut(outcome.index as usize) {
            *place = Some(outcome);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::{Effect, ReadSet};

    fn encoded(indices: &[u32]) -> Vec<u8> {
        let effect = || Effect::Invalid { reason: "nonce".to_owned() };
        let outcomes: Vec<TxOutcome> = indices
            .iter()
            .map(|index| TxOutcome { index: *index, reads: ReadSet::default(), effect: effect() })
            .collect();
        vm::encode(&outcomes).expect("small")
    }

    #[test]
    fn outcomes_of_the_part_are_accepted_with_gaps() {
        let mut outcomes = vec![None; 6];
        accept(&encoded(&[1, 5]), &[1, 3, 5], &mut outcomes).expect("accepted");
        let places: Vec<bool> = outcomes.iter().map(Option::is_some).collect();
        assert_eq!(places, [false, true, false, false, false, true]);
    }

    #[test]
    fn outcomes_of_other_parts_or_twice_are_refused_whole() {
        for wrong in [&[1, 2][..], &[3, 1], &[1, 1], &[9]] {
            let mut outcomes = vec![None; 6];
            accept(&encoded(wrong), &[1, 3, 5], &mut outcomes).expect_err("refused");
            assert!(outcomes.iter().all(Option::is_none));
        }
        accept(b"\xff\xff\xff", &[1], &mut [None]).expect_err("not an encoding");
    }
}
