//! The process of one row: plays it, and records what it observed, whatever becomes of it.

use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Course, Row, Told, evidence};
use crate::wait;

/// Instructions from the parent process.
#[derive(Clone, Debug)]
pub struct One {
    /// File for the result.
    pub result: PathBuf,
    /// Folder for the evidence of a failure.
    pub keep: PathBuf,
    /// How long each of its waits may take.
    pub patience: Duration,
}

/// Plays the row. Exit code 0 means that it passed.
pub fn play(row: &Row, one: &One) -> ExitCode {
    wait::give_up_at_signals();
    wait::wait_at_most(one.patience);
    let told = Told::default();
    let (seen, of_hook) = (told.clone(), one.clone());
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        // Another thread of the harness may panic because its scene is over; only the row itself
        // counts.
        if std::thread::current().name() == Some("main") {
            write(&of_hook.result, &seen, Some(&words(info)));
            // Everything that was started is still running; unwinding ends it.
            evidence::keep(&std::env::temp_dir(), &of_hook.keep);
        }
    }));
    let played = panic::catch_unwind(AssertUnwindSafe(|| match row.course {
        Course::Recovers(recovers) => recovers.play(&told),
        Course::Spared(spared) => spared.play(&told),
        Course::Scene(scene) => scene(&told),
    }));
    if played.is_err() {
        return ExitCode::FAILURE;
    }
    write(&one.result, &told, None);
    ExitCode::SUCCESS
}

/// Writes the result. Nothing here may panic: the hook calls it.
fn write(result: &Path, told: &Told, failed: Option<&str>) {
    let mut all = told.so_far().unwrap_or_else(|| json!({}));
    all["failed"] = failed.map_or(Value::Null, Value::from);
    if let Err(error) = std::fs::write(result, all.to_string()) {
        eprintln!("{}: {error}", result.display());
    }
}

/// The message of a panic and its location.
fn words(info: &PanicHookInfo<'_>) -> String {
    let said = info.payload_as_str().unwrap_or("a panic without words");
    info.location()
        .map_or_else(|| said.to_owned(), |place| format!("{said} ({}:{})", place.file(), place.line()))
}
