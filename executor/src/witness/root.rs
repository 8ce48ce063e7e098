//! The root of the state after a block, computed from what the block has written.

use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieAccount};
use revm::primitives::{B256, U256};

use super::trie::{self, Change};
use super::{Witness, WitnessError, decoded, unproven};
use crate::state::{Journal, State};

impl Witness {
    /// Root of `state`, which is the state before the block with the changes of its journal.
    /// `progress` is called for each changed account.
    ///
    /// # Errors
    /// If a node needed for the changes is missing.
    pub(crate) fn root_after(&self, state: &State, progress: &dyn Fn()) -> Result<B256, WitnessError> {
        let Some(journal) = state.journal() else { return Ok(self.root) };
        after(&self.nodes, self.root, state, journal, &mut |_, _| {}, progress)
    }
}

/// The root after the writes in `journal`, with the current values from `state`.
pub(super) fn after(
    store: &dyn trie::Store,
    root: B256,
    state: &State,
    journal: &Journal,
    made: &mut dyn FnMut(B256, Vec<u8>),
    progress: &dyn Fn(),
) -> Result<B256, WitnessError> {
    let mut accounts: Vec<Change> = Vec::new();
    for (address, written) in journal.accounts() {
        progress();
        let key = trie::key(address);
        let unproven = |error| unproven(&format!("the change of account {address}"), &error);
        let Some(info) = state.account(address) else {
            accounts.push((key, None));
            continue;
        };
        let before = if written.wiped { None } else { trie::get(store, root, &key).map_err(unproven)? };
        let before = before.and_then(|rlp| decoded::<TrieAccount>(&rlp));
        let storage_root = before.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
        let value = |slot: &U256| {
            let value = state.slot(address, slot);
            (!value.is_zero()).then(|| alloy_rlp::encode(value))
        };
        let change = |slot: &U256| (trie::key(slot.to_be_bytes::<32>()), value(slot));
        let slots = if written.wiped {
            sorted(state.slots(address).map(change).collect())
        } else {
            sorted(written.slots.iter().map(change).collect())
        };
        let storage_root = trie::update(store, storage_root, &slots, made).map_err(unproven)?;
        let account = TrieAccount::new(info.nonce, info.balance, storage_root, info.code_hash);
        accounts.push((key, Some(alloy_rlp::encode(account))));
    }
    trie::update(store, root, &sorted(accounts), made)
        .map_err(|error| unproven("the state after the block", &error))
}

fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_unstable_by_key(|(key, _): &(Nibbles, _)| *key);
    changes
}
