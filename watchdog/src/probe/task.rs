//! One thread as `/proc` tells it. Reads `stat`, `status`, `schedstat` and `wchan` only: those take
//! no lock of the target's memory and so cannot hang behind it.

use std::ffi::CStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
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

/// Flags of the kernel's `include/linux/sched.h` (field 9 of `stat`) that a task on its way out
/// has: `PF_EXITING`, in `do_exit`; `PF_POSTCOREDUMP`, past the core dump of its process;
/// `PF_DUMPCORE`, writing it; `PF_SIGNALED`, taken off by a signal that it has already dequeued.
const ENDING: u32 = 0x4 | 0x8 | 0x200 | 0x400;
/// The first of them alone.
const EXITING: u32 = 0x4;
/// That of the one task that writes the core, from then on: it keeps it when the core is written
/// and it exits.
const DUMPING: u32 = 0x200;
/// What it has besides by then.
const DUMPED: u32 = 0x4 | 0x8;
/// SIGKILL in the mask of pending signals (field 31 of `stat`), where signal 1 is bit 0. A SIGKILL
/// for a process is put into the mask of each of its threads in the same critical section in which
/// it is sent, so the private mask is enough and `status`, which is slower to make and to read, is
/// not needed.
const SIGKILL_BIT: u64 = 1 << 8;
/// Clock ticks of `stat` in nanoseconds: `USER_HZ` is 100 on every architecture that this runs on.
const TICK_NS: u64 = 10_000_000;
/// What is read of one file at most. The longest, `status`, stays below 2 KiB even with hundreds of
/// CPUs.
const FILE_LIMIT: u64 = 16 * 1024;

/// How a folder is opened.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Whether the exit code of a living task (field 52 of `stat`) says that its whole process is
/// ending: from the moment at which a process begins to end the kernel shows the code of that end
/// for each of its tasks. An end with code 0 looks like none.
///
/// The kernel keeps two other things there. Of a stopped process it shows the signal that stopped
/// it. Of a task that its tracer has stopped it shows why, in the form in which `wait` tells the
/// tracer: SIGTRAP at a system call or a breakpoint, a signal that is about to be delivered, or
/// either of them with an event above it. That one is read a moment before the state, so a task
/// that goes on in between shows it in any state: of what a tracer may see only ends by other
/// signals than SIGTRAP are taken for ends, and none in state `t`.
const fn is_end_of_process(exit_code: i32, state: TaskState) -> bool {
    /// SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU.
    const STOPS: std::ops::RangeInclusive<i32> = 19..=22;
    const SIGTRAP: i32 = 5;
    if matches!(state, TaskState::Traced) {
        return false;
    }
    // Either it returned a code, or a signal ended it, perhaps with a core (0x80).
    let (code, signal) = (exit_code >> 8, exit_code & 0x7f);
    match exit_code & 0xff {
        0 => code != 0,
        _ => code == 0 && signal != SIGTRAP && !(*STOPS.start() <= exit_code && exit_code <= *STOPS.end()),
    }
}

/// The folder of one task, held open: once the task has ended every read fails, so that a tid used
/// again by somebody else is never mistaken for it.
///
/// Files that were read stay open where there is room for that: opening costs more than reading.
/// Read from the beginning, each tells what is so now.
#[derive(Debug)]
pub struct TaskDir {
    dir: OwnedFd,
    stat: TaskFile,
    schedstat: TaskFile,
    wchan: TaskFile,
    status: TaskFile,
    /// What its descriptors are counted against; `None`: they are not counted, and every file stays
    /// open.
    allowance: Option<Arc<Allowance>>,
    /// The place of the folder itself.
    _place: Option<Place>,
}

/// A file of the task.
#[derive(Debug)]
struct TaskFile {
    name: &'static str,
    /// Open from its first reading on, if there was room.
    kept: OnceLock<(OwnedFd, Option<Place>)>,
    /// Stays open whatever else needs room: it is read at each look.
    needed: bool,
}

/// What one look reads of one file: `stat`, the longest of them, has 52 numbers and a name.
type Text = [u8; 2_048];

impl TaskFile {
    const fn new(name: &'static str) -> Self {
        Self { name, kept: OnceLock::new(), needed: false }
    }

    /// What the file says now. Without a kept descriptor it is opened for this reading, and stays
    /// open if `again` says that it will be read at the next look too, and there is room.
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

    /// Closes it, unless it is needed.
    fn close_spare(&mut self) {
        if !self.needed {
            self.kept = OnceLock::new();
        }
    }
}

/// Which program a process runs: where its parts lie in memory, which each exec chooses anew at
/// random. The kernel tells it without a lock of that memory, and only to whoever may trace the
/// process. The name of its file says less: that of an executable which was replaced on the disk is
/// another one from then on, in the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where its code begins and ends.
    pub code: (u64, u64),
    /// Where its stack began.
    pub start_stack: u64,
}

/// User ids of a task, as `status` tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uids {
    /// Whose it is.
    pub real: u32,
    /// As whom it acts.
    pub effective: u32,
    /// As whom it may act again.
    pub saved: u32,
}

impl Uids {
    /// Whether all three are this one.
    pub const fn are_all(self, uid: u32) -> bool {
        self.real == uid && self.effective == uid && self.saved == uid
    }

    /// Out of the text of `status`. No name can pass for the line: the kernel escapes a line end in
    /// it.
    fn parse(text: &[u8]) -> Option<Self> {
        let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
        let mut ids = std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(str::parse);
        let mut next = || ids.next()?.ok();
        Some(Self { real: next()?, effective: next()?, saved: next()? })
    }
}

/// What `stat` says, as far as it is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskStat {
    /// Scheduler state.
    pub state: TaskState,
    /// On its way out: exiting, bound to be by a pending SIGKILL, dumping core, or ended.
    pub ending: bool,
    /// Writing the core of its process now.
    pub core_dumping: bool,
    /// Clock ticks since boot.
    pub start_time: u64,
    /// It has begun to exit, so that it has no memory or soon will have none, and begins no other
    /// program.
    pub exiting: bool,
    /// Which program it runs; `None` where the kernel does not tell.
    pub program: Option<Program>,
    /// CPU time, user and system, nanoseconds.
    pub cpu_ns: u64,
}

impl TaskDir {
    /// Opens `PATH`, such as `/proc/PID/task/TID` or `/proc/PID`. Its descriptors are not counted.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        rustix::fs::open(path, FOLDER, Mode::empty()).map(Self::of)
    }

    /// Opens `PATH` as one of many: what it keeps open is counted.
    ///
    /// # Errors
    /// `EMFILE` if `allowance` has no room, without asking the kernel; else what the kernel says.
    pub fn open_within(path: &Path, allowance: &Arc<Allowance>) -> Result<Self, Errno> {
        let place = allowance.place().ok_or(Errno::MFILE)?;
        let dir = Self::open(path)?;
        Ok(Self { allowance: Some(Arc::clone(allowance)), _place: Some(place), ..dir })
    }

    /// Opens `stat` now and keeps it open, in this place.
    pub fn keep_stat(&mut self, place: Place) {
        self.open_stat(Some(place));
    }

    /// The same without a place, for the few whose descriptors are in the sidecar's own reserve.
    /// Returns whether it is open.
    pub fn keep_stat_uncounted(&mut self) -> bool {
        self.stat.needed || self.open_stat(None)
    }

    /// One that cannot be opened is tried again at each reading.
    fn open_stat(&mut self, place: Option<Place>) -> bool {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let Ok(file) = rustix::fs::openat(&self.dir, self.stat.name, flags, Mode::empty()) else {
            return false;
        };
        self.stat = TaskFile { kept: OnceLock::from((file, place)), needed: true, ..self.stat };
        true
    }

    /// Closes what can be opened again without losing sight of the task.
    pub fn close_spare(&mut self) {
        for file in [&mut self.stat, &mut self.schedstat, &mut self.wchan] {
            file.close_spare();
        }
    }

    /// Opens the folder `name` of an open one, such as `/proc/PID/task`.
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

    /// Reads `stat`. `Ok(None)`: the task has ended. `Err`: the kernel would not say.
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
        }))
    }

    /// Reads whose task it is. `Ok(None)`: it has ended. `Err`: the kernel would not say.
    pub fn uids(&self) -> Result<Option<Uids>, Unreadable> {
        let mut text = [0; 2_048];
        match self.read(&self.status, false, &mut text) {
            Ok(text) => Uids::parse(text).map(Some).ok_or(Unreadable),
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            Err(_) => Err(Unreadable),
        }
    }

    /// Whether the task exists, by its start time: one that differs by more than the slack is
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

    /// The kernel's view of a thread that stands still.
    pub fn observe(&self) -> Option<TaskObservation> {
        let stat = self.read_stat(true).ok().flatten()?;
        if stat.ending {
            // Dying, or waiting for its core to be written: that time counts against nobody.
            return None;
        }
        let mut text = [0; 2_048];
        let sched = self
            .read(&self.schedstat, true, &mut text)
            .ok()
            .and_then(Schedstat::parse)
            // «0 0 0» is what a kernel without these counters says of everybody. Its other count is
            // coarse, but CPU time all the same: without any a thread that spins would look like
            // one that waits for a CPU.
            .filter(|sched| sched.cpu_ns != 0 || sched.slices != 0);
        Some(TaskObservation {
            state: stat.state,
            cpu_ns: Some(sched.map_or(stat.cpu_ns, |sched| sched.cpu_ns)),
            run_delay_ns: sched.map(|sched| sched.run_delay_ns),
            wait: self.wait_channel(stat.state),
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
    /// If the kernel refuses the file, or what it says is not understood.
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
        // A name is any 15 bytes, and may end inside a character. Its reader wants text.
        let text = String::from_utf8_lossy(&text);
        Status::from_buf_read(text.as_bytes()).map(Some).map_err(|_| StatusError::Malformed)
    }

    /// User id that owns another file of the task: root's for a process that may not be dumped,
    /// else the task's own.
    pub fn owner_of(&self, name: &str) -> Option<u32> {
        rustix::fs::statat(self.dir.as_fd(), name, rustix::fs::AtFlags::empty()).ok().map(|file| file.st_uid)
    }

    /// Another file of the task, up to `limit` bytes of it. Not for the watch loop: `maps` and its
    /// like can hang.
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

    /// Whether the task is on its way out. `None` if the kernel does not say.
    pub fn fate(&self) -> Option<TaskFate> {
        let once = || match self.stat() {
            Ok(None) => Some(TaskFate::Ends),
            Ok(Some(stat)) if stat.core_dumping => Some(TaskFate::DumpsCore),
            Ok(Some(stat)) if stat.ending => Some(TaskFate::Ends),
            Ok(Some(_)) => Some(TaskFate::GoesOn),
            Err(Unreadable) => None,
        };
        // The kernel writes the flags first and the pending signals later. A task that takes its
        // SIGKILL in between shows neither; a second look finds the flag.
        match once() {
            Some(TaskFate::GoesOn) => once(),
            settled => settled,
        }
    }
}

/// Whether a task is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskFate {
    /// It is not.
    GoesOn,
    /// It is.
    Ends,
    /// It is, once it has written the core of its process.
    DumpsCore,
}

/// The kernel would not say: no permission, or a form that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("/proc could not be read")]
pub struct Unreadable;

/// Why `status` says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// The kernel refuses the file.
    #[error("{0}")]
    Refused(Errno),
    /// It is of another form.
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

    /// What is observed of a task in that state with that wait channel.
    fn waits(state: char, wchan: &str) -> Option<WaitChannel> {
        let folder = tempfile::tempdir().expect("a folder");
        let stat = format!("7 (exec-s0) {state} 1 1 1 0 -1 0 {}\n", "0 ".repeat(43));
        for (file, text) in [("stat", stat.as_str()), ("schedstat", "5 6 7\n"), ("wchan", wchan)] {
            std::fs::write(folder.path().join(file), text).expect("written");
        }
        TaskDir::open(folder.path()).expect("opened").observe().expect("alive").wait
    }

    /// A thread of this process with that name in the kernel, which is any bytes.
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
    fn where_a_task_sleeps_is_read_with_its_state() {
        assert_eq!(waits('D', "futex_do_wait\n"), Some(WaitChannel::Frozen));
        assert_eq!(waits('S', "futex_do_wait"), Some(WaitChannel::Futex));
        assert_eq!(waits('D', "0"), None, "the kernel does not say");
    }
}
