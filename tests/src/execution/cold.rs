//! What is built at first use: the first block of a fresh process against its second run in the
//! same process, and each precompile's first call against the later ones.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use shard_executor::block::Block;
use shard_executor::warm_up;

use super::Times;
use crate::process::binary;

/// One block in fresh processes.
#[derive(Clone, Debug)]
pub struct Cold {
    /// Block number.
    pub number: u64,
    /// Times of the first run of each process.
    pub first: Times,
    /// Times of the second run.
    pub second: Times,
}

impl Cold {
    /// Ratio of the medians, first run over second.
    pub fn ratio(&self) -> f64 {
        self.first.median() / self.second.median()
    }
}

/// The relevant part of the executor's output line.
#[derive(Deserialize)]
struct Line {
    elapsed_ms: f64,
    verified: bool,
}

/// Runs every block of `folder` and of the files `more` that brings its own state, each in
/// `processes` processes of `shard-executor local`. A block that builds on its predecessor cannot
/// be the first of a process.
///
/// # Panics
/// If a block cannot be read, or comes out wrong.
#[track_caller]
pub fn blocks(folder: &Path, more: &[PathBuf], processes: u32) -> Vec<Cold> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(".json.gz"))
        .collect();
    files.sort();
    files.extend_from_slice(more);
    let with_state = files.into_iter().filter_map(|file| {
        let block = Block::load(&file).expect("a block");
        block.pre.is_some().then_some((file, block.number()))
    });
    with_state.map(|(file, number)| one(&file, number, processes)).collect()
}

#[track_caller]
fn one(file: &Path, number: u64, processes: u32) -> Cold {
    let mut cold = Cold { number, first: Times::default(), second: Times::default() };
    for _ in 0..processes {
        let mut command = Command::new(binary("shard-executor"));
        command.args(["local", "--json", "--repeat", "2", "--blocks"]).arg(file);
        let text = output(command);
        let lines: Vec<Line> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        let [first, second] = &lines[..] else { panic!("block {number}: two lines instead of {text}") };
        assert!(first.verified && second.verified, "block {number} is wrong: {text}");
        cold.first.milliseconds.push(first.elapsed_ms);
        cold.second.milliseconds.push(second.elapsed_ms);
    }
    cold
}

/// Times of one precompile, in microseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Precompile {
    /// Name of the precompile.
    pub name: String,
    /// Its first call in a process.
    pub cold_us: f64,
    /// The fastest of the calls after it.
    pub warm_us: f64,
}

/// How often it is called after the first call.
const AGAIN: u32 = 50;

/// Times the call at `place` of [`warm_up::calls`] in this process, which has called no precompile
/// yet; `None` past the last.
pub fn this_precompile(place: usize) -> Option<Precompile> {
    let call = warm_up::calls().into_iter().nth(place)?;
    let time = || {
        let began = Instant::now();
        assert!(call.succeeds(), "{}", call.name);
        began.elapsed().as_secs_f64() * 1e6
    };
    let cold_us = time();
    let warm_us = (0..AGAIN).map(|_| time()).fold(f64::INFINITY, f64::min);
    Some(Precompile { name: call.name.to_owned(), cold_us, warm_us })
}

/// Times all of them, each in a process of its own that `start` creates.
///
/// # Panics
/// If one fails.
#[track_caller]
pub fn precompiles(start: impl Fn(usize) -> Command) -> Vec<Precompile> {
    let all = 0..warm_up::calls().len();
    all.map(|place| serde_json::from_str(&output(start(place))).expect("its figures")).collect()
}

/// A program's whole standard output.
#[track_caller]
#[expect(
    clippy::disallowed_methods,
    reason = "programs of ours that execute one block and end; a person watches"
)]
fn output(mut command: Command) -> String {
    command.env("RUST_LOG", "off").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}
