//! Reading block files: bounded, and ordered by number.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::{Block, BlockError, Blocks, Parent, json};

/// The most JSON that one block file may hold once unpacked. The largest mainnet blocks with all the state they touch
/// stay below 50 MiB; a few KiB of gzip can claim to be terabytes.
pub const MAX_BLOCK_BYTES: u64 = 256 << 20;

pub(super) fn load(path: &Path) -> Result<Block, BlockError> {
    let read_error = |source| BlockError::Read { path: path.into(), source };
    let file = File::open(path).map_err(read_error)?;
    if file.metadata().map_err(read_error)?.is_dir() {
        return Err(read_error(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let mut text = Vec::new();
    if path.extension().is_some_and(|e| e == "gz") {
        MultiGzDecoder::new(BufReader::new(file))
            .take(MAX_BLOCK_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(|source| BlockError::Gzip { path: path.into(), source })?;
    } else {
        file.take(MAX_BLOCK_BYTES + 1).read_to_end(&mut text).map_err(read_error)?;
    }
    if text.len() as u64 > MAX_BLOCK_BYTES {
        return Err(BlockError::TooLarge { path: path.into() });
    }
    json::parse(path.into(), &text)
}

/// Reads one block file, or every `*.json` and `*.json.gz` of a folder, ordered by number. A block
/// without `pre` must have the block before it in the same folder, or a witness: then what it reads
/// is found out by executing it once.
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
    // Whether the state after the block before holds no more than what that one's witness proves.
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
        // Blocks with a state of their own may be of different chains.
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
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() { Err(BlockError::Empty { path: path.into() }) } else { Ok(files) }
}
