//! The file format: hex quantities and camelCase, as Ethereum's JSON-RPC has them.
//!
//! Keys that are not used are skipped, keys that older forks lack default, and what must belong together (block number and
//! hash in each transaction) is compared, so that a file put together wrongly is refused by name instead of failing later
//! as a wrong block. The shapes themselves, both ways, are in [`shape`].

mod shape;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{
    Block, BlockError, Chain, Expected, ExpectedReceipt, Fork, Header, PreAccount, Transaction, Withdrawal,
    chain,
};
use shape::{AccountJson, BlockJson, FileJson, ReceiptJson, TransactionJson};

/// Beyond this a unit of blob gas costs more than there is ether: no chain can reach it, and revm's arithmetic is not made
/// for it.
const MAX_EXCESS_BLOB_GAS: u64 = 200_000_000;

/// The most gas that the transactions of a block may buy together. Mainnet's stay below a hundredth of this; it is what
/// keeps a made-up block with a loop in it from running for ever (this much gas takes a minute or so).
pub const MAX_GAS: u64 = 10_000_000_000;

pub(super) fn parse(path: PathBuf, text: &[u8]) -> Result<Block, BlockError> {
    let file: FileJson = match serde_json::from_slice(text) {
        Ok(file) => file,
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let place = format!(" at line {line} column {column}");
            let reason = error.to_string().replace(&place, "");
            return Err(BlockError::Json { path, line, column, reason });
        }
    };
    assemble(file, path.clone()).map_err(|Unfit { reason, hint }| BlockError::Wrong { path, reason, hint })
}

/// What does not fit, and what to do about it.
struct Unfit {
    reason: String,
    hint: String,
}

fn unfit(reason: String, hint: &str) -> Unfit {
    Unfit { reason, hint: hint.into() }
}

fn assemble(file: FileJson, path: PathBuf) -> Result<Block, Unfit> {
    let block = file.block;
    let chain = chain::of(file.chain.as_ref(), block.number.to(), block.timestamp.to())
        .map_err(|no_chain| unfit(no_chain.reason, no_chain.hint))?;
    let header = header(&block, chain.fork)?;
    let expected = Expected {
        gas_used: block.gas_used.to(),
        logs_bloom: block.logs_bloom,
        receipts_root: block.receipts_root,
        requests_hash: block.requests_hash,
        receipts: file.receipts.map(|receipts| receipts_of(receipts, &block)).transpose()?,
    };
    let transactions = block
        .transactions
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
    let withdrawals = block.withdrawals.unwrap_or_default();
    if chain.fork < Fork::Shanghai && !withdrawals.is_empty() {
        return Err(unfit(
            format!(
                "block {} runs under {}, which has no withdrawals, and has some",
                header.number, chain.fork
            ),
            "Say which fork it is with the key `chain`, or take them out.",
        ));
    }
    let withdrawals =
        withdrawals.iter().map(|w| Withdrawal { address: w.address, gwei: w.amount.to() }).collect();
    let hashes = file
        .hashes
        .unwrap_or_default()
        .into_iter()
        .map(|(number, hash)| match number.parse() {
            Ok(number) => Ok((number, hash)),
            Err(_) => Err(unfit(
                format!("the key `{number}` of `hashes` is not a block number"),
                "Write it in decimal: {\"19933596\": \"0x…\"}.",
            )),
        })
        .collect::<Result<_, _>>()?;
    let pre =
        file.pre.map(|pre| pre.into_iter().map(|(address, account)| (address, account.into())).collect());
    let uncles = block.uncles.map_or(0, |uncles| uncles.len());
    Ok(Block {
        path,
        hash: block.hash,
        chain,
        header,
        expected,
        transactions,
        withdrawals,
        uncles,
        pre,
        hashes,
    })
}

fn header(block: &BlockJson, fork: Fork) -> Result<Header, Unfit> {
    let missing = |key: &str| {
        unfit(
            format!("block {} runs under {fork} and has no `{key}`", block.number),
            "Fetch the whole header, or say which fork it is with the key `chain`.",
        )
    };
    let base_fee = match block.base_fee_per_gas {
        Some(fee) => fee.to(),
        None if fork >= Fork::London => return Err(missing("baseFeePerGas")),
        None => 0,
    };
    let excess_blob_gas = block.excess_blob_gas.map(|gas| gas.to());
    match excess_blob_gas {
        None if fork >= Fork::Cancun => return Err(missing("excessBlobGas")),
        Some(gas) if gas > MAX_EXCESS_BLOB_GAS => {
            return Err(unfit(
                format!("block {} has excessBlobGas {gas}, more than any chain can reach", block.number),
                "Fetch the block again.",
            ));
        }
        _ => {}
    }
    Ok(Header {
        number: block.number.to(),
        parent_hash: block.parent_hash,
        beneficiary: block.miner,
        timestamp: block.timestamp.to(),
        gas_limit: block.gas_limit.to(),
        base_fee,
        difficulty: block.difficulty.unwrap_or_default(),
        prev_randao: block.mix_hash.unwrap_or_default(),
        excess_blob_gas,
        parent_beacon_root: block.parent_beacon_block_root,
    })
}

/// A transaction says which block it is from; one from another block means that the file was put together wrongly.
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

/// Receipts have to be of these transactions, one each.
fn receipts_of(receipts: Vec<ReceiptJson>, block: &BlockJson) -> Result<Vec<ExpectedReceipt>, Unfit> {
    let hint = "Fetch them again with eth_getBlockReceipts(n), or leave them out.";
    if receipts.len() != block.transactions.len() {
        return Err(unfit(
            format!("{} `receipts` for {} transactions", receipts.len(), block.transactions.len()),
            hint,
        ));
    }
    let of_another = |(receipt, tx): (&ReceiptJson, &TransactionJson)| {
        receipt.transaction_hash.is_some_and(|hash| hash != tx.hash)
    };
    if let Some(index) = receipts.iter().zip(&block.transactions).position(of_another) {
        return Err(unfit(
            format!("receipt {index} is of another transaction than the one at that place"),
            hint,
        ));
    }
    Ok(receipts.into_iter().map(Into::into).collect())
}

/// A transaction signed for another chain cannot stand in this one: mostly the file says the wrong chain.
fn of_this_chain(tx: &TransactionJson, index: usize, chain: Chain) -> Result<(), Unfit> {
    match tx.chain_id.map(|id| id.to::<u64>()) {
        Some(id) if id != chain.id => Err(unfit(
            format!("transaction {index} is signed for chain {id}, and the block is of chain {}", chain.id),
            "Say which chain it is: \"chain\": {\"id\": …}; without that key a block is of chain 1.",
        )),
        _ => Ok(()),
    }
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
    // What the type does not have is left out, whatever the file says: it would be neither signed nor written again.
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
        chain_id: tx.chain_id.map(|id| id.to()),
        access_list: access_list.iter().map(|item| (item.address, item.storage_keys.clone())).collect(),
        max_fee_per_blob_gas: tx.max_fee_per_blob_gas.filter(|_| tx_type == 3).unwrap_or_default().to(),
        blob_hashes: tx.blob_versioned_hashes.clone().filter(|_| tx_type == 3).unwrap_or_default(),
        authorizations: authorizations.iter().map(Into::into).collect(),
    })
}

impl From<AccountJson> for PreAccount {
    fn from(account: AccountJson) -> Self {
        Self {
            balance: account.balance.unwrap_or_default(),
            nonce: account.nonce.unwrap_or_default().to(),
            code: account.code.unwrap_or_default(),
            storage: account.storage.unwrap_or_default(),
        }
    }
}

/// The text of `block`'s file.
pub(super) fn text(block: &Block) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&FileJson::from(block))?)
}

/// Writes `block` in the same format, gzipped if the name ends in `.gz`.
pub fn write(block: &Block, path: &Path) -> io::Result<()> {
    let text = text(block)?;
    if path.extension().is_some_and(|e| e == "gz") {
        let mut out = GzEncoder::new(std::fs::File::create(path)?, Compression::default());
        out.write_all(&text)?;
        out.finish()?.sync_all()
    } else {
        std::fs::write(path, text)
    }
}
