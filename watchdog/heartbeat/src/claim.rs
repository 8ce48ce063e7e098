//! The claim word, `generation << 8 | state`: it decides who may write a slot.
//!
//! Claims are taken once in a thread's life, so they may use read-modify-write operations; beats
//! may not.

use crate::layout::{CLAIM_DROPPED, CLAIM_FILLING, CLAIM_FREE, CLAIM_LEFT, CLAIM_LIVE};
use crate::sync::{AtomicU64, Ordering};

/// The state in a slot's claim word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SlotState {
    /// Never used, or being filled.
    #[default]
    Free,
    /// Under watch.
    Live,
    /// Given back in order: no longer watched.
    Left,
    /// Its owner ended without giving it back: gone.
    Dropped,
    /// A state code that version 1 does not know.
    Unknown(u64),
}

impl SlotState {
    /// Splits a claim word into state and generation.
    pub fn decode(claim: u64) -> (SlotState, u64) {
        let state = match claim & 0xff {
            CLAIM_FREE | CLAIM_FILLING => SlotState::Free,
            CLAIM_LIVE => SlotState::Live,
            CLAIM_LEFT => SlotState::Left,
            CLAIM_DROPPED => SlotState::Dropped,
            other => SlotState::Unknown(other),
        };
        (state, claim >> 8)
    }
}

/// A claim that is held, identified by its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    generation: u64,
}

impl Claim {
    /// Claims a word that is in state `from`; `None` if it is in another state, or another thread
    /// was faster. The word's state is then `FILLING`.
    pub fn take(word: &AtomicU64, from: u64) -> Option<Claim> {
        let found = word.load(Ordering::Relaxed);
        if found & 0xff != from {
            return None;
        }
        let claim = Claim { generation: (found >> 8).wrapping_add(1) & (u64::MAX >> 8) };
        // Acquire: the new owner continues from the previous owner's values and must see them.
        word.compare_exchange(found, claim.in_state(CLAIM_FILLING), Ordering::SeqCst, Ordering::Relaxed)
            .ok()?;
        Some(claim)
    }

    /// Publishes the claim in a state. Release: a reader that sees it also sees what was filled in
    /// before.
    pub fn publish(self, word: &AtomicU64, state: u64) {
        word.store(self.in_state(state), Ordering::Release);
    }

    /// Whether the word still shows this claim as live.
    pub fn is_live(self, word: &AtomicU64) -> bool {
        word.load(Ordering::SeqCst) == self.in_state(CLAIM_LIVE)
    }

    fn in_state(self, state: u64) -> u64 {
        self.generation << 8 | state
    }
}
