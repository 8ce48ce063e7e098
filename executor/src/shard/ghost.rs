//! Carries out [`crate::faults::Kind::Ghost`]: results that nobody waits for, and that only their
//! tags distinguish from valid ones.

use crate::net::wire::{PartResult, Tag, up::Message};
use crate::vm::{self, Effect, ReadSet, TxOutcome};

/// One for each thing that can be over: an incarnation of the shard, one of the coordinator, an
/// attempt, a round.
pub(super) fn results(tag: &Tag, outcomes: &[u8]) -> Vec<Message> {
    let forged = forged(outcomes);
    let tags = [
        Tag { shard: tag.shard.wrapping_sub(1), ..*tag },
        Tag { coordinator: tag.coordinator.wrapping_sub(1), ..*tag },
        Tag { attempt: tag.attempt.wrapping_add(1), ..*tag },
        Tag { sequence: tag.sequence.wrapping_sub(1), ..*tag },
    ];
    tags.map(|tag| Message::Result(PartResult { tag: Some(tag), outcomes: forged.clone() })).into()
}

/// Outcomes that are valid on any state, and make any block wrong.
fn forged(outcomes: &[u8]) -> Vec<u8> {
    let mut forged: Vec<TxOutcome> = vm::decode(outcomes).unwrap_or_default();
    for outcome in &mut forged {
        outcome.reads = ReadSet::default();
        if let Effect::Executed { receipt, .. } = &mut outcome.effect {
            receipt.gas_used += 1;
        }
    }
    vm::encode(&forged).unwrap_or_default()
}
