//! Files and requests that a stranger may have written, each through the parser that receives it:
//! shared by the fuzz targets and by a test that needs no special toolchain.
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
use std::sync::LazyLock;

use shard_watchdog::clock::{Moment, Monotonic, WallAnchor};
use shard_watchdog::config::read;
use shard_watchdog::http::order;
use shard_watchdog::incident::deaths::Deaths;
use shard_watchdog::incident::folder::Folder;
use shard_watchdog::incident::kills::{self, Kills};
use shard_watchdog::incident::pause;
use shard_watchdog::own_folder::Place;
use shard_watchdog::pause::{LONGEST_PAUSE, LONGEST_REASON, is_reason};
use shard_watchdog::recorder::decode::Record;
use shard_watchdog::recorder::file::{Recording, with_checksum, write_beginning};
use shard_watchdog::recorder::replay::Replay;
use shard_watchdog::recorder::{Excerpt, Facts};

/// A config with rules for every thread and channel, so that recordings are judged.
pub const CONFIG: &str = "[target]\nshard = \"0\"\nheartbeat = \"/run/shard/0.heartbeat\"\n\
    [[thread]]\nname = \"*\"\nstall_after = \"1s\"\n[[channel]]\nname = \"*\"\nmax_age = \"1s\"\n\
    [evidence]\ndirectory = \"/var/lib/shard-watchdog/0\"\n";

/// The most records judged of one input: the fuzzer gains nothing from more.
const MOST_RECORDS: usize = 10_000;

/// The text of a config. An accepted config is complete: it makes a policy, and writes itself back
/// the same.
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
            // What is missing at the end is reported on the line after the last.
            let lines = text.matches('\n').count() + 1;
            for problem in &problems.list {
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{told}");
            }
        }
    }
}

/// A recording that may be damaged or made up, judged by [`CONFIG`]. The first byte says whether
/// the rest is the file, or chunks, each after two bytes of length, that get their checksums here:
/// no mutation would hit those.
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

/// The body of an order over HTTP, as each order parses it: what is accepted may be written to logs
/// and terminals.
pub fn command(bytes: &[u8]) {
    let harmless = |reason: &str| {
        assert!(!reason.is_empty() && reason.len() <= LONGEST_REASON, "{reason:?}");
        assert!(
            reason.chars().all(|c| !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c)),
            "{reason:?}"
        );
    };
    match order::pause(bytes) {
        Ok(pause) => {
            harmless(&pause.reason);
            assert!(!pause.length.is_zero() && pause.length <= LONGEST_PAUSE);
        }
        Err(malformed) => assert!(!malformed.to_string().is_empty()),
    }
    if let Ok(kill) = order::kill(bytes) {
        harmless(&kill.reason);
    }
    assert_ne!(order::clear(bytes), Ok(Some(0)));
    let _ = order::nothing(bytes);
}

static EVIDENCE: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
/// An incident's name in the sidecar's format.
const INCIDENT: &str = "20261129T061028931Z-7834";

/// A file of an earlier life of the sidecar: the first byte says which.
pub fn kept_file(bytes: &[u8]) {
    let Some((which, content)) = bytes.split_first() else { return };
    let now = Moment::now();
    // A separate folder for each thread: tests run side by side.
    let folder = EVIDENCE.path().join(format!("{:?}", std::thread::current().id()));
    let place = Place::new(folder.clone(), Default::default());
    let incident = folder.join("incidents").join(INCIDENT);
    std::fs::create_dir_all(&incident).unwrap();
    let write = |path: &Path| {
        std::fs::write(path, content).unwrap();
        // As the sidecar creates them, whatever the umask is here.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(path, mode).unwrap();
    };
    match which % 4 {
        0 => {
            write(&folder.join(kills::FILE));
            let mut kills = Kills::new(place);
            let loaded = kills.load(&[], now);
            let past = kills.past(now);
            assert!(past.ages.len() <= kills::MOST, "{past:?}");
            assert!(loaded.is_ok() || past.cut, "a file that is not believed is no clean record");
        }
        1 => {
            if let Ok(deaths) = serde_json::from_slice::<Deaths>(content) {
                let known = deaths.known(2);
                assert!(known.keys().len() <= 8 && known.deaths().len() <= 64, "{known:?}");
            }
        }
        2 => {
            write(&folder.join("pause.json"));
            if let Ok(Some(pause)) = pause::load(&place, now) {
                assert!(is_reason(&pause.reason), "{:?}", pause.reason);
                assert!(pause.until.since(now.monotonic.unwrap()) <= LONGEST_PAUSE);
            }
        }
        _ => {
            write(&incident.join("incident.json"));
            let mut incidents = Folder::new(&place, 50, 1 << 20);
            let found = incidents.load().unwrap();
            assert_eq!(found.incidents.len() + found.unreadable.len(), 1, "{found:?}");
            let mut kills = Kills::new(place);
            kills.load(&found.incidents, now).ok();
            assert!(kills.past(now).ages.len() <= kills::MOST);
        }
    }
}
