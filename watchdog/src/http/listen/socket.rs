//! The unix socket: made so that at no moment others than its owner can reach it, below a folder
//! that is held open, so that nobody leads it elsewhere.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::own_folder::refusal::Refusal;
use crate::own_folder::target_user::TargetUser;
use crate::own_folder::{OwnFolder, Place};

use super::{ListenError, Which};

/// Whoever may open the socket may pause and kill: its owner alone, and root.
const MODE: Mode = Mode::from_raw_mode(0o600);
/// Whoever connects gives the kernel the whole path, which has room for so much.
const LONGEST: usize = 107;
/// As many as the standard library asks for.
const BACKLOG: i32 = 128;

/// A unix socket that goes when its listener goes.
#[derive(Debug)]
pub struct SocketFile {
    /// Listens.
    pub listener: UnixListener,
    /// Removes the file.
    pub file: OwnFile,
}

impl SocketFile {
    /// Listens at `path`. What a dead sidecar has left there is replaced.
    ///
    /// # Errors
    /// If somebody listens there, if something else is in the way, or if the folder cannot be used.
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
        clear(&folder, name, path)?;
        // Bound under a name of its own and moved into place when it listens, so that whoever finds
        // it is answered.
        let mut fresh = name.to_owned();
        fresh.push("~");
        clear(&folder, &fresh, &absolute.with_file_name(&fresh))?;
        folder.remove(&fresh).map_err(fail)?;
        let listener = listen(&folder, &fresh).map_err(fail)?;
        match place_checked(&folder, &fresh, name) {
            Ok((device, inode)) => {
                let file = OwnFile { folder, name: name.to_owned(), device, inode };
                Ok(Self { listener: listener.into(), file })
            }
            Err(error) => {
                let _ = folder.remove(&fresh);
                Err(fail(error))
            }
        }
    }
}

/// Fails if something is at `name` that must stay.
fn clear(folder: &OwnFolder, name: &OsStr, path: &Path) -> Result<(), ListenError> {
    let fail = |error| refused(path, error);
    let Some(there) = folder.look(name).map_err(fail)? else { return Ok(()) };
    if FileType::from_raw_mode(there.st_mode) != FileType::Socket {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    // Only a socket that refuses is left over from somebody who died.
    match knock(folder, name) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // Accepts, or would if it were not stuck.
        Ok(()) | Err(Errno::AGAIN) => {
            Err(ListenError::InUse { which: Which::Socket, address: path.display().to_string() })
        }
        Err(errno) => Err(fail(errno.into())),
    }
}

/// The mode is set before there is a name, so that it is right from the first moment on.
fn listen(folder: &OwnFolder, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, MODE)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(below(folder, name))?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Moves it into place if it is what was meant to be made; returns device and inode.
fn place_checked(folder: &OwnFolder, fresh: &OsStr, name: &OsStr) -> io::Result<(u64, u64)> {
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
    rustix::fs::renameat(folder, fresh, folder, name)?;
    Ok((made.st_dev, made.st_ino))
}

/// A path to `name` that leads through the descriptor.
fn below(folder: &OwnFolder, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd())).join(name)
}

/// Connects to see whether anybody listens there. Never waits: a listener that accepts no more
/// fills its backlog, and a connection would then wait for room in it without end.
fn knock(folder: &OwnFolder, name: &OsStr) -> Result<(), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(below(folder, name))?)
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

/// A file that is removed at the end, if it still is the one that was made.
#[derive(Debug)]
pub struct OwnFile {
    folder: OwnFolder,
    name: OsString,
    device: u64,
    inode: u64,
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let there = self.folder.look(&self.name).ok().flatten();
        if there.is_some_and(|there| (there.st_dev, there.st_ino) == (self.device, self.inode)) {
            let _ = self.folder.remove(&self.name);
        }
    }
}

#[cfg(test)]
#[path = "socket/tests.rs"]
mod tests;
