//! What is checked before every signal: that the process is the one that was adopted, has the same
//! user as its segment, maps that segment, and runs the program that it ran. A few reads from
//! descriptors opened at adoption; none of them takes a lock of the target's memory, looks up a
//! path by pid, or blocks.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, RawDir};

use crate::judge::words::Rounded;
use crate::verdict::Withheld;

use super::task::{Program, TaskDir, Uids};

/// Why a process may not be signalled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It has ended: there is nothing to signal.
    #[error("process {pid} has ended")]
    Ended {
        /// Pid of the process.
        pid: i32,
    },
    /// Its pid belongs to another process.
    #[error(
        "pid {pid} belongs to a process that started at tick {found}, not at tick {expected}: it is another one"
    )]
    OtherProcess {
        /// The pid in question.
        pid: i32,
        /// Start time at adoption, in ticks.
        expected: u64,
        /// Start time now, in ticks.
        found: u64,
    },
    /// It runs as another user.
    #[error(
        "process {pid} runs as user {} (real), {} (effective) and {} (saved) now, and its heartbeat segment belongs to user {owner}: it \
         is not watched or signalled any more",
        .uids.real, .uids.effective, .uids.saved
    )]
    OtherUser {
        /// Pid of the process.
        pid: i32,
        /// Its user ids now.
        uids: Uids,
        /// User id of the segment's owner at adoption.
        owner: u32,
    },
    /// The segment was given to another user.
    #[error(
        "the heartbeat segment of process {pid} belongs to user {found} now, and belonged to user {owner} when it was adopted: it is not \
         watched or signalled any more"
    )]
    OtherOwner {
        /// Pid of the process.
        pid: i32,
        /// User id of its owner now.
        found: u32,
        /// User id of its owner at adoption.
        owner: u32,
    },
    /// It runs another program.
    #[error("process {pid} runs another program now: it is not watched or signalled any more")]
    OtherProgram {
        /// Pid of the process.
        pid: i32,
    },
    /// It has unmapped the segment.
    #[error("process {pid} no longer maps its heartbeat segment: it is not watched or signalled any more")]
    Unmapped {
        /// Pid of the process.
        pid: i32,
    },
    /// It is unknown whether it still maps the segment.
    #[error(
        "for {} nobody has been able to tell whether process {pid} still maps its heartbeat segment, and what is not known is not \
         signalled: is the sidecar given CPU time, and is /proc/{pid}/maps readable for it?", Rounded(*.age)
    )]
    Unconfirmed {
        /// Pid of the process.
        pid: i32,
        /// Time since the last answer.
        age: Duration,
    },
    /// It is unknown which program it runs.
    #[error(
        "the kernel does not tell the sidecar which program process {pid} runs now, and what is not known is not signalled: it may have \
         become one that may not be traced; give the sidecar CAP_SYS_PTRACE"
    )]
    Hidden {
        /// Pid of the process.
        pid: i32,
    },
    /// Its files cannot be read.
    #[error(
        "{file} of process {pid} cannot be read now, and what is not known is not signalled: see who may read /proc/{pid}, and whether \
         the sidecar has descriptors and memory left"
    )]
    Unread {
        /// Pid of the process.
        pid: i32,
        /// Name of the file.
        file: &'static str,
    },
}

impl Unproven {
    /// Whether this is certainly no longer the target; otherwise it just cannot be determined now.
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

    /// Why the kill is withheld; `None` if there is nothing to kill.
    pub const fn withholds(&self) -> Option<Withheld> {
        match self {
            Self::Ended { .. } => None,
            _ if self.is_certain() => Some(Withheld::NotTarget),
            _ => Some(Withheld::Unproven),
        }
    }
}

/// What a remaining thread shows about its process, whose main thread has ended.
#[expect(
    clippy::large_enum_variant,
    reason = "one stands on the stack for a moment, on a path that allocates nothing"
)]
pub(super) enum Witness {
    /// This thread has memory.
    Lives(TaskDir, Program),
    /// A thread remains, but the kernel does not tell what it runs.
    Hidden,
    /// All are ending: none of them starts another program, and a signal changes nothing.
    NoneLeft,
}

/// Bytes of names read at a time: some hundred names.
const NAMES: usize = 4_096;

/// Examines the threads of the process whose folder is `process`. They are found in that folder, so
/// they belong to it.
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
        // It has ended between the two calls.
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
