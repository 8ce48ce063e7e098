//! Scenarios that this machine cannot run: named and counted, so that they do not pass for passed.

use std::path::PathBuf;

/// Records that the scenario `name` is not run, and why. `tests/run-all` counts these at its end.
pub fn note(name: &str, why: &str) {
    eprintln!("SKIPPED {name}: {why}");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/skipped");
    // The line above is printed in any case.
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(folder.join(name), format!("{why}\n"));
}
