//! The evidence helper: waits for requests, takes one dump at a time, and hands it over.
//!
//! It ends when its sidecar does, because its socket then reports the end. It must not be ended
//! sooner (`PR_SET_PDEATHSIG`, SIGTERM to its group): in the middle of a dump that would leave the
//! target stopped, with nobody there to let it run on. So it finishes the dump and then ends.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use minidump_writer::minidump_format::MDStreamType;
use minidump_writer::minidump_writer::MinidumpWriterConfig;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Resource, Rlimit, Signal};

use super::wire::{self, Account, LONGEST_SOFT_ERRORS, Refusal, Request, Told};
use super::{LARGEST, permission, streams};
use crate::observation::TaskState;
use crate::probe::task::TaskDir;

/// Memory of its own that the helper may have. A dump needs its own size twice; the limit is for a
/// stack pointer that leads into a heap of gigabytes, which the writer would copy.
const MOST_MEMORY: u64 = 256 << 20;
/// How long the writer waits for the process to stop. A process with a runnable thread stops within
/// milliseconds, even on a busy machine; then the threads are attached one by one, and whatever
/// does not stop by then holds up only itself.
const STOPS_WITHIN: Duration = Duration::from_millis(100);
/// How often a thread in state D is looked at again. A read from a disk takes about as long.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Which part of the time limit such threads may take, in the hope that they wake up.
const PART_FOR_SLEEPERS: u32 = 4;

/// For tests: at which step the helper ends (`die:N`) or hangs (`hang:N`). Step 0 is before the
/// target is stopped; the others are those at which the writer writes, during which the target
/// stands still.
pub const FAIL_AT: &str = "SHARD_WATCHDOG_EVIDENCE_FAIL_AT";

/// Serves requests that come over `socket` until the other end is gone.
///
/// # Errors
/// If the socket fails, or what comes over it makes no sense.
pub fn serve(socket: BorrowedFd<'_>) -> io::Result<()> {
    settle()?;
    let mut steps = Steps::from_variable();
    while let Some((request, _)) = wire::receive::<Request>(socket, RecvFlags::empty())? {
        match take(&request, socket, &mut steps) {
            Ok((account, dump)) => wire::send(socket, &Told::Done(account), Some(dump.as_fd()))?,
            Err(refusal) => wire::send(socket, &Told::Refused(refusal), None)?,
        }
    }
    Ok(())
}

/// Prepares the process: no signal meant for the sidecar ends it in the middle of a dump, and it
/// can neither eat the machine's memory nor leave a core.
fn settle() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: SIG_IGN is no function of ours; the call touches no memory.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::Data, limit(MOST_MEMORY))?;
    rustix::process::setrlimit(Resource::Core, limit(0))?;
    Ok(())
}

fn take(request: &Request, socket: BorrowedFd<'_>, steps: &mut Steps) -> Result<(Account, OwnedFd), Refusal> {
    let threads_before = may_be_dumped(request)?;
    steps.step();
    let failed = |error: io::Error| Refusal::Failed(error.to_string());
    wire::send(socket, &Told::Stops, None).map_err(failed)?;
    let began = Instant::now();
    // The writer lets the target run on when it is dropped, be it by a panic.
    let written = catch_unwind(AssertUnwindSafe(|| {
        let mut config = MinidumpWriterConfig::new(request.pid, request.tid);
        // What is no address is overwritten in the stacks: no secret leaves the target, and the
        // unwinder needs addresses only.
        config.stop_timeout(STOPS_WITHIN.min(request.time_limit)).sanitize_stack();
        config.write(steps).map_err(|error| full(&error))
    }));
    let stood_still = began.elapsed();
    wire::send(socket, &Told::Runs, None).map_err(failed)?;
    let mut dump = match written {
        Ok(Ok(dump)) => dump,
        Ok(Err(error)) => return Err(Refusal::Failed(error)),
        Err(_) => return Err(Refusal::Failed("the writer panicked".to_owned())),
    };
    steps.step();
    streams::redact(&mut dump);
    let bytes = dump.len() as u64;
    if bytes > LARGEST {
        return Err(Refusal::TooLarge(bytes));
    }
    let account = Account {
        threads: streams::threads(&dump),
        threads_before,
        bytes,
        stood_still,
        soft_errors: soft_errors(&dump),
    };
    if account.threads == 0 {
        return Err(Refusal::Failed(format!("no thread could be stopped: {}", account.soft_errors)));
    }
    let file = rustix::fs::memfd_create("shard-watchdog-dump", MemfdFlags::CLOEXEC);
    let mut file = File::from(file.map_err(|errno| failed(errno.into()))?);
    file.write_all(&dump).and_then(|()| file.rewind()).map_err(failed)?;
    steps.step();
    Ok((account, file.into()))
}

/// Checks all that can be known before the target is stopped. Returns how many threads it has.
fn may_be_dumped(request: &Request) -> Result<u32, Refusal> {
    let pid = request.pid;
    let ended = || Refusal::Ended(pid);
    let process = Path::new("/proc").join(pid.to_string());
    let leader = TaskDir::open(&process.join(format!("task/{pid}"))).map_err(|_| ended())?;
    let stat = leader.stat().ok().flatten().filter(|stat| !stat.ending).ok_or_else(ended)?;
    if stat.start_time != request.start_time {
        return Err(Refusal::OtherProcess(pid));
    }
    match permission::missing(Path::new("/proc"), pid) {
        Ok(None) => {}
        Ok(Some(missing)) => return Err(Refusal::NoPermission { pid, missing }),
        Err(Errno::NOENT | Errno::SRCH) => return Err(ended()),
        Err(errno) => return Err(Refusal::Failed(format!("/proc/{pid}/mem: {errno}"))),
    }
    if matches!(stat.state, TaskState::Stopped) {
        return Err(Refusal::Stopped(pid));
    }
    is_untraced(&process, pid, request.tid)?;
    let until = Instant::now() + request.time_limit / PART_FOR_SLEEPERS;
    loop {
        let threads = threads(&process, pid)?;
        if threads.count > request.most_threads {
            return Err(Refusal::TooManyThreads { threads: threads.count, most: request.most_threads });
        }
        let Some(tid) = threads.uninterruptible else { return Ok(threads.count) };
        if Instant::now() >= until {
            return Err(Refusal::Uninterruptible(tid));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[derive(Debug, Default)]
struct Threads {
    count: u32,
    /// One in state D: attaching to it would wait until it wakes up.
    uninterruptible: Option<i32>,
}

fn threads(process: &Path, pid: i32) -> Result<Threads, Refusal> {
    let mut threads = Threads::default();
    let entries = std::fs::read_dir(process.join("task")).map_err(|_| Refusal::Ended(pid))?;
    for entry in entries.map_while(Result::ok) {
        let Ok(task) = TaskDir::open(&entry.path()) else { continue };
        let Ok(Some(stat)) = task.stat() else { continue };
        threads.count += 1;
        match stat.state {
            TaskState::DiskSleep if threads.uninterruptible.is_none() => {
                threads.uninterruptible = entry.file_name().to_str().and_then(|name| name.parse().ok());
            }
            TaskState::Traced => {
                let tracer = task.status().map_or(0, |status| status.tracerpid);
                return Err(Refusal::Traced { pid, tracer });
            }
            _ => {}
        }
    }
    Ok(threads)
}

/// A tracer need not hold a thread now. Only the main thread and the one in question are asked: a
/// debugger traces all of them, and this costs more than the state.
fn is_untraced(process: &Path, pid: i32, tid: i32) -> Result<(), Refusal> {
    for thread in [pid, tid] {
        let task = TaskDir::open(&process.join(format!("task/{thread}")));
        let tracer = task.ok().and_then(|task| task.status()).map_or(0, |status| status.tracerpid);
        if tracer != 0 {
            return Err(Refusal::Traced { pid, tracer });
        }
    }
    Ok(())
}

fn soft_errors(dump: &[u8]) -> String {
    let all = streams::content(dump, MDStreamType::MozSoftErrors).unwrap_or_default();
    let text = String::from_utf8_lossy(all.get(..LONGEST_SOFT_ERRORS).unwrap_or(all)).into_owned();
    if text.trim() == "[]" { String::new() } else { text }
}

/// An error with what caused it.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.truncate(text.floor_char_boundary(LONGEST_SOFT_ERRORS));
    text
}

/// Where the writer writes as it goes. The dump itself stays in memory while the target stands
/// still, so this counts the steps for the tests and drops what is written.
#[derive(Debug, Default)]
struct Steps {
    count: u32,
    position: u64,
    die_at: Option<u32>,
    hang_at: Option<u32>,
}

impl Steps {
    fn from_variable() -> Self {
        let text = std::env::var(FAIL_AT).unwrap_or_default();
        let at = |how: &str| text.strip_prefix(how)?.parse().ok();
        Self { die_at: at("die:"), hang_at: at("hang:"), ..Self::default() }
    }

    fn step(&mut self) {
        let step = self.count;
        self.count += 1;
        if self.die_at == Some(step) {
            // The very signal that the kernel's OOM killer sends.
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
        }
        while self.hang_at == Some(step) {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Write for Steps {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.step();
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Steps {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        // The writer returns to positions that it was told; it never asks for the end.
        if let SeekFrom::Start(position) = to {
            self.position = position;
        }
        Ok(self.position)
    }
}
