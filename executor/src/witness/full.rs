//! The trie of a whole state, from which witnesses for blocks of a generated chain are made.

use std::cell::RefCell;

use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use revm::primitives::map::HashSet;
use revm::primitives::{B256, Bytes};

use super::root::after;
use super::trie::{self, Nodes, Store};
use super::{WitnessError, decoded, unproven};
use crate::block::PreState;
use crate::state::{Journal, State};

/// Nodes that the root no longer reaches are swept once the trie has over twice the nodes left by
/// the last sweep plus this many.
const SWEPT_AT: usize = 100_000;

/// All nodes of a state's trie, and some of earlier states.
#[derive(Debug)]
pub(crate) struct Full {
    nodes: Nodes,
    root: B256,
    /// How many nodes were left after the last sweep.
    left: usize,
}

impl Full {
    /// The trie of all accounts of `state`.
    pub(crate) fn of(state: &State) -> Result<Self, WitnessError> {
        let mut full = Self { nodes: Nodes::default(), root: EMPTY_ROOT_HASH, left: 0 };
        full.advance(&PreState::new(), state, &Journal::of_all(state.addresses()))?;
        full.left = full.nodes.len();
        Ok(full)
    }

    /// The root of the current state.
    pub(crate) const fn root(&self) -> B256 {
        self.root
    }

    /// Advances to the state after a block: `state` holds the values of what `journal` lists as
    /// written. Returns the nodes that a witness of the block needs, including those for reading
    /// the accounts and slots of `read` (a slot's value does not matter).
    pub(crate) fn advance(
        &mut self,
        read: &PreState,
        state: &State,
        journal: &Journal,
    ) -> Result<Vec<Bytes>, WitnessError> {
        let watched = Watched { nodes: &self.nodes, seen: RefCell::default() };
        for (address, account) in read {
            let what = |error| unproven(&format!("account {address}"), &error);
            let rlp = trie::get(&watched, self.root, &trie::key(address)).map_err(what)?;
            let Some(found) = rlp.and_then(|rlp| decoded::<TrieAccount>(&rlp)) else { continue };
            for slot in account.storage.keys() {
                let key = trie::key(slot.to_be_bytes::<32>());
                trie::get(&watched, found.storage_root, &key).map_err(what)?;
            }
        }
        let mut made = Vec::new();
        let keep = &mut |hash, rlp: Vec<u8>| made.push((hash, Bytes::from(rlp)));
        self.root = after(&watched, self.root, state, journal, keep, &|| {})?;
        let seen = watched.seen.into_inner();
        let witness = seen.iter().filter_map(|hash| self.nodes.get(hash).cloned()).collect();
        self.nodes.extend(made);
        if self.nodes.len() > 2 * self.left + SWEPT_AT {
            self.sweep();
        }
        Ok(witness)
    }

    fn sweep(&mut self) {
        let mut kept = Nodes::default();
        let mut next = vec![self.root];
        while let Some(hash) = next.pop() {
            if kept.contains_key(&hash) {
                continue;
            }
            let Some(rlp) = self.nodes.remove(&hash) else { continue };
            let (children, value) = trie::below(&rlp);
            next.extend(children);
            // A slot's value does not decode as an account.
            next.extend(value.and_then(|value| decoded::<TrieAccount>(&value)).map(|of| of.storage_root));
            kept.insert(hash, rlp);
        }
        self.left = kept.len();
        self.nodes = kept;
    }
}

/// Records which nodes were requested.
struct Watched<'a> {
    nodes: &'a Nodes,
    seen: RefCell<HashSet<B256>>,
}

impl Store for Watched<'_> {
    fn node(&self, hash: &B256) -> Option<Bytes> {
        self.seen.borrow_mut().insert(*hash);
        self.nodes.get(hash).cloned()
    }
}
