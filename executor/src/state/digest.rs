//! One hash for a whole state, equal for equal states however they came about.
//!
//! This is not a state root: `pre` holds only the accounts a block touches, so the chain's own root
//! cannot be computed. The hash (keccak-256) is over the concatenation, for all accounts in
//! ascending order of address, of
//!
//! ```text
//! address (20 bytes) ‖ balance (32) ‖ nonce (8) ‖ code hash (32) ‖ number of slots (8)
//!     ‖ { slot (32) ‖ value (32) }…
//! ```
//!
//! integers big-endian, slots ascending, without zero slots and without accounts that have no
//! balance, nonce, code or slot. An account that exists and is empty (possible before Spurious
//! Dragon) therefore counts as absent.

use revm::primitives::alloy_primitives::Keccak256;
use revm::primitives::map::HashMap;
use revm::primitives::{Address, B256, U256};

use crate::vm::AccountInfo;

pub(super) fn of<'a>(
    accounts: impl Iterator<Item = (&'a Address, &'a AccountInfo, &'a HashMap<U256, U256>)>,
) -> B256 {
    let mut sorted: Vec<_> =
        accounts.filter(|(_, info, slots)| !info.is_empty() || !slots.is_empty()).collect();
    sorted.sort_unstable_by_key(|(address, ..)| **address);
    let mut hasher = Keccak256::new();
    for (address, info, storage) in sorted {
        hasher.update(address);
        hasher.update(info.balance.to_be_bytes::<32>());
        hasher.update(info.nonce.to_be_bytes());
        hasher.update(info.code_hash);
        let mut slots: Vec<_> = storage.iter().filter(|(_, value)| !value.is_zero()).collect();
        slots.sort_unstable();
        hasher.update((slots.len() as u64).to_be_bytes());
        for (slot, value) in slots {
            hasher.update(slot.to_be_bytes::<32>());
            hasher.update(value.to_be_bytes::<32>());
        }
    }
    hasher.finalize()
}
