//! What executing a transaction read and would write: plain data that can be shipped, kept and
//! compared.

use revm::primitives::{Address, B256, Bytes, Log, U256};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::state::AccountInfo;

/// The result of executing one transaction on some view of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxOutcome {
    /// Position in the block.
    pub index: u32,
    /// All that was read. The outcome is right exactly when each of these still holds just before
    /// the transaction's place in the block.
    pub reads: ReadSet,
    /// What came of it.
    pub effect: Effect,
}

/// What a transaction does to the state it was executed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// It was included, successfully or not.
    Executed {
        /// Its receipt, without the cumulative gas.
        receipt: Receipt,
        /// What it writes, the beneficiary's fee not included.
        changes: Changes,
        /// The beneficiary's fee. Kept apart because adding commutes: transactions conflict over
        /// the beneficiary only where they use it explicitly. `None`: the beneficiary destroyed
        /// itself in this transaction, and the fee with it.
        fee: Option<U256>,
    },
    /// It cannot be included on that view: nonce too low or high, not enough balance… Under
    /// speculation that mostly means that an earlier transaction was not seen; in block order it
    /// means that the block is wrong.
    Invalid {
        /// Why, in revm's words.
        reason: String,
    },
}

/// A receipt before it has its place in the block (cumulative gas and bloom come from there).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// EIP-2718 type.
    pub tx_type: u8,
    /// Whether the outermost call succeeded.
    pub success: bool,
    /// Gas used by this transaction, which its sender pays.
    pub gas_used: u64,
    /// What it counts for in the block.
    pub block_gas: BlockGas,
    /// Logs, in order.
    pub logs: Vec<Log>,
}

/// Gas as a block counts it. Since Amsterdam what makes the state grow is counted apart (EIP-8037),
/// and both without what is refunded to the sender (EIP-7778); before, all of it is execution and
/// is what the sender pays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockGas {
    /// For execution.
    pub execution: u64,
    /// For new state.
    pub state: u64,
}

impl BlockGas {
    /// Both and those of the next transaction.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            execution: self.execution.saturating_add(other.execution),
            state: self.state.saturating_add(other.state),
        }
    }

    /// What the header says: the larger of both.
    pub fn used(self) -> u64 {
        self.execution.max(self.state)
    }
}

/// Every piece of state a transaction loaded, with the value it saw. Absence is a value too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadSet {
    /// Accounts; `None` did not exist.
    pub accounts: Vec<(Address, Option<AccountInfo>)>,
    /// Storage slots.
    pub storage: Vec<(Address, U256, U256)>,
    /// Hashes of earlier blocks.
    pub block_hashes: Vec<(u64, B256)>,
}

/// What a transaction, or a system call, writes. Sorted by address, so that equal changes are equal
/// bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Accounts.
    pub accounts: Vec<(Address, AccountChange)>,
    /// Code that was created, by its hash.
    pub codes: Vec<(B256, Bytes)>,
}

/// What becomes of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountChange {
    /// Its new balance, nonce and code hash; `None`: it does not exist any more.
    pub info: Option<AccountInfo>,
    /// All its storage is zero before `storage` applies (created or destroyed).
    pub wiped: bool,
    /// Slots that changed, with their new values.
    pub storage: Vec<(U256, U256)>,
}

/// The most bytes that [`decode`] looks at. A transaction of 30 million gas that writes nothing but
/// fresh slots stays below 1 MiB; a whole block of outcomes stays far below this.
pub const MAX_ENCODED_BYTES: usize = 64 << 20;

/// Why bytes from elsewhere are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Longer than [`MAX_ENCODED_BYTES`].
    #[error("{0} bytes is more than the {MAX_ENCODED_BYTES} allowed")]
    TooLong(usize),
    /// Not an encoding of the wanted type, or bytes left over.
    #[error("not a valid encoding: {0}")]
    Malformed(String),
}

/// Compact binary form of any of this crate's plain data (postcard).
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_stdvec(value).map_err(|e| CodecError::Malformed(e.to_string()))?;
    if bytes.len() > MAX_ENCODED_BYTES { Err(CodecError::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// Reads what [`encode`] wrote. Memory is bounded by the input's own length: lengths inside are not
/// trusted.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MAX_ENCODED_BYTES {
        return Err(CodecError::TooLong(bytes.len()));
    }
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(CodecError::Malformed(format!("{} bytes left over", rest.len()))),
        Err(e) => Err(CodecError::Malformed(e.to_string())),
    }
}
