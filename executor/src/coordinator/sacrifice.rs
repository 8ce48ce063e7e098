//! A process that executes one block in order and may die of it, so that no other process has to.

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

/// How often the process is polled. A block takes longer, and a poll costs a few microseconds.
const LOOK: Duration = Duration::from_millis(2);

/// How the process ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It executed the block, right or wrong.
    Survived,
    /// It ended in another way, described here.
    Died(String),
    /// The caller has to stop, so the process was ended early.
    Unwanted,
}

/// Executes `block` on `state`, the state before its first transaction, in a process of its own,
/// which is ended after `within`. `still` is called while it runs; when it returns false, the
/// process is no longer wanted. `arm`: an order for the process's fault point.
///
/// # Errors
/// If the process cannot be started, or its block cannot be written.
pub(super) fn run(
    block: &Block,
    state: &State,
    within: Duration,
    arm: Option<&str>,
    still: &mut dyn FnMut() -> bool,
) -> io::Result<Ended> {
    // The protocol's calls before the first transaction have already changed this state; making
    // them again writes the same values.
    let alone = Block {
        pre: Some(state.to_pre()),
        hashes: state.hashes().clone(),
        // The witness proves another state: the one before those calls.
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

/// The child process, killed on drop so that it does not outlive the thread that waits for it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended meanwhile. What SIGKILL does not end at once is left to init.
        let _ = self.0.kill();
        let _ = self.0.try_wait();
    }
}

/// A block's file, removed when no longer needed.
struct Written(PathBuf);

impl Written {
    fn new(block: &Block) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!(
            "shard-executor-{}-{}.json",
            std::process::id(),
            block.number()
        ));
        // A leftover of an earlier process with the same id, or a file of somebody else: it must be
        // neither followed nor preserved.
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
