//! The file format: hex quantities and camelCase, as in Ethereum's JSON-RPC.
//!
//! Unused keys are skipped, keys that older forks lack get defaults, and parts that must belong
//! together (block number and hash in each transaction) are compared, so that a wrongly assembled
//! file is refused with the reason instead of failing later as a wrong block. [`shape`] has the
//! shapes themselves, for reading and writing.

mod envelope;
mod header;
mod shape;
mod size;
mod transaction;
mod unfit;
mod variants;
mod witnessed;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use revm::primitives::{Address, B256};

use super::prestate::{self, AccountJson, Trace};
use super::{
    Block, BlockError, Chain, Expected, ExpectedReceipt, Fork, Parent, PreState, Transaction, Withdrawal,
    chain,
};
use envelope::Unwrapped;
use header::{fits, header};
use shape::{BlockJson, FileJson, ParentJson, ReceiptJson, WithdrawalJson};
use transaction::TransactionJson;
use unfit::{Unfit, unfit};
use variants::{Listed, PreJson};

/// Some editors mark a file as UTF-8 with these bytes at its beginning.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The most gas that the transactions of a block may buy together. Mainnet's stay below a hundredth
/// of this. The limit keeps a crafted block with a loop in it from running forever (this much gas
/// takes about a minute).
pub const MAX_GAS: u64 = 10_000_000_000;

pub(super) fn parse(path: PathBuf, text: &[u8]) -> Result<Block, BlockError> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let file: FileJson = match serde_json::from_slice(text) {
        Ok(Unwrapped(file)) => file,
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let place = format!(" at line {line} column {column}");
            let reason = error.to_string().replace(&place, "");
            return Err(BlockError::Json { path, line, column, reason });
        }
    };
    assemble(file, path.clone()).map_err(|Unfit { reason, hint }| BlockError::Wrong { path, reason, hint })
}

fn assemble(file: FileJson, path: PathBuf) -> Result<Block, Unfit> {
    let Unwrapped(block) = file.block;
    let chain = chain::of(file.chain.as_ref(), block.number.to(), block.timestamp.to())
        .map_err(|no_chain| unfit(no_chain.reason, no_chain.hint))?;
    fits(&block, chain)?;
    let header = header(&block, chain)?;
    let listed = whole(&block)?;
    let withdrawals = withdrawals(&block, chain)?;
    let expected = Expected {
        gas_used: block.gas_used.to(),
        logs_bloom: block.logs_bloom,
        receipts_root: block.receipts_root,
        requests_hash: block.requests_hash,
        withdrawals_root: block.withdrawals_root,
        blob_gas_used: block.blob_gas_used.map(|gas| gas.to()),
        block_access_list_hash: block.block_access_list_hash,
        state_root: block.state_root,
        receipts: file.receipts.map(|Unwrapped(receipts)| receipts_of(receipts, &listed)).transpose()?,
    };
    let transactions = listed
        .iter()
        .enumerate()
        .map(|(index, tx)| {
            belongs(tx, index, &block)?;
            of_this_chain(tx, index, chain)?;
            transaction(tx).map_err(|reason| {
                unfit(
                    format!("transaction {index} of block {}: {reason}", header.number),
                    "Fetch the block again with eth_getBlockByNumber(n, true).",
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let gas = transactions.iter().fold(0_u64, |sum, tx| sum.saturating_add(tx.gas_limit));
    if gas > MAX_GAS {
        return Err(unfit(
            format!(
                "the transactions of block {} may use {gas} gas together, more than the {MAX_GAS} allowed",
                header.number
            ),
            "No real block is near that: if this one is made up, give its transactions less gas.",
        ));
    }
    let is_proven = file.witness.is_some();
    let pre = file.pre.map(|Unwrapped(pre)| state_before(pre, &listed, is_proven)).transpose()?;
    let parent = file.parent.map(|Unwrapped(parent)| parent_of(parent, &block)).transpose()?;
    let uncles = block.uncles.as_ref().map_or(0, |uncles| uncles.len());
    Block {
        path,
        hash: block.hash,
        chain,
        header,
        expected,
        size: (chain.fork >= Fork::Osaka).then(|| size::of(&block)),
        transactions,
        withdrawals,
        uncles,
        pre,
        parent,
        hashes: hashes(file.hashes.unwrap_or_default())?,
        witness: None,
    }
    .with_witness(file.witness.map(|Unwrapped(witness)| witness))
}

/// The transactions, if the file has them in full and not only their hashes.
fn whole(block: &BlockJson) -> Result<Vec<&TransactionJson>, Unfit> {
    let each = block.transactions.iter().enumerate().map(|(index, listed)| match listed {
        Listed::Whole(tx) => Ok(&**tx),
        Listed::Hash => Err(unfit(
            format!("block {} has only the hash of transaction {index} in `transactions`", block.number),
            "Fetch the block with whole transactions: eth_getBlockByNumber(n, true), with `true`.",
        )),
    });
    each.collect()
}

fn withdrawals(block: &BlockJson, chain: Chain) -> Result<Vec<Withdrawal>, Unfit> {
    let (number, fork) = (block.number, chain.fork);
    let Some(listed) = &block.withdrawals else {
        if fork < Fork::Shanghai {
            return Ok(Vec::new());
        }
        return Err(unfit(
            format!("block {number} runs under {fork} and has no `withdrawals`"),
            "Fetch the block again with eth_getBlockByNumber(n, true); a block that pays nobody has an empty list.",
        ));
    };
    if fork < Fork::Shanghai && !listed.is_empty() {
        return Err(unfit(
            format!("block {number} runs under {fork}, which has no withdrawals, and has some"),
            "Say which fork it is with the key `chain`, or take them out.",
        ));
    }
    let is_nameless = |paid: &WithdrawalJson| paid.index.is_none() || paid.validator_index.is_none();
    if let Some(at) = listed.iter().position(is_nameless).filter(|_| block.withdrawals_root.is_some()) {
        return Err(unfit(
            format!(
                "withdrawal {at} of block {number} lacks `index` or `validatorIndex`, without which its withdrawalsRoot cannot be checked"
            ),
            "Fetch the block again with eth_getBlockByNumber(n, true).",
        ));
    }
    let each = listed.iter().map(|paid| Withdrawal {
        index: paid.index.map(|index| index.to()),
        validator_index: paid.validator_index.map(|index| index.to()),
        address: paid.address,
        gwei: paid.amount.to(),
    });
    Ok(each.collect())
}

/// The state before the block. Traces must match its transactions, one each.
fn state_before(pre: PreJson, transactions: &[&TransactionJson], is_proven: bool) -> Result<PreState, Unfit> {
    let accounts = match pre {
        PreJson::Accounts(accounts) => accounts.0,
        PreJson::Traces(traces) => {
            of_these(&traces, transactions)?;
            let mut merged = prestate::merge(traces);
            let touched = |tx: &&TransactionJson| tx.to.unwrap_or_else(|| tx.from.create(tx.nonce.to()));
            merged.leave_out_new(transactions.iter().map(touched));
            merged.accounts
        }
    };
    let fault = |(address, account): (&Address, &AccountJson)| account.fault(*address, is_proven);
    if let Some((reason, hint)) = accounts.iter().find_map(fault) {
        return Err(unfit(reason, hint));
    }
    Ok(accounts.into_iter().map(|(address, account)| (address, account.into())).collect())
}

fn of_these(traces: &[Trace], transactions: &[&TransactionJson]) -> Result<(), Unfit> {
    let hint = "Trace the same block: debug_traceBlockByNumber(n, {\"tracer\": \"prestateTracer\"}).";
    if traces.len() != transactions.len() {
        let reason = format!(
            "`pre` has traces of {} transactions, and the block has {}",
            traces.len(),
            transactions.len()
        );
        return Err(unfit(reason, hint));
    }
    let differs =
        |(trace, tx): (&Trace, &&TransactionJson)| trace.transaction.is_some_and(|hash| hash != tx.hash);
    match traces.iter().zip(transactions).position(differs) {
        Some(index) => Err(unfit(
            format!("trace {index} of `pre` is of another transaction than the one at that place"),
            hint,
        )),
        None => Ok(()),
    }
}

fn parent_of(parent: ParentJson, block: &BlockJson) -> Result<Parent, Unfit> {
    let parent = Parent::from(parent);
    if parent.hash != block.parent_hash || parent.number.checked_add(1) != Some(block.number.to()) {
        return Err(unfit(
            format!(
                "`parent` is block {} with hash {}, and block {} stands on one with hash {}",
                parent.number, parent.hash, block.number, block.parent_hash
            ),
            "Fetch the header of the block before it, or leave `parent` out.",
        ));
    }
    Ok(parent)
}

fn hashes(given: BTreeMap<String, B256>) -> Result<BTreeMap<u64, B256>, Unfit> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let each = given.into_iter().map(|(key, hash)| match number(&key) {
        Ok(number) => Ok((number, hash)),
        Err(_) => Err(unfit(
            format!("the key `{key}` of `hashes` is not a block number"),
            "Write it in decimal: {\"19933596\": \"0x…\"}.",
        )),
    });
    each.collect()
}

/// Checks that a transaction says it is from this block; one from another block means that the file
/// was assembled wrongly.
fn belongs(tx: &TransactionJson, index: usize, block: &BlockJson) -> Result<(), Unfit> {
    let other = if tx.block_number.is_some_and(|number| number != block.number) {
        tx.block_number.map(|number| format!("blockNumber {number}"))
    } else if tx.block_hash.is_some_and(|hash| hash != block.hash) {
        tx.block_hash.map(|hash| format!("blockHash {hash}"))
    } else if tx.transaction_index.is_some_and(|at| at.to::<u64>() != index as u64) {
        tx.transaction_index.map(|at| format!("transactionIndex {at}"))
    } else {
        None
    };
    match other {
        None => Ok(()),
        Some(other) => Err(unfit(
            format!(
                "transaction {index} says {other}, but it stands at place {index} of block {} with hash {}: the transactions are of another block",
                block.number, block.hash
            ),
            "Fetch the block again with eth_getBlockByNumber(n, true).",
        )),
    }
}

/// The receipts, which must match these transactions, one each.
fn receipts_of(
    receipts: Vec<ReceiptJson>,
    transactions: &[&TransactionJson],
) -> Result<Vec<ExpectedReceipt>, Unfit> {
    let hint = "Fetch them again with eth_getBlockReceipts(n), or leave them out.";
    if receipts.len() != transactions.len() {
        return Err(unfit(
            format!("{} `receipts` for {} transactions", receipts.len(), transactions.len()),
            hint,
        ));
    }
    let of_another = |(receipt, tx): (&ReceiptJson, &&TransactionJson)| {
        receipt.transaction_hash.is_some_and(|hash| hash != tx.hash)
    };
    if let Some(index) = receipts.iter().zip(transactions).position(of_another) {
        return Err(unfit(
            format!("receipt {index} is of another transaction than the one at that place"),
            hint,
        ));
    }
    Ok(receipts.into_iter().map(Into::into).collect())
}

/// Refuses a transaction signed for another chain: it cannot be in this block. Usually the file
/// names the wrong chain.
fn of_this_chain(tx: &TransactionJson, index: usize, chain: Chain) -> Result<(), Unfit> {
    match chain_id(tx) {
        Some(id) if id != chain.id => Err(unfit(
            format!("transaction {index} is signed for chain {id}, and the block is of chain {}", chain.id),
            "Say which chain it is: \"chain\": {\"id\": …}; without that key a block is of chain 1.",
        )),
        _ => Ok(()),
    }
}

/// The chain it is signed for. Some clients print 0 for a legacy transaction signed for none.
fn chain_id(tx: &TransactionJson) -> Option<u64> {
    let is_legacy = tx.tx_type.is_none_or(|kind| kind.is_zero());
    tx.chain_id.map(|id| id.to::<u64>()).filter(|id| *id != 0 || !is_legacy)
}

fn transaction(tx: &TransactionJson) -> Result<Transaction, String> {
    let tx_type = match tx.tx_type.map_or(0, |t| t.to::<u64>()) {
        known @ 0..=4 => known as u8,
        other => return Err(format!("type {other} is not one of 0 to 4")),
    };
    let max_fee = if tx_type >= 2 { tx.max_fee_per_gas } else { tx.gas_price };
    let Some(max_fee) = max_fee else {
        return Err(format!("no `{}`", if tx_type >= 2 { "maxFeePerGas" } else { "gasPrice" }));
    };
    if tx_type >= 3 && tx.to.is_none() {
        return Err(format!("type {tx_type} cannot create a contract, and `to` is absent"));
    }
    // Fields that the transaction's type does not have are dropped, whatever the file says: they
    // would be neither signed nor written again.
    let access_list = tx.access_list.as_deref().filter(|_| tx_type >= 1).unwrap_or_default();
    let authorizations = tx.authorization_list.as_deref().filter(|_| tx_type == 4).unwrap_or_default();
    Ok(Transaction {
        hash: tx.hash,
        tx_type,
        sender: tx.from,
        nonce: tx.nonce.to(),
        to: tx.to,
        value: tx.value,
        input: tx.input.clone(),
        gas_limit: tx.gas.to(),
        max_fee: max_fee.to(),
        max_priority_fee: (tx_type >= 2).then(|| tx.max_priority_fee_per_gas.unwrap_or_default().to()),
        chain_id: chain_id(tx),
        access_list: access_list.iter().map(|item| (item.address, item.storage_keys.clone())).collect(),
        max_fee_per_blob_gas: tx.max_fee_per_blob_gas.filter(|_| tx_type == 3).unwrap_or_default().to(),
        blob_hashes: tx.blob_versioned_hashes.clone().filter(|_| tx_type == 3).unwrap_or_default(),
        authorizations: authorizations.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    })
}

impl Block {
    /// Reads one block from JSON text; `path` is only used in messages.
    pub fn from_json(path: impl Into<PathBuf>, text: &[u8]) -> Result<Self, BlockError> {
        parse(path.into(), text)
    }

    /// The JSON text that [`Self::from_json`] reads. Every block read by it can be written again.
    ///
    /// # Errors
    /// If the encoder fails, which it never does on plain data.
    pub fn to_json(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&FileJson::from(self))?)
    }
}

/// Writes `block` in the same format, gzipped if the name ends in `.gz`.
pub fn write(block: &Block, path: &Path) -> io::Result<()> {
    let text = block.to_json()?;
    if path.extension().is_some_and(|e| e == "gz") {
        let mut out = GzEncoder::new(std::fs::File::create(path)?, Compression::default());
        out.write_all(&text)?;
        out.finish()?.sync_all()
    } else {
        std::fs::write(path, text)
    }
}
