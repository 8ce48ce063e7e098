//! What is checked before every signal: that the process is the one that was adopted, belongs to
//! whom its segment belongs to, maps that segment, and runs the program that it ran. A few reads of
//! descriptors that adoption opened; none of them takes a lock of the target's memory, looks up a
//! path by pid, or waits for anybody.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, RawDir};

use crate::verdict::Withheld;

use super::task::{Program, TaskDir, Uids};

/// Why a process may not be signalled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It has ended: there is nobody to signal.
    #[error("process {pid} has ended")]
    Ended {
        /// The process.
        pid: i32,
    },
    /// Its number belongs to another one.
    #[error(
        "pid {pid} belongs to a process that started at tick {found}, not at tick {expected}: it is another one"
    )]
    OtherProcess {
        /// The number.
        pid: i32,
        /// Start time at adoption.
        expected: u64,
        /// Start time now.
        found: u64,
    },
    /// Another user.
    #[error(
        "process {pid} runs as user {} (real), {} (effective) and {} (saved) now, and its heartbeat segment belongs to user {owner}: it \
         is not watched or signalled any more",
        .uids.real, .uids.effective, .uids.saved
    )]
    OtherUser {
        /// The process.
        pid: i32,
        /// As whom it runs.
        uids: Uids,
        /// Whose the segment was at adoption.
        owner: u32,
    },
    /// The segment was given to another user.
    #[error(
        "the heartbeat segment of process {pid} belongs to user {found} now, and belonged to user {owner} when it was adopted: it is not \
         watched or signalled any more"
    )]
    OtherOwner {
        /// The process.
        pid: i32,
        /// Whose it is.
        found: u32,
        /// Whose it was.
        owner: u32,
    },
    /// Another program.
    #[error("process {pid} runs another program now: it is not watched or signalled any more")]
    OtherProgram {
        /// The process.
        pid: i32,
    },
    /// It has dropped the segment.
    #[error("process {pid} no longer maps its heartbeat segment: it is not watched or signalled any more")]
    Unmapped {
        /// The process.
        pid: i32,
    },
    /// Nobody can tell whether it has.
    #[error(
        "for {age:.1?} nobody has been able to tell whether process {pid} still maps its heartbeat segment, and what is not known is not \
         signalled: is the sidecar given CPU time, and is /proc/{pid}/maps readable for it?"
    )]
    Unconfirmed {
        /// The process.
        pid: i32,
        /// Since the last answer.
        age: Duration,
    },
    /// Nobody can tell which program it runs.
    #[error(
        "the kernel does not tell the sidecar which program process {pid} runs now, and what is not known is not signalled: it may have \
         become one that may not be traced; give the sidecar CAP_SYS_PTRACE"
    )]
    Hidden {
        /// The process.
        pid: i32,
    },
    /// Its files cannot be read.
    #[error(
        "{file} of process {pid} cannot be read now, and what is not known is not signalled: see who may read /proc/{pid}, and whether \
         the sidecar has descriptors and memory left"
    )]
    Unread {
        /// The process.
        pid: i32,
        /// Which file.
        file: &'static str,
    },
}

impl Unproven {
    /// Whether it is certain that this is not the target any more; else it only cannot be told now.
    pub const fn is_certain(&self) -> bool {
        match self {
            Self::OtherProcess { .. }
            | Self::OtherUser { .. }
            | Self::OtherOwner { .. }
            | Self::OtherProgram { .. }
            | Self::Unmapped { .. } => true,
            Self::Ended { .. } | Self::Unconfirmed { .. } | Self::Hidden { .. } | Self::Unread { .. } => {
                false
            }
        }
    }

    /// The word for a kill that is withheld for it; `None` if there is nobody to kill.
    pub const fn withholds(&self) -> Option<Withheld> {
        match self {
            Self::Ended { .. } => None,
            _ if self.is_certain() => Some(Withheld::NotTarget),
            _ => Some(Withheld::Unproven),
        }
    }
}

/// What a thread that goes on tells of its process, whose main thread has ended.
#[expect(
    clippy::large_enum_variant,
    reason = "one stands on the stack for a moment, on a path that allocates nothing"
)]
pub(super) enum Witness {
    /// This one has memory.
    Lives(TaskDir, Program),
    /// One goes on, and the kernel does not tell what it runs.
    Hidden,
    /// All are on their way out: none of them begins another program, and a signal changes nothing.
    NoneLeft,
}

/// Names that are read at a time: some hundred of them.
const NAMES: usize = 4_096;

/// Asks the threads of the process whose folder is `process`. They are found in that folder, so
/// they are its own.
pub(super) fn witness(process: &OwnedFd) -> Option<Witness> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tasks = rustix::fs::openat(process, "task", folder, Mode::empty()).ok()?;
    let mut names = [MaybeUninit::uninit(); NAMES];
    let mut entries = RawDir::new(&tasks, &mut names);
    let mut hidden = false;
    while let Some(entry) = entries.next() {
        let name = entry.ok()?.file_name().to_owned();
        if !name.to_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        // One that cannot be opened any more has ended between the two calls.
        let Ok(task) = TaskDir::open_at(&tasks, &name) else { continue };
        match task.stat() {
            Ok(None) => {}
            Ok(Some(stat)) => match stat.program {
                Some(program) => return Some(Witness::Lives(task, program)),
                None => hidden |= !stat.exiting,
            },
            Err(_) => hidden = true,
        }
    }
    Some(if hidden { Witness::Hidden } else { Witness::NoneLeft })
}
