//! Who is at the other end of a unix socket, as the kernel says.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The process at the other end of a unix socket: for who has accepted, the one that connected; for
/// who has connected, the one that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its pid when it connected or began to listen; `None`: it is of another pid namespace.
    pub pid: Option<i32>,
    /// Its effective user then.
    pub uid: u32,
}

impl Peer {
    /// Asks the kernel.
    ///
    /// By `libc`: the pid of a process of another pid namespace is 0, which `rustix` takes for
    /// impossible.
    ///
    /// # Errors
    /// If `socket` is no connected unix socket.
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

    /// Whether it is this process's user, or root.
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
