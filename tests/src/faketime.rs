//! A different wall clock for everything that a scenario starts, using the library of Debian's
//! package libfaketime. Clocks since boot are unchanged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::process::Process;

/// Seconds. The jumps tested are far larger, and no reading of the clock is off by this much.
const TOLERANCE: i64 = 600;

/// The library that gives programs a different wall-clock time.
pub fn library() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let of = |folder: PathBuf| folder.join("faketime/libfaketime.so.1");
    found.map(of).chain([of("/usr/lib".into())]).find(|path| path.is_file())
}

/// Environment variables that give every started process the wall clock. Its offset stands in
/// `file`, and may change at any time.
pub fn variables(library: &Path, file: &Path) -> Vec<(String, String)> {
    let variable = |name: &str, value: &Path| (name.to_owned(), value.display().to_string());
    vec![
        variable("LD_PRELOAD", library),
        variable("FAKETIME_TIMESTAMP_FILE", file),
        variable("FAKETIME_NO_CACHE", Path::new("1")),
        variable("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
        variable("FAKETIME_DONT_RESET", Path::new("1")),
    ]
}

/// Sets the clock this many seconds ahead, and verifies that with another program.
#[track_caller]
pub fn set(file: &Path, seconds: i64, variables: &[(String, String)]) {
    // Renamed into place: nobody reads half of it.
    let next = file.with_extension("next");
    std::fs::write(&next, format!("{seconds:+}\n")).expect("a file of the test's own");
    std::fs::rename(&next, file).expect("a file of the test's own");
    let mut date = Command::new("date");
    date.arg("+%s").envs(variables.iter().cloned());
    let date = Process::start("date", date);
    let told: i64 = date.line("the time", 0, |line| line.trim().parse().ok());
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since.expect("a time after 1970").as_secs().cast_signed();
    assert!((told - now - seconds).abs() < TOLERANCE, "the clock is not faked: {told} at {now}");
}

/// Whether that process has mapped the library.
pub fn has_mapped(pid: i32, library: &Path) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.contains(&library.display().to_string())
}
