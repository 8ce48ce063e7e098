use std::net::TcpListener;
use std::time::{Duration, Instant};

use shard_heartbeat::{ProcessState, Reader, Sample};

use crate::blocks;
use crate::process::{Process, Shard, coordinator};

#[test]
fn a_taken_port_is_told_with_the_address_and_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let heartbeat = folder.path().join("0.heartbeat");
    let mut shard = Process::start(&[
        "shard",
        "--id",
        "0",
        "--listen",
        &address,
        "--heartbeat",
        heartbeat.to_str().unwrap(),
    ]);
    assert_eq!(shard.wait(), 2);
    let said = shard.rest().1;
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

#[test]
fn addresses_and_durations_that_are_none_are_refused() {
    for wrong in [["--shards", "nowhere"], ["--shards", "a:b"], ["--block-deadline", "5"]] {
        let mut arguments = vec!["coordinator", "--blocks", "/nonexistent"];
        arguments.extend(wrong);
        if wrong[0] != "--shards" {
            arguments.extend(["--shards", "127.0.0.1:1"]);
        }
        let mut coordinator = Process::start(&arguments);
        assert_eq!(coordinator.wait(), 2, "{wrong:?}");
    }
}

#[test]
fn sigterm_ends_a_shard_and_a_coordinator_in_order_and_in_time() {
    let chain = blocks::generated(2, 40);
    let folder = tempfile::tempdir().unwrap();
    let mut shard = Shard::start(folder.path(), 0);
    let heartbeat = folder.path().join("coordinator.heartbeat");
    let more = ["--block-deadline", "60s", "--repeat", "0", "--heartbeat", heartbeat.to_str().unwrap()];
    let mut coordinator = coordinator(&[&shard], &chain.path, &more);
    coordinator.wait_for_event("block");
    let asked = Instant::now();
    coordinator.signal(libc::SIGTERM);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    shard.process.signal(libc::SIGTERM);
    assert_eq!(shard.process.wait(), 0, "{}", shard.process.rest().1);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    for name in ["0.heartbeat", "coordinator.heartbeat"] {
        let mut sample = Sample::default();
        Reader::open(&folder.path().join(name)).unwrap().sample(&mut sample).unwrap();
        assert_eq!(sample.state.known(), Some(ProcessState::Stopping), "{name}");
    }
}
