//! Whether a process that lost a thread lives on without it. In an orderly exit, a thread's pidfd
//! fires up to half a second before the process's, so an ended thread alone proves nothing.

use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::observation::Survivors;

use super::task::{TaskDir, TaskFate};

/// What happens to a process one of whose tasks is ending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Whether it lives on.
    pub survivors: Survivors,
    /// Whether its core is being written. All of its tasks are ending then.
    pub core_dumping: bool,
}

impl Fate {
    const DUMPS_CORE: Self = Self { survivors: Survivors::None, core_dumping: true };
    const UNKNOWN: Self = Self { survivors: Survivors::Unknown, core_dumping: false };

    /// Asks the kernel. `leader`: the main thread, if it is ending. `proven`: whether two tasks are
    /// known to live on without a search.
    pub fn ask(proc_dir: &Path, leader: Option<&TaskDir>, proven: impl FnOnce() -> bool) -> Self {
        // As long as the main thread has memory, one line answers for the whole process, and the
        // other tasks need not be examined.
        match leader.and_then(TaskDir::status).and_then(|status| status.core_dumping) {
            Some(true) => Self::DUMPS_CORE,
            _ if proven() => Self { survivors: Survivors::Some, core_dumping: false },
            _ => survivors(proc_dir),
        }
    }
}

/// Bytes of names read at a time: some hundred names.
const NAMES: usize = 4_096;

/// Searches for threads that are neither exiting nor about to be killed. Stops at the second.
///
/// Two are needed: the thread that begins an exit or an exec marks all others in one critical
/// section, but itself only later, so in that moment it alone proves nothing.
///
/// It may run at every observation, for as long as a lost thread condemns nobody, so its buffer is
/// on the stack.
fn survivors(proc_dir: &Path) -> Fate {
    let of = |survivors| Fate { survivors, core_dumping: false };
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(tasks) = rustix::fs::open(proc_dir.join("task"), folder, Mode::empty()) else {
        return if proc_dir.exists() { Fate::UNKNOWN } else { of(Survivors::None) };
    };
    let mut names = [MaybeUninit::uninit(); NAMES];
    let mut entries = RawDir::new(&tasks, &mut names);
    let mut unknown = false;
    let mut alive = 0;
    while let Some(entry) = entries.next() {
        let Ok(entry) = entry else {
            unknown = true;
            break;
        };
        if !entry.file_name().to_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        // A task that cannot be opened any more has ended between the two calls.
        let task = match TaskDir::open_at(&tasks, entry.file_name()) {
            Ok(task) => task,
            Err(Errno::NOENT | Errno::SRCH) => continue,
            Err(_) => {
                unknown = true;
                continue;
            }
        };
        match task.fate() {
            Some(TaskFate::DumpsCore) => return Fate::DUMPS_CORE,
            Some(TaskFate::GoesOn) if alive == 1 => return of(Survivors::Some),
            Some(TaskFate::GoesOn) => alive = 1,
            Some(TaskFate::Ends) => {}
            None => unknown = true,
        }
    }
    match (alive, unknown) {
        (1, _) => of(Survivors::Alone),
        (_, true) => Fate::UNKNOWN,
        _ => of(Survivors::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder like `/proc/PID`: tasks with state, flags and pending signals.
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

    fn survivors(proc_dir: &Path) -> Survivors {
        let fate = Fate::ask(proc_dir, None, || false);
        assert!(!fate.core_dumping, "{fate:?}");
        fate.survivors
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
    fn a_process_that_dumps_core_is_on_its_way_out_and_says_why() {
        // Whichever thread writes it; before Linux 5.17, the others exit meanwhile.
        for tasks in [
            [(1, 'R', 0x200, 0), (2, 'D', 0x8, 0)],
            [(1, 'D', 0x8, 0), (2, 'R', 0x200, 0)],
            [(1, 'Z', 0xc, 0), (2, 'D', 0x200, 0)],
            [(1, 'D', 0x4, 0), (2, 'D', 0x600, 0)],
        ] {
            let root = process(&tasks);
            assert_eq!(Fate::ask(root.path(), None, || false), Fate::DUMPS_CORE, "{tasks:?}");
        }
    }

    #[test]
    fn a_core_that_is_written_excuses_nothing_more() {
        // The flag of the writer stays when it exits.
        let root = process(&[(1, 'Z', 0x20c, 0), (2, 'D', 0x208, 0), (3, 'R', 0x204, 0)]);
        assert_eq!(survivors(root.path()), Survivors::None);
    }

    #[test]
    fn the_line_of_the_main_thread_spares_a_look_at_all_the_others() {
        let root = process(&[(1, 'D', 0x8, 0), (2, 'D', 0x8, 0)]);
        let told = |line: &str| {
            let status = STATUS.replace("CoreDumping:\t0", line);
            std::fs::write(root.path().join("status"), status).unwrap();
            Fate::ask(root.path(), TaskDir::open(root.path()).ok().as_ref(), || false)
        };
        assert_eq!(told("CoreDumping:\t1"), Fate::DUMPS_CORE);
        assert_eq!(told("CoreDumping:\t0"), Fate { survivors: Survivors::None, core_dumping: false });
    }

    #[test]
    fn what_is_proven_spares_the_search_and_never_hides_a_core() {
        // A search would find this task to be ending.
        let root = process(&[(1, 'Z', 0x4, 0), (2, 'S', 0, 0x100)]);
        assert_eq!(Fate::ask(root.path(), None, || true).survivors, Survivors::Some);
        std::fs::write(root.path().join("status"), STATUS.replace("CoreDumping:\t0", "CoreDumping:\t1"))
            .unwrap();
        let leader = TaskDir::open(root.path()).ok();
        assert_eq!(Fate::ask(root.path(), leader.as_ref(), || true), Fate::DUMPS_CORE);
    }

    /// A `status` as the kernel writes it, with all that its parser needs.
    const STATUS: &str = "Name:\texec-s0\nUmask:\t0022\nState:\tD (disk sleep)\nTgid:\t1\nNgid:\t0\nPid:\t1\nPPid:\t1\n\
        TracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t0\nNStgid:\t1\nNSpid:\t1\nCoreDumping:\t0\n\
        Threads:\t2\nSigQ:\t0/1\nSigPnd:\t0\nShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\nCapInh:\t0\nCapPrm:\t0\nCapEff:\t0\n";

    #[test]
    fn a_process_whose_end_has_a_code_already_does_not_go_on() {
        // Killed, exited with code 3, dumped core after SIGSEGV: between the dequeuing of the
        // signal and the flag, nothing else shows it.
        for code in [9, 3 << 8, 11 | 0x80] {
            let root = ending_with(code, &[(1, 'Z', 0x4, 0), (2, 'S', 0, 0), (3, 'R', 0, 0)]);
            assert_eq!(survivors(root.path()), Survivors::None, "{code}");
        }
    }

    #[test]
    fn a_process_that_a_tracer_has_stopped_goes_on() {
        // At a system call, at a breakpoint, before a signal is delivered, with an event above it
        // (clone, a stop of a seized task).
        for code in [5 | 0x80, 5, 11, 3 << 8 | 5, 128 << 8 | 19] {
            let tasks = [(1, 't', 0, 0), (2, 't', 0, 0), (3, 't', 0, 0)];
            assert_eq!(survivors(ending_with(code, &tasks).path()), Survivors::Some, "{code:#x}");
        }
        // The code is read before the state, and the tracer may resume the task in between.
        for code in [5 | 0x80, 5, 3 << 8 | 5, 128 << 8 | 19] {
            let tasks = [(1, 'R', 0, 0), (2, 'R', 0, 0), (3, 'S', 0, 0)];
            assert_eq!(survivors(ending_with(code, &tasks).path()), Survivors::Some, "{code:#x}");
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
