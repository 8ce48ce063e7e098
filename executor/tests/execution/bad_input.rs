//! Each kind of bad input must give one paragraph that names the file, what is wrong and the next
//! step, and the exit code.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;
use shard_executor::block::{self, Block, BlockError, Blocks, load_chain};
use shard_executor::generate::Plan;

use crate::support::generated;

fn chain() -> Blocks {
    generated(Plan { transactions: 4, conflict: 0.5, seed: 1, witness: false, ..Plan::default() }, 3)
}

fn write_chain(folder: &Path, blocks: &Blocks) {
    for block in blocks {
        block::write(block, &folder.join(format!("{}.json.gz", block.number()))).unwrap();
    }
}

fn shard_executor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shard-executor")).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

/// Runs `local` on `path` and checks that it is refused in one paragraph that names `path`.
fn refused(path: &Path, because: &str) {
    let output = shard_executor(&["local", "--blocks", path.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(because), "expected `{because}` in: {said}");
    assert!(said.contains(path.to_str().unwrap()), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "one paragraph: {said}");
}

#[test]
fn a_whole_chain_runs_and_a_wrong_block_is_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let mut blocks = chain();
    write_chain(folder.path(), &blocks);
    let path = folder.path().to_str().unwrap();
    for shards in ["1", "2"] {
        let output = shard_executor(&["local", "--blocks", path, "--shards", shards, "--json"]);
        assert_eq!(output.status.code(), Some(0));
        let lines = String::from_utf8(output.stdout).unwrap();
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(first["verified"], true);
        assert_eq!(lines.lines().count(), 3);
    }
    let mut wrong = Block::clone(&blocks[1]);
    wrong.expected.gas_used += 1;
    blocks[1] = wrong.into();
    write_chain(folder.path(), &blocks);
    let output = shard_executor(&["local", "--blocks", path]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("gasUsed") && !said.contains("receiptsRoot"), "{said}");
}

#[test]
fn a_file_that_is_absent_damaged_or_something_else_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    refused(&at("absent"), "cannot be read");
    refused(folder.path(), "no block files");

    block::write(&chain()[0], &at("1.json.gz")).unwrap();
    let whole = std::fs::read(at("1.json.gz")).unwrap();
    for length in [0, 5, 20, whole.len() / 2, whole.len() - 1] {
        std::fs::write(at("1.json.gz"), &whole[..length]).unwrap();
        refused(&at("1.json.gz"), "not a whole gzip file");
    }
    std::fs::write(at("1.json.gz"), b"{\"block\": 1}").unwrap();
    refused(&at("1.json.gz"), "not a whole gzip file");

    std::fs::write(at("2.json"), b"{\n  \"block\": {]").unwrap();
    refused(&at("2.json"), "2.json:2:13: ");
    std::fs::write(at("2.json"), b"{\"block\": {\"number\": \"0x1\"}}").unwrap();
    refused(&at("2.json"), "missing field");
    std::fs::write(at("2.json"), vec![b'['; 100_000]).unwrap();
    refused(&at("2.json"), "2.json:1:");
}

#[test]
fn a_bomb_is_not_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json.gz");
    let mut bomb = GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::fast());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..=block::MAX_BLOCK_BYTES >> 20 {
        bomb.write_all(&zeros).unwrap();
    }
    bomb.finish().unwrap();
    refused(&path, "64 MiB, 200 times its size or more, which no block does");
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pipe = |path: &Path| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    };
    pipe(&at("1.json"));
    refused(&at("1.json"), "it is a pipe, not a regular file");
    pipe(&at("1.json.gz"));
    refused(&at("1.json.gz"), "it is a pipe, not a regular file");
    let _socket = std::os::unix::net::UnixListener::bind(at("2.json")).unwrap();
    refused(&at("2.json"), "it is a socket, not a regular file");
    std::os::unix::fs::symlink("/dev/zero", at("3.json")).unwrap();
    refused(&at("3.json"), "it is a device, not a regular file");
    std::os::unix::fs::symlink(at("4.json"), at("4.json")).unwrap();
    refused(&at("4.json"), "symbolic links");
    refused(Path::new("/dev/zero"), "it is a device, not a regular file");
    // The same in a folder, among valid blocks.
    std::fs::create_dir(at("folder")).unwrap();
    write_chain(&at("folder"), &chain());
    pipe(&at("folder/7.json"));
    let output = shard_executor(&["local", "--blocks", at("folder").to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("7.json: cannot be read: it is a pipe"), "{said}");
}

#[test]
fn transactions_of_another_block_are_a_wrong_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    let block = &chain()[0];
    for (key, other) in
        [("blockNumber", "0x7"), ("blockHash", &format!("0x{:064x}", 7)), ("transactionIndex", "0x3")]
    {
        block::write(block, &path).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json["block"]["transactions"][2][key] = other.into();
        std::fs::write(&path, json.to_string()).unwrap();
        refused(&path, &format!("transaction 2 says {key}"));
    }
}

#[test]
fn a_block_that_could_run_for_ever_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    let mut block = Block::clone(&chain()[0]);
    block.transactions[0].gas_limit = u64::MAX;
    block::write(&block, &path).unwrap();
    refused(&path, "more than the 10000000000 allowed");
}

#[test]
fn unknown_forks_and_chains_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    block::write(&chain()[0], &path).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json["chain"]["fork"] = "oslo".into();
    std::fs::write(&path, json.to_string()).unwrap();
    refused(&path, "fork `oslo` is not one of frontier");
    json["chain"]["fork"] = serde_json::Value::Null;
    std::fs::write(&path, json.to_string()).unwrap();
    refused(&path, "the forks of chain 1337 are not known");
    // A header of Prague, with a fork that has more fields.
    json["chain"]["fork"] = "amsterdam".into();
    std::fs::write(&path, json.to_string()).unwrap();
    refused(&path, "runs under amsterdam and has no `slotNumber`");
}

#[test]
fn a_block_without_state_names_the_block_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { transactions: 4, witness: false, ..Plan::default() };
    let blocks = generated(plan, 3);
    write_chain(folder.path(), &blocks);
    std::fs::remove_file(folder.path().join("1.json.gz")).unwrap();
    refused(&folder.path().join("2.json.gz"), "the state after block 1");
    assert!(matches!(load_chain(folder.path()), Err(BlockError::NoState { number: 2, .. })));
}

#[test]
fn a_block_of_another_chain_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut blocks = chain();
    blocks[1] = generated(Plan { transactions: 4, conflict: 0.5, seed: 2, ..Plan::default() }, 2)[1].clone();
    write_chain(folder.path(), &blocks);
    let output = shard_executor(&["local", "--blocks", folder.path().to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("different chains") && said.contains("2.json.gz"), "{said}");
}

#[test]
fn the_same_block_twice_names_both_files() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = chain();
    write_chain(folder.path(), &blocks);
    block::write(&blocks[1], &folder.path().join("again.json")).unwrap();
    let error = load_chain(folder.path()).unwrap_err();
    assert!(matches!(error, BlockError::Duplicate { number: 2, .. }));
    assert!(error.to_string().contains("again.json") && error.to_string().contains("2.json.gz"));
}

#[test]
fn generate_does_not_write_over_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("chain");
    let make = |extra: &[&str]| {
        let basic = ["generate", "--out", out.to_str().unwrap(), "--blocks", "2", "--txs", "3"];
        shard_executor(&[&basic, extra].concat())
    };
    assert_eq!(make(&[]).status.code(), Some(0));
    std::fs::write(out.join("notes.txt"), "mine").unwrap();
    let again = make(&[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8(again.stderr).unwrap().contains("is not empty"));
    assert_eq!(make(&["--force"]).status.code(), Some(0));
    assert_eq!(std::fs::read(out.join("notes.txt")).unwrap(), b"mine");
    assert_eq!(load_chain(&out).unwrap().len(), 2);
    assert_eq!(make(&["--conflict", "1.5"]).status.code(), Some(2));
}
