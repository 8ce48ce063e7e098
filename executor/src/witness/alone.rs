//! A block that has a witness but no `pre`: it is executed once to find out what it reads.

use std::sync::Arc;

use revm::primitives::{Address, B256, U256};

use super::{Witness, WitnessError};
use crate::block::{Block, BlockError};
use crate::state::{Answers, Found, NoAnswer, Source, State};
use crate::validate::{self, ValidateError};

/// Answers questions from a witness.
#[derive(Debug)]
pub(crate) struct Proofs(pub(crate) Arc<Witness>);

impl Answers for Proofs {
    fn account(&self, address: Address) -> Result<Option<Found>, NoAnswer> {
        let Some(info) = self.0.account(address)? else { return Ok(None) };
        // A witness lacks the code of an account whose code does not run. If it runs after all,
        // that is when its absence is an error.
        let code = self.0.code(&info.code_hash).cloned().unwrap_or_default();
        Ok(Some(Found { balance: info.balance, nonce: info.nonce, code_hash: info.code_hash, code }))
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, NoAnswer> {
        Ok(self.0.slot(address, slot)?)
    }

    fn block_hash(&self, number: u64) -> Result<B256, NoAnswer> {
        let missing = || WitnessError {
            reason: format!(
                "the block asks for the hash of block {number}, whose header is not in `witness`"
            ),
            hint: "Fetch the witness again, or give the hash in `hashes`.",
        };
        Ok(self.0.hashes().get(&number).copied().ok_or_else(missing)?)
    }
}

impl Block {
    /// Executes the block once, in order, on this thread, to find out from its witness what it
    /// reads, and stores that as its `pre`. Without a witness nothing changes.
    ///
    /// # Errors
    /// If the witness does not prove something that the block reads, or lacks code that it runs.
    pub fn find_out_pre(&mut self) -> Result<(), BlockError> {
        let Some(witness) = self.witness.clone() else { return Ok(()) };
        let wrong = |reason: &str, hint: &str| BlockError::Wrong {
            path: self.path.clone(),
            reason: format!("block {}: {reason}", self.number()),
            hint: hint.to_owned(),
        };
        let source = Arc::new(Source::new(Arc::new(Proofs(witness)), self.chain.fork));
        let run = execute(self, &source, &|| {});
        match source.reads() {
            Ok(reads) => {
                // Missing code is not an unanswered question to the source.
                if let Err(error) = run {
                    return Err(wrong(&error.to_string(), "The witness is not complete: fetch it again."));
                }
                self.pre = Some(reads.pre());
                Ok(())
            }
            Err(error) => match error.downcast_ref::<WitnessError>() {
                Some(error) => Err(wrong(&error.reason, error.hint)),
                None => Err(wrong(&error.to_string(), "The witness is not complete: fetch it again.")),
            },
        }
    }
}

/// Executes `block` in order on a state that is looked up in `source`.
pub(crate) fn execute(
    block: &Block,
    source: &Arc<Source>,
    progress: &dyn Fn(),
) -> Result<(validate::BlockResult, State), ValidateError> {
    let block = Block { pre: None, ..block.clone() };
    let mut state = validate::open(&block, Some(State::found_out(Arc::clone(source), &block)))?;
    let result = validate::run_in_order(&block, &mut state, Vec::new(), progress)?;
    Ok((result, state))
}
