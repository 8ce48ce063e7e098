//! The code of generated chains' contracts is what their sources compile to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Node and the compiler, or `None` with a note; in CI neither may be missing.
fn compiler(scenario: &str) -> Option<PathBuf> {
    let soljson = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/solc/soljson.js");
    let node = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    if node && soljson.is_file() {
        return Some(soljson);
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "CI has node and the Solidity compiler: run tests/tools");
    shard_tests::skip::note(scenario, "no node, or no Solidity compiler: run tests/tools");
    None
}

fn check(folder: &Path, compiler: &Path) -> Output {
    Command::new("node").arg(folder.join("compile.js")).arg(compiler).arg("--check").output().unwrap()
}

#[test]
fn code_is_what_its_source_compiles_to() {
    let Some(compiler) = compiler("code_is_what_its_source_compiles_to") else { return };
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../executor/contracts");
    let output = check(&contracts, &compiler);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // The same with one character of a source changed, to prove that the check detects a change.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&contracts).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let pool = copy.path().join("Pool.sol");
    let source = std::fs::read_to_string(&pool).unwrap();
    assert!(source.contains("paid * 997"));
    std::fs::write(&pool, source.replace("paid * 997", "paid * 998")).unwrap();
    let output = check(copy.path(), &compiler);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Pool.hex is not what Pool.sol compiles to"));
}
