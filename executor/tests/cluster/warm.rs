//! What is initialised before the first block of a fresh process.

use shard_executor::block::{self, Fork};
use shard_executor::warm_up;

use crate::process::{Process, Shard, coordinator, coordinator_with, thread_states, wait_until};

#[test]
fn a_shard_has_warmed_up_on_every_thread_and_for_every_fork_before_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    let heartbeat = folder.path().join("0.heartbeat");
    let arguments = ["shard", "--id", "0", "--listen", "127.0.0.1:0", "--threads", "3", "--heartbeat"];
    let mut shard = Process::start(&[&arguments[..], &[heartbeat.to_str().unwrap()]].concat());
    let mut said = String::new();
    shard.wait_for("the line that it listens", |line| {
        said.push_str(line);
        line.contains("listening on").then_some(())
    });
    // One for each fork, on the owner and two helpers; and reported first.
    let forks = Fork::names().split(", ").count();
    assert!(said.contains(&format!("of {forks} forks on 3 threads")), "{said}");
}

#[test]
fn a_coordinator_has_warmed_up_before_its_first_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    block::write(&warm_up::block().unwrap(), &path).unwrap();
    let shard = Shard::start(folder.path(), 0);
    let mut coordinator = coordinator_with(&[&shard], &path, &["--block-deadline", "60s"], |command| {
        command.env("RUST_LOG", "info");
    });
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    let told = coordinator.rest().1;
    assert!(told.contains("warmed up") && told.contains("on 1 threads"), "{told}");
}

#[test]
fn no_precompile_brings_threads_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    block::write(&warm_up::block().unwrap(), &path).unwrap();
    let shard = Shard::start(folder.path(), 0);
    let mut coordinator = coordinator(&[&shard], &path, &["--block-deadline", "60s"]);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    // A thread that is given no name inherits that of the thread that started it.
    wait_until("one thread of that name", || thread_states(shard.process.pid(), "exec-s0").len() == 1);
}
