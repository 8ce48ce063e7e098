//! The blocks that tests run on: real ones where available, otherwise a generated chain.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::binary;

/// The folder of real blocks: `SHARD_BLOCKS`, otherwise `../shared/blocks` beside the workspace.
pub fn real() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/blocks");
    std::env::var_os("SHARD_BLOCKS").map(PathBuf::from).or(Some(beside)).filter(|path| path.is_dir())
}

/// A real block that calls the point evaluation precompile, as nearly every block with a rollup in
/// it does: the file that `SHARD_BLOCK_WITH_POINT` names, otherwise `cases/block-19932703.json.gz`
/// beside the folder of real blocks. CI requires it.
#[track_caller]
pub fn with_point_evaluation() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/block-19932703.json.gz");
    let named = std::env::var_os("SHARD_BLOCK_WITH_POINT").map(PathBuf::from);
    let of_folder = real().map(|folder| folder.join("../cases/block-19932703.json.gz"));
    let found = [named, of_folder, Some(beside)].into_iter().flatten().find(|path| path.is_file());
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(
        found.is_some() || !ci,
        "CI runs block 19932703: put it into the folder cases beside that of SHARD_BLOCKS"
    );
    found
}

/// Real blocks, or a chain generated into `folder`. CI requires real blocks.
#[track_caller]
pub fn any(folder: &Path) -> PathBuf {
    if let Some(real) = real() {
        return real;
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "CI runs on real blocks: set SHARD_BLOCKS to their folder");
    eprintln!("no real blocks at SHARD_BLOCKS or ../shared/blocks: running on generated ones");
    generated(folder, 10, 100)
}

/// Generates a chain into `folder`.
#[track_caller]
pub fn generated(folder: &Path, blocks: u32, transactions: u32) -> PathBuf {
    let out = folder.join("blocks");
    let status = Command::new(binary("shard-executor"))
        .args(["generate", "--out"])
        .arg(&out)
        .args(["--blocks", &blocks.to_string(), "--txs", &transactions.to_string()])
        .stdout(std::process::Stdio::null())
        .status()
        .expect("shard-executor runs");
    assert!(status.success(), "generate failed: {status}");
    out
}
