//! A second process: this test binary again, in a role that an environment variable selects.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shard_heartbeat::{Heartbeat, SegmentOptions, TraceContext, WatchdogBeat, Work};

const ROLE: &str = "SHARD_HEARTBEAT_TEST_ROLE";
const PATH: &str = "SHARD_HEARTBEAT_TEST_PATH";

/// A child process; killed and reaped when dropped.
pub(crate) struct Second(pub(crate) Child);

impl Second {
    /// Starts one and waits for the message that it prints at its start.
    pub(crate) fn start(role: &str, path: &Path) -> (Second, String) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "second::second_process", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The test harness may print on the same line before it.
        let said = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("SAYS ").map(|said| said.1.to_owned()));
        (Second(child), said.unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reports why not, and ends before the test harness prints more to a parent that no longer
/// listens.
fn refuse(error: &dyn std::error::Error) -> ! {
    say(&error.to_string());
    std::process::exit(0)
}

fn say(what: &str) {
    println!("SAYS {what}");
    std::io::stdout().flush().unwrap();
}

/// Waits for the parent to end this process; ends by itself if the parent dies.
fn wait_for_the_end() {
    let _ = std::io::stdin().lines().next();
}

/// Not a test of its own: what the second process does.
#[test]
fn second_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = PathBuf::from(std::env::var_os(PATH).unwrap());
    match role.as_str() {
        "writer" => match Heartbeat::create(&path, &SegmentOptions::default()) {
            Ok(_held) => {
                say("created");
                wait_for_the_end();
            }
            Err(error) => refuse(&error),
        },
        "writer with a child" => {
            let _held = Heartbeat::create(&path, &SegmentOptions::default()).unwrap();
            // SAFETY: the child makes one system call that takes no memory, and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: both are async-signal-safe.
                unsafe {
                    libc::sleep(20);
                    libc::_exit(0);
                }
            }
            say(&child.to_string());
            wait_for_the_end();
        }
        "watchdog" => match WatchdogBeat::claim(&path) {
            Ok(_held) => {
                say("claimed");
                wait_for_the_end();
            }
            Err(error) => refuse(&error),
        },
        "busy" => busy(&path),
        "hook that hangs" => super::last_words::hook_that_hangs(&path, say),
        other => panic!("no role {other:?}"),
    }
}

/// Writes work whose every field follows from its key, for as long as the parent lives.
fn busy(path: &Path) {
    let heartbeat = Heartbeat::create(path, &SegmentOptions::default()).unwrap();
    let beat = heartbeat.register("busy").unwrap();
    say("busy");
    std::thread::spawn(|| {
        wait_for_the_end();
        std::process::exit(0);
    });
    for count in 1_u64.. {
        let outer = beat.working(work(2 * count));
        pause(count);
        let inner = beat.working(work(2 * count + 1));
        beat.progress();
        pause(count / 3);
        drop(inner);
        drop(outer);
    }
}

/// From no pause at all to one that is longer than a reader's three reads.
fn pause(count: u64) {
    for _ in 0..(count % 8) * 400 {
        std::hint::spin_loop();
    }
}

/// Work in which each field, and each half of each word, reveals the key.
pub(crate) fn work(count: u64) -> Work {
    let key = count << 32 | count & 0xffff_ffff;
    let id = (u128::from(key) << 64 | u128::from(key)).to_le_bytes();
    let trace = TraceContext { trace_id: id, span_id: key.to_le_bytes(), flags: count as u8 };
    Work::new(key).attempt(key).deadline(Duration::from_nanos(key)).trace(trace)
}
