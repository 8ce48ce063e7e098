//! Why a block file is refused.

use std::path::PathBuf;

use super::text::MAX_BLOCK_BYTES;

/// Why a block file was refused. Each message names the file, what is wrong and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The path cannot be opened or read.
    #[error("{}: cannot be read: {source}. Name a block file or a folder of them with --blocks, or make some with `shard-executor generate --out DIR`.", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The error from the system.
        source: std::io::Error,
    },
    /// A `.gz` whose contents are not gzip, are damaged or end early.
    #[error("{}: not a whole gzip file ({source}). It was probably cut short while being copied or is not compressed at all: copy it again, or rename it to .json if it is plain text.", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// The error from the decoder.
        source: std::io::Error,
    },
    /// More text than any block can need.
    #[error("{}: holds more than {} MiB of JSON, which no block needs; reading stopped there. Split it into one file a block.", path.display(), MAX_BLOCK_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Compressed as no real block is: reading on would only fill the memory.
    #[error("{}: {reason}, which no block does; reading stopped there. Do not trust where it comes from; if it is a block after all, unpack it and name the .json file.", path.display())]
    Packing {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// More files than the limit of one run.
    #[error("{}: holds more than a million block files. Name a folder with fewer.", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// Not JSON, or JSON of a different shape.
    #[error("{}:{line}:{column}: {reason}. Each file holds one object with the keys `block`, `pre` and `hashes`; `block` is what eth_getBlockByNumber(n, true) answers.", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The error from the parser.
        reason: String,
    },
    /// The parts do not belong to one block, or not to a block this crate can run.
    #[error("{}: {reason}. {hint}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
        /// What to do next.
        hint: String,
    },
    /// A folder without block files.
    #[error("{}: no block files (*.json, *.json.gz) in this folder. Name another with --blocks, or make some with `shard-executor generate --out DIR`.", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// Two files that hold the same block.
    #[error("{} and {}: both hold block {number}. Keep one of them.", first.display(), second.display())]
    Duplicate {
        /// The block's number.
        number: u64,
        /// The first file.
        first: PathBuf,
        /// The second file.
        second: PathBuf,
    },
    /// A block without `pre` whose parent, which it would run on, is missing.
    #[error("{}: block {number} has no `pre`, so it stands on the state after block {}, which is not in the same folder. Add that block's file, or give this one a `pre` (what debug_traceBlockByNumber answers with prestateTracer).", path.display(), number.saturating_sub(1))]
    NoState {
        /// The file.
        path: PathBuf,
        /// The number of its block.
        number: u64,
    },
}
