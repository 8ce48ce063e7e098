//! The program `simulate` keeps its contract. The histories themselves are in `tests/simulation`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing; the test runner ends a wait without end"
)]

use std::process::Command;

#[test]
fn the_program_keeps_its_contract() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let simulate = |arguments: &[&str]| {
        let status = Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).status();
        status.unwrap().code()
    };
    let path = file.path().to_str().unwrap();
    assert_eq!(simulate(&["--histories", "100", "--seed", "3", "--json", path]), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!((json["histories"].as_u64(), json["violations"].as_u64()), (Some(100), Some(0)));
    assert!(json["kills"].is_u64() && json["stalls"].is_u64());
    let canary = ["--canary", "--histories", "2000", "--seed", "1", "--json", path];
    assert_eq!(simulate(&canary), Some(1), "a judge that is misled is found out");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(json["violations"].as_u64().unwrap() > 0, "{json}");
    assert_eq!(simulate(&["--histories", "many"]), Some(2));
    assert_eq!(simulate(&["--json", "/nowhere/at/all", "--histories", "1"]), Some(2));
}
