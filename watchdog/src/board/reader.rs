//! Totals of the target and of the sidecar itself: CPU, memory, files and threads, read by `procfs`
//! and `sysinfo`.
//!
//! Never read in the watch loop: some files below `/proc` take the target's memory lock and may
//! hang for as long as the target does. A separate thread reads them. If it hangs, its last numbers
//! become stale and are no longer reported.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use procfs::process::Process;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::clock::Monotonic;
use crate::config::KillBy;
use crate::snapshot::{Snapshot, TargetIdentity};

use super::Board;
use super::history::{CpuReading, History};
use super::totals::{ProcessTotals, TargetStats, ThreadCpu};

/// Twice within the shortest scrape interval in common use, 10 s. One read opens two files per
/// thread.
const READ_EVERY: Duration = Duration::from_secs(5);
/// How often to check for a new target, and to read what its threads get of the CPU.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The number of threads that get labels of their own. Reading more would only add to the sum under
/// `other`.
const MOST_THREADS: usize = shard_telemetry::metric::NAMES;

/// The thread that reads.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Reader {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(board: Arc<Board>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread =
            thread::Builder::new().name("procstat".to_owned()).spawn(move || run(&board, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Asks the thread to end, without waiting for it: it may hang.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
    }
}

fn run(board: &Board, stop: &AtomicBool) {
    let Ok(mut system) = System::new() else {
        tracing::warn!("this machine does not report what its processes use; process metrics are absent");
        return;
    };
    let mut last: Option<(Monotonic, Option<TargetIdentity>)> = None;
    while !stop.load(Ordering::Relaxed) {
        let now = crate::clock::now();
        // The pids of another pid namespace denote other processes here.
        let snapshot = board.snapshot().filter(|_| board.kills_by() == KillBy::Signal);
        let identity = snapshot.as_ref().and_then(|snapshot| snapshot.target);
        if last.is_none_or(|(at, of)| of != identity || now.since(at) >= READ_EVERY) {
            board.set_target(Arc::new(read(&mut system, snapshot.as_deref(), now)));
            last = Some((now, identity));
        }
        if let Some(target) = identity {
            read_cpu(board.history(), target);
        }
        thread::park_timeout(LOOK_EVERY);
    }
}

/// Reads what the kernel has given to the threads that have a history: one file for each.
fn read_cpu(history: &History, target: TargetIdentity) {
    let Some(process) = Process::new(target.pid).ok().filter(|process| is(process, target)) else { return };
    let read = |tid: i32| {
        let given = process.task_from_tid(tid).ok()?.schedstat().ok()?;
        Some(CpuReading { tid, ran_ns: given.sum_exec_runtime, waited_ns: given.run_delay })
    };
    let readings: Vec<CpuReading> = history.tids().into_iter().filter_map(read).collect();
    if is(&process, target) {
        history.read_cpu(crate::clock::now(), &readings);
    }
}

fn read(system: &mut System, snapshot: Option<&Snapshot>, at: Monotonic) -> TargetStats {
    let own = std::process::id();
    let target = snapshot.and_then(|snapshot| snapshot.target);
    let held = target.and_then(|target| Process::new(target.pid).ok().filter(|process| is(process, target)));
    let mut wanted = vec![Pid::from_u32(own)];
    wanted.extend(held.as_ref().and_then(|process| u32::try_from(process.pid()).ok()).map(Pid::from_u32));
    let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&wanted), true, kind);
    let totals = |pid: Pid, process: Option<&Process>| {
        let seen = system.process(pid)?;
        Some(ProcessTotals {
            cpu: Duration::from_millis(seen.accumulated_cpu_time()),
            resident_bytes: seen.memory(),
            virtual_bytes: seen.virtual_memory(),
            open_fds: seen.open_files().map(|files| files as u64),
            max_fds: seen.open_files_limit().map(|files| files as u64),
            threads: process
                .and_then(|p| p.stat().ok())
                .and_then(|stat| u64::try_from(stat.num_threads).ok()),
            start_unix_seconds: seen.start_time(),
        })
    };
    let process = held.as_ref().and_then(|process| totals(*wanted.get(1)?, Some(process)));
    let sidecar = totals(Pid::from_u32(own), Process::myself().ok().as_ref());
    let threads = match (&held, snapshot) {
        (Some(process), Some(snapshot)) => threads(process, snapshot),
        _ => Vec::new(),
    };
    // If the pid was reused meanwhile, what was read belongs to no target.
    let identity = target.filter(|target| held.as_ref().is_some_and(|process| is(process, *target)));
    TargetStats { at, identity, process, threads, sidecar }
}

fn is(process: &Process, target: TargetIdentity) -> bool {
    process.stat().is_ok_and(|stat| stat.starttime == target.start_time)
}

#[expect(clippy::cast_precision_loss, reason = "CPU seconds of any thread fit a float")]
fn threads(process: &Process, snapshot: &Snapshot) -> Vec<ThreadCpu> {
    let ticks = procfs::ticks_per_second().max(1) as f64;
    let read = |name: &str, tid: i32| {
        let task = process.task_from_tid(tid).ok()?;
        let stat = task.stat().ok()?;
        Some(ThreadCpu {
            name: name.to_owned(),
            user: stat.utime as f64 / ticks,
            system: stat.stime as f64 / ticks,
            run_delay: task.schedstat().ok().map(|sched| sched.run_delay as f64 / 1e9),
        })
    };
    let watched = snapshot.threads.iter().filter_map(|thread| Some((thread.name.as_str(), thread.tid?)));
    watched.take(MOST_THREADS).filter_map(|(name, tid)| read(name, tid)).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod tests {
    use super::*;
    use crate::board::sample::snapshot;

    fn of(pid: i32, start_time: u64) -> Snapshot {
        let mut snapshot = snapshot();
        snapshot.target = Some(TargetIdentity { pid, start_time, incarnation: 1 });
        for thread in &mut snapshot.threads {
            thread.tid = Some(pid);
        }
        snapshot
    }

    #[test]
    fn a_process_and_its_threads_are_measured() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let target = Process::new(pid).unwrap();
        let snapshot = of(pid, target.stat().unwrap().starttime);
        let stats = read(&mut System::new().unwrap(), Some(&snapshot), crate::clock::now());
        child.kill().unwrap();
        child.wait().unwrap();
        let process = stats.process.unwrap();
        assert!(process.resident_bytes > 0 && process.threads == Some(1) && process.open_fds.unwrap() > 0);
        assert!(process.start_unix_seconds >= stats.sidecar.unwrap().start_unix_seconds);
        assert_eq!(stats.threads.len(), snapshot.threads.len());
    }

    #[test]
    fn a_pid_that_changed_hands_is_not_measured() {
        let own = Process::myself().unwrap();
        let snapshot = of(own.pid(), own.stat().unwrap().starttime + 1);
        let stats = read(&mut System::new().unwrap(), Some(&snapshot), crate::clock::now());
        assert_eq!(stats.identity, None);
        assert_eq!(stats.process, None);
        assert!(stats.threads.is_empty() && stats.sidecar.is_some());
    }
}
