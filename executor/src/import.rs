//! Makes block files from an archive node's answers.
//!
//! A block is executed once on what is known of the state before it. Each account, slot and hash is
//! looked up when execution first reads it ([`gathered`]), so that nothing is requested in vain and
//! nothing needed is left out. The resulting file is read and executed once more like any file, and
//! written only if the block verifies.
//!
//! Everything from a node or a saved file is untrusted: sizes, counts and waits are bounded, and a
//! wrong state shows as a block that does not verify.

mod client;
mod compose;
mod error;
mod gathered;
mod missing;
mod node;
mod parts;
mod saved;
mod traces;

use std::sync::Arc;

use crate::block::Block;
use crate::state::{NoAnswer, Source, State};
use crate::validate::{self, BlockResult, ValidateError};
use crate::witness::WitnessError;

pub use client::{Client, Limits, RpcError};
pub use compose::{finished, path_of, write};
pub use error::ImportError;
pub use missing::Missing;
pub use node::Node;
pub use parts::Parts;
pub use saved::read_saved;

use gathered::Gathered;
use traces::Traces;

/// A block with a file that verifies.
#[derive(Debug)]
pub struct Imported {
    /// Its number.
    pub number: u64,
    /// The file's text.
    pub text: Vec<u8>,
    /// The result of executing it from that text.
    pub result: BlockResult,
}

/// Executes the block of `parts`, requesting from `node` what they lack, and makes its file.
///
/// # Errors
/// If too little is known of the block, or it does not come out as its header says.
pub fn import(parts: &Parts, node: Option<&Arc<Node>>) -> Result<Imported, ImportError> {
    let block = Block::from_json(&parts.from, &compose::bare(parts)?)?;
    let number = block.number();
    let traces = parts.traces.as_ref().map(|list| Traces::read(list, &block)).transpose();
    let traces = traces.map_err(|reason| ImportError::Saved { path: parts.from.clone(), reason })?;
    let gathered = Arc::new(Gathered::new(parts, &block, traces, node.cloned()));
    let source = Arc::new(Source::new(Arc::clone(&gathered) as Arc<_>, block.chain.fork));
    let run = execute(&block, &source, &gathered);
    let reads = source.reads().map_err(|error| no_answer(number, error))?;
    let missing = gathered.missing();
    if !missing.is_empty() {
        return Err(ImportError::Missing { number, missing: Box::new(missing) });
    }
    let result = run.map_err(of_execution)?;
    if let Some(mismatch) = result.mismatch {
        let guess = gathered.guess();
        return Err(ImportError::Wrong { number, mismatch: Box::new(mismatch), guess });
    }
    let text = compose::whole(parts, &block, &reads)?;
    // The block as the file has it is what counts, not the data gathered on the way.
    let block = Arc::new(Block::from_json(&parts.from, &text)?);
    let mut state = validate::open(&block, None).map_err(of_execution)?;
    let result = validate::run_in_order(&block, &mut state, Vec::new(), &|| {}).map_err(of_execution)?;
    match result.mismatch {
        None => Ok(Imported { number, text, result }),
        Some(mismatch) => {
            Err(ImportError::Wrong { number, mismatch: Box::new(mismatch), guess: String::new() })
        }
    }
}

fn execute(block: &Block, source: &Arc<Source>, gathered: &Gathered) -> Result<BlockResult, ValidateError> {
    let block = Block { pre: None, ..block.clone() };
    let mut state = validate::open(&block, Some(State::found_out(Arc::clone(source), &block)))?;
    gathered.begin_transactions();
    validate::run_in_order(&block, &mut state, Vec::new(), &|| gathered.next_transaction())
}

fn no_answer(number: u64, error: NoAnswer) -> ImportError {
    let error = match error.downcast::<RpcError>() {
        Ok(error) => return ImportError::Node(*error),
        Err(error) => error,
    };
    let reason = match error.downcast_ref::<WitnessError>() {
        Some(error) => error.to_string(),
        None => error.to_string(),
    };
    ImportError::Witness { number, reason }
}

fn of_execution(error: ValidateError) -> ImportError {
    match error {
        ValidateError::Block(error) => ImportError::Block(error),
        error => ImportError::Execution(error),
    }
}
