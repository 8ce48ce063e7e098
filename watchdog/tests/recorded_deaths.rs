//! Deaths in a recording: each chunk carries what the judge remembers of them, so that a replay
//! finds the same crash loops.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::Path;
use std::time::Duration;

use shard_watchdog::act::budget::Past;
use shard_watchdog::clock::{Monotonic, WallAnchor};
use shard_watchdog::config::{JudgeConfig, KillBy, KillConfig, KillMode, KillSignal, On};
use shard_watchdog::judge::Judge;
use shard_watchdog::judge::policy::{ByKind, Rule};
use shard_watchdog::observation::{Declared, Observation, ProcessObservation, ThreadObservation};
use shard_watchdog::recorder::Recorder;
use shard_watchdog::recorder::decode::Record;
use shard_watchdog::recorder::file::{self, Recording};
use shard_watchdog::recorder::replay::Replay;
use shard_watchdog::recorder::ring::KEEP;
use shard_watchdog::snapshot::TargetIdentity;

const BEGAN: Monotonic = Monotonic(77_000_000_000);

/// Two lives die on one work while the ring forgets the first one: what a chunk records as known at
/// its beginning makes up for it.
#[test]
fn deaths_before_the_recording_begins_are_in_it() {
    let seen = |at: u64, life: u64, exited: bool| {
        let identity = TargetIdentity { pid: 10, start_time: life, incarnation: life };
        let mut thread = ThreadObservation::blank(0, 1, "exec-s0".into(), 11);
        (thread.activity, thread.work_key) = (1, 7);
        let mut process = ProcessObservation::blank(identity);
        (process.declared, process.exited) = (Declared::Running, exited);
        Observation {
            at: Monotonic(at),
            process: Some(process),
            threads: vec![thread],
            ..Observation::default()
        }
    };
    let nobody = |at| Observation { at: Monotonic(at), ..Observation::default() };
    let mut policy = shard_watchdog::config::policy::policy(&[], &[], &JudgeConfig::default(), KEEP, false);
    let glob = globset::Glob::new("exec-s*").unwrap().compile_matcher();
    policy.rules.push(Rule {
        name: "exec-s*".to_owned(),
        glob,
        count: 1,
        stall_after: KEEP,
        warn_after: KEEP,
        warm_up: Duration::ZERO,
        sections: Vec::new(),
        on: On::Kill,
        by_kind: ByKind::default(),
        silence: None,
    });
    let kill = KillConfig {
        mode: KillMode::Enforce,
        by: KillBy::Signal,
        signals: vec![(KillSignal::Kill, Duration::ZERO)],
        budget_kills: 3,
        budget_per: Duration::from_secs(600),
        progress_brake: 3,
        jitter: Duration::ZERO,
    };
    let mut recorder = Recorder::new(BEGAN, Past::default(), false);
    let mut judge = Judge::new(BEGAN);
    let mut at = BEGAN.0;
    let mut live = Vec::new();
    for life in 1..=3_u64 {
        for exited in [false, true] {
            at += 50_000_000;
            let seen = seen(at, life, exited);
            judge.observe(&policy, &seen);
            recorder.look(&seen);
            recorder.remember(judge.crash_loops());
            live.push((judge.verdict(), judge.why().to_owned(), judge.crash_loops().keys().to_vec()));
        }
        // Longer than the ring retains.
        for _ in 0..if life == 1 { 1_500 } else { 3 } {
            at += 50_000_000;
            judge.observe(&policy, &nobody(at));
            recorder.look(&nobody(at));
            recorder.remember(judge.crash_loops());
        }
    }
    assert_eq!(judge.crash_loops().keys(), [7]);
    judge.clear(Some(7));
    recorder.cleared(Monotonic(at), Some(7), judge.crash_loops());
    let bytes = file::write(&recorder.excerpt(Monotonic(at)), "0", &WallAnchor::now());
    let recording = Recording::parse(bytes, Path::new("recording")).unwrap();
    let mut replay = Replay::with_policy(policy, &kill, &recording.header().facts);
    let mut again = Vec::new();
    let (mut known, mut cleared) = (0, 0);
    let mut records = recording.records();
    while let Some(record) = records.next() {
        match record {
            Record::Known(was) => {
                known += 1;
                replay.known(*was);
            }
            Record::Cleared { key, .. } => {
                cleared += 1;
                replay.clear(key);
            }
            Record::Look => {
                replay.look(records.seen());
                let judge = replay.judge();
                if records.seen().process.is_some() {
                    again.push((
                        judge.verdict(),
                        judge.why().to_owned(),
                        judge.crash_loops().keys().to_vec(),
                    ));
                }
            }
            _ => {}
        }
    }
    assert_eq!(records.problems(), Vec::<String>::new());
    assert!(known > 0 && cleared == 1);
    assert_eq!(again, live[2..], "the first life is not in it any more");
    assert_eq!(replay.judge().crash_loops(), judge.crash_loops());
}
