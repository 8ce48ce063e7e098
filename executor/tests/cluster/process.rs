//! Processes of the real binary that end with the test, and waiting for their output.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use shard_heartbeat::{ChannelSample, Reader, Sample};

/// Longer than anything here takes, even with every core taken by others: reaching it is a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How often something is polled that cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |_| {})
    }

    /// Starts the process after `change` has changed its environment, or where its output goes.
    /// Output that no longer goes to a pipe is not collected.
    pub(crate) fn start_with(arguments: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shard-executor"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("RUST_LOG", "warn").env("NO_COLOR", "1");
        change(&mut command);
        // SAFETY: prctl with these arguments only sets a flag of the new process, and may be called
        // between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let stdout = lines(child.stdout.take());
        let stderr = lines(child.stderr.take());
        Self { child, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers; the child has not been waited for, so the number is still
        // its own.
        assert_eq!(unsafe { libc::kill(self.pid() as i32, signal) }, 0);
    }

    /// Waits for a line on standard output for which `wanted` returns a value.
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.stdout.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(found) = wanted(&line) {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what} within {PATIENCE:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended before {what}: {}", self.rest().1),
            }
        }
    }

    /// Waits until a shard reports where it listens.
    pub(crate) fn listening(&mut self) -> SocketAddr {
        self.wait_for("listening on ", |line| {
            line.split_once("listening on ")?.1.split(',').next()?.parse().ok()
        })
    }

    /// Waits for a JSON line with this `event`.
    pub(crate) fn wait_for_event(&mut self, event: &str) -> Value {
        self.wait_for(event, |line| {
            let value: Value = serde_json::from_str(line).unwrap();
            (value["event"] == event).then_some(value)
        })
    }

    /// Waits for a line on standard error.
    pub(crate) fn wait_for_words(&self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self.stderr.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|error| panic!("{words:?} was not said: {error}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end; returns the exit code, or the negative number of the signal.
    pub(crate) fn wait(&mut self) -> i32 {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return code(status);
            }
            std::thread::sleep(LOOK);
        }
        panic!("still running after {PATIENCE:?}");
    }

    /// What is left on standard output and standard error once the process has ended.
    pub(crate) fn rest(&self) -> (Vec<String>, String) {
        let stderr: Vec<String> = self.stderr.iter().collect();
        (self.stdout.iter().collect(), stderr.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

fn lines(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    let Some(pipe) = pipe else { return receiver };
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A running shard.
pub(crate) struct Shard {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// The socket of its fault port.
    faults: PathBuf,
}

impl Shard {
    /// Starts a shard on a port that the system chooses; it is listening when this returns.
    pub(crate) fn start(folder: &Path, id: u16) -> Self {
        Self::start_at(folder, id, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(crate) fn start_at(folder: &Path, id: u16, listen: SocketAddr) -> Self {
        Self::start_with(folder, id, listen, |_| {})
    }

    /// See [`Process::start_with`]; standard output must stay a pipe.
    pub(crate) fn start_with(
        folder: &Path,
        id: u16,
        listen: SocketAddr,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let (heartbeat, faults) =
            (folder.join(format!("{id}.heartbeat")), folder.join(format!("{id}.faults")));
        let (name, listen) = (id.to_string(), listen.to_string());
        let heartbeat = heartbeat.to_str().unwrap();
        let arguments = ["shard", "--id", &name, "--listen", &listen, "--heartbeat", heartbeat];
        let arguments = [&arguments[..], &["--faults", faults.to_str().unwrap()]].concat();
        let mut process = Process::start_with(&arguments, change);
        let said = process.wait_for("faults on ", |line| Some(line.split_once("faults on ")?.1.to_owned()));
        assert_eq!(Path::new(&said), faults);
        let address = process.listening();
        Self { process, address, faults }
    }

    /// The value of `name=` in the answer to the order `counters`.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let answer = self.order("counters");
        let words = answer.strip_prefix("ok: ").unwrap().split(' ');
        let mut counts = words.filter_map(|word| word.split_once('='));
        counts.find(|(counter, _)| *counter == name).unwrap().1.parse().unwrap()
    }

    /// Sends an order to the fault port; returns the answer.
    pub(crate) fn order(&self, words: &str) -> String {
        order(&self.faults, words)
    }

    /// Whether the fault port, which runs on the network threads, answers within this time.
    pub(crate) fn answers_within(&self, time: Duration) -> bool {
        let mut stream = UnixStream::connect(&self.faults).unwrap();
        stream.set_read_timeout(Some(time)).unwrap();
        stream.write_all(b"list\n").unwrap();
        stream.read(&mut [0]).is_ok_and(|got| got > 0)
    }

    pub(crate) fn arm(&self, order: &str) {
        assert_eq!(self.order(order), "ok", "{order}");
    }
}

/// Sends an order to the socket of a fault port; returns the answer.
pub(crate) fn order(port: &Path, words: &str) -> String {
    let mut stream = UnixStream::connect(port).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{words}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}

/// Starts `count` shards.
pub(crate) fn shards(folder: &Path, count: u16) -> Vec<Shard> {
    (0..count).map(|id| Shard::start(folder, id)).collect()
}

/// Starts a coordinator over `shards` with JSON lines.
pub(crate) fn coordinator(shards: &[&Shard], blocks: &Path, more: &[&str]) -> Process {
    coordinator_with(shards, blocks, more, |_| {})
}

/// See [`Process::start_with`].
pub(crate) fn coordinator_with(
    shards: &[&Shard],
    blocks: &Path,
    more: &[&str],
    change: impl FnOnce(&mut Command),
) -> Process {
    let addresses: Vec<String> = shards.iter().map(|shard| shard.address.to_string()).collect();
    let addresses = addresses.join(",");
    let mut arguments =
        vec!["coordinator", "--json", "--shards", &addresses, "--blocks", blocks.to_str().unwrap()];
    arguments.extend(more);
    Process::start_with(&arguments, change)
}

/// Asserts that each block's line is verified, with the digest of the sequential run; returns how
/// many there were.
pub(crate) fn assert_verified(lines: &[String], chain: &crate::blocks::Chain) -> usize {
    let mut blocks = 0;
    for line in lines {
        let value: Value = serde_json::from_str(line).unwrap();
        if value["event"] == "block" {
            assert_eq!(value["verified"], true, "{line}");
            let number = value["block"].as_u64().unwrap();
            assert_eq!(value["digest"].as_str(), chain.digests.get(&number).map(String::as_str), "{line}");
            blocks += 1;
        }
    }
    blocks
}

/// The state letter of a thread, from its stat file; `None` if the thread has gone.
pub(crate) fn thread_state(pid: u32, name: &str) -> Option<char> {
    thread_states(pid, name).pop()
}

/// The state letters of all threads of that name.
pub(crate) fn thread_states(pid: u32, name: &str) -> Vec<char> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let state = |task: std::fs::DirEntry| {
        // A thread that ends meanwhile no longer has a stat file.
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(") ")?;
        if head.ends_with(&format!("({name}")) { tail.chars().next() } else { None }
    };
    tasks.flatten().filter_map(state).collect()
}

/// Polls for something that cannot be waited for otherwise.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(LOOK);
    }
}

/// Whether the thread of that name works, according to the heartbeat.
pub(crate) fn is_working(heartbeat: &Path, name: &str) -> bool {
    let (reader, sample) = sample(heartbeat);
    let mut named = sample.threads.iter().filter(|thread| {
        let described = reader.describe(thread.slot as usize).unwrap();
        described.is_some_and(|described| described.name == name)
    });
    named.next().unwrap().is_working()
}

/// How many messages wait in the channel of that name.
pub(crate) fn depth(heartbeat: &Path, name: &str) -> u64 {
    of_channel(heartbeat, name, |channel| channel.depth())
}

/// How many messages were received from the channel of that name.
pub(crate) fn received(heartbeat: &Path, name: &str) -> u64 {
    of_channel(heartbeat, name, |channel| channel.received)
}

fn of_channel(heartbeat: &Path, name: &str, of: impl Fn(&ChannelSample) -> u64) -> u64 {
    let (reader, sample) = sample(heartbeat);
    let named = sample
        .channels
        .iter()
        .find(|channel| reader.describe_channel(channel.slot as usize).unwrap().as_deref() == Some(name));
    of(named.unwrap())
}

fn sample(heartbeat: &Path) -> (Reader, Sample) {
    let reader = Reader::open(heartbeat).unwrap();
    let mut sample = Sample::default();
    reader.sample(&mut sample).unwrap();
    (reader, sample)
}

/// The lines with this event.
pub(crate) fn events(lines: &[String], event: &str) -> Vec<Value> {
    let all = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|value| value["event"] == event).collect()
}
