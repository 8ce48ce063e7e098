//! Nothing survives a fork.

use shard_heartbeat::Work;

use super::Bench;

/// Runs `body` in a forked child and returns how it ended: `Ok` of its exit code or `Err` of the
/// signal.
pub(crate) fn in_child(body: impl FnOnce()) -> Result<i32, i32> {
    // SAFETY: the child runs `body`, which the tests below restrict to plain stores and file reads,
    // and ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        body();
        // SAFETY: ends this process and nothing else.
        unsafe { libc::_exit(7) }
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place for the answer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFEXITED(status) { Ok(libc::WEXITSTATUS(status)) } else { Err(libc::WTERMSIG(status)) }
}

#[test]
fn a_forked_child_never_beats_for_its_parent() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let lane = beat.lanes().join().unwrap();
    let channel = bench.heartbeat.channel("parts", None).unwrap();
    let before = bench.sample();
    let ended = in_child(|| {
        for _ in 0..1000 {
            beat.progress();
            lane.progress();
            channel.sent();
            let _working = beat.working(Work::new(1));
        }
        bench.heartbeat.set_state(shard_heartbeat::ProcessState::Failed);
    });
    assert_eq!(ended, Ok(7), "a child that goes on to use the writer comes to no harm");
    assert_eq!(bench.sample(), before);
    beat.progress();
    assert_eq!(bench.sample().threads[0].lanes.progress, 1, "and the parent goes on");
}

#[test]
fn dropping_in_a_child_ends_nothing_of_the_parents() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let before = bench.sample();
    let mut kept = Some(beat);
    let heartbeat = bench.heartbeat.clone();
    let ended = in_child(|| {
        drop(kept.take());
        drop(heartbeat);
    });
    assert_eq!(ended, Ok(7));
    assert_eq!(bench.sample(), before);
    let (_second, said) = super::second::Second::start("writer", &bench.path());
    assert!(said.contains("another writer"), "the parent's lock is gone: {said}");
}

#[test]
fn a_childs_mappings_do_not_show_the_segment() {
    let bench = Bench::new();
    let child_maps = bench.folder.path().join("maps");
    let copy = || {
        let _ = std::fs::copy("/proc/self/maps", &child_maps);
    };
    assert_eq!(in_child(copy), Ok(7));
    let maps = std::fs::read_to_string(&child_maps).unwrap();
    assert!(!maps.is_empty() && !maps.contains("heartbeat\n"), "{maps}");
}

#[test]
fn a_child_of_a_child_is_safe_too() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let before = bench.sample();
    let ended = in_child(|| {
        let inner = in_child(|| beat.progress());
        if inner != Ok(7) {
            // SAFETY: ends this process and nothing else.
            unsafe { libc::_exit(8) }
        }
        beat.progress();
    });
    assert_eq!(ended, Ok(7));
    assert_eq!(bench.sample(), before);
}
