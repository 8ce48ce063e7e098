//! Rows in which the connection between coordinator and shard fails, or carries nonsense.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use shard_tests::clock::monotonic_ns;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::figures::Record;
use shard_tests::hostile::Hostile;
use shard_tests::proxy::{Mode, Towards};
use shard_tests::{faults, wait};

const METHOD: &str = "/shard.executor.v1.Shard/Serve";

/// Row 8: the coordinator dies while a shard works for it. The shard stays, counts results that are
/// no longer wanted, and works for the next coordinator.
#[test]
fn row_08_a_shard_outlives_its_coordinator_and_counts_what_it_drops() {
    let mut cluster = Cluster::start(&Plan { shards: 1, ..Plan::coordinator_first() });
    faults::order(&cluster.shards[0].faults, &["arm slow 20ms"]);
    wait::until("a part under way", || {
        let status = cluster.shards[0].sidecar.status()?;
        let threads = status["threads"].as_array()?.iter();
        threads.into_iter().any(|t| t["name"] == "exec-s0" && t["health"] == "working").then_some(())
    });
    let at = monotonic_ns();
    cluster.coordinator().process.signal(Signal::KILL);
    let shard = &cluster.shards[0];
    wait::until("the loss counted", || (shard.counter("coordinators_lost") > 0).then_some(()));
    let dropped = wait::until("the result dropped and counted", || {
        let dropped = shard.counter("results_dropped");
        (dropped > 0).then_some(dropped)
    });
    let counted = monotonic_ns();
    faults::order(&shard.faults, &["disarm"]);
    let blocks = cluster.folder().join("blocks");
    cluster.run_blocks(&blocks, "8s");
    let verified = cluster.verified_after(counted);
    Record::row(8)
        .time("counted_ms", at, counted)
        .time("verified_ms", at, verified.at)
        .fact("dropped", &json!(dropped))
        .keep();
    cluster.assert_common_rule(&[]);
}

/// Row 10: a half-open connection accepts everything and answers nothing. Keep-alive detects it,
/// the part goes elsewhere, and once the network works again the shard takes part again.
#[test]
fn row_10_a_half_open_connection_is_given_up_and_its_shard_comes_back() {
    let mut cluster = Cluster::start(&Plan { proxied: vec![0], ..Plan::coordinator_first() });
    let at = monotonic_ns();
    cluster.proxy(0).set(Mode::Swallow);
    let lost = cluster.coordinator().event_after("shard_lost", at)["at_monotonic_ns"].as_u64().unwrap();
    let verified = cluster.verified_after(lost);
    cluster.proxy(0).set(Mode::Forward);
    let joined = cluster.coordinator().event_after("shard_joined", lost)["at_monotonic_ns"].as_u64().unwrap();
    let again = cluster.verified_after(joined);
    Record::row(10)
        .time("answer_ms", at, lost)
        .time("verified_ms", at, verified.at)
        .time("joined_ms", at, joined)
        .keep();
    cluster.verified_after(again.at);
    cluster.assert_common_rule(&[]);
}

/// A slow network is not a broken one: nothing is lost, and no shard is given up.
#[test]
fn a_slow_network_costs_time_and_nothing_else() {
    let mut cluster = Cluster::start(&Plan { proxied: vec![0], ..Plan::coordinator_first() });
    let at = monotonic_ns();
    let later = Duration::from_millis(40);
    cluster.proxy(0).set(Mode::Delay { to_shard: later, to_coordinator: later });
    let first = cluster.verified_after(at);
    let second = cluster.verified_after(first.at);
    cluster.verified_after(second.at);
    let events = cluster.coordinator().events();
    assert!(events.iter().all(|event| event["event"] != "shard_lost"), "{events:#?}");
    cluster.assert_common_rule(&[]);
}

/// Row 11: frames of the shard, then of the coordinator, are corrupted in transit. Each time that
/// connection ends, no process dies, and the shard comes back.
#[test]
fn row_11_corrupt_frames_cost_a_connection_and_nothing_else() {
    let mut cluster = Cluster::start(&Plan { proxied: vec![0], ..Plan::coordinator_first() });
    for (towards, case) in [(Towards::Coordinator, "to-coordinator"), (Towards::Shard, "to-shard")] {
        let at = monotonic_ns();
        cluster.proxy(0).set(Mode::Corrupt(towards));
        let lost = cluster.coordinator().event_after("shard_lost", at);
        let told = lost["at_monotonic_ns"].as_u64().unwrap();
        let verified = cluster.verified_after(told);
        cluster.proxy(0).set(Mode::Forward);
        let joined =
            cluster.coordinator().event_after("shard_joined", told)["at_monotonic_ns"].as_u64().unwrap();
        cluster.verified_after(joined);
        Record::row(11)
            .case(case)
            .time("answer_ms", at, told)
            .time("verified_ms", at, verified.at)
            .fact("reason", &lost["reason"])
            .keep();
    }
    cluster.assert_common_rule(&[]);
}

/// Row 11: strangers send a shard bytes that no decoder can accept, while blocks run over it. Each
/// is refused, and the coordinator's connection is not affected.
#[test]
fn row_11_nonsense_on_a_shards_port_is_refused_while_blocks_run() {
    let mut cluster = Cluster::start(&Plan::coordinator_first());
    let port = cluster.shards[0].listen;
    let began = monotonic_ns();
    let open = || Hostile::connect(port).greet().call(METHOD);
    let garbage: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    type Say<'a> = Box<dyn Fn() -> Hostile + 'a>;
    let cases: [(&str, Say<'_>); 7] = [
        ("no HTTP/2 at all", Box::new(|| Hostile::connect(port).bytes(&garbage))),
        ("a frame of 16 MiB", Box::new(|| open().oversized_frame())),
        ("a message of 4 GiB", Box::new(|| open().message(0, u32::MAX, &garbage))),
        ("a message compressed in no known way", Box::new(|| open().message(7, 4096, &garbage))),
        ("a message that is no protobuf", Box::new(|| open().message(0, 4096, &garbage))),
        ("an empty message", Box::new(|| open().message(0, 0, &[]))),
        ("a stream number that a client may not open", Box::new(|| open().frame(1, 4, 2, &[0x82]))),
    ];
    let mut record = Record::row(11).case("strangers");
    for (what, say) in cases {
        let at = monotonic_ns();
        let how = say().refused();
        record = record.time(&format!("{what}: {how:?} ended after ms"), at, monotonic_ns());
    }
    let verified = cluster.verified_after(monotonic_ns());
    record.time("verified_ms", began, verified.at).keep();
    let events = cluster.coordinator().events();
    assert!(events.iter().all(|event| event["event"] != "shard_lost"), "{events:#?}");
    cluster.assert_common_rule(&[]);
}
