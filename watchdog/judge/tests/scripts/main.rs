//! The histories in `tests/histories/*.txt`: behaviour in time as text that an operator can read
//! and add to. `tests/histories/README.md` has the language.
//!
//! A line that comes otherwise is shown in its place, and every file that fails is reported. With
//! `UPDATE_HISTORIES=1` what came is written in place of what was expected: read the difference
//! before you keep it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::PathBuf;

mod changes;
mod expect;
mod play;
mod script;
mod stage;
mod told;
mod words;

/// The histories, in alphabetical order.
fn histories() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    found.sort();
    found
}

#[test]
fn every_history_comes_out_as_it_is_written() {
    let update = std::env::var_os("UPDATE_HISTORIES").is_some_and(|value| value == "1");
    let (histories, mut reports) = (histories(), Vec::new());
    for path in &histories {
        let text = std::fs::read_to_string(path).unwrap();
        let mut failures = play::play(&text);
        if update && !failures.is_empty() {
            let text = play::rewritten(&text, &failures);
            std::fs::write(path, &text).unwrap();
            failures = play::play(&text);
        }
        if !failures.is_empty() {
            let text = std::fs::read_to_string(path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy();
            reports.push(play::report(&format!("watchdog/judge/tests/histories/{name}"), &text, &failures));
        }
    }
    let (failed, all) = (reports.len(), histories.len());
    assert!(all >= 20, "{all} histories: where are the others?");
    assert!(reports.is_empty(), "{failed} of {all} histories came out otherwise.\n{}", reports.concat());
}
