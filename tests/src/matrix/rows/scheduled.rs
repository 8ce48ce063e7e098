//! Row 61: a thread whose scheduling class gives it less CPU time than it wants.

use std::time::Duration;

use super::super::recovers::tell;
use super::super::{Need, Part, Row, Told, scene};
use crate::clock::monotonic_ns;
use crate::puppet::Stage;
use crate::sidecar::Settings;
use crate::{incident, scheduling, wait};

const ROOT_AND_CHRT: &[Need] = &[Need::Root, Need::Program("chrt", "util-linux")];

/// Three steps of the puppet take as long, at a tenth of a CPU.
const HELD: Duration = Duration::from_secs(9);

pub(super) const ROWS: &[Row] = &[
    scene(
        Part::Spared,
        "61",
        "",
        "its runtime of SCHED_DEADLINE is used up in each period",
        "chrt --deadline, 10 ms of 100 ms, and steps of 0.3 s of CPU time",
        steps,
    )
    .on(ROOT_AND_CHRT),
    scene(
        Part::Seen,
        "61",
        "livelock",
        "the same, and it spins",
        "chrt --deadline, 10 ms of 100 ms, and order: spin",
        spin,
    )
    .on(ROOT_AND_CHRT),
];

/// A puppet whose thread has a tenth of a CPU. By the wall clock each of its steps takes three
/// times its threshold, by its CPU time a third.
#[track_caller]
fn at_a_tenth() -> Stage {
    let stage = Stage::start(&Settings::default());
    scheduling::deadline(stage.order("go").number("tid")).unwrap_or_else(|why| panic!("{why}"));
    stage
}

fn steps(told: &Told) {
    let stage = at_a_tenth();
    let pid = stage.sidecar.pid();
    let began = monotonic_ns();
    stage.order("wait busy");
    wait::until(&format!("the excuse, not {:?}", stage.sidecar.status()), || {
        stage.sidecar.status().filter(|status| status["threads"][0]["kind"] == "throttled")
    });
    told.time("verdict", began, monotonic_ns());
    wait::holds_for(HELD, "not condemned, and alive", || {
        stage.order("wait busy");
        stage.sidecar.status().is_none_or(|status| status["verdict"] != "condemned" && status["pid"] == pid)
    });
    told.held(HELD);
    told.saw("excused (throttled)");
    stage.sidecar.wait_for("healthy");
    assert!(stage.sidecar.incidents().is_empty(), "{:#?}", stage.sidecar.incidents());
    assert_eq!(stage.sidecar.pid(), pid);
}

fn spin(told: &Told) {
    let stage = at_a_tenth();
    let fired = monotonic_ns();
    stage.order("wait spin");
    let incident = stage.sidecar.incident("recovered");
    tell(told, &incident, fired);
    assert_eq!(incident["thread"]["kind"], "livelock", "{incident:#}");
    let verdict = incident::step_at(&incident, "verdict").expect("it was judged");
    let waited = Duration::from_nanos(verdict.saturating_sub(fired));
    assert!(waited >= Duration::from_secs(5), "a second of CPU time takes ten: {waited:?}");
}
