use std::path::Path;
use std::time::{Duration, Instant};

use shard_heartbeat::{Reader, Sample};

use crate::blocks;
use crate::process::{PATIENCE, Process, Shard, assert_verified, coordinator, shards};

#[test]
fn a_shard_killed_in_the_middle_of_a_part_costs_a_retry_and_nothing_else() {
    let chain = blocks::generated(6, 200);
    let folder = tempfile::tempdir().unwrap();
    let mut shards = shards(folder.path(), 2);
    let both: Vec<_> = shards.iter().collect();
    let mut coordinator = coordinator(&both, &chain.path, &["--block-deadline", "60s"]);
    let first = coordinator.wait_for_event("block");
    assert_eq!(first["verified"], true);
    // Slow enough that the shard is certainly in the middle of a part when it dies.
    shards[1].arm("arm slow 20ms");
    let before = coordinator.wait_for_event("block")["block"].as_u64().unwrap();
    wait_until_working(&folder.path().join("1.heartbeat"), before + 1);
    shards[1].process.signal(libc::SIGKILL);
    let lost = coordinator.wait_for_event("shard_lost");
    let retry = coordinator.wait_for_event("retry");
    assert!(retry["at_monotonic_ns"].as_u64() >= lost["at_monotonic_ns"].as_u64());
    assert!(retry["reason"].as_str().unwrap().contains("connection lost"), "{retry}");
    assert_eq!(shards[1].process.wait(), -libc::SIGKILL);
    // Its next incarnation is accepted again.
    let address = shards[1].address;
    shards[1] = Shard::start_at(folder.path(), 1, address);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert!(assert_verified(&coordinator.rest().0, &chain) >= 3);
}

/// Waits until a thread of the process with that heartbeat works on that block, or on a later one.
fn wait_until_working(heartbeat: &Path, block: u64) {
    let reader = Reader::open(heartbeat).unwrap();
    let mut sample = Sample::default();
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        reader.sample(&mut sample).unwrap();
        if sample.threads.iter().any(|thread| thread.is_working() && thread.work_key >= block) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("nobody works on block {block}");
}

#[test]
fn a_lone_shard_that_dies_is_waited_for_and_serves_again() {
    let chain = blocks::generated(3, 100);
    let folder = tempfile::tempdir().unwrap();
    let mut shard = Shard::start(folder.path(), 0);
    shard.arm("arm slow 20ms");
    let mut coordinator = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s"]);
    coordinator.wait_for_event("shard_joined");
    shard.process.signal(libc::SIGKILL);
    coordinator.wait_for_event("shard_lost");
    assert_eq!(shard.process.wait(), -libc::SIGKILL);
    let address = shard.address;
    let _next = Shard::start_at(folder.path(), 0, address);
    coordinator.wait_for_event("shard_joined");
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert_eq!(assert_verified(&coordinator.rest().0, &chain), 3);
}

#[test]
fn a_part_that_no_shard_returns_ends_in_a_typed_error() {
    let chain = blocks::generated(1, 20);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    shard.arm("arm spin");
    let started = Instant::now();
    let mut coordinator = coordinator(&[&shard], &chain.path, &["--block-deadline", "2s"]);
    assert_eq!(coordinator.wait(), 3);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let said = coordinator.rest().1;
    assert!(said.contains("not executed within 2s") && said.contains("shard 0"), "{said}");
}

/// Two shards that execute a part slowly. Kills one after the other, the second while it has the
/// first one's part if `during_the_retry`; returns the coordinator's exit code and output.
fn both_shards_die(during_the_retry: bool) -> (i32, String) {
    let chain = blocks::generated(1, 200);
    let folder = tempfile::tempdir().unwrap();
    let mut shards = shards(folder.path(), 2);
    for shard in &shards {
        shard.arm("arm slow 20ms");
    }
    let both: Vec<_> = shards.iter().collect();
    let mut coordinator = coordinator(&both, &chain.path, &["--block-deadline", "10s"]);
    let number = *chain.digests.keys().next().unwrap();
    for id in [0, 1] {
        wait_until_working(&folder.path().join(format!("{id}.heartbeat")), number);
    }
    for (id, shard) in shards.iter_mut().enumerate() {
        shard.process.signal(libc::SIGKILL);
        assert_eq!(shard.process.wait(), -libc::SIGKILL);
        if id == 0 && during_the_retry {
            coordinator.wait_for_event("retry");
        }
    }
    let started = Instant::now();
    let code = coordinator.wait();
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let said = coordinator.rest().1;
    assert!(said.contains(&format!("block {number}")), "{said}");
    (code, said)
}

#[test]
fn two_shards_that_die_end_in_an_error_that_names_everything() {
    let (code, said) = both_shards_die(false);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("not executed within 10s; part "), "{said}");
    assert!(said.contains("at step connect: shard ") && said.contains("connection lost: "), "{said}");
}

#[test]
fn a_shard_that_dies_during_the_retry_ends_in_an_error_that_names_everything() {
    let (code, said) = both_shards_die(true);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("at step connect: shard 1 at ") && said.contains("connection lost: "), "{said}");
}

#[test]
fn shards_that_cannot_be_reached_are_named_within_a_bound() {
    let chain = blocks::generated(1, 5);
    // Bound but not listening: nobody else gets the address, and connections are refused.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let started = Instant::now();
    let blocks = chain.path.to_str().unwrap();
    let mut coordinator =
        Process::start(&["coordinator", "--shards", &format!("127.0.0.1:1,{address}"), "--blocks", blocks]);
    assert_eq!(coordinator.wait(), 3);
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    let said = coordinator.rest().1;
    assert!(said.contains("127.0.0.1:1 (") && said.contains(&address), "{said}");
}

#[test]
fn a_shard_outlives_its_coordinator_and_serves_the_next() {
    let chain = blocks::generated(3, 50);
    let folder = tempfile::tempdir().unwrap();
    let mut shard = Shard::start(folder.path(), 0);
    let mut first = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s", "--repeat", "0"]);
    first.wait_for_event("block");
    shard.arm("arm slow 20ms");
    first.signal(libc::SIGKILL);
    assert_eq!(first.wait(), -libc::SIGKILL);
    shard.arm("disarm");
    let mut next = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(next.wait(), 0, "{}", next.rest().1);
    assert_eq!(assert_verified(&next.rest().0, &chain), 3);
    assert!(shard.process.is_running());
}
