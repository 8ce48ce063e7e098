#![expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::*;

const BOUND: Duration = Duration::from_secs(60);

fn gather(process: &Path, subject: &Subject) -> Evidence {
    let folder = File::open(process).unwrap();
    Evidence::gather(folder.as_fd(), subject, now().plus(BOUND))
}

fn own_tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

#[test]
fn a_living_process_shows_each_thread_the_one_at_fault_first() {
    let (told, tids) = channel();
    let (release, released) = channel::<()>();
    let waits = std::thread::Builder::new()
        .name("waits".to_owned())
        .spawn(move || {
            told.send(own_tid()).unwrap();
            let _ = released.recv();
        })
        .unwrap();
    let waiting = tids.recv().unwrap();
    let watched = vec![(waiting, "exec-s0".into())];
    let subject = Subject { at_fault: Some(waiting), watched, others: true };
    let began = Instant::now();
    // Until it has gone to sleep.
    let evidence = loop {
        let evidence = gather(Path::new("/proc/self"), &subject);
        if evidence.threads[0].state.as_deref() == Some("sleeping") {
            break evidence;
        }
        assert!(began.elapsed() < BOUND, "{evidence:?}");
    };
    let first = &evidence.threads[0];
    assert_eq!((first.tid, first.name.as_deref()), (waiting, Some("waits")));
    assert_eq!(first.watched_as.as_deref(), Some("exec-s0"));
    assert!(first.cpu_seconds.is_some() && first.voluntary_switches.is_some(), "{first:?}");
    let call = first.syscall.as_ref().expect("it is in a system call");
    assert_eq!(call.name.as_deref(), Some("futex"));
    assert!(evidence.guess(waiting).unwrap().starts_with("exec-s0 sleeps in futex"), "{evidence:?}");
    let own = evidence.thread(own_tid()).expect("this thread is among them");
    assert_eq!((own.state.as_deref(), own.watched_as.as_deref()), (Some("running"), None));
    assert_eq!(evidence.threads_left_out, 0);
    let process = &evidence.process;
    assert!(process.threads >= Some(2) && process.open_files >= Some(4), "{process:?}");
    assert!(process.memory.resident_bytes > Some(100_000), "{process:?}");
    assert!(process.limits.contains_key("open_files"), "{process:?}");
    assert!(!process.cgroups.is_empty() || !Path::new("/proc/self/cgroup").exists());
    assert!(evidence.machine.cpu.as_deref().is_some_and(|line| line.starts_with("cpu ")));
    drop(release);
    waits.join().unwrap();
}

#[test]
fn what_it_writes_it_can_read_again() {
    let evidence =
        gather(Path::new("/proc/self"), &Subject { at_fault: None, watched: Vec::new(), others: true });
    let text = serde_json::to_string(&evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
}

/// A folder like `/proc/PID` with these threads, each with this `stat`.
fn made_up(threads: &[i32], stat: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for tid in threads {
        let task = root.path().join(format!("task/{tid}"));
        fs::create_dir_all(&task).unwrap();
        fs::write(task.join("stat"), stat.replace("TID", &tid.to_string())).unwrap();
    }
    root
}

const STAT: &str = "TID (a) b) S 1 1 1 0 -1 64 10 0 2 0 150 50 0 0 20 0 1 0 100 0 0 18446744073709551615 1 1 1 0 0 0 0 0 0 \
                    0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

#[test]
fn absent_files_are_absent_values() {
    let root = made_up(&[7], STAT);
    let evidence = gather(root.path(), &Subject { at_fault: Some(7), watched: Vec::new(), others: true });
    let thread = &evidence.threads[0];
    assert_eq!(thread.state.as_deref(), Some("sleeping"));
    assert_eq!((thread.user_seconds, thread.system_seconds), (Some(1.5), Some(0.5)));
    assert_eq!((thread.name.as_deref(), thread.processor), (Some("a) b"), Some(1)));
    assert_eq!((thread.cpu_seconds, thread.wchan.as_ref(), thread.syscall.as_ref()), (None, None, None));
    assert_eq!(evidence.process, ProcessEvidence::default());
    assert_eq!(evidence.missing, Vec::<String>::new(), "what has ended is not missing");
}

#[test]
fn files_with_anything_in_them_do_no_harm() {
    let root = made_up(&[7, 8], "7 (x");
    for name in ["syscall", "wchan", "schedstat", "status", "stack"] {
        fs::write(root.path().join("task/7").join(name), b"\xff\x00) -1 0x 99999999999999999999\n\n[<0>")
            .unwrap();
    }
    for name in ["status", "limits", "oom_score", "cgroup", "fd"] {
        fs::write(root.path().join(name), b"\xff\x00:::\nMax open files\n").unwrap();
    }
    fs::create_dir_all(root.path().join("task/notanumber")).unwrap();
    let evidence =
        gather(root.path(), &Subject { at_fault: Some(99), watched: vec![(7, "w".into())], others: true });
    assert_eq!(evidence.threads.iter().map(|thread| thread.tid).collect::<Vec<_>>(), [7, 8]);
    assert!(evidence.process.memory.resident_bytes.is_none());
}

#[test]
fn when_the_time_is_up_the_rest_is_counted() {
    let tids: Vec<i32> = (1..=50).collect();
    let root = made_up(&tids, STAT);
    let folder = File::open(root.path()).unwrap();
    let subject = Subject { at_fault: Some(5), watched: Vec::new(), others: true };
    let evidence = Evidence::gather(folder.as_fd(), &subject, Monotonic(0));
    assert_eq!((evidence.threads.len(), evidence.threads_left_out), (0, 50));
    assert!(evidence.missing.iter().any(|missing| missing.contains("time limit")), "{evidence:?}");
}

#[test]
fn a_rehearsal_reads_one_thread() {
    let root = made_up(&[5, 6, 7], STAT);
    let evidence = gather(root.path(), &Subject { at_fault: Some(6), watched: Vec::new(), others: false });
    assert_eq!(evidence.threads.iter().map(|thread| thread.tid).collect::<Vec<_>>(), [6]);
}

#[test]
fn a_process_that_has_ended_is_no_evidence() {
    let root = tempfile::tempdir().unwrap();
    let evidence = gather(root.path(), &Subject { at_fault: Some(1), watched: Vec::new(), others: true });
    assert_eq!((evidence.threads.len(), evidence.missing.len()), (0, 0));
}
