//! A child of the harness: its lines are collected, and it ends with the harness in any case.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::wait;

/// Names a folder of this workspace's programs that replace those beside the harness, for example
/// the programs that are shipped to users.
pub const PROGRAMS: &str = "SHARD_PROGRAMS";

/// A binary of this workspace, from the folder that [`PROGRAMS`] names if it is there, otherwise
/// beside the running test or benchmark.
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    let given = std::env::var_os(PROGRAMS).map(|folder| Path::new(&folder).join(name));
    if let Some(given) = given.filter(|path| path.is_file()) {
        return given;
    }
    let exe = std::env::current_exe().expect("the test knows its own path");
    let found = exe.ancestors().skip(1).take(3).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{name} is not built: run `cargo build --workspace --bins` (with --release for a benchmark) first"
        )
    })
}

/// One child and everything it has printed, line by line.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    told_to_end: Cell<bool>,
    lines: Arc<Mutex<Vec<String>>>,
    /// A pipe that stays open and is never read.
    #[expect(dead_code, reason = "closing it would end its writer, or let it go on")]
    unread: Option<std::io::PipeReader>,
}

impl Process {
    /// Starts `command` and collects both output streams; `SHARD_TESTS_SHOW=1` shows them too.
    #[track_caller]
    pub fn start(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(name, &mut command);
        let lines = Arc::new(Mutex::new(Vec::new()));
        if let Some(out) = child.stdout.take() {
            collect(name, out, &lines);
        }
        if let Some(err) = child.stderr.take() {
            collect(name, err, &lines);
        }
        Self { name: name.to_owned(), child, told_to_end: Cell::new(false), lines, unread: None }
    }

    /// Starts `command` with its output in `file`, which is read as it grows. A line written to a
    /// pipe wakes its reader, which on a small machine then takes the writer's CPU; that would
    /// disturb a benchmark that times the writer.
    #[track_caller]
    pub fn start_into_file(name: &str, mut command: Command, file: &Path) -> Self {
        let out = File::create(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let both = out.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(out).stderr(both);
        let child = spawn(name, &mut command);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let from = File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        follow(from, Arc::downgrade(&lines));
        Self { name: name.to_owned(), child, told_to_end: Cell::new(false), lines, unread: None }
    }

    /// Starts `command` with a standard error that is full from the start and never read, and no
    /// other output.
    #[track_caller]
    pub fn start_unread(name: &str, mut command: Command) -> Self {
        let (unread, full) = std::io::pipe().expect("a pipe");
        fill(&full);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(full);
        let child = spawn(name, &mut command);
        let process = Self {
            name: name.to_owned(),
            child,
            told_to_end: Cell::new(false),
            lines: Arc::default(),
            unread: Some(unread),
        };
        // The command holds the writing end; from here on only the child does.
        drop(command);
        process
    }

    /// Pid of the child.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Everything printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything printed, once nothing is left that could print more.
    pub fn all_lines(&self) -> Option<Vec<String>> {
        // A reader holds the lines as well, until its stream ends.
        (Arc::strong_count(&self.lines) == 1).then(|| self.lines())
    }

    /// Number of lines so far.
    pub fn line_count(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for a line, counted from `from`, for which `wanted` returns something.
    #[track_caller]
    pub fn line<T>(&self, what: &str, from: usize, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let mut next = from;
        let (name, lines) = (&self.name, &self.lines);
        wait::until(&format!("{name}: {what}"), || {
            let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(line) = lines.get(next) {
                next += 1;
                if let Some(found) = wanted(line) {
                    return Some(found);
                }
            }
            None
        })
    }

    /// Sends a signal. The child has not been reaped, so its pid is still its own.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if signal == rustix::process::Signal::TERM && self.told_to_end.replace(true) {
            // A second SIGTERM would cut short what the first one requested.
            return;
        }
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid()) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits for the child to end.
    #[track_caller]
    pub fn wait(&mut self, what: &str) -> ExitStatus {
        let child = &mut self.child;
        wait::until(what, || child.try_wait().expect("a child can be waited for"))
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.ended().is_none()
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(rustix::process::Signal::TERM);
            let began = std::time::Instant::now();
            while self.ended().is_none() && began.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(2));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let lines = self.lines();
            let skip = lines.len().saturating_sub(20);
            eprintln!("--- last lines of {}:", self.name);
            for line in lines.iter().skip(skip) {
                eprintln!("    {line}");
            }
        }
    }
}

/// Fills a pipe until it takes no more. The next writer then waits until it is read.
#[track_caller]
fn fill(pipe: &std::io::PipeWriter) {
    rustix::io::ioctl_fionbio(pipe, true).expect("a pipe can be told not to block");
    let page = [b'\n'; 4096];
    let mut size = page.len();
    while size > 0 {
        match rustix::io::write(pipe, &page[..size]) {
            Ok(_) => {}
            // There is room for less than that, or for nothing.
            Err(_) => size /= 2,
        }
    }
    rustix::io::ioctl_fionbio(pipe, false).expect("and to block again");
}

#[track_caller]
fn spawn(name: &str, command: &mut Command) -> Child {
    // With the hook off, a panicking thread would spend half a second and more on a backtrace
    // before it ends, and would be condemned for that instead.
    command.env_remove("RUST_BACKTRACE");
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"))
}

/// Reads a growing file until nobody wants its lines any more.
fn follow(file: File, into: Weak<Mutex<Vec<String>>>) {
    /// Between two reads. The times are in the lines, so only the length of the run depends on it.
    const LOOK: Duration = Duration::from_millis(10);
    let read = move || {
        let mut from = BufReader::new(file);
        let mut line = String::new();
        while let Some(into) = into.upgrade() {
            match from.read_line(&mut line) {
                Ok(read) if read > 0 && line.ends_with('\n') => {
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(line.trim_end().to_owned());
                    line.clear();
                }
                _ => {
                    drop(into);
                    std::thread::sleep(LOOK);
                }
            }
        }
    };
    std::thread::Builder::new().name("follow".to_owned()).spawn(read).expect("a thread");
}

fn collect(name: &str, from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<String>>>) {
    let (name, into) = (name.to_owned(), Arc::clone(into));
    let show = std::env::var_os("SHARD_TESTS_SHOW").is_some();
    let lines = BufReader::new(from).lines();
    let read = move || {
        for line in lines.map_while(Result::ok) {
            if show {
                eprintln!("{name}: {line}");
            }
            into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    };
    std::thread::Builder::new().name("collect".to_owned()).spawn(read).expect("a thread");
}
