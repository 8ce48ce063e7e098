//! Rows in which a message between coordinator and shard is lost, late, wrong or an error: the
//! coordinator detects it by its own deadlines, and no sidecar has a reason to act.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::super::{Part, Row, Told, scene};
use crate::clock::monotonic_ns;
use crate::cluster::{Cluster, Plan};
use crate::hostile::Hostile;
use crate::proxy::{Mode, Towards};
use crate::{faults, wait};

/// A typed answer arrives by the block's deadline (8 s), or a little later on a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

const fn row(
    number: &'static str,
    case: &'static str,
    what: &'static str,
    fault: &'static str,
    play: fn(&Told),
) -> Row {
    scene(Part::Seen, number, case, what, fault, play)
}

pub(super) const ROWS: &[Row] = &[
    row("6", "", "a state request is never answered", "order to the coordinator: mute-state 1", |told| {
        retried(told, "mute-state 1", "STATE_LATE");
    }),
    row(
        "6",
        "never",
        "no state request is answered any more",
        "order to the coordinator: mute-state",
        never_answered,
    ),
    row("7", "", "a part is lost on its way", "order to the coordinator: drop-part", |told| {
        retried(told, "drop-part", "deadline");
    }),
    row("7", "result", "a result is lost on its way", "order: drop-result", lost_result),
    row(
        "8",
        "",
        "the coordinator goes before the result is sent",
        "SIGKILL to the coordinator",
        no_coordinator,
    ),
    row("10", "", "half-open connection", "a proxy that takes everything and answers nothing", half_open),
    row("11", "", "corrupt frames", "a proxy that flips bits in frame headers, either way", corrupt),
    row("11", "strangers", "oversized and foreign frames", "six strangers at the shard's port", strangers),
    row(
        "14",
        "",
        "late results of another attempt or block",
        "order to the coordinator: flood 12",
        late_results,
    ),
    row("15", "", "one shard answers with an error", "order: part-error", part_error),
];

/// Records and asserts the coordinator's response: an answer with a reason in time, the block
/// verified, the next one too, and no shard affected.
#[track_caller]
fn answered(told: &Told, cluster: &mut Cluster, fired: u64, reason: &str) -> Value {
    let retry = cluster.coordinator().event_after("retry", fired);
    let at = at(&retry);
    told.saw(&format!("retry: {}", retry["reason"].as_str().unwrap_or_default()));
    told.time_within("answer", fired, at, ANSWERED_WITHIN);
    assert!(retry["reason"].as_str().is_some_and(|why| why.contains(reason)), "{retry}");
    let block = retry["block"].as_u64().expect("a retry names its block");
    let verified = cluster.coordinator().verified_block_after(block, fired);
    told.time("verified", fired, verified.at);
    cluster.verified_after(verified.at);
    cluster.assert_common_rule(&[]);
    retry
}

#[track_caller]
fn retried(told: &Told, order: &str, reason: &str) {
    let mut cluster = Cluster::start(&Plan::coordinator_first());
    let fired = cluster.inject_coordinator(&[&format!("arm {order}")]);
    answered(told, &mut cluster, fired, reason);
}

fn lost_result(told: &Told) {
    let mut cluster = Cluster::start(&Plan::coordinator_first());
    let fired = cluster.inject(0, &["arm drop-result"]);
    answered(told, &mut cluster, fired, "deadline");
}

fn never_answered(told: &Told) {
    let plan = Plan { block_deadline: "4s".to_owned(), ..Plan::coordinator_first() };
    let mut cluster = Cluster::start(&plan);
    let fired = cluster.inject_coordinator(&["arm mute-state"]);
    let said = ends_with_3(told, &mut cluster, fired);
    assert!(said.contains("block ") && said.contains("shard ") && said.contains("state"), "{said}");
    cluster.assert_unharmed_except(&[]);
}

/// Waits until the coordinator has ended with its exit code for a block that could not be executed,
/// and returns its message.
#[track_caller]
pub(super) fn ends_with_3(told: &Told, cluster: &mut Cluster, fired: u64) -> String {
    let coordinator = cluster.coordinator_mut();
    let status = coordinator.process.wait("the coordinator's end");
    told.time("answer", fired, monotonic_ns());
    told.saw(&format!("coordinator: {status}"));
    assert_eq!(status.code(), Some(3), "{status}");
    let said = coordinator
        .process
        .line("why", 0, |line| line.starts_with("shard-executor").then(|| line.to_owned()));
    told.fact("said", &json!(said));
    said
}

fn no_coordinator(told: &Told) {
    let mut cluster = Cluster::start(&Plan { shards: 1, ..Plan::coordinator_first() });
    faults::order(&cluster.shards[0].faults, &["arm slow 20ms"]);
    wait::until("a part under way", || {
        let status = cluster.shards[0].sidecar.status()?;
        let threads = status["threads"].as_array()?.iter();
        threads.into_iter().any(|t| t["name"] == "exec-s0" && t["health"] == "working").then_some(())
    });
    let fired = monotonic_ns();
    cluster.coordinator().process.signal(Signal::KILL);
    let shard = &cluster.shards[0];
    wait::until("the loss counted", || (shard.counter("coordinators_lost") > 0).then_some(()));
    wait::until("the result dropped and counted", || (shard.counter("results_dropped") > 0).then_some(()));
    let counted = monotonic_ns();
    told.saw("the shard stays, counts the loss and the result");
    told.time("answer", fired, counted);
    faults::order(&shard.faults, &["disarm"]);
    let blocks = cluster.folder().join("blocks");
    cluster.run_blocks(&blocks, "8s");
    told.time("verified", fired, cluster.verified_after(counted).at);
    cluster.assert_common_rule(&[]);
}

/// Disturbs the connection of shard 0, which is given up, and made again once undisturbed. Returns
/// the loss as the coordinator reports it.
#[track_caller]
fn lost_and_joined(told: &Told, cluster: &Cluster, mode: Mode) -> Value {
    let fired = monotonic_ns();
    cluster.proxy(0).set(mode);
    let lost = cluster.coordinator().event_after("shard_lost", fired);
    told.saw(&format!("shard_lost: {}", lost["reason"].as_str().unwrap_or_default()));
    told.time_within("answer", fired, at(&lost), ANSWERED_WITHIN);
    told.time("verified", fired, cluster.verified_after(at(&lost)).at);
    cluster.proxy(0).set(Mode::Forward);
    let joined = at(&cluster.coordinator().event_after("shard_joined", at(&lost)));
    told.time("running", fired, joined);
    let again = cluster.verified_after(joined);
    cluster.verified_after(again.at);
    lost
}

fn half_open(told: &Told) {
    let mut cluster = Cluster::start(&Plan { proxied: vec![0], ..Plan::coordinator_first() });
    lost_and_joined(told, &cluster, Mode::Swallow);
    cluster.assert_common_rule(&[]);
}

fn corrupt(told: &Told) {
    let mut cluster = Cluster::start(&Plan { proxied: vec![0], ..Plan::coordinator_first() });
    for towards in [Towards::Coordinator, Towards::Shard] {
        lost_and_joined(told, &cluster, Mode::Corrupt(towards));
    }
    cluster.assert_common_rule(&[]);
}

fn strangers(told: &Told) {
    const METHOD: &str = "/shard.executor.v1.Shard/Serve";
    type Say = fn(Hostile, &[u8]) -> Hostile;
    let called: [Say; 5] = [
        |open, _| open.oversized_frame(),
        |open, garbage| open.message(0, u32::MAX, garbage),
        |open, garbage| open.message(7, 4096, garbage),
        |open, garbage| open.message(0, 4096, garbage),
        |open, _| open.frame(1, 4, 2, &[0x82]),
    ];
    let mut cluster = Cluster::start(&Plan::coordinator_first());
    let port = cluster.shards[0].listen;
    let garbage: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let began = monotonic_ns();
    let mut refusals = vec![Hostile::connect(port).bytes(&garbage).refused()];
    for say in called {
        refusals.push(say(Hostile::connect(port).greet().call(METHOD), &garbage).refused());
    }
    told.saw("each refused, nobody lost");
    told.time("answer", began, monotonic_ns());
    told.fact("refused", &json!(refusals.iter().map(|how| format!("{how:?}")).collect::<Vec<_>>()));
    told.time("verified", began, cluster.verified_after(monotonic_ns()).at);
    let events = cluster.coordinator().events();
    assert!(events.iter().all(|event| event["event"] != "shard_lost"), "{events:#?}");
    cluster.assert_common_rule(&[]);
}

fn late_results(told: &Told) {
    const LATE: u64 = 12;
    let mut cluster = Cluster::start(&Plan::coordinator_first());
    let port = cluster.coordinator().faults.clone();
    assert_eq!(faults::counter(&port, "discarded"), 0, "nothing was late so far");
    let fired = cluster.inject_coordinator(&[&format!("arm flood {LATE}")]);
    wait::until("all of them counted", || (faults::counter(&port, "discarded") >= LATE).then_some(()));
    let first = cluster.coordinator().event_after("discarded", fired);
    told.saw("discarded and counted");
    told.time("answer", fired, at(&first));
    let after = cluster.verified_after(at(&first));
    told.time("verified", fired, after.at);
    cluster.verified_after(after.at);
    cluster.assert_common_rule(&[]);
}

fn part_error(told: &Told) {
    let mut cluster = Cluster::start(&Plan { shards: 3, ..Plan::coordinator_first() });
    let fired = cluster.inject(1, &["arm part-error"]);
    let retry = answered(told, &mut cluster, fired, "EXECUTION");
    assert!(retry["from"].as_str().is_some_and(|from| from.contains("shard 1")), "{retry}");
    let block = retry["block"].as_u64().expect("a retry names its block");
    let failed = cluster.coordinator().verified_block_after(block, fired);
    assert_eq!(failed.retries, 1, "one part went out again: {failed:?}");
    let next = cluster.verified_after(failed.at);
    assert_eq!(next.retries, 0, "the next block is clean: {next:?}");
}

#[track_caller]
pub(super) fn at(event: &Value) -> u64 {
    event["at_monotonic_ns"].as_u64().expect("an event has its time")
}
