use crate::blocks;
use crate::process::{Process, Shard, assert_verified, coordinator, shards, thread_state, wait_until};

fn with_fault(order: &str) -> (tempfile::TempDir, Vec<Shard>, Process, blocks::Chain) {
    let chain = blocks::generated(2, 60);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 2);
    shards[1].arm("hook off");
    shards[1].arm(order);
    let both: Vec<_> = shards.iter().collect();
    // Two fifths of the deadline pass before the stuck shard's part goes to the other.
    let coordinator = coordinator(&both, &chain.path, &["--block-deadline", "10s"]);
    (folder, shards, coordinator, chain)
}

/// The executor thread of shard 1 is lost while its process lives on: the case for the watchdog.
/// Without one, the part goes to the other shard at its deadline.
fn lost_thread_costs_a_deadline(order: &str, told: &str) -> (tempfile::TempDir, Vec<Shard>) {
    let (folder, mut shards, mut coordinator, chain) = with_fault(order);
    let line = shards[1].process.wait_for_words("at_monotonic_ns=");
    assert!(line.starts_with(&format!("fault {told} fired at_monotonic_ns=")), "{line}");
    assert!(line.rsplit_once('=').unwrap().1.parse::<u64>().unwrap() > 0);
    let retry = coordinator.wait_for_event("retry");
    assert_eq!(retry["attempt"], 1, "{retry}");
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert_eq!(assert_verified(&coordinator.rest().0, &chain), 2);
    assert!(shards[1].process.is_running());
    (folder, shards)
}

#[test]
fn a_panic_without_the_hook_ends_only_the_thread() {
    let (_folder, shards) = lost_thread_costs_a_deadline("arm panic after 3 transactions", "panic");
    wait_until("the thread has gone", || thread_state(shards[1].process.pid(), "exec-s1").is_none());
}

#[test]
fn a_thread_that_returns_is_gone_and_the_process_lives() {
    let (_folder, shards) = lost_thread_costs_a_deadline("arm exit", "exit");
    wait_until("the thread has gone", || thread_state(shards[1].process.pid(), "exec-s1").is_none());
}

#[test]
fn a_spinning_thread_burns_cpu_and_stops_within_the_bound_all_the_same() {
    let (_folder, mut shards) = lost_thread_costs_a_deadline("arm spin", "spin");
    assert_eq!(thread_state(shards[1].process.pid(), "exec-s1"), Some('R'));
    let asked = std::time::Instant::now();
    shards[1].process.signal(libc::SIGTERM);
    assert_eq!(shards[1].process.wait(), 0);
    assert!(asked.elapsed() < std::time::Duration::from_millis(2_500), "{:?}", asked.elapsed());
}

#[test]
fn a_deadlocked_thread_sleeps_for_ever() {
    let (_folder, shards) = lost_thread_costs_a_deadline("arm deadlock", "deadlock");
    assert_eq!(thread_state(shards[1].process.pid(), "exec-s1"), Some('S'));
}

#[test]
fn a_panic_ends_the_process_with_code_12_and_the_block_verifies() {
    let (_folder, mut shards, mut coordinator, chain) = {
        let chain = blocks::generated(2, 60);
        let folder = tempfile::tempdir().unwrap();
        let shards = shards(folder.path(), 2);
        shards[1].arm("arm panic after 3 transactions");
        let both: Vec<_> = shards.iter().collect();
        let coordinator = coordinator(&both, &chain.path, &["--block-deadline", "60s"]);
        (folder, shards, coordinator, chain)
    };
    assert_eq!(shards[1].process.wait(), 12);
    let said = shards[1].process.rest().1;
    assert!(said.contains("a test armed this panic") && said.contains("exec-s1"), "{said}");
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert_eq!(assert_verified(&coordinator.rest().0, &chain), 2);
}

#[test]
fn a_leader_that_ends_leaves_the_others_at_work() {
    let chain = blocks::generated(2, 30);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    shard.arm("arm leader-exit");
    let pid = shard.process.pid();
    wait_until("the leader is a zombie", || thread_state(pid, "shard-executor") == Some('Z'));
    let mut coordinator = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
}

#[test]
fn an_exit_that_hangs_says_stopping_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut shard = Shard::start(folder.path(), 0);
    shard.arm("arm exit-hang");
    shard.process.wait_for_words("fault exit-hang fired");
    let pid = shard.process.pid();
    wait_until("the executor thread has left", || thread_state(pid, "exec-s0").is_none());
    assert!(shard.process.is_running());
}

#[test]
fn a_slow_part_that_goes_on_is_waited_for() {
    let chain = blocks::generated(1, 40);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    shard.arm("arm slow 20ms");
    let mut coordinator = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s"]);
    let block = coordinator.wait_for_event("block");
    assert_eq!(block["retries"], 0);
    assert!(block["elapsed_ms"].as_f64().unwrap() >= 800.0, "{block}");
}

#[test]
fn orders_that_are_none_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    assert!(shard.order("arm everything").starts_with("error: "));
    assert_eq!(shard.order("list"), "ok: hook on; guard on; armed: none");
    shard.arm("arm exit after 5 transactions block 9");
    assert_eq!(shard.order("list"), "ok: hook on; guard on; armed: exit after 5 transactions block 9");
}
