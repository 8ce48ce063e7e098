//! The target: one thread works, one answers. It records what happens to it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, setrlimit};
use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, ThreadBeat, Work};

use super::THRESHOLD;
use crate::clock::monotonic_ns;

/// Name of the thread that works.
pub const WORKER: &str = "exec-s0";
/// Name of the thread that checks whether it does, if there is one.
pub const DOG: &str = "guard-dog";

/// CPU time of one piece of work. A target at the lowest priority beside eight hogs finishes it in
/// seconds.
const PIECE: Duration = Duration::from_millis(5);
/// Between two pieces, so that the target leaves the machine to the measured peers.
const PAUSE: Duration = Duration::from_millis(45);
/// A notification is sent twice in each threshold, as `sd_watchdog_enabled(3)` advises.
const NOTIFY_EVERY: Duration = Duration::from_secs(THRESHOLD.as_secs() / 2);
/// Envoy's guard dog checks as often as its shortest timeout requires: that is `miss_timeout`, by
/// default 200 ms.
const DOG_LOOKS_EVERY: Duration = Duration::from_millis(200);
/// Longest time that a client which sends nothing holds the main thread.
const REQUEST_WITHIN: Duration = Duration::from_secs(1);
/// A target that its harness could not end ends by itself.
const LIVES_SECONDS: u32 = 3600;

/// What happens to the worker at its next piece of work.
const NOTHING: u8 = 0;
const LOSE: u8 = 1;
const STALL: u8 = 2;

/// How the target is to be; the part that is the same for all peers comes first.
#[derive(Debug, Parser)]
#[command(about = "A process with one working thread, for bench-peers to break")]
pub struct Options {
    /// Log file: one line per event, a word and CLOCK_MONOTONIC in nanoseconds.
    #[arg(long)]
    log: PathBuf,
    /// Address on which it answers.
    #[arg(long)]
    port: SocketAddr,
    /// Its heartbeat segment.
    #[arg(long)]
    heartbeat: PathBuf,
    /// File for its pid.
    #[arg(long)]
    pid_file: PathBuf,
    /// `/healthz` asks how long ago the worker finished something.
    #[arg(long)]
    health_asks_worker: bool,
    /// The worker notifies systemd, not the main thread.
    #[arg(long)]
    worker_notifies: bool,
    /// The worker touches this file.
    #[arg(long)]
    beat_file: Option<PathBuf>,
    /// A thread aborts the process if the worker gets no further.
    #[arg(long)]
    guard_dog: bool,
}

/// State that the threads share.
struct Shared {
    options: Options,
    log: File,
    order: AtomicU8,
    /// When the worker last began or finished a piece of work.
    touched: AtomicU64,
    /// Whether its health has been queried.
    asked: AtomicBool,
}

/// Runs until somebody ends it.
pub fn run(options: Options) -> ! {
    // Being aborted by a guard dog or a watchdog must not fill the disk.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // SAFETY: sets a timer of this process and touches no memory.
    unsafe { libc::alarm(LIVES_SECONDS) };
    // No panic message: the thread is meant to be lost.
    std::panic::set_hook(Box::new(|_| {}));
    let log = File::options().create(true).append(true).open(&options.log).expect("the log can be written");
    let shared = Arc::new(Shared {
        options,
        log,
        order: AtomicU8::new(NOTHING),
        touched: monotonic_ns().into(),
        asked: AtomicBool::new(false),
    });
    shared.tell("started");
    std::fs::write(&shared.options.pid_file, std::process::id().to_string()).expect("a pid file");
    let segment = &shared.options.heartbeat;
    let heartbeat = Heartbeat::create(segment, &SegmentOptions::new("0")).expect("a segment");
    let listener = crate::wait::until("the port", || TcpListener::bind(shared.options.port).ok());
    let worker = Arc::clone(&shared);
    let beats = heartbeat.clone();
    spawn(WORKER, move || worker.work(&beats.register(WORKER).expect("a slot")));
    if shared.options.guard_dog {
        let dog = Arc::clone(&shared);
        spawn(DOG, move || dog.guard());
    }
    heartbeat.set_state(ProcessState::Running);
    notify("READY=1");
    shared.serve(&listener)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread");
}

impl Shared {
    /// Logs that something happens, and when.
    fn tell(&self, what: &str) {
        let line = format!("{what} {}\n", monotonic_ns());
        (&self.log).write_all(line.as_bytes()).expect("the log can be written");
    }

    fn work(&self, beat: &ThreadBeat) {
        // Never the same work in two lives: otherwise the work would look like poison.
        let first = monotonic_ns() / 1_000_000;
        let mut notified = Instant::now();
        for piece in first.. {
            let began = Instant::now();
            let working = beat.working(Work::new(piece));
            self.touch();
            match self.order.load(Ordering::Relaxed) {
                LOSE => {
                    self.tell("fault");
                    std::panic::resume_unwind(Box::new("lost"));
                }
                STALL => {
                    self.tell("fault");
                    loop {
                        std::thread::sleep(REQUEST_WITHIN);
                    }
                }
                _ => burn(PIECE),
            }
            drop(working);
            self.touch();
            if let Some(file) = &self.options.beat_file {
                std::fs::write(file, "").expect("the file can be written");
            }
            if self.options.worker_notifies && notified.elapsed() + PAUSE >= NOTIFY_EVERY {
                notify("WATCHDOG=1");
                notified = Instant::now();
            }
            if piece == first {
                self.tell("running");
            }
            if began.elapsed() > THRESHOLD {
                self.tell("slow");
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn touch(&self) {
        self.touched.store(monotonic_ns(), Ordering::Relaxed);
    }

    fn late(&self) -> bool {
        let touched = self.touched.load(Ordering::Relaxed);
        Duration::from_nanos(monotonic_ns().saturating_sub(touched)) > THRESHOLD
    }

    /// Does what Envoy's guard dog does with one thread and `kill_timeout`.
    fn guard(&self) {
        loop {
            std::thread::sleep(DOG_LOOKS_EVERY);
            if self.late() {
                eprintln!("{DOG}: {WORKER} made no progress within {THRESHOLD:?}");
                std::process::abort();
            }
        }
    }

    /// The main loop: it answers and notifies, and knows nothing of the worker unless told to
    /// check.
    fn serve(&self, listener: &TcpListener) -> ! {
        let every = Timespec::try_from(NOTIFY_EVERY / 2).expect("a short time");
        let mut notified = Instant::now();
        loop {
            let mut ready = [PollFd::new(listener, PollFlags::IN)];
            let found = poll(&mut ready, Some(&every)).unwrap_or(0);
            if found > 0
                && let Ok((stream, _)) = listener.accept()
            {
                // The client may be gone already.
                let _ = self.answer(stream);
            }
            if !self.options.worker_notifies && notified.elapsed() >= NOTIFY_EVERY / 2 {
                notify("WATCHDOG=1");
                notified = Instant::now();
            }
        }
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(REQUEST_WITHIN))?;
        stream.set_write_timeout(Some(REQUEST_WITHIN))?;
        let mut request = [0; 1024];
        let read = stream.read(&mut request)?;
        let request = String::from_utf8_lossy(&request[..read]);
        let path = request.split(' ').nth(1);
        if path == Some("/healthz") && !self.asked.swap(true, Ordering::Relaxed) {
            self.tell("asked");
        }
        let code = match path {
            Some("/healthz") if self.options.health_asks_worker && self.late() => "503 Service Unavailable",
            Some("/healthz") => "200 OK",
            Some("/lose") => {
                self.order.store(LOSE, Ordering::Relaxed);
                "200 OK"
            }
            Some("/stall") => {
                self.order.store(STALL, Ordering::Relaxed);
                "200 OK"
            }
            Some("/starve") => {
                starve();
                "200 OK"
            }
            _ => "404 Not Found",
        };
        let answer = format!("HTTP/1.1 {code}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes())
    }
}

/// Uses this much CPU time of this thread.
fn burn(time: Duration) {
    let used = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(now).expect("a time")
    };
    let began = used();
    while used() - began < time {}
}

/// Yields the CPU to everything else that wants it, with all threads.
fn starve() {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return };
    for tid in tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse::<i32>().ok()) {
        let lowest = libc::sched_param { sched_priority: 0 };
        // SAFETY: reads one structure that lives until it returns.
        unsafe { libc::sched_setscheduler(tid, libc::SCHED_IDLE, &raw const lowest) };
    }
}

/// Sends one word to systemd, if it asked for notifications.
fn notify(word: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(sender) = UnixDatagram::unbound() else { return };
    let name = socket.to_string_lossy();
    let address = match name.strip_prefix('@') {
        Some(name) => UnixAddr::from_abstract_name(name),
        None => UnixAddr::from_pathname(Path::new(&socket)),
    };
    if let Ok(address) = address {
        let _ = sender.send_to_addr(word.as_bytes(), &address);
    }
}
