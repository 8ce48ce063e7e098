//! Executing one transaction, or one system call, on any view of the state.
//!
//! The EVM is revm. This module adds what sharding needs: every load goes into a [`ReadSet`],
//! writes are returned as plain data instead of going into a database, the beneficiary's fee is
//! separate, and the view may fail (it may be on the other side of a network).

mod account;
mod env;
mod error;
mod execute;
mod fee;
mod outcome;
mod overlay;
mod part;
mod recorder;
mod requests;
mod system;
mod view;

pub use account::AccountInfo;
pub use env::ExecutionEnv;
pub use error::VmError;
pub use execute::{Executor, execute};
pub use outcome::{
    AccountChange, BlockGas, Changes, CodecError, Effect, MAX_ENCODED_BYTES, ReadSet, Receipt, TxOutcome,
    decode, encode,
};
pub use overlay::Overlay;
pub use part::{PartRun, execute_part};
pub use requests::Requests;
/// Types of this field, for crates that implement a view of their own.
pub use revm::{
    bytecode::Bytecode,
    primitives::{Address, B256, U256},
};
pub use system::{after_transactions, before_transactions};
pub use view::{StateView, ViewError};
