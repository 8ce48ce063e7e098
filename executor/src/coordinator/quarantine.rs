//! Blocks that no shard may execute any more, because they ended every shard that did.
//!
//! They are identified by their hash. A file makes them outlive the coordinator: a restart must not
//! feed the same block to the same shards again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use revm::primitives::B256;

use crate::block::Block;
use crate::regular;

/// The most that is read of the file: room for some ten thousand blocks, where even one is rare.
const MOST_BYTES: u64 = 4 << 20;
/// The most that is stored of how a process ended.
const LONGEST_WORDS: usize = 200;

/// What is known of a block in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A process of its own survived the block: the coordinator executes it in order, and no shard
    /// does.
    InOrder,
    /// The block ended a process of its own too, in this way: nobody executes it.
    Deadly(String),
}

/// Why the file cannot be used. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The file cannot be read or written.
    #[error("{}: {source}. Give --quarantine a file in a folder that this user may write to", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line has the wrong form.
    #[error("{}:{line}: {text:?} is not `HASH NUMBER in-order` or `HASH NUMBER deadly HOW`. Correct or remove the line", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The beginning of the line.
        text: String,
    },
}

/// The blocks in quarantine; see the module.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    path: Option<PathBuf>,
    blocks: BTreeMap<B256, Known>,
}

impl Quarantine {
    /// Reads the file; one that does not exist counts as empty. Without a file the quarantine lasts
    /// as long as the coordinator.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, QuarantineError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let failed = |source| QuarantineError::File { path: path.to_owned(), source };
        let mut text = String::new();
        match regular::open(path) {
            Ok(file) => {
                file.take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let mut blocks = BTreeMap::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (hash, known) = read(line).ok_or_else(|| QuarantineError::Line {
                path: path.to_owned(),
                line: at + 1,
                text: line.chars().take(80).collect(),
            })?;
            blocks.insert(hash, known);
        }
        Ok(Self { path: Some(path.to_owned()), blocks })
    }

    /// What is known of `block`; `None` if it is not in quarantine.
    pub(super) fn knows(&self, block: &Block) -> Option<&Known> {
        self.blocks.get(&block.hash)
    }

    /// Puts a block in quarantine, and in the file if there is one.
    pub(super) fn add(&mut self, block: &Block, known: Known) -> Result<(), QuarantineError> {
        let known = match known {
            Known::Deadly(how) => Known::Deadly(one_line(&how)),
            Known::InOrder => Known::InOrder,
        };
        if let Some(path) = &self.path {
            let line = format!("{} {} {known}\n", block.hash, block.number());
            let append = || {
                let mut file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
                // One write, so that a crash leaves a whole line or none.
                file.write_all(line.as_bytes())?;
                file.sync_all()
            };
            append().map_err(|source| QuarantineError::File { path: path.clone(), source })?;
        }
        self.blocks.insert(block.hash, known);
        Ok(())
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InOrder => f.write_str("in-order"),
            Self::Deadly(how) => write!(f, "deadly {how}"),
        }
    }
}

fn read(line: &str) -> Option<(B256, Known)> {
    let mut words = line.splitn(4, ' ');
    let hash = words.next()?.parse().ok()?;
    words.next()?.parse::<u64>().ok()?;
    match (words.next()?, words.next()) {
        ("in-order", None) => Some((hash, Known::InOrder)),
        ("deadly", Some(how)) => Some((hash, Known::Deadly(how.to_owned()))),
        _ => None,
    }
}

fn one_line(words: &str) -> String {
    words.chars().take(LONGEST_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_it_went_in_and_others_are_refused() {
        let hash = B256::repeat_byte(7);
        for known in [Known::InOrder, Known::Deadly("exit code 101".to_owned())] {
            assert_eq!(read(&format!("{hash} 12 {known}")), Some((hash, known)));
        }
        for wrong in
            ["", "x", "0x07 12 in-order", &format!("{hash} x in-order"), &format!("{hash} 12 deadly")]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_with_a_wrong_line_says_which() {
        let path = std::env::temp_dir().join(format!("quarantine-{}", std::process::id()));
        std::fs::write(&path, format!("{} 1 in-order\nnonsense\n", B256::ZERO)).expect("written");
        let error = Quarantine::open(Some(&path)).expect_err("refused").to_string();
        std::fs::remove_file(&path).expect("removed");
        assert!(error.contains(":2: \"nonsense\""), "{error}");
    }
}
