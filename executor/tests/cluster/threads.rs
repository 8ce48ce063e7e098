//! Threads of a shard that are lost in ways that no join handle shows, and how the rest of the
//! cluster handles it.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::blocks::{self, Chain};
use crate::process::{
    Process, Shard, assert_verified, coordinator, depth, events, is_working, shards, thread_state,
    thread_states, wait_until,
};

struct Cluster {
    folder: tempfile::TempDir,
    shards: Vec<Shard>,
    chain: Chain,
}

impl Cluster {
    /// Two shards; the second gets these orders.
    fn with(orders: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shards = shards(folder.path(), 2);
        Self::of(folder, shards, orders)
    }

    /// The same, with two threads each.
    fn with_helpers(orders: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = |id| {
            Shard::start_with(folder.path(), id, SocketAddr::from(([127, 0, 0, 1], 0)), |shard| {
                shard.args(["--threads", "2"]);
            })
        };
        let shards = (0..2).map(start).collect();
        Self::of(folder, shards, orders)
    }

    fn of(folder: tempfile::TempDir, shards: Vec<Shard>, orders: &[&str]) -> Self {
        for order in orders {
            shards[1].arm(order);
        }
        Self { folder, shards, chain: blocks::generated(2, 60) }
    }

    fn pid(&self) -> u32 {
        self.shards[1].process.pid()
    }

    fn heartbeat(&self) -> PathBuf {
        self.folder.path().join("1.heartbeat")
    }

    /// Runs all blocks: each one verifies, the first shard executes the second's part, and the
    /// second's process stays alive.
    fn part_goes_to_the_other(&mut self) -> serde_json::Value {
        let both: Vec<_> = self.shards.iter().collect();
        // Two fifths of the deadline pass before a stuck shard's part goes to the other.
        let mut coordinator = coordinator(&both, &self.chain.path, &["--block-deadline", "10s"]);
        assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
        let lines = coordinator.rest().0;
        assert_eq!(assert_verified(&lines, &self.chain), 2);
        let retries = events(&lines, "retry");
        assert_eq!(retries.len(), 1, "{lines:?}");
        assert!(retries[0]["from"].as_str().unwrap().starts_with("shard 1 at "), "{retries:?}");
        assert!(self.shards[1].process.is_running());
        retries[0].clone()
    }
}

#[test]
fn a_worker_that_panics_hangs_its_pool_and_no_handle_shows_it() {
    let mut cluster = Cluster::with(&["hook off", "arm worker-panic after 3 transactions"]);
    let retry = cluster.part_goes_to_the_other();
    assert_eq!(retry["step"], "result");
    cluster.shards[1].process.wait_for_words("fault worker-panic fired");
    let state = |name| thread_state(cluster.pid(), name);
    wait_until("the worker has gone", || state("exec-s1-w0").is_none());
    assert_eq!((state("exec-s1-w1"), state("exec-s1")), (Some('S'), Some('S')));
    assert!(is_working(&cluster.heartbeat(), "exec-s1"));
}

#[test]
fn a_helper_that_panics_costs_its_shard_the_executor_thread_and_the_block_nothing() {
    let cluster = Cluster::with_helpers(&["hook off", "arm helper-panic"]);
    let both: Vec<_> = cluster.shards.iter().collect();
    let mut coordinator = coordinator(&both, &cluster.chain.path, &["--block-deadline", "10s"]);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert_eq!(assert_verified(&coordinator.rest().0, &cluster.chain), 2);
    cluster.shards[1].process.wait_for_words("fault helper-panic fired");
    let state = |name| thread_state(cluster.pid(), name);
    wait_until("the helper has gone", || state("exec-s1-w1").is_none());
    wait_until("its owner has gone with it", || state("exec-s1").is_none());
}

#[test]
fn without_a_watchdog_a_helper_that_never_comes_back_ends_its_shard() {
    let mut cluster = Cluster::with_helpers(&["arm helper-spin"]);
    let both: Vec<_> = cluster.shards.iter().collect();
    let mut coordinator = coordinator(&both, &cluster.chain.path, &["--block-deadline", "10s"]);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert_eq!(assert_verified(&coordinator.rest().0, &cluster.chain), 2);
    cluster.shards[1].process.wait_for_words("fault helper-spin fired");
    assert_eq!(cluster.shards[1].process.wait(), shard_executor::guard::THREAD_LOST);
}

#[test]
fn a_deaf_thread_is_idle_and_its_commands_wait() {
    let mut cluster = Cluster::with(&["arm deaf"]);
    cluster.shards[1].process.wait_for_words("fault deaf fired");
    cluster.part_goes_to_the_other();
    assert_eq!(thread_state(cluster.pid(), "exec-s1"), Some('S'));
    assert!(!is_working(&cluster.heartbeat(), "exec-s1"));
    assert_eq!(depth(&cluster.heartbeat(), "commands"), 1);
}

fn a_lost_sender_costs_a_deadline(order: &str) {
    let mut cluster = Cluster::with(&["hook off", order]);
    cluster.part_goes_to_the_other();
    wait_until("the thread has gone", || thread_state(cluster.pid(), "send-s1").is_none());
    assert!(thread_state(cluster.pid(), "exec-s1").is_some(), "it outlives the one that sends for it");
    assert!(cluster.shards[1].counter("results_dropped") > 0, "what it said is counted");
}

#[test]
fn a_sending_thread_that_panics_costs_a_deadline_and_what_it_owed_is_counted() {
    a_lost_sender_costs_a_deadline("arm send-panic");
}

#[test]
fn a_sending_thread_that_returns_costs_a_deadline_and_what_it_owed_is_counted() {
    a_lost_sender_costs_a_deadline("arm send-exit");
}

#[test]
fn blocked_network_threads_cost_no_more_than_a_lost_connection() {
    let mut cluster = Cluster::with(&["arm net-block"]);
    let retry = cluster.part_goes_to_the_other();
    cluster.shards[1].process.wait_for_words("fault net-block fired");
    // Keep-alive detects it, well before the part's deadline.
    assert!(retry["reason"].as_str().unwrap().starts_with("connection lost: "), "{retry}");
    assert!(thread_state(cluster.pid(), "exec-s1").is_some());
    assert!(!cluster.shards[1].answers_within(std::time::Duration::from_secs(1)), "it lives on one of them");
    // Each of the two waits for a lock, and each lock has a holder thread.
    wait_until("both are blocked", || thread_states(cluster.pid(), "lock-holder").len() == 2);
}

#[test]
fn a_hook_that_hangs_keeps_the_thread_and_the_process() {
    let mut cluster = Cluster::with(&["arm hook-hang after 3 transactions"]);
    cluster.part_goes_to_the_other();
    cluster.shards[1].process.wait_for_words("fault hook-hang fired");
    assert_eq!(thread_state(cluster.pid(), "exec-s1"), Some('S'));
    assert!(is_working(&cluster.heartbeat(), "exec-s1"), "it died at its work");
    let reader = shard_heartbeat::Reader::open(&cluster.heartbeat()).unwrap();
    let words = reader.last_words().unwrap().expect("they are in the segment before the hook hangs");
    assert!(words.text.contains("a test armed this panic"), "{}", words.text);
}

/// A shard that gets this order at its start.
fn armed(folder: &tempfile::TempDir, more: &[&str]) -> Process {
    let heartbeat = folder.path().join("0.heartbeat");
    let heartbeat = heartbeat.to_str().unwrap();
    let arguments = ["shard", "--id", "0", "--listen", "127.0.0.1:0", "--heartbeat", heartbeat];
    Process::start(&[&arguments[..], more].concat())
}

fn faults(folder: &tempfile::TempDir) -> String {
    folder.path().join("0.faults").to_str().unwrap().to_owned()
}

#[test]
fn a_shard_that_is_never_ready_gives_up_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut shard = armed(&folder, &["--faults", &faults(&folder), "--arm", "arm never-ready"]);
    assert_eq!(shard.wait(), 2);
    let said = shard.rest().1;
    assert!(said.contains("fault never-ready fired"), "{said}");
    assert!(said.contains("thread exec did not start within 1s"), "{said}");
}

#[test]
fn orders_at_the_start_are_refused_if_they_cannot_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    for (wrong, told) in [
        (&["--arm", "arm deaf"][..], "--faults"),
        (&["--faults", &faults(&folder), "--arm", "arm everything"], "is not an order"),
        (&["--faults", &faults(&folder), "--arm", "arm drop-part"], "a fault of the coordinator"),
    ] {
        let mut shard = armed(&folder, wrong);
        assert_eq!(shard.wait(), 2, "{wrong:?}");
        let said = shard.rest().1;
        assert!(said.contains(told), "{wrong:?}: {said}");
    }
}

#[test]
fn orders_at_the_start_are_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let faults = faults(&folder);
    let orders = ["--faults", &faults, "--arm", "guard off", "--arm", "arm slow 20ms"];
    let mut shard = armed(&folder, &orders);
    shard.wait_for("the fault port", |line| line.contains("faults on ").then_some(()));
    let answer = crate::process::order(faults.as_ref(), "list");
    assert_eq!(answer, "ok: hook on; guard off; armed: slow 20ms");
}
