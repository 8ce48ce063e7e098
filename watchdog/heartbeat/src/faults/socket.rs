//! The unix socket of a fault port, for this crate's port and for programs with a port of their
//! own: accessible to its owner alone from the moment it exists, and removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Whoever may open the socket may break the process: only its owner and root.
const MODE: u32 = 0o600;

/// Connections that may wait to be accepted, as those to a stopped process do: the standard
/// library's value.
const BACKLOG: i32 = 128;

/// Mode bits that let others write to a folder.
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why the socket could not be bound. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Others may write to a folder on the way and could put a socket of their own in its place.
    #[error(
        "others may write to {} (mode {mode:o}), on the way to the fault socket, and could put their own in its place. Run: chmod go-w {}, or choose a folder of this user's own", .folder.display(), .folder.display()
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A folder on the way belongs to another user, who could replace the socket.
    #[error(
        "{} belongs to user {owner}, neither to this process's user nor to root: that user could put another fault socket in its place. Choose a folder of this user's own", .folder.display()
    )]
    Owner {
        /// The folder.
        folder: PathBuf,
        /// User id of its owner.
        owner: u32,
    },
    /// Another process listens there.
    #[error("somebody listens for faults on {} already: end that process, or give another path", .0.display())]
    InUse(PathBuf),
    /// The path exists and is not a socket.
    #[error("there is something at {} that is no socket, and it is left alone: remove it, or give another path", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot listen for faults on {}: {source}. {}", path.display(), hint(.source))]
    System {
        /// The path of the socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "Make the folder, or give another path",
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => {
            "The path of a socket has at most 107 bytes: give a shorter one"
        }
        _ => "Give a path in a folder that this user may write to",
    }
}

/// The socket's file. Dropping this removes it if it still is the one that was created.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = |there: &fs::Metadata| (there.dev(), there.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).as_ref().is_ok_and(same) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a non-blocking socket at `path` with mode 0600, replacing one left by a dead process.
/// The folder must be writable by this user and root only, unless it is sticky.
///
/// # Errors
/// If the socket cannot be bound under these conditions.
pub fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let failed = |source| SocketError::System { path: path.to_owned(), source };
    let path = &in_its_folder(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| failed(error.into()))?;
    // The file gets the mode that the socket has when it is bound, minus the umask.
    rustix::fs::fchmod(&socket, MODE.into()).map_err(|error| failed(error.into()))?;
    let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
    match rustix::net::bind(&socket, &address) {
        Err(rustix::io::Errno::ADDRINUSE) => {
            remove_if_left_over(path)?;
            rustix::net::bind(&socket, &address).map_err(|error| failed(error.into()))?;
        }
        bound => bound.map_err(|error| failed(error.into()))?,
    }
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
    rustix::net::listen(&socket, BACKLOG).map_err(|error| failed(error.into()))?;
    Ok((UnixListener::from(socket), file))
}

/// Returns the path with all links in its folder resolved. Nobody else may be able to replace the
/// socket or a folder on the way to it.
fn in_its_folder(path: &Path) -> Result<PathBuf, SocketError> {
    let failed = |source| SocketError::System { path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    let folder = fs::canonicalize(folder).map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    for part in folder.ancestors() {
        let metadata = fs::symlink_metadata(part).map_err(failed)?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner != own && owner != 0 && !crate::is_unmapped(owner, Path::new("/proc")) {
            return Err(SocketError::Owner { folder: part.to_owned(), owner });
        }
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Err(SocketError::Folder { folder: part.to_owned(), mode });
        }
    }
    Ok(folder.join(name))
}

/// Removes the socket at `path` if nobody listens there any more.
fn remove_if_left_over(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::System { path: path.to_owned(), source };
    let there = fs::symlink_metadata(path).map_err(failed)?;
    if !there.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match knock(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(failed(error)),
        Ok(()) | Err(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

/// Connects to check whether a process listens there. Never waits: the backlog of a listener that
/// no longer accepts fills up, and a connection would then wait for room in it without end.
fn knock(path: &Path) -> io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok(rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_socket_is_for_its_owner_and_goes_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults");
        let (listener, file) = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        drop((listener, file));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_that_a_dead_process_left_is_replaced_and_what_is_none_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, file) = bind(&path).unwrap();
        knock(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        drop(file);
        assert!(path.is_file(), "it is not the one that was made");
        assert!(matches!(bind(&path), Err(SocketError::NotASocket(_))));
        assert!(path.is_file());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused_unless_it_is_sticky() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults");
        let with_mode = |mode| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            bind(&path).map(drop)
        };
        for mode in [0o777, 0o770, 0o702] {
            assert!(matches!(with_mode(mode), Err(SocketError::Folder { .. })), "{mode:o}");
        }
        for mode in [0o1777, 0o755, 0o700] {
            with_mode(mode).unwrap();
        }
    }

    #[test]
    fn a_folder_of_somebody_elses_on_the_way_is_refused() {
        // Only root can give a folder away.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let (theirs, folder) = (top.path().join("theirs"), top.path().join("theirs/run"));
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::chown(&theirs, Some(61_001), None).unwrap();
        let told = bind(&folder.join("faults")).unwrap_err().to_string();
        assert!(told.contains("theirs belongs to user 61001"), "{told}");
        // A link does not hide it.
        std::os::unix::fs::symlink(&folder, top.path().join("link")).unwrap();
        let told = bind(&top.path().join("link/faults")).unwrap_err().to_string();
        assert!(told.contains("belongs to user 61001"), "{told}");
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::chown(&theirs, Some(0), None).unwrap();
        assert!(matches!(bind(&folder.join("faults")), Err(SocketError::Folder { .. })));
    }

    #[test]
    fn a_path_that_is_too_long_or_nowhere_is_told_with_the_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let long = bind(&folder.path().join("x".repeat(120))).unwrap_err().to_string();
        assert!(long.contains("107 bytes"), "{long}");
        let nowhere = bind(&folder.path().join("absent/faults")).unwrap_err().to_string();
        assert!(nowhere.contains("Make the folder"), "{nowhere}");
    }
}
