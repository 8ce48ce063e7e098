//! A sidecar may be killed at any moment while it writes an incident: what it has said is there,
//! and the next one goes on with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use shard_tests::crash_point;

/// At least so many calls of one kind: an incident is written at its verdict, signal, exit, restart
/// and recovery.
const STEPS: usize = 5;

#[track_caller]
fn survived(test: &str, call: &str) {
    if crash_point::possible(test) {
        let killed = crash_point::at_each(call);
        println!("killed at {killed} calls of {call}");
        assert!(killed >= STEPS, "only {killed} calls of {call}: is the journal's thread traced?");
    }
}

#[test]
fn a_kill_before_each_folder_is_made_loses_nothing() {
    survived("a_kill_before_each_folder_is_made_loses_nothing", "mkdirat");
}

#[test]
fn a_kill_before_each_old_file_is_removed_loses_nothing() {
    survived("a_kill_before_each_old_file_is_removed_loses_nothing", "unlinkat");
}

#[test]
fn a_kill_before_each_write_loses_nothing() {
    survived("a_kill_before_each_write_loses_nothing", "write");
}

#[test]
fn a_kill_before_each_sync_loses_nothing() {
    survived("a_kill_before_each_sync_loses_nothing", "fsync");
}

#[test]
fn a_kill_before_each_rename_loses_nothing() {
    survived("a_kill_before_each_rename_loses_nothing", "?renameat,?renameat2");
}

#[test]
fn a_kill_while_the_next_sidecar_takes_over_loses_nothing_either() {
    if crash_point::possible("a_kill_while_the_next_sidecar_takes_over_loses_nothing_either") {
        let killed = crash_point::while_taking_over();
        println!("killed at {killed} calls");
        // Two deletions, an unfinished file, an empty folder, and a document that is written anew.
        assert!(killed >= 8, "only {killed} calls");
    }
}
