//! Saved answers, each recognised by its shape: bare or in a JSON-RPC envelope, gzipped or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use revm::primitives::alloy_primitives::U64;
use revm::primitives::{Address, B256};
use serde::Deserialize;
use serde_json::Value;

use super::error::ImportError;
use super::parts::Parts;
use super::traces::cut;
use crate::block::prestate::Accounts;
use crate::block::text::{self, Packing, TextError};
use crate::block::{MAX_BLOCK_BYTES, PreState};
use crate::witness::WitnessJson;

/// The most files that are combined in one run: their contents are in memory at the same time.
const MOST_FILES: usize = 10_000;
/// The most bytes that all files may have together.
const MOST_BYTES: u64 = 4 * MAX_BLOCK_BYTES;

/// An answer, by what it is about.
enum Answer {
    Block(Value),
    /// A header, or a block with only the hashes of its transactions.
    Header(Value),
    Receipts(Value),
    Traces(Value),
    Accounts(PreState),
    Witness(Value),
    /// A block file of this project.
    Whole(Value),
}

/// Reads saved answers and groups those that are about the same block.
///
/// # Errors
/// If an answer cannot be read, has no known shape, or belongs to no block among them.
pub fn read_saved(files: &[PathBuf], chain: Option<&Value>) -> Result<Vec<Parts>, ImportError> {
    let wrong = |path: &Path, reason: String| ImportError::Saved { path: path.to_owned(), reason };
    if let Some(path) = files.get(MOST_FILES) {
        return Err(wrong(path, format!("more than {MOST_FILES} files. Name fewer at a time.")));
    }
    let mut answers = Vec::new();
    let mut total = 0;
    for path in files {
        let text = read(path).map_err(|reason| wrong(path, reason))?;
        total += text.len() as u64;
        if total > MOST_BYTES {
            return Err(wrong(
                path,
                format!(
                    "the files hold more than {} MiB together. Name those of one block at a time.",
                    MOST_BYTES >> 20
                ),
            ));
        }
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        let value = serde_json::from_slice(text)
            .map_err(|error| wrong(path, format!("this is no JSON ({error}). Save the answer again.")))?;
        for value in unwrapped(value).map_err(|reason| wrong(path, reason))? {
            answers.push((path, recognised(value).map_err(|reason| wrong(path, reason))?));
        }
    }
    let mut blocks = Blocks::default();
    let mut others = Vec::new();
    for (path, answer) in answers {
        match answer {
            Answer::Block(block) => {
                let parts = Parts { from: path.clone(), block, chain: chain.cloned(), ..Parts::default() };
                blocks.add(parts).map_err(|reason| wrong(path, reason))?;
            }
            Answer::Whole(file) => {
                blocks.add(of_whole(path, file, chain)).map_err(|reason| wrong(path, reason))?;
            }
            other => others.push((path, other)),
        }
    }
    if blocks.all.is_empty() {
        let path = files.first().cloned().unwrap_or_default();
        let reason = "no file among these has a block. Name one with what eth_getBlockByNumber(n, true) answers as well.";
        return Err(wrong(&path, reason.to_owned()));
    }
    for (path, answer) in others {
        blocks.give(answer).map_err(|reason| wrong(path, reason))?;
    }
    Ok(blocks.all)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    text::read(path, Packing::Either).map_err(|error| match error {
        TextError::Read(_) => format!("{error}. Name a file with an answer."),
        TextError::Gzip(_) => format!("{error}. Copy it again."),
        TextError::TooLarge | TextError::Hollow | TextError::TooDense => {
            format!("{error}, which no answer about a block does. Name another file.")
        }
    })
}

/// The answer, or the answers of a batch, without their envelopes.
fn unwrapped(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(all) if all.iter().any(is_envelope) => {
            let each = all.into_iter().map(unwrapped).collect::<Result<Vec<_>, _>>()?;
            Ok(each.into_iter().flatten().collect())
        }
        mut value if is_envelope(&value) => {
            if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
                return Err(format!(
                    "this is a refusal: {}. Ask a node that answers.",
                    cut(&error.to_string())
                ));
            }
            match value.get_mut("result").map(Value::take) {
                Some(Value::Null) | None => {
                    Err("the node answered with nothing (`null`): it does not have the block. Ask another."
                        .to_owned())
                }
                Some(result) => Ok(vec![result]),
            }
        }
        value => Ok(vec![value]),
    }
}

fn is_envelope(value: &Value) -> bool {
    value.get("jsonrpc").is_some() || (value.get("id").is_some() && value.get("result").is_some())
}

fn recognised(value: Value) -> Result<Answer, String> {
    let has = |keys: &[&str]| keys.iter().all(|key| value.get(key).is_some());
    if has(&["block"]) {
        return Ok(Answer::Whole(value));
    }
    if has(&["state", "headers"]) {
        return Ok(Answer::Witness(value));
    }
    if has(&["parentHash", "number"]) {
        let transactions = value.get("transactions").and_then(Value::as_array);
        let whole = transactions.is_some_and(|all| all.iter().all(Value::is_object));
        return Ok(if whole { Answer::Block(value) } else { Answer::Header(value) });
    }
    match &value {
        Value::Array(all) if all.iter().all(|one| one.get("cumulativeGasUsed").is_some()) && !all.is_empty() => {
            Ok(Answer::Receipts(value))
        }
        Value::Array(all) if all.iter().all(|one| one.get("result").is_some() || one.get("txHash").is_some()) => {
            Ok(Answer::Traces(value))
        }
        Value::Object(all) if !all.is_empty() && all.keys().all(|key| key.parse::<Address>().is_ok()) => {
            accounts(&value).map(Answer::Accounts)
        }
        _ => Err("this is the answer to none of eth_getBlockByNumber, eth_getBlockReceipts, debug_traceBlockByNumber with prestateTracer and debug_executionWitness, nor {address: {balance, nonce, code, storage}}.".to_owned()),
    }
}

fn accounts(value: &Value) -> Result<PreState, String> {
    let Accounts(read) = Accounts::deserialize(value).map_err(|error| {
        format!("these are no accounts ({error}): {{address: {{balance, nonce, code, storage}}}}.")
    })?;
    match read.iter().find_map(|(address, account)| account.fault(*address, false)) {
        Some((reason, hint)) => Err(format!("{reason}. {hint}")),
        None => Ok(read.into_iter().map(|(address, account)| (address, account.into())).collect()),
    }
}

/// The parts of a block file. Its `pre` does not count as given by hand: it may need correction.
fn of_whole(path: &Path, mut file: Value, chain: Option<&Value>) -> Parts {
    let mut take = |key: &str| file.get_mut(key).map(Value::take).filter(|value| !value.is_null());
    let inner = |value: Value| unwrapped(value).ok().and_then(|mut all| all.pop());
    let block = take("block").and_then(inner).unwrap_or_default();
    let pre = take("pre").and_then(inner);
    let listed = pre.as_ref().is_some_and(Value::is_array);
    let given = pre.as_ref().filter(|_| !listed).and_then(|pre| accounts(pre).ok()).unwrap_or_default();
    let hashes = take("hashes").and_then(|hashes| serde_json::from_value(hashes).ok()).unwrap_or_default();
    Parts {
        from: path.to_owned(),
        block,
        parent: take("parent").and_then(inner),
        receipts: take("receipts").and_then(inner),
        witness: take("witness").and_then(inner),
        traces: pre.filter(|_| listed),
        given,
        hashes,
        chain: chain.cloned().or_else(|| take("chain")),
    }
}

#[derive(Default)]
struct Blocks {
    all: Vec<Parts>,
    by_hash: BTreeMap<B256, usize>,
    by_parent: BTreeMap<B256, usize>,
    by_transaction: BTreeMap<B256, usize>,
}

impl Blocks {
    fn add(&mut self, parts: Parts) -> Result<(), String> {
        let place = self.all.len();
        let hash = hash(&parts.block, "hash")
            .ok_or("the block has no `hash`. Save eth_getBlockByNumber(n, true) again.")?;
        if self.by_hash.insert(hash, place).is_some() {
            return Err(format!("block {hash} is in another of the files too. Name it once."));
        }
        self.by_parent.extend(self::hash(&parts.block, "parentHash").map(|parent| (parent, place)));
        let transactions = parts.block.get("transactions").and_then(Value::as_array).into_iter().flatten();
        self.by_transaction.extend(transactions.filter_map(|tx| Some((self::hash(tx, "hash")?, place))));
        self.all.push(parts);
        Ok(())
    }

    fn give(&mut self, answer: Answer) -> Result<(), String> {
        let first = |list: &Value, key: &str| list.get(0).and_then(|one| hash(one, key));
        let of_transaction =
            |hash: Option<B256>| hash.and_then(|hash| self.by_transaction.get(&hash).copied());
        match answer {
            Answer::Receipts(list) => {
                let place = of_transaction(first(&list, "transactionHash"));
                self.at(place, "receipts")?.receipts = Some(list);
            }
            Answer::Traces(list) => {
                let known = of_transaction(first(&list, "txHash"));
                let place = if first(&list, "txHash").is_some() { known } else { self.only() };
                self.at(place, "traces")?.traces = Some(list);
            }
            Answer::Witness(witness) => {
                let read = WitnessJson::deserialize(&witness).map_err(|error| {
                    format!("this is no witness ({error}). Save debug_executionWitness(n) again.")
                })?;
                let hashes = read
                    .hashes()
                    .map_err(|reason| format!("{reason}. Save debug_executionWitness(n) again."))?;
                let place = hashes.iter().find_map(|hash| self.by_parent.get(hash)).copied();
                self.at(place, "the witness")?.witness = Some(witness);
            }
            Answer::Accounts(accounts) => {
                let place = self.only();
                self.at(place, "accounts")?.given.extend(accounts);
            }
            Answer::Header(header) => self.header(header)?,
            Answer::Block(_) | Answer::Whole(_) => {}
        }
        Ok(())
    }

    /// Stores a header: it is the parent's of some block, and others may need its hash.
    fn header(&mut self, mut header: Value) -> Result<(), String> {
        let number =
            header.get("number").cloned().and_then(|number| serde_json::from_value::<U64>(number).ok());
        let (Some(number), Some(hash)) = (number, hash(&header, "hash")) else {
            return Err("this header has no `number` or `hash`. Save eth_getBlockByNumber(n, false) again."
                .to_owned());
        };
        for parts in &mut self.all {
            parts.hashes.insert(number.to(), hash);
        }
        if let Some(parts) = self.by_parent.get(&hash).and_then(|place| self.all.get_mut(*place)) {
            if let Some(header) = header.as_object_mut() {
                ["transactions", "withdrawals", "uncles"].iter().for_each(|body| drop(header.remove(*body)));
            }
            parts.parent = Some(header);
        }
        Ok(())
    }

    fn only(&self) -> Option<usize> {
        (self.all.len() == 1).then_some(0)
    }

    fn at(&mut self, place: Option<usize>, what: &str) -> Result<&mut Parts, String> {
        let none = || {
            format!(
                "{what} of none of the blocks in these files, or one cannot tell of which. Name the files of one block at a time."
            )
        };
        place.and_then(|place| self.all.get_mut(place)).ok_or_else(none)
    }
}

fn hash(value: &Value, key: &str) -> Option<B256> {
    value.get(key)?.as_str()?.parse().ok()
}
