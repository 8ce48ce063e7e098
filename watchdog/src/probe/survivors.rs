//! Whether a process that lost a thread goes on without it. In an orderly exit a thread's pidfd fires up to half a
//! second before the process's, so an ended thread alone proves nothing.

use std::path::Path;

use rustix::io::Errno;

use crate::observation::Survivors;

use super::task::TaskDir;

/// Looks for threads that are neither exiting nor bound to be killed. Stops at the second.
///
/// Two are needed: the thread that begins an exit or an exec marks all others in one critical section and itself only
/// later, so it alone proves nothing in that moment.
pub fn survivors(proc_dir: &Path) -> Survivors {
    let tasks = proc_dir.join("task");
    let Ok(entries) = std::fs::read_dir(&tasks) else {
        return if proc_dir.exists() { Survivors::Unknown } else { Survivors::None };
    };
    let mut unknown = false;
    let mut alive = 0;
    for entry in entries {
        let Ok(entry) = entry else {
            unknown = true;
            continue;
        };
        // A task that cannot be opened any more has ended between the two calls.
        let task = match TaskDir::open(&entry.path()) {
            Ok(task) => task,
            Err(Errno::NOENT | Errno::SRCH) => continue,
            Err(_) => {
                unknown = true;
                continue;
            }
        };
        match task.ending() {
            Some(false) if alive == 1 => return Survivors::Some,
            Some(false) => alive = 1,
            Some(true) => {}
            None => unknown = true,
        }
    }
    match (alive, unknown) {
        (1, _) => Survivors::Alone,
        (_, true) => Survivors::Unknown,
        _ => Survivors::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like `/proc/PID`: tasks with state, flags and pending signals.
    fn process(tasks: &[(u32, char, u32, u64)]) -> tempfile::TempDir {
        ending_with(0, tasks)
    }

    /// The same with an exit code in each task's `stat`.
    fn ending_with(exit_code: i32, tasks: &[(u32, char, u32, u64)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (tid, state, flags, pending) in tasks {
            let dir = root.path().join("task").join(tid.to_string());
            std::fs::create_dir_all(&dir).unwrap();
            // Fields 10 to 30, the pending signals, fields 32 to 51, the exit code.
            let (before, after) = ("0 ".repeat(21), "0 ".repeat(20));
            let stat =
                format!("{tid} (exec-s0) {state} 1 1 1 0 -1 {flags} {before}{pending} {after}{exit_code}\n");
            std::fs::write(dir.join("stat"), stat).unwrap();
        }
        root
    }

    #[test]
    fn two_running_threads_survive() {
        let root = process(&[(1, 'Z', 0x4, 0), (2, 'S', 0, 0), (3, 'R', 0, 0)]);
        assert_eq!(survivors(root.path()), Survivors::Some);
    }

    #[test]
    fn one_running_thread_is_alone() {
        let root = process(&[(1, 'Z', 0x4, 0), (2, 'S', 0, 0), (3, 'S', 0, 0x100)]);
        assert_eq!(survivors(root.path()), Survivors::Alone);
    }

    #[test]
    fn exiting_and_killed_threads_do_not_survive() {
        let root = process(&[(1, 'Z', 0x4, 0), (2, 'R', 0x4, 0), (3, 'S', 0, 0x100)]);
        assert_eq!(survivors(root.path()), Survivors::None);
    }

    #[test]
    fn a_process_that_dumps_core_is_on_its_way_out() {
        let root = process(&[(1, 'D', 0x200, 0), (2, 'D', 0x8, 0)]);
        assert_eq!(survivors(root.path()), Survivors::None);
    }

    #[test]
    fn a_process_whose_end_has_a_code_already_does_not_go_on() {
        // Killed, ended with code 3, dumped core of SIGSEGV: between dequeuing the signal and the flag nothing else tells.
        for code in [9, 3 << 8, 11 | 0x80] {
            let root = ending_with(code, &[(1, 'Z', 0x4, 0), (2, 'S', 0, 0), (3, 'R', 0, 0)]);
            assert_eq!(survivors(root.path()), Survivors::None, "{code}");
        }
    }

    #[test]
    fn a_stopped_process_goes_on() {
        let root = ending_with(19, &[(1, 'Z', 0x4, 0), (2, 'T', 0, 0), (3, 'T', 0, 0)]);
        assert_eq!(survivors(root.path()), Survivors::Some);
    }

    #[test]
    fn a_thread_that_cannot_be_read_settles_nothing() {
        let root = process(&[(1, 'Z', 0x4, 0)]);
        std::fs::create_dir_all(root.path().join("task/2")).unwrap();
        std::fs::write(root.path().join("task/2/stat"), "garbage").unwrap();
        assert_eq!(survivors(root.path()), Survivors::Unknown);
    }
}
