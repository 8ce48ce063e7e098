//! The fault matrix itself: it has every row of the manual, reports those it lacks, and a failing
//! row leaves its evidence and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use shard_tests::fault_kit;
use shard_tests::matrix::{LEFT_OUT, NOT_BUILT, all};
use shard_tests::process::Process;
use shard_tests::{sweep, wait};

/// The first two cells of each row of the table in the manual.
fn manual() -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/failure-modes.md");
    let text = fs::read_to_string(page).unwrap();
    let table = text.split_once("## Row by row").unwrap().1.split_once("\n## ").unwrap().0;
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")).skip(2);
    let cells = rows.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    cells
        .flat_map(|cells| {
            cells[0].split(", ").map(|number| (number.to_owned(), cells[1].clone())).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_row_of_the_manual_is_in_the_matrix_or_left_out_with_its_reason() {
    let has: BTreeSet<_> = all().iter().map(|row| row.number).collect();
    let manual = manual();
    assert!(manual.len() > 60, "{manual:#?}");
    for (number, what) in &manual {
        let left_out = LEFT_OUT.iter().any(|one| {
            one.number == number && (number != "-" || what.starts_with(one.what)) && !one.why.is_empty()
        });
        assert!(has.contains(&**number) || left_out, "row {number} of the manual: {what}");
        assert!(!(has.contains(&**number) && left_out), "row {number} is in the matrix, and left out");
    }
    // Conversely: no row that the manual lacks, and no reason for a row that does not exist.
    for number in &has {
        assert!(manual.iter().any(|(of, _)| of == number), "the manual has no row {number}");
    }
    for one in LEFT_OUT {
        let there = |(number, what): &(String, String)| {
            number == one.number && (number != "-" || what.starts_with(one.what))
        };
        assert!(manual.iter().any(there), "the manual has no row {} {}", one.number, one.what);
    }
    for one in NOT_BUILT {
        assert!(!has.contains(one.number), "row {} is in the matrix, and not built", one.number);
    }
    // The list of faults goes from 1 to 31 and from 40 to 67.
    for number in (1..=31).chain(40..=67).map(|number: u32| number.to_string()) {
        let known = NOT_BUILT.iter().chain(LEFT_OUT).any(|one| one.number == number);
        assert!(has.contains(&*number) || known, "row {number} is nowhere");
    }
    let ids: BTreeSet<_> = all().iter().map(|row| row.id()).collect();
    assert_eq!(ids.len(), all().len(), "two rows of one name");
}

/// A run of the matrix, and where it writes.
struct Started {
    process: Process,
    out: tempfile::TempDir,
}

impl Started {
    fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let out = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_matrix"));
        command.args(arguments).arg("--out").arg(out.path()).envs(variables.iter().copied());
        Self { process: Process::start("matrix", command), out }
    }

    fn code(&mut self) -> Option<i32> {
        let ended = wait::within(Duration::from_secs(240), "the end of the matrix", || self.process.ended());
        ended.code()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out.path().join("matrix.json")).unwrap()).unwrap()
    }

    fn junit(&self) -> quick_junit::Report {
        let text = fs::read_to_string(self.out.path().join("junit.xml")).unwrap();
        quick_junit::Report::deserialize_from_str(&text).unwrap()
    }
}

/// All files of this name below a folder.
fn named(name: &str, folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let below = |path: PathBuf| {
        if path.is_dir() {
            named(name, &path)
        } else if path.file_name().is_some_and(|of| of == name) {
            vec![path]
        } else {
            Vec::new()
        }
    };
    entries.filter_map(Result::ok).flat_map(|entry| below(entry.path())).collect()
}

#[test]
fn a_row_that_passes_is_told_in_every_form_and_leaves_nothing() {
    let mut run = Started::start(&["--rows", "57"], &[]);
    assert_eq!(run.code(), Some(0), "{:#?}", run.process.lines());
    let json = run.json();
    assert_eq!((&json["passed"], &json["failed"]), (&1.into(), &0.into()), "{json:#}");
    let row = &json["rows"][0];
    assert_eq!((&row["row"], &row["result"]), (&"57".into(), &"passed".into()), "{row:#}");
    assert!(row["times"]["verdict_ms"].as_f64().is_some_and(|time| time > 0.0), "{row:#}");
    assert!(row["seen"].as_str().is_some_and(|seen| seen.contains("degraded")), "{row:#}");
    assert_eq!(json["not_built"].as_array().map(Vec::len), Some(NOT_BUILT.len()));
    let junit = run.junit();
    assert_eq!((junit.tests, junit.failures), (1 + NOT_BUILT.len(), 0));
    let page = fs::read_to_string(run.out.path().join("matrix.md")).unwrap();
    assert!(page.contains("| 57 | a glob in the config that matches no thread |"), "{page}");
    let lines = run.process.lines().join("\n");
    assert!(lines.contains("pass   1/1 57 ") && !lines.contains('\x1b'), "no terminal, no colours: {lines}");
    assert!(!run.out.path().join("row-57").exists());
}

#[test]
fn a_row_that_fails_leaves_its_incident_its_recording_and_its_log() {
    // Nothing is killed, so nothing is restarted.
    let mut run = Started::start(&["--rows", "4", "--patience", "20"], &[("SHARD_TESTS_MODE", "observe")]);
    assert_eq!(run.code(), Some(1), "{:#?}", run.process.lines());
    let row = &run.json()["rows"][0];
    assert_eq!(row["result"], "failed", "{row:#}");
    assert!(
        row["why"].as_str().is_some_and(|why| why.contains("an incident with the step restarted")),
        "{row:#}"
    );
    let kept = run.out.path().join("row-04");
    assert_eq!(row["evidence"], kept.canonicalize().unwrap().display().to_string(), "{row:#}");
    let incidents = named("incident.json", &kept);
    let [incident] = &incidents[..] else { panic!("one incident: {incidents:?}") };
    let told: Value = serde_json::from_slice(&fs::read(incident).unwrap()).unwrap();
    assert_eq!(told["reason"], "stalled", "{told:#}");
    assert!(incident.with_file_name("recording").is_file(), "{:?}", named("recording", &kept));
    for shard in ["0", "1"] {
        for file in ["toml", "status.json", "metrics.txt", "recording"] {
            assert_eq!(named(&format!("{shard}.{file}"), &kept).len(), 1, "{shard}.{file}");
        }
    }
    let log = fs::read_to_string(kept.join("log")).unwrap();
    assert!(log.contains("supervise: sidecar pid"), "{log}");
    let junit = run.junit();
    assert_eq!((junit.tests, junit.failures), (1 + NOT_BUILT.len(), 1));
}

#[test]
fn ctrl_c_ends_the_row_undoes_its_fault_and_is_told() {
    if !fault_kit::has("ctrl_c_ends_the_row_undoes_its_fault_and_is_told", &[]) {
        return;
    }
    let mut run = Started::start(&["--rows", "43,40"], &[]);
    let mark = format!("SHARD_MATRIX_ROW={}-40", run.process.pid());
    wait::until("the first row", || {
        let log = fs::read_to_string(run.out.path().join("row-40/log")).ok()?;
        log.contains("supervise: sidecar pid").then_some(())
    });
    assert!(sweep::carrying_variable(&mark).len() > 2, "the row, its supervisor, its shard");
    run.process.signal(Signal::INT);
    assert_eq!(run.code(), Some(130), "{:#?}", run.process.lines());
    assert_eq!(sweep::carrying_variable(&mark), [] as [i32; 0]);
    let json = run.json();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "the second one has not begun: {json:#}");
    assert!(rows[0]["why"].as_str().is_some_and(|why| why.contains("the run was ended")), "{json:#}");
}

#[test]
fn the_launcher_lists_every_row_and_refuses_what_is_none() {
    let bins = Path::new(env!("CARGO_BIN_EXE_matrix")).parent().unwrap().to_str().unwrap();
    let ran = |more: &[&str]| {
        fault_kit::run(
            "matrix",
            fault_kit::command("matrix", &[&["--no-build", "--bin-dir", bins], more].concat()),
        )
    };
    let listed = ran(&["--list"]);
    assert_eq!(listed.code, Some(0), "{}", listed.said);
    for row in all() {
        assert!(listed.said.lines().any(|line| line.split(' ').next() == Some(&row.id())), "{}", row.id());
    }
    for one in NOT_BUILT.iter().chain(LEFT_OUT) {
        assert!(listed.said.contains(one.what) && listed.said.contains(one.why), "{one:?}: {}", listed.said);
    }
    for (arguments, says) in [
        (["--rows", "99"], "the matrix has no row 99"),
        (["--rows", "9-4"], "ends before it begins"),
        (["--jobs", "0"], "--jobs"),
        (["--out", "/proc/none"], "Give --out a folder that you may write to"),
    ] {
        let refused = ran(&arguments);
        assert_eq!(refused.code, Some(2), "{}", refused.said);
        assert!(refused.said.contains(says), "{arguments:?}: {}", refused.said);
    }
    let nowhere = fault_kit::run("matrix", fault_kit::command("matrix", &["--bin-dir", "/"]));
    assert_eq!(nowhere.code, Some(2), "{}", nowhere.said);
    assert!(nowhere.said.contains("cargo build --release --workspace --bins"), "{}", nowhere.said);
}
