//! Tests of the outcomes that the sidecar's answers lead to.

use serde_json::{Value, json};

use super::*;

fn status(verdict: &str, pid: i32) -> StatusJson {
    let status = json!({
        "shard": "0", "verdict": verdict, "reason": "because", "since": "2026-11-29T12:00:00Z", "pid": pid,
        "incarnation": pid, "threads": [], "channels": [], "kills_left": 3, "mode": "enforce", "version": "0",
        "excused_seconds": { "stopped": f64::from(pid) },
        "no_kill": [{ "because": "observe", "why": "mode is observe" }],
    });
    serde_json::from_value(status).unwrap()
}

fn incident(state: &str, steps: &[&str]) -> Incident {
    let at = "2026-11-29T12:00:00Z";
    let timeline: Vec<Value> = steps
        .iter()
        .enumerate()
        .map(|(n, step)| {
            json!({ "at": at, "monotonic_ns": n, "since_last_progress_ms": 0.0, "step": step, "detail": null })
        })
        .collect();
    let incident = json!({
        "id": "20261129T120000000Z-7f3a", "shard": "0", "status": state, "reason": "stalled", "why": "because",
        "mode": "enforce", "opened_at": at, "target": { "pid": 1, "start_time": 1, "incarnation": 1 },
        "thread": null, "observations": [], "timeline": timeline, "durations": {},
    });
    serde_json::from_value(incident).unwrap()
}

/// Process 1 was watched before the fault; since then the sidecar has reported `told`, for a long
/// time.
fn follow(told: StatusJson, incidents: Vec<Incident>) -> Follow {
    let open = incidents.iter().any(|incident| incident.status == Status::Open);
    let healthy = told.verdict == Verdict::Healthy && !open;
    Follow {
        endpoint: "unix:/nowhere".parse().unwrap(),
        before: status("healthy", 1),
        status: told,
        known: BTreeSet::new(),
        incidents,
        moments: Vec::new(),
        late: BTreeSet::new(),
        healthy_since: healthy.then(|| Instant::now().checked_sub(SETTLED)).flatten(),
        answers: true,
    }
}

#[test]
fn the_same_process_has_recovered_once_the_fault_was_there_and_is_undone() {
    let follow = follow(status("healthy", 1), Vec::new());
    assert_eq!(follow.outcome(false, false), None);
    assert_eq!(follow.outcome(true, false), None);
    assert_eq!(follow.outcome(true, true), Some(Outcome::Healthy));
}

#[test]
fn it_must_stay_healthy_for_a_while() {
    let mut follow = follow(status("healthy", 1), Vec::new());
    follow.healthy_since = Some(Instant::now());
    assert_eq!(follow.outcome(true, true), None);
    follow.healthy_since = None;
    assert_eq!(follow.outcome(true, true), None);
}

#[test]
fn another_process_has_recovered_once_its_incident_is_closed() {
    let killed = ["verdict", "signal", "exited", "restarted"];
    let waits = follow(status("healthy", 2), vec![incident("open", &killed)]);
    assert_eq!(waits.outcome(true, false), None);
    assert_eq!(waits.late(true), Outcome::Restarted, "with no work there is nothing to finish");
    let done = follow(status("healthy", 2), vec![incident("recovered", &killed)]);
    assert!(done.killed() && done.ended());
    assert_eq!(done.outcome(true, false), Some(Outcome::Restarted));
    assert_eq!(done.excused(), [("stopped".to_owned(), 1.0)]);
}

#[test]
fn a_death_that_nobody_restarts_is_no_recovery() {
    let dead = follow(status("dead", 1), vec![incident("open", &["verdict", "signal", "exited"])]);
    assert_eq!(dead.outcome(true, true), None);
    assert!(matches!(dead.late(true), Outcome::Late(why) if why == "shard 0 is dead: because"));
}

#[test]
fn who_is_condemned_and_spared_is_told_with_the_reason() {
    let spared = follow(status("condemned", 1), vec![incident("open", &["verdict", "withheld"])]);
    assert_eq!(spared.outcome(true, true), None);
    let Outcome::Late(why) = spared.late(true) else { panic!("{:?}", spared.late(true)) };
    assert!(why.ends_with("not killed: mode is observe"), "{why}");
    assert!(matches!(spared.late(false), Outcome::Late(why) if why.contains("never struck")));
    let steps: Vec<_> = spared.moments().iter().map(|moment| moment.step).collect();
    assert_eq!(steps, ["condemned", "withheld"]);
}
