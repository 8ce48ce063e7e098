//! What executing a transaction read and would write: plain data that can be sent, stored and
//! compared.

use super::account::AccountInfo;
use revm::primitives::{Address, B256, Bytes, Log, U256};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The result of executing one transaction on some view of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxOutcome {
    /// Position in the block.
    pub index: u32,
    /// Everything that was read. The outcome is right exactly if all of this still holds just
    /// before the transaction's place in the block.
    pub reads: ReadSet,
    /// The transaction's effect.
    pub effect: Effect,
}

/// What a transaction does to the state it was executed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// The transaction was included, whether it succeeded or not.
    Executed {
        /// Its receipt, without the cumulative gas.
        receipt: Receipt,
        /// What it writes, without the beneficiary's fee.
        changes: Changes,
        /// The beneficiary's fee, in wei. Separate because addition commutes: transactions conflict
        /// over the beneficiary only if they use it explicitly. `None`: the beneficiary destroyed
        /// itself in this transaction, and the fee with it.
        fee: Option<U256>,
    },
    /// The transaction cannot be included on that view: nonce too low or high, not enough balance…
    /// Under speculation this usually means that an earlier transaction was not seen; in block
    /// order it means that the block is wrong.
    Invalid {
        /// Why, in revm's words.
        reason: String,
    },
}

/// A receipt without what depends on its place in the block (cumulative gas and bloom).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// EIP-2718 type.
    pub tx_type: u8,
    /// Whether the outermost call succeeded.
    pub success: bool,
    /// Gas used by this transaction, which its sender pays.
    pub gas_used: u64,
    /// How its gas counts towards the block's.
    pub block_gas: BlockGas,
    /// Logs, in order.
    pub logs: Vec<Log>,
}

/// Gas as a block counts it. Since Amsterdam, gas for state growth is counted separately
/// (EIP-8037), and neither count subtracts what is refunded to the sender (EIP-7778). Before, all
/// of it counts as execution and equals what the sender pays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockGas {
    /// Gas for execution.
    pub execution: u64,
    /// Gas for new state.
    pub state: u64,
}

impl BlockGas {
    /// Both counts with those of the next transaction added.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            execution: self.execution.saturating_add(other.execution),
            state: self.state.saturating_add(other.state),
        }
    }

    /// The header's `gasUsed`: the larger of the two.
    pub fn used(self) -> u64 {
        self.execution.max(self.state)
    }
}

/// Every piece of state a transaction loaded, with the value it saw. Absence is also a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadSet {
    /// Accounts; `None`: the account did not exist.
    pub accounts: Vec<(Address, Option<AccountInfo>)>,
    /// Address, slot and value of each storage slot.
    pub storage: Vec<(Address, U256, U256)>,
    /// Numbers and hashes of earlier blocks.
    pub block_hashes: Vec<(u64, B256)>,
}

/// What a transaction or a system call writes. Sorted by address, so that equal changes encode to
/// equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Accounts, by address.
    pub accounts: Vec<(Address, AccountChange)>,
    /// Code that was created, by its hash.
    pub codes: Vec<(B256, Bytes)>,
}

/// The changes to one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountChange {
    /// Its new balance, nonce and code hash; `None`: it no longer exists.
    pub info: Option<AccountInfo>,
    /// Whether all its storage is cleared before `storage` applies (it was created or destroyed).
    pub wiped: bool,
    /// Slots that changed, with their new values.
    pub storage: Vec<(U256, U256)>,
}

/// The most bytes that [`decode`] accepts. A transaction of 30 million gas that writes only fresh
/// slots has an outcome below 1 MiB; a whole block of outcomes stays far below this limit.
pub const MAX_ENCODED_BYTES: usize = 64 << 20;

/// Why received bytes cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Longer than [`MAX_ENCODED_BYTES`].
    #[error("{0} bytes is more than the {MAX_ENCODED_BYTES} allowed")]
    TooLong(usize),
    /// Not an encoding of the expected type, or with bytes left over.
    #[error("not a valid encoding: {0}")]
    Malformed(String),
}

/// Encodes any of this crate's plain data in a compact binary form (postcard).
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_stdvec(value).map_err(|e| CodecError::Malformed(e.to_string()))?;
    if bytes.len() > MAX_ENCODED_BYTES { Err(CodecError::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// Decodes what [`encode`] wrote. The input's own length bounds memory use: lengths inside it are
/// not trusted.
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
