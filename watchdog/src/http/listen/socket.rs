//! The unix socket. It is created so that at no moment anyone but its owner can reach it, below a
//! folder that is held open, so that nobody can redirect it.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::own_folder::refusal::Refusal;
use crate::own_folder::target_user::TargetUser;
use crate::own_folder::{OwnFolder, Place};

use super::{ListenError, Which};

/// Whoever may open the socket may pause and kill: only its owner and root.
const MODE: Mode = Mode::from_raw_mode(0o600);
/// A client passes the whole path to the kernel, which has room for this many bytes.
const LONGEST: usize = 107;
/// The backlog that the standard library uses.
const BACKLOG: i32 = 128;

/// Another sidecar has the folder locked for a fraction of a millisecond.
const LOCKED_WITHIN: Duration = Duration::from_millis(200);
/// Between two attempts.
const LOCK_AGAIN: Duration = Duration::from_millis(1);

/// A unix socket whose file is removed with its listener.
#[derive(Debug)]
pub struct SocketFile {
    /// The listening socket.
    pub listener: UnixListener,
    /// Removes the file on drop.
    pub file: OwnFile,
}

impl SocketFile {
    /// Listens at `path`. Replaces what a dead sidecar has left there.
    ///
    /// # Errors
    /// If a process listens there, if something else is in the way, or if the folder cannot be
    /// used.
    pub fn bind(path: &Path, target: &Arc<TargetUser>) -> Result<Self, ListenError> {
        let fail = |error| refused(path, error);
        let absolute = std::path::absolute(path).map_err(fail)?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            let why = "it names no file. Choose another path";
            return Err(ListenError::BadPath { path: path.to_owned(), why });
        };
        if path.as_os_str().len() > LONGEST {
            let why = "nobody can connect to a path of more than 107 bytes. Choose a shorter one";
            return Err(ListenError::BadPath { path: path.to_owned(), why });
        }
        let place = Place::new(parent.to_owned(), Arc::clone(target));
        let folder =
            place.open().and_then(|folder| folder.ok_or_else(|| Errno::NOENT.into())).map_err(fail)?;
        // Of sidecars that start at once, each looks at what stands there and replaces it alone:
        // exchanges that interleave would leave one that listens and is not reached.
        let _alone = alone(&folder);
        let stale = left_over(&folder, name, path)?;
        // Bound under a temporary name and moved into place once it listens, so that whoever finds
        // it gets an answer.
        let fresh = fresh_name();
        let listener = listen(&folder, &fresh).map_err(fail)?;
        let placed = made(&folder, &fresh).and_then(|id| {
            put(&folder, &fresh, name, stale.as_ref().map(|(id, _)| *id))?;
            Ok(id)
        });
        match placed {
            Ok(id) => {
                let file = OwnFile { folder, name: name.to_owned(), id };
                Ok(Self { listener: listener.into(), file })
            }
            Err(error) => {
                let _ = folder.remove(&fresh);
                Err(match error.kind() {
                    // Another sidecar that started at the same moment was faster.
                    io::ErrorKind::AlreadyExists => in_use(path),
                    _ => fail(error),
                })
            }
        }
    }

    /// Whether the folder of the socket at `path` still is one in which nobody can replace the
    /// socket, given what is known of the target now.
    pub fn is_safe(path: &Path, target: &Arc<TargetUser>) -> bool {
        let Some(parent) = std::path::absolute(path).ok().and_then(|path| Some(path.parent()?.to_owned()))
        else {
            return false;
        };
        // If the folder cannot be opened, moving elsewhere would not help: the socket stays.
        let opened = Place::new(parent, Arc::clone(target)).open();
        !opened.is_err_and(|error| error.get_ref().is_some_and(|inner| inner.is::<Refusal>()))
    }
}

/// How to hold a file whatever it is, without opening it.
const HELD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    const fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// Locks the folder until the descriptor is closed; `None` if somebody else keeps it locked.
/// Whoever may read the folder can do that, and must not keep the sidecar from listening.
fn alone(folder: &OwnFolder) -> Option<OwnedFd> {
    // A lock belongs to an open file, so this one needs its own.
    let own =
        rustix::fs::openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let own = own.ok()?;
    let began = Instant::now();
    while rustix::fs::flock(&own, FlockOperation::NonBlockingLockExclusive).is_err() {
        if began.elapsed() >= LOCKED_WITHIN {
            return None;
        }
        std::thread::sleep(LOCK_AGAIN);
    }
    Some(own)
}

/// A unique name: sidecars that start at the same moment each bind their own. A sidecar that dies
/// before it has moved its socket, within microseconds, leaves it behind.
fn fresh_name() -> OsString {
    format!(".~{:016x}", RandomState::new().hash_one(std::process::id())).into()
}

/// The socket at `name` that a dead process has left; fails if what exists there must stay. As long
/// as the descriptor is open, no other file gets its inode number.
fn left_over(
    folder: &OwnFolder,
    name: &OsStr,
    path: &Path,
) -> Result<Option<(FileId, OwnedFd)>, ListenError> {
    let fail = |error| refused(path, error);
    let held = match rustix::fs::openat(folder, name, HELD, Mode::empty()) {
        Ok(held) => held,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(fail(errno.into())),
    };
    let there = rustix::fs::fstat(&held).map_err(|errno| fail(errno.into()))?;
    if FileType::from_raw_mode(there.st_mode) != FileType::Socket {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    // Only a socket that refuses connections is left over from a dead process.
    match knock(folder, name) {
        Err(Errno::CONNREFUSED) => Ok(Some((FileId::of(&there), held))),
        Err(Errno::NOENT) => Ok(None),
        // It accepts, or would if it were not stuck.
        Ok(()) | Err(Errno::AGAIN) => Err(in_use(path)),
        Err(errno) => Err(fail(errno.into())),
    }
}

/// Sets the mode before the socket has a name, so that it is right from the first moment.
fn listen(folder: &OwnFolder, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, MODE)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(below(folder, name))?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The identity of the new file, if it is the socket that was meant to be created.
fn made(folder: &OwnFolder, fresh: &OsStr) -> io::Result<FileId> {
    let made = folder.look(fresh)?.ok_or_else(|| io::Error::from(Errno::NOENT))?;
    let own = made.st_uid == rustix::process::geteuid().as_raw();
    let ours = FileType::from_raw_mode(made.st_mode) == FileType::Socket && own;
    if !ours || made.st_mode & 0o177 != 0 {
        return Err(io::Error::other(format!(
            "the socket was made with mode {:03o} for uid {}, and not for its owner alone",
            made.st_mode & 0o7777,
            made.st_uid
        )));
    }
    Ok(FileId::of(&made))
}

/// Moves `fresh` to `name` if nothing exists there, or only `stale`.
fn put(folder: &OwnFolder, fresh: &OsStr, name: &OsStr, stale: Option<FileId>) -> io::Result<()> {
    let rename = |flags| rustix::fs::renameat_with(folder, fresh, folder, name, flags);
    let moved = match stale {
        None => rename(RenameFlags::NOREPLACE),
        Some(stale) => match rename(RenameFlags::EXCHANGE) {
            Ok(()) if folder.look(fresh)?.is_some_and(|there| FileId::of(&there) == stale) => {
                return folder.remove(fresh);
            }
            // Another process has put its own socket there since the check.
            Ok(()) => rename(RenameFlags::EXCHANGE).and(Err(Errno::EXIST)),
            // The stale socket has disappeared.
            Err(Errno::NOENT) => rename(RenameFlags::NOREPLACE),
            refused => refused,
        },
    };
    match moved {
        // A file system that supports neither flag, such as NFS.
        Err(Errno::INVAL) => Ok(rustix::fs::renameat(folder, fresh, folder, name)?),
        moved => Ok(moved?),
    }
}

/// A path to `name` that goes through the descriptor.
fn below(folder: &OwnFolder, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd())).join(name)
}

/// Connects to check whether a process listens there. Never waits: a listener that no longer
/// accepts fills its backlog, and a connection would wait for room in it for ever.
fn knock(folder: &OwnFolder, name: &OsStr) -> Result<(), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(below(folder, name))?)
}

fn in_use(path: &Path) -> ListenError {
    ListenError::InUse { which: Which::Socket, address: path.display().to_string() }
}

fn refused(path: &Path, error: io::Error) -> ListenError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "This user may not: choose a folder that it may write to, or stop the program of another user that listens there"
        }
        io::ErrorKind::NotFound => "The folder does not exist: create it, or choose another path",
        _ if error.get_ref().is_some_and(|inner| inner.is::<Refusal>()) => {
            "Whoever may write there could put a socket of his own in its place"
        }
        _ => "Choose another path",
    };
    ListenError::Refused { which: Which::Socket, address: path.display().to_string(), error, hint }
}

/// A file that is removed on drop if it is still the one that was created.
#[derive(Debug)]
pub struct OwnFile {
    folder: OwnFolder,
    name: OsString,
    id: FileId,
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let there = self.folder.look(&self.name).ok().flatten();
        if there.is_some_and(|there| FileId::of(&there) == self.id) {
            let _ = self.folder.remove(&self.name);
        }
    }
}

#[cfg(test)]
#[path = "socket/tests.rs"]
mod tests;
