//! Composes a block's file from its parts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use super::error::ImportError;
use super::parts::Parts;
use crate::block::{Block, PreAccount};
use crate::state::Reads;
use crate::witness::WitnessJson;

/// The text of a file that lacks the state before the block.
pub(super) fn bare(parts: &Parts) -> Result<Vec<u8>, ImportError> {
    let mut file = Map::new();
    file.insert("block".to_owned(), parts.block.clone());
    for (key, value) in [
        ("chain", &parts.chain),
        ("parent", &parts.parent),
        ("receipts", &parts.receipts),
        ("witness", &parts.witness),
    ] {
        if let Some(value) = value {
            file.insert(key.to_owned(), value.clone());
        }
    }
    text(&Value::Object(file))
}

/// The text of the whole file: the answers, with the state that the block reads.
pub(super) fn whole(parts: &Parts, block: &Block, reads: &Reads) -> Result<Vec<u8>, ImportError> {
    let accounts =
        reads.pre().into_iter().map(|(address, account)| (address.to_string(), of_account(&account)));
    let mut hashes = reads.hashes.clone();
    hashes.extend(&parts.hashes);
    let hashes = hashes.into_iter().map(|(number, hash)| (number.to_string(), json!(hash)));
    let mut file = Map::new();
    file.insert("block".to_owned(), parts.block.clone());
    file.insert("pre".to_owned(), Value::Object(accounts.collect()));
    file.insert("hashes".to_owned(), Value::Object(hashes.collect()));
    for (key, value) in [("chain", &parts.chain), ("parent", &parts.parent), ("receipts", &parts.receipts)] {
        if let Some(value) = value {
            file.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(witness) = &block.witness {
        let witness = serde_json::to_value(WitnessJson::from(&**witness)).map_err(io_error(parts))?;
        file.insert("witness".to_owned(), witness);
    }
    text(&Value::Object(file))
}

fn of_account(account: &PreAccount) -> Value {
    let mut of = json!({"balance": account.balance, "nonce": format!("{:#x}", account.nonce)});
    if !account.code.is_empty() {
        of["code"] = json!(account.code);
    }
    // The account's code is not run and not known: the witness proves its hash.
    if let Some(hash) = account.code_hash {
        of["codeHash"] = json!(hash);
    }
    if !account.storage.is_empty() {
        of["storage"] = json!(account.storage);
    }
    of
}

fn text(file: &Value) -> Result<Vec<u8>, ImportError> {
    serde_json::to_vec(file)
        .map_err(|error| ImportError::Saved { path: PathBuf::new(), reason: error.to_string() })
}

fn io_error(parts: &Parts) -> impl FnOnce(serde_json::Error) -> ImportError {
    let path = parts.from.clone();
    |error| ImportError::Saved { path, reason: error.to_string() }
}

/// The name of a block's file, with leading zeros so that a listing follows the order of the chain.
pub fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.json.gz"))
}

/// Whether the file of block `number` exists and can be read: an interrupted run continues after
/// it.
pub fn finished(folder: &Path, number: u64) -> bool {
    Block::load(path_of(folder, number)).is_ok_and(|block| block.number() == number)
}

/// Writes a file whole or not at all: a process that ends midway leaves no partial file under its
/// name.
///
/// # Errors
/// If the file cannot be written.
pub fn write(folder: &Path, number: u64, text: &[u8]) -> io::Result<PathBuf> {
    let path = path_of(folder, number);
    // Readers of the folder skip names that begin with a dot.
    let part = folder.join(format!(".{number:08}.json.gz.part"));
    let mut out = GzEncoder::new(File::create(&part)?, Compression::default());
    out.write_all(text)?;
    out.finish()?.sync_all()?;
    fs::rename(&part, &path)?;
    Ok(path)
}
