//! One thread as `/proc` shows it. Reads only `stat`, `status`, `schedstat` and `wchan`: those take
//! no lock of the target's memory and so cannot hang behind it.

use std::ffi::CStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use procfs::FromBufRead;
use procfs::process::Status;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::observation::{Presence, TaskObservation, TaskState, WaitChannel};

use super::allowance::{Allowance, Place};
use super::numbers::{Schedstat, Stat};
use super::start_times::StartTime;
use super::wait_channel;

/// Flags of the kernel's `include/linux/sched.h` (field 9 of `stat`) on a task that is ending:
/// `PF_EXITING`, in `do_exit`; `PF_POSTCOREDUMP`, past the core dump of its process; `PF_DUMPCORE`,
/// writing it; `PF_SIGNALED`, killed by a signal that it has already dequeued.
const ENDING: u32 = 0x4 | 0x8 | 0x200 | 0x400;
/// `PF_EXITING` alone.
const EXITING: u32 = 0x4;
/// `PF_DUMPCORE`: set on the one task that writes the core, and still set after the core is written
/// and the task exits.
const DUMPING: u32 = 0x200;
/// The additional flags of that task once the core is written.
const DUMPED: u32 = 0x4 | 0x8;
/// SIGKILL in the mask of pending signals (field 31 of `stat`), where signal 1 is bit 0. A SIGKILL
/// for a process is added to the mask of each of its threads in the critical section that sends it.
/// So the private mask suffices, and `status`, which is slower to make and to read, is not needed.
const SIGKILL_BIT: u64 = 1 << 8;
/// Policies of `uapi/linux/sched.h` whose CPU time the kernel limits: `SCHED_FIFO`, `SCHED_RR` and
/// `SCHED_DEADLINE`.
const LIMITED_POLICIES: [u32; 3] = [1, 2, 6];
/// The number of no CPU.
const NO_CPU: u32 = u32::MAX;
/// A clock tick of `stat` in nanoseconds: `USER_HZ` is 100 on every architecture that this runs on.
const TICK_NS: u64 = 10_000_000;
/// At most this many bytes of a file are read. The longest, `status`, stays below 2 KiB even with
/// hundreds of CPUs.
const FILE_LIMIT: u64 = 16 * 1024;

/// How to open a folder.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Whether the exit code of a living task (field 52 of `stat`) shows that its whole process is
/// ending: as soon as a process begins to end, the kernel shows the code of that end for each of
/// its tasks. An end with code 0 is not recognizable.
///
/// The kernel stores two other things there. For a stopped process, it shows the signal that
/// stopped it. For a task stopped by its tracer, it shows why, as `wait` reports it to the tracer:
/// SIGTRAP at a system call or a breakpoint, a signal about to be delivered, or either of them with
/// an event above it. This code is read a moment before the state, so if the task resumes in
/// between, it comes with any state. So of the codes that a tracer may see, only ends by signals
/// other than SIGTRAP count as ends, and none in state `t`.
const fn is_end_of_process(exit_code: i32, state: TaskState) -> bool {
    /// SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU.
    const STOPS: std::ops::RangeInclusive<i32> = 19..=22;
    const SIGTRAP: i32 = 5;
    if matches!(state, TaskState::Traced) {
        return false;
    }
    // The process exited with a code, or a signal ended it, perhaps with a core (0x80).
    let (code, signal) = (exit_code >> 8, exit_code & 0x7f);
    match exit_code & 0xff {
        0 => code != 0,
        _ => code == 0 && signal != SIGTRAP && !(*STOPS.start() <= exit_code && exit_code <= *STOPS.end()),
    }
}

/// The folder of one task, held open: once the task has ended, every read fails, so another task
/// that reuses the tid is never mistaken for it.
///
/// Files that were read stay open if there is room: opening costs more than reading. Read from the
/// beginning, each shows the current values.
#[derive(Debug)]
pub struct TaskDir {
    dir: OwnedFd,
    stat: TaskFile,
    schedstat: TaskFile,
    wchan: TaskFile,
    status: TaskFile,
    /// What its descriptors count against; `None` if they are not counted, in which case every file
    /// stays open.
    allowance: Option<Arc<Allowance>>,
    /// The CPU on which it ran last, if the last observation found it runnable; else [`NO_CPU`].
    cpu: AtomicU32,
    /// The room taken for the folder itself.
    _place: Option<Place>,
}

/// A file of the task.
#[derive(Debug)]
struct TaskFile {
    name: &'static str,
    /// Open since its first reading, if there was room.
    kept: OnceLock<(OwnedFd, Option<Place>)>,
    /// Stays open even if others need room: it is read in each observation.
    needed: bool,
}

/// What one observation reads of one file: `stat`, the longest of them, has 52 numbers and a name.
type Text = [u8; 2_048];

impl TaskFile {
    const fn new(name: &'static str) -> Self {
        Self { name, kept: OnceLock::new(), needed: false }
    }

    /// The current contents of the file. Without a stored descriptor, the file is opened, and stays
    /// open if `again` (the next observation will read it too) and if there is room.
    fn read<'a>(
        &self,
        dir: &OwnedFd,
        allowance: Option<&Arc<Allowance>>,
        again: bool,
        into: &'a mut Text,
    ) -> Result<&'a [u8], Errno> {
        let read = match self.kept.get() {
            Some((file, _)) => rustix::io::pread(file, &mut into[..], 0)?,
            None => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
                let file = rustix::fs::openat(dir, self.name, flags, Mode::empty())?;
                let read = rustix::io::pread(&file, &mut into[..], 0)?;
                let place = match allowance {
                    None => Some(None),
                    Some(allowance) => again.then(|| allowance.spare_place()).flatten().map(Some),
                };
                if let Some(place) = place {
                    self.kept.get_or_init(|| (file, place));
                }
                read
            }
        };
        Ok(into.get(..read).unwrap_or_default())
    }

    /// Closes the file, unless it is needed.
    fn close_spare(&mut self) {
        if !self.needed {
            self.kept = OnceLock::new();
        }
    }
}

/// Identifies the program that a process runs: where its parts are in memory, which each exec
/// randomizes. The kernel shows this without a lock of that memory, and only to those who may trace
/// the process. The name of its executable is less reliable: when that file is replaced on disk,
/// the name changes in the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Begin and end of its code.
    pub code: (u64, u64),
    /// Begin of its stack.
    pub start_stack: u64,
}

/// User ids of a task, from its `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uids {
    /// Real user id.
    pub real: u32,
    /// Effective user id, with which it acts.
    pub effective: u32,
    /// Saved user id, which it may resume.
    pub saved: u32,
}

impl Uids {
    /// Whether all three equal `uid`.
    pub const fn are_all(self, uid: u32) -> bool {
        self.real == uid && self.effective == uid && self.saved == uid
    }

    /// Parses the text of `status`. A name cannot imitate the line: the kernel escapes newlines in
    /// it.
    fn parse(text: &[u8]) -> Option<Self> {
        let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
        let mut ids = std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(str::parse);
        let mut next = || ids.next()?.ok();
        Some(Self { real: next()?, effective: next()?, saved: next()? })
    }
}

/// The part of `stat` that is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskStat {
    /// Scheduler state.
    pub state: TaskState,
    /// The task is ending: exiting, about to because of a pending SIGKILL, dumping core, or ended.
    pub ending: bool,
    /// It is writing the core of its process now.
    pub core_dumping: bool,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
    /// It has begun to exit: it has no memory or will soon have none, and starts no other program.
    pub exiting: bool,
    /// The program that it runs; `None` where the kernel does not tell.
    pub program: Option<Program>,
    /// CPU time, user and system, nanoseconds.
    pub cpu_ns: u64,
    /// Its scheduling class limits its CPU time.
    pub limited: bool,
    /// The CPU on which it ran last.
    pub cpu: Option<u32>,
}

impl TaskDir {
    /// Opens `PATH`, such as `/proc/PID/task/TID` or `/proc/PID`. Its descriptors are not counted.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        rustix::fs::open(path, FOLDER, Mode::empty()).map(Self::of)
    }

    /// Opens `PATH` as one of many: its descriptors are counted.
    ///
    /// # Errors
    /// `EMFILE` if `allowance` has no room, without asking the kernel; else the kernel's error.
    pub fn open_within(path: &Path, allowance: &Arc<Allowance>) -> Result<Self, Errno> {
        let place = allowance.place().ok_or(Errno::MFILE)?;
        let dir = Self::open(path)?;
        Ok(Self { allowance: Some(Arc::clone(allowance)), _place: Some(place), ..dir })
    }

    /// Opens `stat` now and keeps it open, using this place.
    pub fn keep_stat(&mut self, place: Place) {
        self.open_stat(Some(place));
    }

    /// The same without a place, for the few whose descriptors belong to the sidecar's own reserve.
    /// Returns whether it is open.
    pub fn keep_stat_uncounted(&mut self) -> bool {
        self.stat.needed || self.open_stat(None)
    }

    /// If it cannot be opened, each reading tries again.
    fn open_stat(&mut self, place: Option<Place>) -> bool {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let Ok(file) = rustix::fs::openat(&self.dir, self.stat.name, flags, Mode::empty()) else {
            return false;
        };
        self.stat = TaskFile { kept: OnceLock::from((file, place)), needed: true, ..self.stat };
        true
    }

    /// Closes what can be reopened without losing track of the task.
    pub fn close_spare(&mut self) {
        for file in [&mut self.stat, &mut self.schedstat, &mut self.wchan] {
            file.close_spare();
        }
    }

    /// Opens the folder `name` inside an open one, such as `/proc/PID/task`.
    pub fn open_at(parent: &OwnedFd, name: &CStr) -> Result<Self, Errno> {
        rustix::fs::openat(parent, name, FOLDER, Mode::empty()).map(Self::of)
    }

    fn of(dir: OwnedFd) -> Self {
        Self {
            dir,
            stat: TaskFile::new("stat"),
            schedstat: TaskFile::new("schedstat"),
            wchan: TaskFile::new("wchan"),
            status: TaskFile::new("status"),
            allowance: None,
            cpu: AtomicU32::new(NO_CPU),
            _place: None,
        }
    }

    fn file(&self, name: &str) -> Result<std::io::Take<File>, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = rustix::fs::openat(self.dir.as_fd(), name, flags, Mode::empty())?;
        Ok(File::from(fd).take(FILE_LIMIT))
    }

    fn read<'a>(&self, file: &TaskFile, again: bool, into: &'a mut Text) -> Result<&'a [u8], Errno> {
        file.read(&self.dir, self.allowance.as_ref(), again, into)
    }

    /// Reads `stat`. `Ok(None)`: the task has ended. `Err`: the kernel did not answer.
    pub fn stat(&self) -> Result<Option<TaskStat>, Unreadable> {
        self.read_stat(false)
    }

    fn read_stat(&self, again: bool) -> Result<Option<TaskStat>, Unreadable> {
        let mut text = [0; 2_048];
        let text = match self.read(&self.stat, again, &mut text) {
            Ok(text) => text,
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            Err(_) => return Err(Unreadable),
        };
        let stat = Stat::parse(text).ok_or(Unreadable)?;
        let state = TaskState::from(stat.state);
        let ended = matches!(state, TaskState::Zombie | TaskState::Dead);
        let ending = ended
            || stat.flags & ENDING != 0
            || stat.pending & SIGKILL_BIT != 0
            || stat.exit_code.is_some_and(|code| is_end_of_process(code, state));
        Ok(Some(TaskStat {
            state,
            ending,
            core_dumping: !ended && stat.flags & DUMPING != 0 && stat.flags & DUMPED == 0,
            start_time: stat.start_time,
            exiting: ended || stat.flags & EXITING != 0,
            program: (stat.start_stack != 0)
                .then_some(Program { code: stat.code, start_stack: stat.start_stack }),
            cpu_ns: stat.user.saturating_add(stat.system).saturating_mul(TICK_NS),
            limited: stat.policy.is_some_and(|policy| LIMITED_POLICIES.contains(&policy)),
            cpu: stat.cpu,
        }))
    }

    /// Reads the user ids of the task. `Ok(None)`: it has ended. `Err`: the kernel did not answer.
    pub fn uids(&self) -> Result<Option<Uids>, Unreadable> {
        let mut text = [0; 2_048];
        match self.read(&self.status, false, &mut text) {
            Ok(text) => Uids::parse(text).map(Some).ok_or(Unreadable),
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            Err(_) => Err(Unreadable),
        }
    }

    /// Whether the task exists, by its start time: if that differs by more than the slack, it is
    /// another task.
    pub fn presence(&self, began: StartTime) -> Presence {
        match self.stat() {
            Ok(Some(stat)) if matches!(stat.state, TaskState::Zombie | TaskState::Dead) => Presence::Gone,
            Ok(Some(stat)) if stat.start_time.abs_diff(began.ticks) <= began.slack => Presence::Present,
            Ok(_) => Presence::Gone,
            Err(Unreadable) => Presence::Unknown,
        }
    }

    /// Whether the task that was opened still exists.
    pub fn existence(&self) -> Presence {
        match self.stat() {
            Ok(Some(stat)) if matches!(stat.state, TaskState::Zombie | TaskState::Dead) => Presence::Gone,
            Ok(Some(_)) => Presence::Present,
            Ok(None) => Presence::Gone,
            Err(Unreadable) => Presence::Unknown,
        }
    }

    /// The CPU on which it ran last, if the last observation found it runnable.
    pub fn runnable_on(&self) -> Option<u32> {
        Some(self.cpu.load(Ordering::Relaxed)).filter(|cpu| *cpu != NO_CPU)
    }

    /// The kernel's view of a thread without progress.
    pub fn observe(&self) -> Option<TaskObservation> {
        let stat = self.read_stat(true).ok().flatten();
        let runs = stat.filter(|stat| stat.state == TaskState::Running);
        self.cpu.store(runs.and_then(|stat| stat.cpu).unwrap_or(NO_CPU), Ordering::Relaxed);
        let stat = stat?;
        if stat.ending {
            // Dying, or waiting for its core to be written: that time never counts.
            return None;
        }
        let mut text = [0; 2_048];
        let sched = self
            .read(&self.schedstat, true, &mut text)
            .ok()
            .and_then(Schedstat::parse)
            // "0 0 0" is what a kernel without these counters shows for every task. Its other
            // counter is coarse but still CPU time: without any, a spinning thread would look like
            // one that waits for a CPU.
            .filter(|sched| sched.cpu_ns != 0 || sched.slices != 0);
        Some(TaskObservation {
            state: stat.state,
            cpu_ns: Some(sched.map_or(stat.cpu_ns, |sched| sched.cpu_ns)),
            run_delay_ns: sched.map(|sched| sched.run_delay_ns),
            wait: match stat.state {
                TaskState::Running if stat.limited => Some(WaitChannel::RealTime),
                state => self.wait_channel(state),
            },
        })
    }

    fn wait_channel(&self, state: TaskState) -> Option<WaitChannel> {
        let mut text = [0; 2_048];
        wait_channel::meaning(self.read(&self.wchan, true, &mut text).ok()?, state)
    }

    /// Reads `status`; `None` if it cannot be read or understood.
    pub fn status(&self) -> Option<Status> {
        self.try_status().ok().flatten()
    }

    /// Reads `status`. `Ok(None)`: the task has ended.
    ///
    /// # Errors
    /// If the kernel refuses the file, or its contents are not understood.
    pub fn try_status(&self) -> Result<Option<Status>, StatusError> {
        let mut text = Vec::new();
        let ended = |errno| matches!(errno, Errno::NOENT | Errno::SRCH);
        let mut file = match self.file("status") {
            Ok(file) => file,
            Err(errno) if ended(errno) => return Ok(None),
            Err(errno) => return Err(StatusError::Refused(errno)),
        };
        if let Err(error) = file.read_to_end(&mut text) {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            return if ended(errno) { Ok(None) } else { Err(StatusError::Refused(errno)) };
        }
        // A name is any 15 bytes, and may end inside a character. The parser requires text.
        let text = String::from_utf8_lossy(&text);
        Status::from_buf_read(text.as_bytes()).map(Some).map_err(|_| StatusError::Malformed)
    }

    /// User id of the owner of another file of the task: root for a process that may not be dumped,
    /// otherwise the task's own.
    pub fn owner_of(&self, name: &str) -> Option<u32> {
        rustix::fs::statat(self.dir.as_fd(), name, rustix::fs::AtFlags::empty()).ok().map(|file| file.st_uid)
    }

    /// Another file of the task, up to `limit` bytes of it. Not for the watch loop: `maps` and
    /// similar files can hang.
    ///
    /// # Errors
    /// If the kernel refuses the file.
    pub fn reader(&self, name: &str, limit: u64) -> Result<BufReader<std::io::Take<File>>, Errno> {
        Ok(BufReader::new(self.file(name)?.into_inner().take(limit)))
    }

    /// The lines of such a file, as bytes: a path or a name in it need not be text.
    ///
    /// # Errors
    /// If the kernel refuses the file.
    pub fn lines(&self, name: &str, limit: u64) -> Result<impl Iterator<Item = Vec<u8>>, Errno> {
        Ok(self.reader(name, limit)?.split(b'\n').map_while(Result::ok))
    }

    /// Whether the task is ending. `None` if the kernel does not answer.
    pub fn fate(&self) -> Option<TaskFate> {
        let once = || match self.stat() {
            Ok(None) => Some(TaskFate::Ends),
            Ok(Some(stat)) if stat.core_dumping => Some(TaskFate::DumpsCore),
            Ok(Some(stat)) if stat.ending => Some(TaskFate::Ends),
            Ok(Some(_)) => Some(TaskFate::GoesOn),
            Err(Unreadable) => None,
        };
        // The kernel prints the flags first and the pending signals later. A task that takes its
        // SIGKILL in between shows neither; a second read finds the flag.
        match once() {
            Some(TaskFate::GoesOn) => once(),
            settled => settled,
        }
    }
}

/// Whether a task is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskFate {
    /// It lives on.
    GoesOn,
    /// It is ending.
    Ends,
    /// It ends once it has written the core of its process.
    DumpsCore,
}

/// The kernel did not answer: no permission, or an unknown format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("/proc could not be read")]
pub struct Unreadable;

/// Why `status` cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// The kernel refuses the file.
    #[error("{0}")]
    Refused(Errno),
    /// It is malformed.
    #[error("not of a form that this version understands")]
    Malformed,
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_many_keeps_files_open_only_while_there_is_room() {
        let path = Path::new("/proc/thread-self");
        let allowance = Allowance::new(8);
        let mut roomy = TaskDir::open_within(path, &allowance).expect("opened");
        assert!(roomy.observe().is_some());
        assert_eq!(allowance.held(), 4, "the folder and three files");
        let _others = [allowance.place(), allowance.place(), allowance.place()];
        let tight = TaskDir::open_within(path, &allowance).expect("opened");
        assert!(tight.observe().is_some(), "it is read all the same");
        assert_eq!(allowance.held(), 8);
        assert_eq!(TaskDir::open_within(path, &allowance).expect_err("no room"), Errno::MFILE);
        roomy.close_spare();
        assert!(roomy.observe().is_some());
        let place = allowance.place().expect("room");
        roomy.keep_stat(place);
        allowance.tighten();
        roomy.close_spare();
        assert_eq!(allowance.held(), 1 + 1 + 3 + 1, "each folder, the others, and `stat` of one");
        drop((roomy, tight));
        assert_eq!(allowance.held(), 3);
    }

    /// The observed wait channel of a task in that state with that `wchan`.
    fn waits(state: char, wchan: &str) -> Option<WaitChannel> {
        let folder = tempfile::tempdir().expect("a folder");
        let stat = format!("7 (exec-s0) {state} 1 1 1 0 -1 0 {}\n", "0 ".repeat(43));
        for (file, text) in [("stat", stat.as_str()), ("schedstat", "5 6 7\n"), ("wchan", wchan)] {
            std::fs::write(folder.path().join(file), text).expect("written");
        }
        TaskDir::open(folder.path()).expect("opened").observe().expect("alive").wait
    }

    /// A thread of this process with that kernel name, which may be any bytes.
    fn named(comm: &[u8], test: impl FnOnce(&TaskDir)) {
        std::fs::write("/proc/thread-self/comm", comm).expect("a name");
        test(&TaskDir::open(Path::new("/proc/thread-self")).expect("opened"));
    }

    #[test]
    fn a_name_that_is_cut_inside_a_character_hides_nothing() {
        let cut = "исполнитель".as_bytes().get(..15).expect("15 bytes");
        for name in [cut, b"a) R 1 1", b"\xff\xfe:\t7", b"a\nNSpid:\t7", b"\x01\\"] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    named(name, |task| {
                        let own = rustix::thread::gettid().as_raw_nonzero().get();
                        let status = task.try_status().expect("readable").expect("alive");
                        assert_eq!((status.pid, status.nspid), (own, Some(vec![own])), "{name:?}");
                        assert!(task.stat().expect("readable").is_some_and(|stat| !stat.ending));
                        assert!(task.observe().is_some(), "{name:?}");
                    });
                });
            });
        }
    }

    #[test]
    fn without_schedstat_the_coarse_cpu_time_is_told_and_no_run_delay() {
        let folder = tempfile::tempdir().expect("a folder");
        let stat = format!("7 (exec-s0) R 1 1 1 0 -1 0 0 0 0 0 30 12 {}\n", "0 ".repeat(37));
        std::fs::write(folder.path().join("stat"), stat).expect("written");
        for schedstat in [None, Some("0 0 0\n")] {
            if let Some(text) = schedstat {
                std::fs::write(folder.path().join("schedstat"), text).expect("written");
            }
            let task = TaskDir::open(folder.path()).expect("opened").observe().expect("alive");
            assert_eq!((task.cpu_ns, task.run_delay_ns), (Some(420_000_000), None), "{schedstat:?}");
        }
    }

    #[test]
    fn a_runnable_task_is_told_with_its_cpu_and_whether_its_class_limits_it() {
        for (policy, limited) in [(0, false), (1, true), (2, true), (3, false), (5, false), (6, true)] {
            for state in ['R', 'S'] {
                let folder = tempfile::tempdir().expect("a folder");
                // Fields 39 and 41 are the CPU and the policy.
                let (until, after) = ("0 ".repeat(23), "0 ".repeat(11));
                let begin = format!("7 (exec-s0) {state} 1 1 1 0 -1 0 0 0 0 0 30 12 ");
                let stat = format!("{begin}{until}3 0 {policy} {after}\n");
                for (file, text) in [("stat", stat.as_str()), ("schedstat", "5 6 7\n"), ("wchan", "0")] {
                    std::fs::write(folder.path().join(file), text).expect("written");
                }
                let dir = TaskDir::open(folder.path()).expect("opened");
                let runs = state == 'R';
                let wait = dir.observe().expect("alive").wait;
                assert_eq!(wait, (runs && limited).then_some(WaitChannel::RealTime), "{policy} {state}");
                assert_eq!(dir.runnable_on(), runs.then_some(3), "{policy} {state}");
            }
        }
    }

    #[test]
    fn where_a_task_sleeps_is_read_with_its_state() {
        assert_eq!(waits('D', "futex_do_wait\n"), Some(WaitChannel::Frozen));
        assert_eq!(waits('S', "futex_do_wait"), Some(WaitChannel::Futex));
        assert_eq!(waits('D', "0"), None, "the kernel does not say");
    }
}
