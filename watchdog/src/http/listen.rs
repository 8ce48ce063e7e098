//! Takes the addresses that the config names, all of them or none, before anything else starts.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::config::HttpConfig;

/// Whoever may open the socket may pause and kill: its owner alone, and root.
const SOCKET_MODE: u32 = 0o600;

/// An address that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A program listens there.
    #[error(
        "{key} = \"{address}\" is in use: another sidecar or another program listens there. Stop it, or set {key} to a \
         free address (\"\" switches it off)"
    )]
    InUse {
        /// The config key.
        key: &'static str,
        /// What it says.
        address: String,
    },
    /// Something that is not a socket is in the way.
    #[error("http.socket = \"{}\": there is something at this path that is not a socket, and it is left alone. Remove it, or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{key} = \"{address}\" cannot be listened on: {error}. {hint}")]
    Refused {
        /// The config key.
        key: &'static str,
        /// What it says.
        address: String,
        /// What the system says.
        error: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
}

/// The addresses, taken.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Everything, on loopback.
    pub listen: Option<TcpListener>,
    /// Probes and metrics.
    pub public: Option<TcpListener>,
    /// Everything, on a unix socket.
    pub socket: Option<SocketFile>,
}

impl Listeners {
    /// Takes all that `config` names.
    ///
    /// # Errors
    /// If one of them cannot be had.
    pub fn bind(config: &HttpConfig) -> Result<Self, ListenError> {
        Ok(Self {
            listen: config.listen.map(|address| tcp("http.listen", address)).transpose()?,
            public: config.public.map(|address| tcp("http.public", address)).transpose()?,
            socket: config.socket.as_deref().map(SocketFile::bind).transpose()?,
        })
    }
}

fn tcp(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| refused(key, address.to_string(), error))
}

fn refused(key: &'static str, address: String, error: io::Error) -> ListenError {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => return ListenError::InUse { key, address },
        io::ErrorKind::PermissionDenied => {
            "This user may not: choose a port above 1023 or a folder it may write to"
        }
        io::ErrorKind::AddrNotAvailable => {
            "No interface of this machine has that address: choose one that it has"
        }
        io::ErrorKind::NotFound => "The folder does not exist: create it, or choose another path",
        io::ErrorKind::InvalidInput => "A socket's path has at most 107 bytes: choose a shorter one",
        _ => "Choose another address",
    };
    ListenError::Refused { key, address, error, hint }
}

/// A unix socket that goes when its listener goes.
#[derive(Debug)]
pub struct SocketFile {
    /// Listens.
    pub listener: UnixListener,
    /// Removes the file.
    pub file: OwnFile,
}

impl SocketFile {
    fn bind(path: &Path) -> Result<Self, ListenError> {
        let fail = |error| refused("http.socket", path.display().to_string(), error);
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(ListenError::NotASocket { path: path.to_owned() });
            }
            // Only a socket that refuses is left over from somebody who died.
            Ok(_) => match knock(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(fail(error)),
                Ok(_) | Err(_) => {
                    return Err(ListenError::InUse {
                        key: "http.socket",
                        address: path.display().to_string(),
                    });
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
        // Bound under a name of its own and moved into place, so that nobody finds it before its mode is set.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push("~");
        let fresh = PathBuf::from(fresh);
        if fs::symlink_metadata(&fresh).is_ok_and(|there| there.file_type().is_socket()) {
            fs::remove_file(&fresh).map_err(fail)?;
        }
        let listener = UnixListener::bind(&fresh).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(SOCKET_MODE)).map_err(fail)?;
        let metadata = fs::symlink_metadata(&fresh).map_err(fail)?;
        fs::rename(&fresh, path).map_err(fail)?;
        let file = OwnFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
        Ok(Self { listener, file })
    }
}

/// Connects to see whether anybody listens there. Never waits: a listener that accepts no more fills its backlog, and a
/// connection would then wait for room in it without end.
fn knock(path: &Path) -> io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(())
}

/// A file that is removed at the end, if it still is the one that was made.
#[derive(Debug)]
pub struct OwnFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let same = |there: &fs::Metadata| (there.dev(), there.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).as_ref().is_ok_and(same) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_the_next_step() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let config = HttpConfig {
            listen: Some(address),
            public: None,
            socket: None,
            hosts: Vec::new(),
            token_file: None,
        };
        let error = Listeners::bind(&config).unwrap_err().to_string();
        assert!(error.starts_with(&format!("http.listen = \"{address}\" is in use")), "{error}");
        assert!(error.contains("set http.listen to a free address"), "{error}");
    }

    #[test]
    fn a_socket_is_for_its_owner_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let socket = SocketFile::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, SOCKET_MODE);
        assert!(matches!(SocketFile::bind(&path), Err(ListenError::InUse { .. })));
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_whose_owner_is_stuck_is_in_use_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let stuck = UnixListener::bind(&path).unwrap();
        // Room for one connection, which is never accepted; another would wait.
        rustix::net::listen(&stuck, 0).unwrap();
        while knock(&path).is_ok() {}
        assert_eq!(knock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(SocketFile::bind(&path), Err(ListenError::InUse { .. })));
    }

    #[test]
    fn a_socket_left_by_the_dead_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = SocketFile::bind(&path).unwrap();
        assert!(knock(&path).is_ok());
        // Somebody has replaced it: theirs stays.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        drop(socket);
        assert!(path.is_file());
        assert!(matches!(SocketFile::bind(&path), Err(ListenError::NotASocket { .. })));
    }
}
