use super::*;

use std::sync::Arc;

use crate::board::sample;
use crate::clock::Monotonic;
use crate::config::KillMode;
use crate::snapshot::{Deadline, ExcuseStatus, ShadowStatus, Snapshot};
use crate::verdict::ExcuseKind;

const SECOND: Duration = Duration::from_secs(1);

/// The brakes for a snapshot with this change.
fn brakes(mode: KillMode, change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
    let board = sample::board();
    board.set_mode(mode);
    let mut snapshot = sample::snapshot();
    change(&mut snapshot);
    board.set_snapshot(Arc::new(snapshot));
    let status = StatusJson::of(&board, crate::clock::now());
    status.no_kill.into_iter().map(|brake| format!("{}: {}", brake.because, brake.why)).collect()
}

fn ago(snapshot: &Snapshot, seconds: u32) -> Monotonic {
    Monotonic(snapshot.at.0 - u64::from(seconds) * 1_000_000_000)
}

#[test]
fn what_decides_comes_first_and_what_would_hold_a_kill_back_behind_it() {
    assert_eq!(brakes(KillMode::Enforce, |_| ()), ["healthy: nothing is wrong"]);
    let observe = brakes(KillMode::Observe, |snapshot| snapshot.kills_left = 0);
    let because: Vec<_> = observe.iter().map(|brake| brake.split_once(':').unwrap().0).collect();
    assert_eq!(because, ["healthy", "observe", "budget"]);
}

#[test]
fn a_condemned_target_is_held_back_by_what_is_named_or_by_nothing() {
    let condemned = |mode, held, left| {
        brakes(mode, |snapshot| {
            (snapshot.verdict, snapshot.held, snapshot.kills_left) = (Verdict::Condemned, held, left);
        })
    };
    assert!(condemned(KillMode::Observe, false, 3)[0].starts_with("observe: "));
    assert!(condemned(KillMode::Enforce, false, 0)[0].starts_with("budget: "));
    assert!(
        condemned(KillMode::Enforce, true, 3)[0].starts_with("excuse: the thread that it is condemned for")
    );
    assert!(condemned(KillMode::Enforce, false, 3)[0].starts_with("pending: "));
}

#[test]
fn a_crash_loop_is_told_with_its_work_and_what_ends_it() {
    let told = |spared| {
        brakes(KillMode::Enforce, |snapshot| {
            (snapshot.verdict, snapshot.spared) = (Verdict::CrashLoop, spared);
            snapshot.crash_loop_keys = vec![7, 9];
        })
    };
    let idle = told(false);
    assert_eq!(idle.len(), 1, "{idle:?}");
    assert!(
        idle[0].starts_with("crash_loop: work 7, 9 was in flight") && idle[0].contains("clear"),
        "{idle:?}"
    );
    assert!(told(true)[0].contains("is stalled on such work now"));
}

#[test]
fn running_excuses_are_told_with_how_long_and_of_how_long() {
    let traced = |lasted: Duration, over: bool| {
        brakes(KillMode::Enforce, |snapshot| {
            snapshot.verdict = Verdict::Excused;
            let thread = &mut snapshot.threads[0];
            thread.excuse = Some(ExcuseKind::Traced);
            thread.excuse_over_cap = over;
            let was = ExcuseStatus { kind: ExcuseKind::Starved, lasted: SECOND, cap: Some(SECOND * 600) };
            let is = ExcuseStatus { kind: ExcuseKind::Traced, lasted, cap: Some(SECOND * 3_600) };
            thread.excuses = vec![was, is];
        })
    };
    assert_eq!(traced(SECOND * 75, false), ["excuse: thread exec-s0 has been traced for 1m 15s of 1h"]);
    let over = traced(SECOND * 3_700, true);
    assert!(
        over[0].starts_with("excuse_over: thread exec-s0 has been traced for 1h 1m, longer than the 1h"),
        "{over:?}"
    );
    let stopped = brakes(KillMode::Enforce, |snapshot| {
        snapshot.verdict = Verdict::Excused;
        let since = ago(snapshot, 12);
        snapshot.deadlines = vec![Deadline { what: "stopped", since, at_most: SECOND * 60, kills: true }];
    });
    assert_eq!(
        stopped,
        ["stopped: the process has been stopped by a signal for 12s of 1m; then it is condemned"]
    );
}

#[test]
fn grace_thresholds_and_rules_that_only_report_are_told() {
    let starting = brakes(KillMode::Enforce, |snapshot| {
        snapshot.verdict = Verdict::Starting;
        let since = ago(snapshot, 7);
        snapshot.deadlines =
            vec![Deadline { what: "startup_grace", since, at_most: SECOND * 30, kills: false }];
    });
    assert_eq!(starting, ["grace: the target is within startup_grace: 23s of 30s are left"]);
    let degraded = |health, tid| {
        brakes(KillMode::Enforce, |snapshot| {
            snapshot.verdict = Verdict::Degraded;
            (snapshot.threads[0].health, snapshot.threads[0].tid) = (health, tid);
        })
    };
    assert_eq!(
        degraded(Health::Late, Some(11)),
        ["threshold: thread exec-s0 is only late so far: 0.50s of 5.00s have counted"]
    );
    assert!(degraded(Health::Stalled, Some(11))[0].starts_with("report: "));
    assert!(degraded(Health::Gone, None)[0].starts_with("missing: "));
}

#[test]
fn a_shadow_that_condemns_is_named_behind_all_else() {
    let told = brakes(KillMode::Enforce, |snapshot| {
        snapshot.shadow = Some(ShadowStatus {
            verdict: Verdict::Condemned,
            reason: "thread exec-s0 made no progress".to_owned(),
            since: snapshot.at,
            kills: 1,
            last: None,
            kills_left: 2,
        });
    });
    assert_eq!(told.len(), 2);
    assert!(
        told[1]
            .starts_with("shadow: the policy that condemns it is the shadow's, which never signals: thread")
    );
}

#[test]
fn every_verdict_has_a_reason() {
    for verdict in Verdict::ALL {
        assert!(!brakes(KillMode::Enforce, |snapshot| snapshot.verdict = *verdict).is_empty(), "{verdict}");
    }
}
