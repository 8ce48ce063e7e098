//! Rows 60 and 67, and parts of 42 and 46: what only another kernel can show. Here those are User
//! Mode Linux kernels (an old one, a usual one and the newest) with unified cgroups. The sidecar is
//! the real one, in enforce mode. The expectations are in `shard_tests::kernel`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use shard_tests::kernel::Debian;

#[track_caller]
fn the_core_holds(test: &str, debian: Debian) {
    let Some(told) = debian.run(test, &["shard-watchdog", "puppet"], "core.sh") else { return };
    told.core_held().unwrap_or_else(|why| panic!("{why}\n{}", told.text()));
}

#[test]
fn row_60_the_core_of_the_matrix_holds_on_linux_6_1() {
    the_core_holds("row_60_the_core_of_the_matrix_holds_on_linux_6_1", Debian::Bookworm);
}

#[test]
fn row_60_the_core_of_the_matrix_holds_on_linux_6_12() {
    the_core_holds("row_60_the_core_of_the_matrix_holds_on_linux_6_12", Debian::Trixie);
}

#[test]
fn row_60_the_core_of_the_matrix_holds_on_the_newest_linux() {
    the_core_holds("row_60_the_core_of_the_matrix_holds_on_the_newest_linux", Debian::Sid);
}

/// The main job on that kernel, with each of its faults; only a process that had a fault is killed.
#[track_caller]
fn the_demo_recovers(test: &str, debian: Debian) {
    let Some(told) = debian.run(test, &["shard-watchdog", "shard-executor"], "demos.sh") else { return };
    told.demos_recovered().unwrap_or_else(|why| panic!("{why}\n{}", told.text()));
}

#[test]
fn row_67_the_demo_recovers_from_every_fault_on_linux_6_1() {
    the_demo_recovers("row_67_the_demo_recovers_from_every_fault_on_linux_6_1", Debian::Bookworm);
}

#[test]
fn row_67_the_demo_recovers_from_every_fault_on_linux_6_12() {
    the_demo_recovers("row_67_the_demo_recovers_from_every_fault_on_linux_6_12", Debian::Trixie);
}

#[test]
fn row_67_the_demo_recovers_from_every_fault_on_the_newest_linux() {
    the_demo_recovers("row_67_the_demo_recovers_from_every_fault_on_the_newest_linux", Debian::Sid);
}

/// The fault kit where the controllers are those of version 2, run by another shell than here.
#[test]
fn the_fault_kit_limits_and_undoes_on_a_unified_hierarchy() {
    let test = "the_fault_kit_limits_and_undoes_on_a_unified_hierarchy";
    let programs = ["shard-watchdog", "puppet"];
    let Some(told) = Debian::Bookworm.run(test, &programs, "fault-kit.sh") else { return };
    let all = told.text();
    for phase in ["memory_throttled", "throttled", "root"] {
        let status = told.status(phase).unwrap();
        let excused = status["excused_seconds"][phase].as_f64();
        assert!(phase == "root" || excused.is_some_and(|told| told > 0.0), "{status:#}");
        assert_eq!(told.of(&format!("LEFT {phase}-code")).next(), Some("143"), "{all}");
        let (before, after) = told.pids(phase).unwrap();
        assert_eq!(before, after, "nobody was killed: {all}");
    }
    assert_eq!(told.of("LEFT memory.high").next(), Some("max"), "{all}");
    let quotas: Vec<_> = told.of("LEFT cpu.max").collect();
    assert_eq!(quotas, ["max 100000", "max 100000"], "{all}");
    assert_eq!(told.of("LEFT root-quota").next(), Some("1000 100000"), "{all}");
    assert_eq!(told.of("LEFT root").next(), Some("0"), "{all}");
    let said: Vec<_> = told.of("SAID").collect();
    assert_eq!(said.iter().filter(|line| line.ends_with(": undone")).count(), 4, "{all}");
    assert!(said.iter().any(|line| line.contains("as well: add --whole-cgroup")), "{all}");
    assert!(told.incidents().unwrap().is_empty(), "{all}");
}
