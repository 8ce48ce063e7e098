//! Reads block files, ordered by number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::text::{self, Packing, TextError};
use super::{Block, BlockError, Blocks, Parent, json};

/// The most block files that a folder may hold: half a year of mainnet. All of them are in memory
/// at the same time.
const MOST_FILES: usize = 1_000_000;

impl Block {
    /// Reads one block file, `.json` or `.json.gz`.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, BlockError> {
        load(path.as_ref())
    }
}

fn load(path: &Path) -> Result<Block, BlockError> {
    let packing = if path.extension().is_some_and(|e| e == "gz") { Packing::Gzip } else { Packing::Plain };
    let text = text::read(path, packing).map_err(|error| {
        let path = path.into();
        match error {
            TextError::Read(source) => BlockError::Read { path, source },
            TextError::Gzip(source) => BlockError::Gzip { path, source },
            TextError::TooLarge => BlockError::TooLarge { path },
            TextError::Hollow | TextError::TooDense => {
                BlockError::Packing { path, reason: error.to_string() }
            }
        }
    })?;
    json::parse(path.into(), &text)
}

/// Reads one block file, or every `*.json` and `*.json.gz` of a folder, ordered by number. A block
/// without `pre` needs its parent in the same folder or a witness; with a witness the block is
/// executed once to find out what it reads.
pub fn load_chain(path: impl AsRef<Path>) -> Result<Blocks, BlockError> {
    let mut by_number: BTreeMap<u64, Block> = BTreeMap::new();
    for file in files(path.as_ref())? {
        let block = Block::load(&file)?;
        let number = block.number();
        if let Some(first) = by_number.get(&number) {
            return Err(BlockError::Duplicate { number, first: first.path.clone(), second: file });
        }
        by_number.insert(number, block);
    }
    let mut chain: Blocks = Vec::with_capacity(by_number.len());
    // Whether the state after the previous block holds only what that block's witness proves.
    let mut found_out = false;
    for (number, mut block) in by_number {
        let before = chain.last().filter(|last| last.number().checked_add(1) == Some(number));
        let alone = block.pre.is_none() && (before.is_none() || found_out);
        if alone && block.witness.is_none() && before.is_none() {
            return Err(BlockError::NoState { path: block.path, number });
        }
        found_out = alone && block.witness.is_some();
        if found_out {
            block.find_out_pre()?;
        }
        // Blocks with a state of their own may belong to different chains.
        let before = before.filter(|before| before.hash == block.header.parent_hash);
        if let Some(before) = before.filter(|_| block.parent.is_none()) {
            block.parent = Some(Parent::from(&**before));
        }
        chain.push(Arc::new(block));
    }
    Ok(chain)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, BlockError> {
    let read_error = |source| BlockError::Read { path: path.into(), source };
    if !std::fs::metadata(path).map_err(read_error)?.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read_error)? {
        let file = entry.map_err(read_error)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if (name.ends_with(".json") || name.ends_with(".json.gz")) && !name.starts_with('.') {
            if files.len() == MOST_FILES {
                return Err(BlockError::TooMany { path: path.into() });
            }
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() { Err(BlockError::Empty { path: path.into() }) } else { Ok(files) }
}
