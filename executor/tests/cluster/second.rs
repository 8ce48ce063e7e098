//! A second coordinator: it waits until the first has gone, and no longer.

use shard_executor::net::wire;

use crate::blocks;
use crate::peers::FakeCoordinator;
use crate::process::{Shard, assert_verified, coordinator, events, wait_until};

#[test]
fn a_second_coordinator_is_told_who_is_served_and_takes_over_when_that_one_is_killed() {
    let chain = blocks::generated(2, 50);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let mut first = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s", "--repeat", "0"]);
    first.wait_for_event("block");
    let mut second = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s"]);
    let said = second.wait_for_words("it serves coordinator ");
    assert!(said.contains(" from 127.0.0.1:") && said.contains("AlreadyExists"), "{said}");
    first.wait_for_event("block");
    first.signal(libc::SIGKILL);
    assert_eq!(first.wait(), -libc::SIGKILL);
    let lines = first.rest().0;
    assert!(events(&lines, "shard_lost").is_empty(), "the first has not noticed the second: {lines:?}");
    assert_eq!(second.wait(), 0, "{}", second.rest().1);
    assert_eq!(assert_verified(&second.rest().0, &chain), 2);
}

#[test]
fn a_second_coordinator_that_gives_up_says_who_is_served() {
    let chain = blocks::generated(1, 5);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let mut first = FakeCoordinator::connect(shard.address, 5);
    let mut second = coordinator(&[&shard], &chain.path, &[]);
    assert_eq!(second.wait(), 3);
    let said = second.rest().1;
    assert!(said.contains("it serves coordinator 5 from 127.0.0.1:"), "{said}");
    // A part without a tag: the shard counts it, so it still reads from the first coordinator.
    first.say(wire::down::Message::Run(wire::RunPart::default()));
    wait_until("the first is heard", || shard.counter("malformed") == 1);
    assert_eq!(shard.counter("coordinators_lost"), 0);
    drop(shard);
    first.hears_the_end();
}

#[test]
fn a_coordinator_that_connects_again_gets_its_shard_back_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let mut first = FakeCoordinator::connect(shard.address, 5);
    let again = FakeCoordinator::connect(shard.address, 5);
    let end = first.hears_the_end();
    assert!(end.contains("its coordinator has connected again"), "{end}");
    again.say(wire::down::Message::Run(wire::RunPart::default()));
    wait_until("the new one is heard", || shard.counter("malformed") == 1);
}

#[test]
fn a_coordinator_that_is_stopped_loses_its_shard_to_one_that_asks_for_it() {
    let chain = blocks::generated(2, 50);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let mut first = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s", "--repeat", "0"]);
    first.wait_for_event("block");
    // Its connection stays open, but nobody answers on it: as if its machine had gone.
    first.signal(libc::SIGSTOP);
    let mut second = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(second.wait(), 0, "{}", second.rest().1);
    assert_eq!(assert_verified(&second.rest().0, &chain), 2);
}
