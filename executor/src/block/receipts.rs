//! The receipts in a block's file, if it has any. They identify the first transaction with a
//! different outcome, which the header alone cannot.

use std::fmt;

use revm::primitives::alloy_primitives::Bloom;
use revm::primitives::{B256, Log};
use serde::Serialize;

use super::Transaction;
use crate::vm::Receipt;

/// The most bytes of a log's data that a message shows.
const SHOWN: usize = 64;

/// A receipt from the file (key `receipts`), with whichever fields it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedReceipt {
    /// Whether the outermost call succeeded; `None` before Byzantium, when receipts lack it.
    pub success: Option<bool>,
    /// Gas used by the block up to and including this transaction.
    pub cumulative_gas_used: u64,
    /// Bloom over its logs, if the file has it.
    pub logs_bloom: Option<Bloom>,
    /// Its logs, if the file has them.
    pub logs: Option<Vec<Log>>,
}

/// The first transaction with an outcome other than expected, as far as it can be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstDifference {
    /// The file has no `receipts`.
    NotKnown,
    /// Every receipt matches the file: either header and receipts contradict each other, or the
    /// receipts are incomplete.
    None,
    /// The difference does not depend on the transactions' outcomes.
    NotOfTransactions,
    /// This transaction.
    Transaction(TransactionDifference),
}

/// A transaction whose outcome differs from its receipt in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransactionDifference {
    /// Its place in the block.
    pub index: usize,
    /// Its hash.
    pub hash: B256,
    /// `status`, `gasUsed`, `logs` (how many), `logs[N]` or `logsBloom`; `validity` if no block may
    /// contain the transaction at this place.
    pub field: String,
    /// What the file says.
    pub expected: String,
    /// What execution produced.
    pub got: String,
}

impl fmt::Display for FirstDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotKnown => f.write_str(
                "which transaction differs first cannot be known, because the file has no `receipts`",
            ),
            Self::None => {
                f.write_str("every transaction came out as the file's `receipts` say, as far as they do")
            }
            Self::NotOfTransactions => f.write_str("that is so whatever the transactions do"),
            Self::Transaction(TransactionDifference { index, hash, field, expected, got }) => write!(
                f,
                "the first transaction that differs is {index} ({hash}), whose {field} is {expected} in the file's `receipts` and came out as {got}"
            ),
        }
    }
}

impl FirstDifference {
    /// The transaction, if it is known.
    pub fn transaction(&self) -> Option<TransactionDifference> {
        match self {
            Self::Transaction(difference) => Some(difference.clone()),
            Self::NotKnown | Self::None | Self::NotOfTransactions => None,
        }
    }

    /// Compares the receipts that execution produced with those in the file.
    pub fn of(expected: Option<&[ExpectedReceipt]>, got: &[Receipt], transactions: &[Transaction]) -> Self {
        let Some(expected) = expected else { return Self::NotKnown };
        let mut before = 0;
        for (index, ((wanted, receipt), transaction)) in
            expected.iter().zip(got).zip(transactions).enumerate()
        {
            let gas_used = wanted.cumulative_gas_used.saturating_sub(before);
            before = wanted.cumulative_gas_used;
            if let Some((field, expected, got)) = difference(wanted, gas_used, receipt) {
                let hash = transaction.hash;
                return Self::Transaction(TransactionDifference { index, hash, field, expected, got });
            }
        }
        Self::None
    }
}

/// The first field in which `receipt` differs from `wanted`, and both values.
fn difference(
    wanted: &ExpectedReceipt,
    gas_used: u64,
    receipt: &Receipt,
) -> Option<(String, String, String)> {
    let differs = |field: &str, expected: String, got: String| Some((field.to_owned(), expected, got));
    if let Some(success) = wanted.success.filter(|success| *success != receipt.success) {
        return differs("status", u8::from(success).to_string(), u8::from(receipt.success).to_string());
    }
    if gas_used != receipt.gas_used {
        return differs("gasUsed", gas_used.to_string(), receipt.gas_used.to_string());
    }
    if let Some(logs) = &wanted.logs {
        if logs.len() != receipt.logs.len() {
            return differs("logs", logs.len().to_string(), receipt.logs.len().to_string());
        }
        let unlike = logs.iter().zip(&receipt.logs).enumerate().find(|(_, (wanted, got))| wanted != got);
        if let Some((at, (wanted, got))) = unlike {
            return differs(&format!("logs[{at}]"), shown(wanted), shown(got));
        }
    }
    let bloom = || Bloom::from_iter(&receipt.logs);
    if let Some(wanted) = wanted.logs_bloom.filter(|wanted| *wanted != bloom()) {
        return differs("logsBloom", wanted.to_string(), bloom().to_string());
    }
    None
}

/// Address, topics and the beginning of the data, for a message.
fn shown(log: &Log) -> String {
    use fmt::Write as _;

    let data = &log.data.data;
    let beginning = data.get(..SHOWN).unwrap_or(data);
    let mut text = log.address.to_string();
    for topic in log.topics() {
        let _ = write!(text, " {topic}");
    }
    let _ = write!(text, " 0x{}", revm::primitives::hex::encode(beginning));
    if data.len() > SHOWN {
        let _ = write!(text, "… ({} bytes)", data.len());
    }
    text
}
