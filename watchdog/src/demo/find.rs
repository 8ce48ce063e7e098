//! Finds what the demo needs but does not contain: the executor and blocks.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{DemoError, process, text};

/// The name of the executor's program.
const EXECUTOR: &str = "shard-executor";
/// Where this project's machines store real blocks, relative to its folder.
const BESIDE: &str = "../shared/blocks";
/// Enough for a block to take some milliseconds, few enough to generate in a second.
const GENERATED: [&str; 4] = ["--blocks", "20", "--txs", "200"];

/// Finds the executor's program.
pub(super) fn executor(given: Option<&Path>) -> Result<PathBuf, DemoError> {
    if let Some(given) = given {
        return if given.is_file() {
            Ok(given.to_path_buf())
        } else {
            let given = given.display();
            Err(DemoError::Prepare(format!(
                "{given} is not a file; give the path of {EXECUTOR} with --executor"
            )))
        };
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(EXECUTOR)));
    beside.filter(|path| path.is_file()).ok_or_else(|| {
        DemoError::Prepare(format!(
            "{EXECUTOR} is not beside this program; build it with `cargo build --release -p {EXECUTOR}`, or give its \
             path with --executor or SHARD_EXECUTOR"
        ))
    })
}

/// Blocks and their origin.
pub(super) struct Blocks {
    pub(super) path: PathBuf,
    pub(super) origin: &'static str,
}

/// The blocks to execute, given or found; `None`: they must be generated.
pub(super) fn blocks(given: Option<&Path>) -> Result<Option<Blocks>, DemoError> {
    if let Some(given) = given {
        if !given.exists() {
            let given = given.display();
            return Err(DemoError::Prepare(format!(
                "{given} does not exist; give a block file or a folder of them with --blocks, or leave --blocks out"
            )));
        }
        return Ok(Some(Blocks { path: given.to_path_buf(), origin: "as given" }));
    }
    let beside = PathBuf::from(BESIDE);
    let found = beside.is_dir();
    Ok(found.then_some(Blocks { path: beside, origin: "found beside the project" }))
}

/// Generates blocks below `root`.
pub(super) fn generate(executor: &Path, root: &Path, until: Instant) -> Result<Blocks, DemoError> {
    let path = root.join("blocks");
    let failed = |why: String| {
        DemoError::Prepare(format!(
            "cannot generate blocks: {why}; give some with --blocks, or repair the executor"
        ))
    };
    let mut command = Command::new(executor);
    command
        .args(["generate", "--out", text(&path)?])
        .args(GENERATED)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut generate = process::Process::start(&mut command).map_err(|error| failed(error.to_string()))?;
    match generate.wait(until) {
        Some(status) if status.success() => {
            Ok(Blocks { path, origin: "generated: 20 blocks of 200 transactions" })
        }
        Some(status) => Err(failed(format!("{EXECUTOR} generate ended with {status}"))),
        None => Err(failed("it took too long".to_owned())),
    }
}
