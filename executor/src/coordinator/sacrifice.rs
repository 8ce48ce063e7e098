//! A process that executes one block in order and may die of it, so that nobody else has to.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use shard_telemetry::service_manager;

use crate::block::{self, Block};
use crate::state::State;

/// How often it is looked at. A block takes longer than that, and a look costs a few microseconds.
const LOOK: Duration = Duration::from_millis(2);

/// What became of the process.
#[derive(Debug)]
pub(super) enum Ended {
    /// It executed the block, right or wrong.
    Survived,
    /// It ended in another way.
    Died(String),
    /// Whoever waited for it has to stop.
    Unwanted,
}

/// Executes `block` on `state`, the state before its first transaction, in a process of its own,
/// which is ended after `within`. `still`: called while it runs; false: not wanted any more. `arm`:
/// an order for its fault point.
///
/// # Errors
/// If the process cannot be started, or its block not be written.
pub(super) fn run(
    block: &Block,
    state: &State,
    within: Duration,
    arm: Option<&str>,
    still: &mut dyn FnMut() -> bool,
) -> io::Result<Ended> {
    // What the protocol does before the first transaction has been done on this state already;
    // doing it again writes the same values.
    let alone = Block {
        pre: Some(state.to_pre()),
        hashes: state.hashes().clone(),
        // It proves another state: the one before those calls.
        witness: None,
        ..block.clone()
    };
    let file = Written::new(&alone)?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["local", "--shards", "1", "--json", "--blocks"]).arg(&file.0);
    command.args(arm.iter().flat_map(|order| ["--arm", *order]));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    for variable in service_manager::VARIABLES {
        command.env_remove(variable);
    }
    // SAFETY: prctl with these arguments only sets a flag of the new process, and may be called
    // between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let mut process = Process(command.spawn()?);
    let until = Instant::now() + within;
    loop {
        if let Some(status) = process.0.try_wait()? {
            return Ok(ended(status));
        }
        if !still() {
            return Ok(Ended::Unwanted);
        }
        if Instant::now() >= until {
            return Ok(Ended::Died(format!("not done within {within:?}")));
        }
        std::thread::sleep(LOOK);
    }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        // Verified, or not what its header says.
        (Some(0 | 1), _) => Ended::Survived,
        (Some(code), _) => Ended::Died(format!("exit code {code}")),
        (None, Some(signal)) => Ended::Died(format!("signal {signal}")),
        (None, None) => Ended::Died(status.to_string()),
    }
}

/// It does not outlive whoever waits for it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended meanwhile. What SIGKILL does not end, init will take over.
        let _ = self.0.kill();
        let _ = self.0.try_wait();
    }
}

/// A block's file for as long as it is needed.
struct Written(PathBuf);

impl Written {
    fn new(block: &Block) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!(
            "shard-executor-{}-{}.json",
            std::process::id(),
            block.number()
        ));
        // Left over by an earlier process of the same number, or put there by somebody else: not to
        // be followed or kept.
        let _ = fs::remove_file(&path);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let written = Self(path);
        block::write(block, written.path()).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(written)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
