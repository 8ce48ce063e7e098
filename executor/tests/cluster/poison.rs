//! A block that ends every shard that executes it (row 16, as the coordinator sees it): a process
//! of its own tries it once, and whatever the outcome, no shard executes it again.

use std::net::SocketAddr;
use std::path::Path;

use shard_heartbeat::{Quarantine, WatchdogBeat};

use crate::blocks::{self, Chain};
use crate::process::{Process, Shard, assert_verified, coordinator, events};

/// The exit code of a process that panicked with the hook on.
const PANICKED: i32 = 12;
/// The block at which the fault is armed.
const POISON: u64 = 2;

/// A shard that panics whenever it executes that block.
fn shard(folder: &Path, listen: SocketAddr) -> Shard {
    Shard::start_with(folder, 0, listen, |shard| {
        shard.args(["--arm", &format!("arm panic block {POISON}")]);
    })
}

struct Run {
    folder: tempfile::TempDir,
    chain: Chain,
    shard: Shard,
    coordinator: Process,
}

/// Runs three blocks over one shard that is started again whenever the poison has ended it, three
/// times in all.
fn run(more: &[&str], orders: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let chain = blocks::generated(3, 20);
    let mut shard = shard(folder.path(), SocketAddr::from(([127, 0, 0, 1], 0)));
    let listen = shard.address;
    let file = folder.path().join("quarantine");
    let faults = chain.faults();
    let mut arguments = [&["--block-deadline", "60s", "--quarantine", file.to_str().unwrap()], more].concat();
    for order in orders {
        arguments.extend(["--faults", &faults, "--arm", order]);
    }
    let coordinator = coordinator(&[&shard], &chain.path, &arguments);
    for _ in 0..3 {
        assert_eq!(shard.process.wait(), PANICKED);
        drop(shard);
        shard = self::shard(folder.path(), listen);
    }
    Run { folder, chain, shard, coordinator }
}

#[test]
fn a_block_that_a_process_of_its_own_survives_is_executed_by_no_shard_again() {
    let mut run = run(&["--repeat", "3"], &[]);
    assert_eq!(run.coordinator.wait(), 0, "{}", run.coordinator.rest().1);
    let lines = run.coordinator.rest().0;
    assert_eq!(assert_verified(&lines, &run.chain), 9);
    let quarantined = events(&lines, "quarantined");
    assert_eq!(quarantined.len(), 1, "{lines:?}");
    assert_eq!(quarantined[0]["block"], POISON);
    assert!(run.shard.process.is_running(), "the fourth shard never met it");
    let kept = std::fs::read_to_string(run.folder.path().join("quarantine")).unwrap();
    assert!(kept.trim_end().ends_with(&format!(" {POISON} in-order")), "{kept}");
}

#[test]
fn a_block_that_ends_a_process_of_its_own_too_is_reported_the_same_way_on_every_run() {
    let mut run = run(&[], &["arm sacrifice-panic"]);
    assert_eq!(run.coordinator.wait(), 3);
    let said = run.coordinator.rest().1;
    let words = format!("block {POISON} (");
    assert!(said.contains(&words) && said.contains("ends whatever executes it"), "{said}");
    let file = run.folder.path().join("quarantine");
    let again = ["--block-deadline", "60s", "--quarantine", file.to_str().unwrap()];
    let mut second = coordinator(&[&run.shard], &run.chain.path, &again);
    assert_eq!(second.wait(), 3);
    let error = |said: &str| said.lines().find(|line| line.contains(&words)).map(str::to_owned);
    let (lines, said_again) = second.rest();
    assert_eq!(error(&said_again), error(&said));
    assert!(events(&lines, "quarantined").is_empty(), "it is known: {lines:?}");
    assert!(run.shard.process.is_running(), "and no shard has met it again");
}

#[test]
fn a_quarantine_that_cannot_be_read_is_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let chain = blocks::generated(1, 1);
    let file = folder.path().join("quarantine");
    std::fs::write(&file, "nonsense\n").unwrap();
    let shard = Shard::start(folder.path(), 0);
    let mut coordinator = coordinator(&[&shard], &chain.path, &["--quarantine", file.to_str().unwrap()]);
    assert_eq!(coordinator.wait(), 2);
    let said = coordinator.rest().1;
    assert!(said.contains("quarantine:1: \"nonsense\""), "{said}");
}

/// Acts as the sidecar that withholds `block` from the shard.
fn keep_from(folder: &Path, block: u64) -> WatchdogBeat {
    let mut watchdog = WatchdogBeat::claim(&folder.join("0.heartbeat")).unwrap();
    watchdog.keep_from(Quarantine::of(&[block])).unwrap();
    watchdog
}

#[test]
fn a_block_that_a_watchdog_keeps_from_its_shard_is_executed_by_no_shard() {
    let folder = tempfile::tempdir().unwrap();
    let chain = blocks::generated(3, 20);
    // This shard would die of the block; the other would not, but gets no part of it either.
    let mut first = self::shard(folder.path(), SocketAddr::from(([127, 0, 0, 1], 0)));
    let second = Shard::start(folder.path(), 1);
    let _watchdog = keep_from(folder.path(), POISON);
    let mut coordinator = coordinator(&[&first, &second], &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    let lines = coordinator.rest().0;
    assert_eq!(assert_verified(&lines, &chain), 3);
    let quarantined = events(&lines, "quarantined");
    assert_eq!(quarantined.len(), 1, "{lines:?}");
    assert_eq!(quarantined[0]["block"], POISON);
    assert!(quarantined[0]["reason"].to_string().contains("more than one death"), "{quarantined:?}");
    let of = |block: u64| {
        let line = events(&lines, "block").into_iter().find(|line| line["block"] == block).unwrap();
        line["parts"].as_u64().unwrap()
    };
    assert_eq!(of(POISON), 0, "no shard had a part of it");
    assert!(of(POISON + 1) > 0, "and the others go on");
    assert!(first.process.is_running());
}

#[test]
fn a_shard_refuses_a_part_that_is_kept_from_it_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let chain = blocks::generated(3, 20);
    let mut shard = self::shard(folder.path(), SocketAddr::from(([127, 0, 0, 1], 0)));
    // The first block is slow, so that the list arrives after the hello.
    shard.arm("arm slow 20ms block 1");
    let mut coordinator = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s"]);
    coordinator.wait_for_event("shard_joined");
    let _watchdog = keep_from(folder.path(), POISON);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    let lines = coordinator.rest().0;
    let quarantined = events(&lines, "quarantined");
    assert_eq!(quarantined.len(), 1, "{lines:?}");
    assert!(quarantined[0]["reason"].to_string().contains("refuses it"), "{quarantined:?}");
    assert!(shard.process.is_running(), "it never began with it");
}
