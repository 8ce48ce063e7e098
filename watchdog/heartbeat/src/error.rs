//! The errors of this crate, by kind. Messages name the file and what was found there.

use std::io;
use std::path::PathBuf;

use crate::layout::{MAX_NAME, MAX_SHARD};

/// Why a segment could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Another writer holds this path: another process (if the kernel reports which), or this one.
    #[error("{}: another writer holds this segment{}", path.display(), holder(*pid))]
    Held {
        /// The segment's path.
        path: PathBuf,
        /// The holder; `None` if it lives in another pid namespace.
        pid: Option<u32>,
    },
    /// The path has no file name.
    #[error("{}: not the path of a file", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// The shard's name is too long.
    #[error("the shard's name has {len} bytes, at most {MAX_SHARD} fit")]
    ShardTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A size is out of bounds.
    #[error("{name} = {value} is not within {low} to {high}")]
    OutOfBounds {
        /// Which size.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The least value allowed.
        low: u64,
        /// The greatest value allowed.
        high: u64,
    },
    /// This process has mapped as many segments as its fork handler can handle.
    #[error("this process has {limit} segments mapped already")]
    TooManySegments {
        /// The limit.
        limit: usize,
    },
    /// The system refused a step.
    #[error("{}: cannot {step}: {source}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// The file it was done to.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why a thread, worker or channel could not be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is empty or too long.
    #[error("the name {name:?} has {} bytes, 1 to {MAX_NAME} are allowed", name.len())]
    Name {
        /// The name as given.
        name: String,
    },
    /// Every slot is taken.
    #[error("all {slots} {kind} are taken")]
    Exhausted {
        /// What has run out: thread slots, channel slots or worker lanes.
        kind: &'static str,
        /// How many the segment has.
        slots: u32,
    },
    /// The thread that owns these lanes has left or ended.
    #[error("the thread that owns these lanes is off the watch")]
    Gone,
    /// The thread's identity could not be read.
    #[error("cannot read /proc/thread-self/stat: {source}")]
    Identity {
        /// The system's answer.
        #[from]
        source: io::Error,
    },
}

/// Why a segment could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The system refused a step; the source's kind shows whether the file is absent.
    #[error("{}: cannot {step}: {source}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// The segment's path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is a folder, a pipe, a device, a symbolic link or anything else but a regular file.
    #[error("{}: not a regular file", path.display())]
    NotRegular {
        /// The segment's path.
        path: PathBuf,
    },
    /// The file ends before what its header promises.
    #[error("{}: truncated: ends before byte {wanted}", path.display())]
    Truncated {
        /// The segment's path.
        path: PathBuf,
        /// The byte offset up to which it was needed.
        wanted: u64,
    },
    /// It does not start like a segment.
    #[error("{}: not a heartbeat segment: it starts with {found:#018x}", path.display())]
    Magic {
        /// The segment's path.
        path: PathBuf,
        /// The first word, little-endian.
        found: u64,
    },
    /// It has a version that this crate does not read.
    #[error("{}: segment version {found}, this program reads version 1", path.display())]
    Version {
        /// The segment's path.
        path: PathBuf,
        /// The version found.
        found: u64,
    },
    /// A word of the header contradicts the layout.
    #[error("{}: header word {field} = {found} is not valid", path.display())]
    Header {
        /// The segment's path.
        path: PathBuf,
        /// Which word.
        field: &'static str,
        /// Its value.
        found: u64,
    },
}

/// Why a sidecar could not claim a segment, or continue to hold it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Another sidecar watches this segment.
    #[error("{}: another watchdog holds this segment{}", path.display(), holder(*pid))]
    Held {
        /// The segment's path.
        path: PathBuf,
        /// The holder; `None` if it lives in another pid namespace.
        pid: Option<u32>,
    },
    /// The lock file belongs to a user who has nothing to do with the segment.
    #[error(
        "{}: this lock file belongs to user {uid}, who is neither this sidecar's user nor root nor the segment's owner: remove it, and \
         have the segment in a folder where others make no files",
        path.display()
    )]
    Foreign {
        /// The lock file.
        path: PathBuf,
        /// User id of its owner.
        uid: u32,
    },
    /// The file is not a segment that can be watched.
    #[error(transparent)]
    Segment(#[from] ReadError),
    /// The system refused a step.
    #[error("{}: cannot {step}: {source}{}", path.display(), denied(source))]
    Io {
        /// What was being done.
        step: &'static str,
        /// The file it was done to.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// The hint for a file that belongs to another user.
fn denied(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::PermissionDenied {
        "; it is another user's, left by a sidecar that ran as root for example: remove it while no sidecar runs, or run as its owner"
    } else {
        ""
    }
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => format!(" (this process, pid {pid})"),
        Some(pid) => format!(" (pid {pid})"),
        None => String::new(),
    }
}
