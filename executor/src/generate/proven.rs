//! State roots and witnesses of a generated chain. Its whole state is known, so both can be
//! computed.

use std::sync::Arc;

use alloy_consensus::Header as ConsensusHeader;
use revm::primitives::{Address, B256, Bytes, U256};

use super::error::GenerateError;
use crate::block::{Block, Parent, PreState};
use crate::state::{Answers, Found, Journal, NoAnswer, Source, State};
use crate::validate::BlockResult;
use crate::witness::{Full, Witness, execute};

/// The state after the last block with its trie, and that block's header.
#[derive(Debug)]
pub(super) struct Proven {
    state: Arc<State>,
    trie: Full,
    parent: Bytes,
}

impl Proven {
    /// The start of a chain, from all its accounts and the header of the block before the first,
    /// without its state root.
    pub(super) fn genesis(pre: &PreState, header: ConsensusHeader) -> Result<(Self, Parent), GenerateError> {
        let state = State::from_pre(pre);
        let trie = Full::of(&state)?;
        let header = ConsensusHeader { state_root: trie.root(), ..header };
        let parent = Parent::of_header(&header, header.hash_slow());
        Ok((Self { state: Arc::new(state), trie, parent: alloy_rlp::encode(header).into() }, parent))
    }

    /// Executes `draft` on the current state. Returns its result, the state root after it, and a
    /// witness.
    pub(super) fn execute(&mut self, draft: &Block) -> Result<(BlockResult, B256, Witness), GenerateError> {
        let known = Known(Arc::clone(&self.state));
        let source = Arc::new(Source::new(Arc::new(known), draft.chain.fork));
        let (result, found_out) = execute(draft, &source, &|| {})?;
        let mut read = source.reads().map_err(GenerateError::Unknown)?.asked();
        // All of `pre` has to be proven, whether read or not.
        for (address, account) in draft.pre.iter().flatten() {
            let known = read.entry(*address).or_insert_with(|| account.clone());
            known.storage.extend(&account.storage);
        }
        let nothing = Journal::default();
        let journal = found_out.journal().unwrap_or(&nothing);
        let nodes = self.trie.advance(&read, &found_out, journal)?;
        let codes = read.into_values().map(|account| account.code).filter(|code| !code.is_empty());
        let headers = vec![self.parent.clone()];
        let witness = Witness::new(nodes, codes, headers, draft.header.parent_hash, draft.number())?;
        Arc::make_mut(&mut self.state).take_over(&found_out);
        Ok((result, self.trie.root(), witness))
    }

    /// Moves on to the block after `block`, which was executed last and has this header.
    pub(super) fn close(&mut self, block: &Block, header: &ConsensusHeader) {
        Arc::make_mut(&mut self.state).close(block);
        self.parent = alloy_rlp::encode(header).into();
    }
}

/// A state that knows everything there is.
#[derive(Debug)]
struct Known(Arc<State>);

impl Answers for Known {
    fn account(&self, address: Address) -> Result<Option<Found>, NoAnswer> {
        let Some(info) = self.0.account(&address) else { return Ok(None) };
        let code = self.0.code_of(&info.code_hash).unwrap_or_default();
        Ok(Some(Found { balance: info.balance, nonce: info.nonce, code_hash: info.code_hash, code }))
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, NoAnswer> {
        Ok(self.0.slot(&address, &slot))
    }

    fn block_hash(&self, number: u64) -> Result<B256, NoAnswer> {
        self.0.hash_of(number).ok_or_else(|| format!("the hash of block {number} is not known").into())
    }
}
