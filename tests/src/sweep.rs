//! Ends what remains of a test: a shard that a fault made deaf to SIGTERM outlives its supervisor.
//!
//! Everything that a cluster starts carries a mark in its environment, and the harness, as
//! subreaper, inherits orphans. It ends only its own children that carry its mark, through a pidfd.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

/// The variable that carries the mark.
pub const MARK: &str = "SHARD_TESTS_MARK";

/// Adopts orphans from now on.
pub fn adopt_orphans() {
    // SAFETY: prctl with these arguments reads and writes no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Ends every child of this process that carries `mark`. New orphans may appear while old ones end,
/// so it repeats until none is left.
pub fn sweep(mark: &str) {
    sweep_with(&format!("{MARK}={mark}"));
}

/// Ends every child with this `NAME=value` in its environment.
pub fn sweep_with(variable: &str) {
    for _ in 0..100 {
        let left = children().into_iter().filter(|pid| carries(*pid, variable)).collect::<Vec<_>>();
        if left.is_empty() {
            return;
        }
        for pid in left {
            end(pid, variable);
        }
    }
}

/// Every process that carries `mark`, whoever its parent. One that has ended but is not reaped
/// carries nothing.
pub fn carrying(mark: &str) -> Vec<i32> {
    carrying_variable(&format!("{MARK}={mark}"))
}

/// Every process with this `NAME=value` in its environment.
pub fn carrying_variable(variable: &str) -> Vec<i32> {
    processes().into_iter().filter(|pid| carries(*pid, variable)).collect()
}

/// Reaps the ended ones among `orphans`, which this process has inherited.
pub fn reap(orphans: &[i32]) {
    for pid in orphans.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

fn children() -> Vec<i32> {
    i32::try_from(std::process::id()).map(children_of).unwrap_or_default()
}

/// The children of a process.
pub fn children_of(parent_pid: i32) -> Vec<i32> {
    let wanted = parent_pid.to_string();
    processes().into_iter().filter(|pid| parent(*pid).as_deref() == Some(wanted.as_str())).collect()
}

fn processes() -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    processes.filter_map(Result::ok).filter_map(pid).collect()
}

fn parent(pid: i32) -> Option<String> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    // A process name may be any bytes.
    let status = String::from_utf8_lossy(&status);
    status.lines().find_map(|line| line.strip_prefix("PPid:")).map(|ppid| ppid.trim().to_owned())
}

fn carries(pid: i32, wanted: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()))
}

fn end(pid: i32, wanted: &str) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    // It is our unreaped child, so the pid cannot have been reused since it was read.
    if !carries(pid.as_raw_nonzero().get(), wanted) {
        return;
    }
    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::CONT);
    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
}
