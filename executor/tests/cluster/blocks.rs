//! The blocks that the cluster executes, and the expected results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use shard_executor::block::{self, load_chain};
use shard_executor::generate::{Generator, Plan};
use shard_executor::local::Local;

/// A folder of blocks and the digest of the state after each, from the sequential run.
pub(crate) struct Chain {
    pub(crate) path: PathBuf,
    pub(crate) digests: BTreeMap<u64, String>,
    _generated: Option<tempfile::TempDir>,
}

impl Chain {
    /// A path for the fault port of the coordinator that runs it.
    pub(crate) fn faults(&self) -> String {
        self.path.join("coordinator.faults").to_str().unwrap().to_owned()
    }
}

/// The real blocks of `SHARD_BLOCKS` or of `shared/blocks` beside the repository. If there are
/// none, generated ones are used and a message is printed; in CI it is a failure.
pub(crate) fn real() -> Chain {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/blocks");
    let path = std::env::var_os("SHARD_BLOCKS").map_or(beside, PathBuf::from);
    if path.exists() {
        return Chain { digests: digests(&path), path, _generated: None };
    }
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!in_ci, "{} does not exist: CI runs real blocks; set SHARD_BLOCKS", path.display());
    eprintln!(
        "{} does not exist: running generated blocks instead; set SHARD_BLOCKS for real ones",
        path.display()
    );
    generated(5, 100)
}

/// A chain in which each block builds on the one before, so that a result taken from a wrong place
/// would show.
pub(crate) fn generated(blocks: usize, transactions: u32) -> Chain {
    let folder = tempfile::tempdir().unwrap();
    let mut generator = Generator::new(Plan { transactions, conflict: 0.2, seed: 7, ..Plan::default() });
    for _ in 0..blocks {
        let block = generator.next_block().unwrap();
        block::write(&block, &folder.path().join(format!("{}.json", block.number()))).unwrap();
    }
    let path = folder.path().to_owned();
    Chain { digests: digests(&path), path, _generated: Some(folder) }
}

fn digests(path: &Path) -> BTreeMap<u64, String> {
    let local = Local::new(1).unwrap();
    let mut state = None;
    let mut digests = BTreeMap::new();
    for block in load_chain(path).unwrap() {
        let (report, after) = local.run(&block, state.take(), &|| {}).unwrap();
        assert!(report.verified, "{report:?}");
        digests.insert(report.number, report.digest.to_string());
        state = Some(after);
    }
    digests
}
