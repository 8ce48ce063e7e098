//! A process whose stacks are known: one thread spins in a function of a known name, others wait in
//! another one, and the first prints a line every few milliseconds, to show that it runs.

use std::hint::black_box;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::DumpableBehavior;

use crate::process::{Process, binary};
use crate::{clock, wait};

/// Name of the thread that spins.
pub const THREAD: &str = "exec-s0";
/// Part of the names of the threads that wait.
pub const WAITS: &str = "waits-";
/// The function in which [`THREAD`] spins.
pub const SPINS: &str = "spins_in_place";
/// The function that called it.
pub const CALLED_FROM: &str = "runs_a_part";
/// The function in which the others wait.
pub const WAITS_IN: &str = "waits_for_nothing";
/// A word in the target's environment, and, split, on the stack of its spinning thread.
pub const SECRET: &str = "correct-horse-battery-staple";

/// A thread that spins all the time would take a CPU from every other test.
const PAUSE: Duration = Duration::from_micros(500);

/// Some hundred microseconds.
const TURNS_AT_ONCE: u32 = 50_000;

static TURNS: AtomicU64 = AtomicU64::new(0);

#[inline(never)]
fn spins_in_place(secret: &[u8]) {
    loop {
        for _ in 0..TURNS_AT_ONCE {
            TURNS.fetch_add(black_box(1), Ordering::Relaxed);
        }
        black_box(secret);
        std::thread::sleep(PAUSE);
    }
}

#[inline(never)]
fn runs_a_part() {
    // A copy on the stack, as of a password in use.
    let mut secret = [0_u8; SECRET.len()];
    secret.copy_from_slice(SECRET.as_bytes());
    spins_in_place(black_box(&secret));
    black_box(&secret);
}

#[inline(never)]
fn waits_for_nothing() {
    loop {
        std::thread::sleep(Duration::from_secs(3_600));
        black_box(());
    }
}

fn start(name: &str, work: fn()) {
    // It never ends.
    let _ = std::thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread");
}

/// How that process is to be.
#[derive(Clone, Copy, Debug)]
pub struct Being {
    /// How many threads wait.
    pub threads: usize,
    /// It is not dumpable.
    pub hide: bool,
    /// Time between two lines.
    pub beat: Duration,
    /// Memory that it has in use, in MiB.
    pub heap_mib: usize,
}

/// Is that process, until nobody reads what it prints: `beat`, and the time of it by
/// [`clock::monotonic_ns`].
pub fn be(being: &Being) -> ! {
    if being.hide {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).expect("it may hide itself");
    }
    let heap = vec![1_u8; being.heap_mib << 20];
    for number in 0..being.threads {
        start(&format!("{WAITS}{number}"), waits_for_nothing);
    }
    start(THREAD, || {
        let tid = rustix::thread::gettid().as_raw_nonzero();
        println!("tid={tid}");
        runs_a_part();
    });
    loop {
        if writeln!(std::io::stdout().lock(), "beat {}", clock::monotonic_ns()).is_err() {
            std::process::exit(0);
        }
        std::thread::sleep(being.beat);
        black_box(&heap);
    }
}

/// The process, as a test handles it.
#[derive(Debug)]
pub struct StackTarget {
    /// The process.
    pub process: Process,
    /// Thread id of [`THREAD`].
    pub tid: i32,
    threads: usize,
}

impl StackTarget {
    /// Starts it with so many waiting threads.
    #[track_caller]
    pub fn start(threads: usize) -> Self {
        Self::start_by(Command::new(program()), threads, &[])
    }

    /// The same by `command`, which runs the program with its arguments added, and these.
    #[track_caller]
    pub fn start_by(mut command: Command, threads: usize, arguments: &[&str]) -> Self {
        command.arg(threads.to_string()).args(arguments).env("SHARD_TESTS_SECRET", SECRET);
        let process = Process::start("stack-target", command);
        let tid = process.line("its tid", 0, |line| line.strip_prefix("tid=")?.parse().ok());
        let target = Self { process, tid, threads };
        wait::until("all threads of it", || (target.thread_count() == threads + 2).then_some(()));
        target
    }

    /// How many threads it has: those that wait, the one that spins, and the first.
    pub fn thread_count(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.process.pid())).map_or(0, Iterator::count)
    }

    /// How many threads it was started with.
    pub const fn expected_threads(&self) -> usize {
        self.threads + 2
    }

    /// Its start time in clock ticks since boot.
    #[track_caller]
    pub fn start_time(&self) -> u64 {
        let stat = self.stat();
        let field = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19));
        field.and_then(|number| number.parse().ok()).expect("a start time")
    }

    /// The letter of the state of its first thread.
    #[track_caller]
    pub fn state(&self) -> char {
        let stat = self.stat();
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).expect("a state")
    }

    fn stat(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).expect("it lives")
    }

    /// Waits until it has printed something more, which no stopped process does.
    #[track_caller]
    pub fn goes_on(&self) {
        wait::until("a target that is not stopped", || (self.state() != 'T').then_some(()));
        let before = self.process.line_count();
        // More than one: the last line of the past may still be on its way.
        wait::until("the target to go on", || (self.process.line_count() > before + 3).then_some(()));
        assert_ne!(self.state(), 'T', "it was stopped again");
    }
}

/// Path of the program.
pub fn program() -> PathBuf {
    binary("stack-target")
}

/// A copy of the program at `to` without symbols and debug information, with the latter in `debug`.
/// Returns the build id, in hexadecimal digits. Needs `objcopy` and `readelf`.
#[track_caller]
pub fn stripped(to: &Path, debug: &Path) -> String {
    let run = |words: &[&str], files: &[&Path]| {
        let output = Command::new(words[0]).args(&words[1..]).args(files).output().expect("binutils");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["objcopy", "--only-keep-debug", "--compress-debug-sections=zlib"], &[&program(), debug]);
    run(&["objcopy", "--strip-all"], &[&program(), to]);
    let notes = run(&["readelf", "--notes"], &[to]);
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
    id.expect("a build id").to_owned()
}
