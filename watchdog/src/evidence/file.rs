//! Small files of `/proc` and of cgroups, and why some could not be read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// At most this many bytes of a file are read. The longest is `status` of a process in thousands of
/// groups.
const LONGEST: u64 = 64 << 10;

/// Reads `name` in the open folder `dir`.
pub(super) fn read(dir: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let mut text = Vec::new();
    let read = File::from(file).take(LONGEST).read_to_end(&mut text);
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

/// Words of a sentence of [`Evidence::missing`](super::Evidence::missing) about a missing
/// permission.
pub const NOT_PERMITTED: &str = "not permitted";

/// What could not be read, each kind of file once.
#[derive(Debug, Default)]
pub(super) struct Unread {
    files: BTreeMap<&'static str, Errno>,
    late: bool,
}

impl Unread {
    /// Notes that a file of this name could not be read. A thread that has ended meanwhile is no
    /// news.
    pub(super) fn note(&mut self, file: &'static str, error: Errno) {
        if error != Errno::NOENT && error != Errno::SRCH {
            self.files.entry(file).or_insert(error);
        }
    }

    /// The text of a file, or the note that it could not be read.
    pub(super) fn text(&mut self, dir: BorrowedFd<'_>, file: &'static str) -> Option<Vec<u8>> {
        read(dir, file).map_err(|error| self.note(file, error)).ok()
    }

    /// Notes that the time was up.
    pub(super) const fn late(&mut self) {
        self.late = true;
    }

    /// One sentence for each.
    pub(super) fn sentences(self) -> Vec<String> {
        let late = self.late.then(|| "the time limit was reached before everything was read".to_owned());
        let files = self.files.into_iter().map(|(file, error)| match error {
            Errno::PERM | Errno::ACCESS => format!("{file}: {NOT_PERMITTED}. {}", grant(file)),
            error => format!("{file}: {error}"),
        });
        files.chain(late).collect()
    }
}

/// What the kernel asks of whoever reads this file (proc_pid_stack(5), proc_pid_syscall(5),
/// ptrace(2), Documentation/admin-guide/LSM/Yama).
const fn grant(file: &str) -> &'static str {
    match file.as_bytes() {
        b"stack" => "Only a process with CAP_SYS_ADMIN may read kernel stacks; the sidecar does without",
        _ => {
            "Run the sidecar as the target's user, with CAP_SYS_PTRACE where the target is not dumpable or Yama \
             (kernel.yama.ptrace_scope) is above 0"
        }
    }
}
