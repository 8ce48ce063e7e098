//! Small chains and real blocks of the forks since Prague, if they exist beside the repository:
//! those under `valid` verify whichever way they are run, those under `refused` do not.

use std::path::{Path, PathBuf};

use shard_executor::block::{Blocks, load_chain};

use crate::support::{run, run_on};

/// The folder of `SHARD_CASES` or `shared/cases` beside the repository. If there is none, nothing
/// is run and a message is printed; in CI it is a failure.
fn cases() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases");
    let path = std::env::var_os("SHARD_CASES").map_or(beside, PathBuf::from);
    if path.join("forks").exists() {
        return Some(path);
    }
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!in_ci, "{}/forks does not exist: CI runs these chains; set SHARD_CASES", path.display());
    eprintln!("skipped: {}/forks does not exist; set SHARD_CASES", path.display());
    None
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    assert!(!entries.is_empty(), "{} is empty", folder.display());
    entries
}

fn assert_verifies(name: &Path, blocks: &Blocks) {
    let in_order = run(blocks, 1);
    for (how, reports) in [
        ("in order", run(blocks, 1)),
        ("over two shards", run(blocks, 2)),
        ("on two threads", run_on(blocks, 1, 2)),
    ] {
        for (report, first) in reports.iter().zip(&in_order) {
            assert_eq!(report.mismatch, None, "{}, block {}, {how}", name.display(), report.number);
            assert_eq!(report.digest, first.digest, "{}, block {}, {how}", name.display(), report.number);
        }
    }
}

#[test]
fn every_valid_chain_verifies() {
    let Some(cases) = cases() else { return };
    for chain in entries(&cases.join("forks/valid")) {
        assert_verifies(&chain, &load_chain(&chain).unwrap());
    }
}

#[test]
fn no_invalid_chain_verifies() {
    let Some(cases) = cases() else { return };
    for chain in entries(&cases.join("forks/refused")) {
        let Ok(blocks) = load_chain(&chain) else { continue };
        for reports in [run(&blocks, 1), run(&blocks, 2), run_on(&blocks, 1, 2)] {
            assert!(reports.iter().any(|report| !report.verified), "{} verifies", chain.display());
        }
    }
}

#[test]
fn real_blocks_of_prague_and_bpo2_verify_and_are_as_long_as_their_node_says() {
    let Some(cases) = cases() else { return };
    // The length in RLP as the node printed it, if it did.
    for (file, length) in [("block-23879620.json.gz", None), ("block-24628607.json.gz", Some(32_619))] {
        let path = cases.join(file);
        if !path.exists() {
            eprintln!("skipped: {} does not exist", path.display());
            continue;
        }
        let blocks = load_chain(&path).unwrap();
        assert_verifies(&path, &blocks);
        assert!(length.is_none() || blocks[0].size == length, "{:?} is not {length:?}", blocks[0].size);
    }
}
