//! What the target does to itself on order.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::DumpableBehavior;
use shard_heartbeat::{ChannelBeat, Heartbeat, ProcessState, SegmentOptions, Work, faults};

use super::waits::Wait;
use super::{DOUBLE, STUCK, THREAD, serve};
use crate::wait;

/// Duration of one piece of work: short compared with every threshold, yet few wake-ups.
const BLOCK: Duration = Duration::from_millis(5);
/// Seconds after which a process without a supervisor ends by itself, in case the harness is gone.
pub(super) const LIVES: u32 = 120;
/// Start times come in ticks of 10 ms: a thread that begins this much later has a different one.
const ANOTHER_TICK: Duration = Duration::from_millis(30);

/// A target with one registered thread that works on one block after another.
#[derive(Debug)]
pub struct Puppet {
    heartbeat: Heartbeat,
    path: PathBuf,
    worker: Actor,
    /// A second, unregistered thread with the same kernel name as the first.
    double: Option<Actor>,
    /// A channel named [`DOUBLE`], once it exists.
    channel: Option<ChannelBeat>,
}

/// A thread that, on order, ends without notice or hangs.
#[derive(Debug)]
struct Actor {
    tid: i32,
    end: Arc<AtomicBool>,
    /// The number of the [`Wait`] that it is to begin.
    wait: Arc<AtomicU8>,
}

impl Puppet {
    /// Creates the segment and starts the thread.
    pub fn new(segment: &Path) -> Self {
        let heartbeat = Heartbeat::create(segment, &SegmentOptions::new("puppet")).expect("a segment");
        let worker = Actor::start(Some(&heartbeat));
        heartbeat.set_state(ProcessState::Running);
        Self { heartbeat, path: segment.to_owned(), worker, double: None, channel: None }
    }

    /// Takes orders until somebody ends it.
    pub fn obey(mut self, port: SocketAddr) -> ! {
        serve(port, |words| self.order(words))
    }

    fn order(&mut self, words: &[&str]) -> Result<String, String> {
        match *words {
            // Its thread goes, and another of that name takes its place, registered like the first.
            ["replace"] => {
                let was = self.worker.lose();
                self.worker = Actor::start(Some(&self.heartbeat));
                Ok(format!("was={was} is={}", self.worker.tid))
            }
            // The same, but the other is not registered.
            ["replace", "unregistered"] => {
                let was = self.worker.lose();
                self.worker = Actor::start(None);
                Ok(format!("was={was} is={}", self.worker.tid))
            }
            // The same, and the other gets the very thread id of the first. Works only in a pid
            // namespace of its own.
            ["reuse"] => self.reuse(),
            ["lose"] => Ok(format!("was={}", self.worker.lose())),
            ["rename", name] => {
                std::fs::write(format!("/proc/self/task/{}/comm", self.worker.tid), name)
                    .map_err(|error| error.to_string())?;
                Ok(format!("tid={}", self.worker.tid))
            }
            // A name that is not text, such as the kernel makes when it cuts a longer one inside a
            // character.
            ["rename-bytes", hex] => {
                std::fs::write(format!("/proc/self/task/{}/comm", self.worker.tid), bytes(hex)?)
                    .map_err(|error| error.to_string())?;
                Ok(format!("tid={}", self.worker.tid))
            }
            // Another thread with such a name, which nobody watches.
            ["double-bytes", hex] => {
                let double = self.double.insert(Actor::start(None));
                std::fs::write(format!("/proc/self/task/{}/comm", double.tid), bytes(hex)?)
                    .map_err(|error| error.to_string())?;
                Ok(format!("tid={}", double.tid))
            }
            ["double"] => {
                let double = self.double.insert(Actor::start(None));
                Ok(format!("tid={}", double.tid))
            }
            // Another registered thread, and a channel of its name.
            ["double", "registered"] => {
                let channel = self.heartbeat.channel(DOUBLE, None).map_err(|error| error.to_string())?;
                self.channel = Some(channel);
                let double = self.double.insert(Actor::start_as(DOUBLE, Some(&self.heartbeat)));
                Ok(format!("tid={}", double.tid))
            }
            // A thread with that name in its slot, as hostile as it may be.
            ["double", "named", name] => {
                let double = self.double.insert(Actor::start_as(name, Some(&self.heartbeat)));
                Ok(format!("tid={}", double.tid))
            }
            ["undouble"] => {
                let double = self.double.take().ok_or("there is no double")?;
                Ok(format!("was={}", double.lose()))
            }
            // Its thread gets no further with its current work, or not for a while.
            ["hang"] => self.order(&["wait", "hang"]),
            ["wait", how] => {
                let wait = Wait::named(how).ok_or_else(|| format!("there is no way to wait called {how}"))?;
                self.worker.wait.store(wait as u8, Ordering::Relaxed);
                Ok(format!("tid={}", self.worker.tid))
            }
            // It goes on with its current work.
            ["go"] => {
                self.worker.wait.store(0, Ordering::Relaxed);
                Ok(format!("tid={}", self.worker.tid))
            }
            // Without permission to trace it, nothing learns any longer where in the kernel its
            // threads sleep.
            ["hide"] => {
                rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
                    .map_err(|error| error.to_string())?;
                Ok(format!("tid={}", self.worker.tid))
            }
            // Sets these user ids in all of its threads: real, effective, saved.
            ["uids", real, effective, saved] => {
                let [real, effective, saved] =
                    [real, effective, saved].map(|uid| uid.parse().unwrap_or(u32::MAX));
                // SAFETY: changes the ids of this process and touches no memory.
                match unsafe { libc::setresuid(real, effective, saved) } {
                    0 => Ok(String::new()),
                    _ => Err(std::io::Error::last_os_error().to_string()),
                }
            }
            // Replaces its mapping of the segment without noticing: its threads write into memory
            // that nobody reads.
            // Takes so much memory, in MiB.
            ["eat", mib] => {
                let mib: usize = mib.parse().map_err(|_| "not a number")?;
                std::hint::black_box(vec![1_u8; mib << 20]);
                Ok(String::new())
            }
            ["unmap"] => unmap(&self.path).map(|()| String::new()),
            ["fork"] => Ok(format!("child={}", fork())),
            // Becomes another program, with the same pid and the same start time.
            ["exec", "other"] => Err(Command::new("sleep").arg(LIVES.to_string()).exec().to_string()),
            // Becomes this program again, as after an upgrade in place.
            ["exec", "again", port] => {
                let own = std::env::current_exe().map_err(|error| error.to_string())?;
                Err(Command::new(own).arg("target").arg(&self.path).arg(port).exec().to_string())
            }
            _ => Err(format!("{words:?} is no order")),
        }
    }

    fn reuse(&mut self) -> Result<String, String> {
        /// Another thread that starts in this namespace may get the number first.
        const TRIES: u32 = 100;
        let was = self.worker.lose();
        std::thread::sleep(ANOTHER_TICK);
        for _ in 0..TRIES {
            super::nursery::next_pid(was)?;
            let other = Actor::start(None);
            if other.tid == was {
                self.worker = other;
                return Ok(format!("was={was} is={was}"));
            }
            other.lose();
        }
        Err(format!("thread id {was} was not given out again in {TRIES} tries"))
    }
}

/// Parses bytes written as two hex digits each.
fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let pairs = (0..hex.len()).step_by(2);
    let byte = |at| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    pairs.map(|at| byte(at).ok_or_else(|| format!("{hex} is no row of bytes"))).collect()
}

impl Actor {
    /// Starts a thread named [`THREAD`], and waits until it is set up.
    fn start(heartbeat: Option<&Heartbeat>) -> Self {
        Self::start_as(THREAD, heartbeat)
    }

    /// The same, with this name in the segment.
    fn start_as(name: &str, heartbeat: Option<&Heartbeat>) -> Self {
        let name = name.to_owned();
        let begins = if std::env::var_os(STUCK).is_some() { Wait::Gate as u8 } else { 0 };
        let (end, wait) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU8::new(begins)));
        let (begun, ready) = channel();
        let (heartbeat, told, stuck) = (heartbeat.cloned(), Arc::clone(&end), Arc::clone(&wait));
        let near = std::env::args_os().nth(2).map(PathBuf::from).unwrap_or_default();
        let work = move || {
            let beat = heartbeat.map(|heartbeat| heartbeat.register(&name).expect("a slot"));
            begun.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("somebody waits");
            // Two lives must not die at the same work by chance: that would be a crash loop.
            for block in u64::from(std::process::id()) << 20.. {
                let _working = beat.as_ref().map(|beat| beat.working(Work::new(block)));
                faults::point("block");
                std::thread::sleep(BLOCK);
                while let number @ 1.. = stuck.load(Ordering::Relaxed) {
                    let how = Wait::numbered(number);
                    how.begin(&near);
                    if how.ends() {
                        // Another wait may have been ordered meanwhile.
                        let _ = stuck.compare_exchange(number, 0, Ordering::Relaxed, Ordering::Relaxed);
                    }
                }
                if told.load(Ordering::Relaxed) {
                    end_without_a_word();
                }
            }
        };
        std::thread::Builder::new().name(THREAD.to_owned()).spawn(work).expect("a thread");
        Self { tid: first(&ready), end, wait }
    }

    /// Ends the thread, and waits until the kernel no longer knows it.
    fn lose(&self) -> i32 {
        self.end.store(true, Ordering::Relaxed);
        let task = PathBuf::from(format!("/proc/self/task/{}", self.tid));
        wait::until("the end of a thread", || (!task.exists()).then_some(()));
        self.tid
    }
}

#[track_caller]
pub(super) fn first(ready: &Receiver<i32>) -> i32 {
    ready.recv_timeout(wait::GENEROUS).expect("a thread begins")
}

/// Ends the calling thread and nothing else. Nothing is unwound or dropped, so its slot still says
/// that it is at work.
pub(super) fn end_without_a_word() {
    // SAFETY: the system call ends this one thread and writes nothing but the word that tells a
    // joining thread so, and nobody joins here. What it owned (its guards, its stack) leaks, and no
    // lock is held: it has just woken from a sleep.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// Replaces the mapping of the file with other memory.
fn unmap(file: &Path) -> Result<(), String> {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|error| error.to_string())?;
    let line =
        maps.lines().find(|line| line.ends_with(&file.display().to_string())).ok_or("it is not mapped")?;
    let (from, to) = line.split(' ').next().and_then(|place| place.split_once('-')).ok_or("no place")?;
    let number = |text| usize::from_str_radix(text, 16).map_err(|_| "no address");
    let (from, to) = (number(from)?, number(to)?);
    // SAFETY: what is mapped there is a file into which nothing in this process holds references,
    // only addresses of words that are written: they are just as valid in the new memory, which has
    // the same size and rights.
    let done = unsafe {
        let rights = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        let flags = rustix::mm::MapFlags::SHARED | rustix::mm::MapFlags::FIXED;
        rustix::mm::mmap_anonymous(from as *mut _, to - from, rights, flags)
    };
    done.map(|_| ()).map_err(|error| error.to_string())
}

/// Forks a child that outlives its parent, as a helper of the target might.
fn fork() -> i32 {
    // SAFETY: the child of a process with many threads may call only what is async-signal-safe:
    // `setsid`, `alarm`, `pause`, `_exit` and a bare system call are, and it calls nothing else.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            // The supervisor ends what stays in the command's process group: that is another
            // scenario.
            libc::setsid();
            // The port belongs to the parent, whose next life needs it.
            libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
            libc::alarm(LIVES);
            libc::pause();
            libc::_exit(0);
        }
        child
    }
}
