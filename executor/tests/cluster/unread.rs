//! Pipes that nobody reads: they delay no block, and no shutdown.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use shard_heartbeat::{Reader, Sample};

use crate::blocks;
use crate::process::{PATIENCE, Process, Shard, assert_verified, coordinator, coordinator_with};

/// How often a segment is polled.
const LOOK: Duration = Duration::from_millis(5);

/// A pipe as small as the system makes it, so that it fills soon.
fn small_pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4_096).unwrap();
    (File::from(reader), File::from(writer))
}

/// Waits until the coordinating thread has begun and ended that many more blocks.
fn wait_for_blocks(heartbeat: &Path, more: u64) {
    let reader = Reader::open(heartbeat).unwrap();
    let mut sample = Sample::default();
    let mut activity = || {
        reader.sample(&mut sample).unwrap();
        sample.threads.iter().map(|thread| thread.activity).max().unwrap()
    };
    let (first, until) = (activity(), Instant::now() + PATIENCE);
    while activity() < first + 2 * more {
        assert!(Instant::now() < until, "blocks do not go on: {} of {more}", (activity() - first) / 2);
        std::thread::sleep(LOOK);
    }
}

#[test]
fn blocks_go_on_and_a_coordinator_ends_though_nobody_reads_its_report() {
    let chain = blocks::generated(1, 1);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let heartbeat = folder.path().join("coordinator.heartbeat");
    let (unread, stdout) = small_pipe();
    let more = ["--block-deadline", "60s", "--repeat", "0", "--heartbeat", heartbeat.to_str().unwrap()];
    let mut coordinator = coordinator_with(&[&shard], &chain.path, &more, |command| {
        command.stdout(stdout);
    });
    // Pipe and queue are full from here on.
    coordinator.wait_for_words("lines of the report are dropped");
    wait_for_blocks(&heartbeat, 100);
    let asked = Instant::now();
    coordinator.signal(libc::SIGTERM);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert!(asked.elapsed() < PATIENCE / 3, "{:?}", asked.elapsed());
    let said = coordinator.rest().1;
    let last = said.lines().find(|line| line.contains("standard output was not read in time")).unwrap();
    let lost: u64 = last.rsplit_once("lines=").unwrap().1.parse().unwrap();
    // A hundred blocks were reported without a reader, besides those that filled the queue.
    assert!(lost > 100, "{said}");
    drop(unread);
}

#[test]
fn a_reader_that_comes_back_is_told_in_its_place_how_much_it_missed() {
    let chain = blocks::generated(1, 1);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let (unread, stdout) = small_pipe();
    let more = ["--block-deadline", "60s", "--repeat", "0"];
    let mut coordinator = coordinator_with(&[&shard], &chain.path, &more, |command| {
        command.stdout(stdout);
    });
    coordinator.wait_for_words("lines of the report are dropped");
    let (caught_up, has_caught_up) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(unread).lines().map(|line| {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if event["event"] == "lines_dropped" {
                let _ = caught_up.send(());
            }
            event
        });
        lines.collect::<Vec<Value>>()
    });
    has_caught_up.recv_timeout(PATIENCE).unwrap();
    coordinator.signal(libc::SIGTERM);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    let events = reading.join().unwrap();
    let count = |event: &str| events.iter().filter(|line| line["event"] == event).count() as u64;
    let missed: u64 =
        events.iter().filter(|e| e["event"] == "lines_dropped").map(|e| e["lines"].as_u64().unwrap()).sum();
    let summary = events.last().unwrap();
    assert_eq!(summary["event"], "summary");
    assert!(missed > 0);
    assert_eq!(summary["lines_dropped"], missed, "{summary}");
    // Each block has a line, or is one of those that were dropped.
    assert_eq!(summary["blocks"].as_u64().unwrap(), count("block") + missed, "{summary}");
}

#[test]
fn the_last_line_sums_up_what_happened_also_when_it_went_wrong() {
    let chain = blocks::generated(2, 20);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let mut done = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(done.wait(), 0);
    let summary: Value = serde_json::from_str(done.rest().0.last().unwrap()).unwrap();
    assert_eq!(summary["event"], "summary");
    assert_eq!((&summary["blocks"], &summary["complete"]), (&2.into(), &true.into()));
    for none in ["wrong", "retries", "discarded", "lines_dropped"] {
        assert_eq!(summary[none], 0, "{none}");
    }
    shard.arm("arm spin");
    let mut failed = coordinator(&[&shard], &chain.path, &["--block-deadline", "1s"]);
    assert_eq!(failed.wait(), 3);
    let summary: Value = serde_json::from_str(failed.rest().0.last().unwrap()).unwrap();
    assert_eq!(summary["event"], "summary");
    assert_eq!((&summary["blocks"], &summary["complete"]), (&0.into(), &false.into()));
    assert!(summary["retries"].as_u64().unwrap() > 0, "{summary}");
}

#[test]
fn a_shard_executes_and_ends_though_nobody_reads_its_log() {
    let chain = blocks::generated(4, 50);
    let folder = tempfile::tempdir().unwrap();
    let (mut unread, stderr) = small_pipe();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut shard = Shard::start_with(folder.path(), 0, anywhere, |command| {
        // A few lines for each frame in either direction: many more than pipe and queue hold.
        command.stderr(stderr).env("RUST_LOG", "trace");
    });
    let mut coordinator = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s", "--repeat", "5"]);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert_eq!(assert_verified(&coordinator.rest().0, &chain), 4 * 5);
    let asked = Instant::now();
    shard.process.signal(libc::SIGTERM);
    assert_eq!(shard.process.wait(), 0);
    assert!(asked.elapsed() < PATIENCE / 3, "{:?}", asked.elapsed());
    // Unless the pipe was as full as it gets, this test has shown nothing.
    let mut log = Vec::new();
    unread.read_to_end(&mut log).unwrap();
    assert!(log.len() > 2_048, "{}", String::from_utf8_lossy(&log));
}

#[test]
fn a_process_that_cannot_say_why_it_ends_ends_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, heartbeat) = (taken.local_addr().unwrap().to_string(), folder.path().join("0.heartbeat"));
    let (mut unread, mut stderr) = small_pipe();
    stderr.write_all(&[b'x'; 4_096]).unwrap();
    let arguments = ["--id", "0", "--listen", &address, "--heartbeat", heartbeat.to_str().unwrap()];
    let mut shard = Process::start_with(&[&["shard"], &arguments[..]].concat(), |command| {
        command.stderr(stderr);
    });
    assert_eq!(shard.wait(), 2);
    let mut said = String::new();
    unread.read_to_string(&mut said).unwrap();
    assert!(!said.contains("--listen"), "there was room to say it, so this has shown nothing: {said}");
}
