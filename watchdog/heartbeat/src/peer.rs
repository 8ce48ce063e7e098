//! The process at the other end of a unix socket, as reported by the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The process at the other end of a unix socket: on an accepted socket, the one that connected; on
/// a connected socket, the one that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its pid when it connected or began to listen; `None` if it is in another pid namespace.
    pub pid: Option<i32>,
    /// Its effective user id at that time.
    pub uid: u32,
}

impl Peer {
    /// Asks the kernel.
    ///
    /// Uses `libc`: the pid of a process in another pid namespace is 0, which `rustix` does not
    /// expect.
    ///
    /// # Errors
    /// If `socket` is not a connected unix socket.
    pub fn of(socket: impl AsFd) -> io::Result<Peer> {
        let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut size = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
        // SAFETY: the descriptor is open for the length of the borrow; `peer` and `size` are live
        // values, and the kernel writes at most `size` bytes, the size of the first.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut peer).cast(),
                &raw mut size,
            )
        };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Peer { pid: (peer.pid > 0).then_some(peer.pid), uid: peer.uid })
    }

    /// Whether its user is this process's user, or root.
    pub fn is_own_or_root(&self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn both_ends_of_a_pair_are_this_process() {
        let (one, other) = UnixStream::pair().unwrap();
        let own =
            Peer { pid: i32::try_from(std::process::id()).ok(), uid: rustix::process::geteuid().as_raw() };
        assert_eq!((Peer::of(&one).unwrap(), Peer::of(&other).unwrap()), (own, own));
        assert!(own.is_own_or_root());
        assert!(Peer::of(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
