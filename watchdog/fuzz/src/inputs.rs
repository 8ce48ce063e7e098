//! Files and requests that a stranger may have written, each through the parser that meets it: shared by the fuzz targets and by
//! a test that needs no special toolchain.
//!
//! Every function here ends for every input, and panics only if a promise of the crate is broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "a panic is how a fuzz target says what it has found; each target uses one of these"
)]

use std::path::Path;

use shard_watchdog::clock::{Monotonic, WallAnchor};
use shard_watchdog::config::read;
use shard_watchdog::recorder::decode::Record;
use shard_watchdog::recorder::file::{Recording, with_checksum, write_beginning};
use shard_watchdog::recorder::replay::Replay;
use shard_watchdog::recorder::{Excerpt, Facts};

/// A config that rules over every thread and channel, so that what was recorded is judged.
pub const CONFIG: &str = "[target]\nshard = \"0\"\nheartbeat = \"/run/shard/0.heartbeat\"\n\
    [[thread]]\nname = \"*\"\nstall_after = \"1s\"\n[[channel]]\nname = \"*\"\nmax_age = \"1s\"\n\
    [evidence]\ndirectory = \"/var/lib/shard-watchdog/0\"\n";

/// So many records are judged of one input: the fuzzer gains nothing by more.
const MOST_RECORDS: usize = 10_000;

/// The text of a config. One that is taken is whole: it makes a policy, and says the same again.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match read::parse(text, Path::new("fuzzed.toml")) {
        Ok(config) => {
            let _ = config.policy(false);
            let _: Vec<_> = config.not_yet().collect();
            assert!(!config.kill.signals.is_empty(), "a ladder without a rung");
        }
        Err(problems) => {
            assert!(!problems.list.is_empty(), "refused, and nobody knows why");
            let told = problems.to_string();
            // What is missing at the end is missed on the line after the last.
            let lines = text.matches('\n').count() + 1;
            for problem in &problems.list {
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{told}");
            }
        }
    }
}

/// A recording as it may have been damaged or made up, judged by [`CONFIG`]. The first byte says whether the rest is the file, or
/// chunks, each behind two bytes of length, that get their checksums here: no mutation would hit those.
pub fn recording(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let file = if kind & 1 == 0 { rest.to_vec() } else { with_chunks(rest) };
    let Ok(recording) = Recording::parse(file, Path::new("fuzzed")) else { return };
    let config = read::parse(CONFIG, Path::new("fuzzed.toml")).unwrap();
    let header = recording.header();
    let mut replay = Replay::new(&config, &header.facts);
    let mut records = recording.records();
    let mut before = Monotonic(0);
    for _ in 0..MOST_RECORDS {
        let Some(record) = records.next() else { break };
        match record {
            Record::Look => {
                let seen = records.seen();
                assert!(seen.at >= before, "time runs backwards: {before:?}, {:?}", seen.at);
                before = seen.at;
                let _ = header.wall_of(seen.at);
                replay.look(seen);
            }
            Record::Key { first_seen } => replay.met(first_seen),
            Record::Refused { at, why } => replay.refused(&why, at),
            Record::Paused { until, .. } => drop(replay.pause(Some(until))),
            Record::Resumed { .. } => drop(replay.pause(None)),
            Record::Requested { why, .. } => replay.request(&why),
            Record::Known(known) => replay.known(*known),
            Record::Cleared { key, .. } => replay.clear(key),
            Record::Reloaded { .. } | Record::Lost { .. } => {}
        }
    }
    for problem in records.problems() {
        assert!(!problem.is_empty());
    }
}

fn with_chunks(mut rest: &[u8]) -> Vec<u8> {
    let began = Monotonic(1_000_000_000);
    let facts = Facts { began, past: Default::default(), kills: Vec::new(), poll_threads: false, dropped: 0 };
    let excerpt = Excerpt { facts, at: began, chunks: Vec::new() };
    let mut file = write_beginning(&excerpt, "0", &WallAnchor::now());
    while let Some((length, after)) = rest.split_at_checked(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]])).min(after.len());
        let (chunk, after) = after.split_at(length);
        with_checksum(chunk, &mut file);
        rest = after;
    }
    file
}
