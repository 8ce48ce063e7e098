//! Makes a process visible to a sidecar of another pid namespace: over a socket beside the segment
//! it sends its own view of `/proc` and a pidfd of itself.
//!
//! Both are kernel descriptors, so what is read through them comes from the kernel and not from
//! this process. The kernel checks permissions for each reader: another user sees no more than
//! before. The sidecar cannot signal through them: a pidfd does not reach into a sibling pid
//! namespace.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::PidfdFlags;

use crate::peer::Peer;

/// Suffix of the socket beside the segment.
const SUFFIX: &str = ".sight";
/// First byte of an answer; `/proc` and a pidfd come with it, in this order.
const VERSION: u8 = 1;
/// Descriptors that come with an answer.
const GIVEN: usize = 2;
/// Sidecars that may wait at once: usually one, and perhaps its successor.
const BACKLOG: i32 = 8;
/// Pause after a failure to accept, usually for lack of descriptors: long enough not to spin.
const PAUSE: Duration = Duration::from_millis(100);
/// Inode of the root folder of any `/proc`: `PROC_ROOT_INO` of the kernel's
/// `include/linux/proc_fs.h`.
const PROC_ROOT: u64 = 1;

/// The descriptors through which a process can be observed.
#[derive(Debug)]
pub struct Sight {
    proc: OwnedFd,
    pidfd: OwnedFd,
}

/// Why no [`Sight`] could be obtained.
#[derive(Debug, thiserror::Error)]
pub enum Blind {
    /// No process answers at the socket.
    #[error("nobody answers at {}: {source}", path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another user's process answers.
    #[error("{} is answered by a process of user {found}, and the segment belongs to user {owner}", path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// User id of the process that answers.
        found: u32,
        /// User id of the segment's owner.
        owner: u32,
    },
    /// The answer is not the expected one.
    #[error("what is given at {} is not what a process gives to be seen: {what}", path.display())]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Sight {
    /// Asks the writer of the segment at `path`, which belongs to user `owner`. Waits for its
    /// answer for at most `within`.
    ///
    /// # Errors
    /// If no process answers in time, or one of another user does, or the answer is invalid.
    pub fn ask(path: &Path, owner: u32, within: Duration) -> Result<Sight, Blind> {
        let path = beside(path);
        let nobody = |errno: Errno| Blind::Nobody { path: path.clone(), source: errno.into() };
        let garbled = |what| Blind::Garbled { path: path.clone(), what };
        let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map_err(nobody)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&path).map_err(nobody)?).map_err(nobody)?;
        let failed = |source| Blind::Nobody { path: path.clone(), source };
        let found = Peer::of(&socket).map_err(failed)?.uid;
        if found != owner {
            return Err(Blind::Stranger { path, found, owner });
        }
        let mut answer = [PollFd::new(&socket, PollFlags::IN)];
        if poll(&mut answer, Some(&timespec(within))).map_err(nobody)? == 0 {
            return Err(nobody(Errno::TIMEDOUT));
        }
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GIVEN))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let mut byte = [0];
        let into = &mut [IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(&socket, into, &mut control, RecvFlags::CMSG_CLOEXEC).map_err(nobody)?;
        let mut given = Vec::with_capacity(GIVEN);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                given.extend(descriptors);
            }
        }
        let Ok([proc, pidfd]) = <[OwnedFd; GIVEN]>::try_from(given) else {
            return Err(garbled("not two descriptors"));
        };
        if byte != [VERSION] {
            return Err(garbled("another version"));
        }
        if !is_proc(&proc) {
            return Err(garbled("the first is no /proc"));
        }
        if !is_pidfd(&pidfd) {
            return Err(garbled("the second is no pidfd"));
        }
        Ok(Sight { proc, pidfd })
    }

    /// Path of the received `/proc`, valid as long as this lives.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.proc.as_raw_fd()))
    }

    /// The pidfd of the process: readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Answers requests at the socket beside the segment at `path`, for the life of this process, on a
/// separate thread.
///
/// # Errors
/// If the socket cannot be created or the thread cannot be started.
pub(crate) fn show(path: &Path) -> io::Result<()> {
    let path = beside(path);
    // Removes a socket left by an earlier incarnation. We hold the segment's lock, so none is in
    // use.
    match rustix::fs::unlink(&path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let listener = socket(SocketFlags::CLOEXEC)?;
    // Before bind, so that the file is created with this mode.
    rustix::fs::fchmod(&listener, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path)?)?;
    rustix::net::listen(&listener, BACKLOG)?;
    let answer_all = move || {
        loop {
            match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
                // A client that did not wait, or may not be answered, must not affect the next one.
                Ok(asking) => drop(give(&asking)),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    };
    std::thread::Builder::new().name("hb-sight".to_owned()).spawn(answer_all).map(|_| ())
}

/// Sends one client the descriptors. The client cannot delay this: a message this short fits into a
/// new socket's buffer.
fn give(asking: &OwnedFd) -> io::Result<()> {
    if !Peer::of(asking)?.is_own_or_root() {
        return Ok(());
    }
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::openat(CWD, "/proc", folder, Mode::empty())?;
    let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    let given = [proc.as_fd(), pidfd.as_fd()];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GIVEN))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    control.push(SendAncillaryMessage::ScmRights(&given));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(asking, &[IoSlice::new(&[VERSION])], &mut control, flags)?;
    Ok(())
}

fn socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(SUFFIX);
    PathBuf::from(name)
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

fn is_proc(folder: &OwnedFd) -> bool {
    let of_proc = |found: rustix::fs::StatFs| found.f_type == libc::PROC_SUPER_MAGIC;
    rustix::fs::fstatfs(folder).is_ok_and(of_proc)
        && rustix::fs::fstat(folder).is_ok_and(|stat| stat.st_ino == PROC_ROOT)
}

fn is_pidfd(descriptor: &OwnedFd) -> bool {
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd()));
    told.is_ok_and(|told| told.lines().any(|line| line.starts_with("Pid:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    #[test]
    fn who_asks_sees_proc_as_the_process_does_and_gets_its_pidfd() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.heartbeat");
        let own = rustix::process::geteuid().as_raw();
        assert!(matches!(Sight::ask(&path, own, WITHIN), Err(Blind::Nobody { .. })), "nobody is there yet");
        show(&path).unwrap();
        for _ in 0..3 {
            let sight = Sight::ask(&path, own, WITHIN).unwrap();
            let there = std::fs::read_to_string(sight.root().join("self/stat")).unwrap();
            assert!(there.starts_with(&format!("{} (", std::process::id())), "{there}");
            assert!(is_pidfd(&sight.pidfd));
        }
        assert!(matches!(Sight::ask(&path, own + 1, WITHIN), Err(Blind::Stranger { .. })));
        // A client that does not wait does not affect the next one.
        for _ in 0..BACKLOG / 2 {
            let gone = socket(SocketFlags::CLOEXEC).unwrap();
            rustix::net::connect(&gone, &SocketAddrUnix::new(beside(&path)).unwrap()).unwrap();
        }
        Sight::ask(&path, own, WITHIN).unwrap();
        // A socket left by an earlier incarnation is replaced.
        show(&path).unwrap();
        Sight::ask(&path, own, WITHIN).unwrap();
    }

    #[test]
    fn what_is_not_given_by_the_kernel_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.heartbeat");
        let listener = socket(SocketFlags::CLOEXEC).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(beside(&path)).unwrap()).unwrap();
        rustix::net::listen(&listener, BACKLOG).unwrap();
        let open = |path: &Path| std::fs::File::open(path).map(OwnedFd::from).unwrap();
        let pidfd = || rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
        let proc = || open(Path::new("/proc"));
        let cases = [
            (vec![], 1),
            (vec![proc()], 1),
            (vec![open(folder.path()), pidfd()], 1),
            (vec![open(Path::new("/proc/self")), pidfd()], 1),
            (vec![proc(), proc()], 1),
            (vec![proc(), pidfd()], 2),
        ];
        let own = rustix::process::geteuid().as_raw();
        for (given, version) in cases {
            let told = std::thread::spawn({
                let path = path.clone();
                move || Sight::ask(&path, own, WITHIN)
            });
            let asking = rustix::net::accept(&listener).unwrap();
            let fds: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GIVEN))];
            let mut control = SendAncillaryBuffer::new(&mut room);
            if !fds.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&fds));
            }
            rustix::net::sendmsg(&asking, &[IoSlice::new(&[version])], &mut control, SendFlags::empty())
                .unwrap();
            #[expect(clippy::disallowed_methods, reason = "it has its answer")]
            let told = told.join().unwrap();
            assert!(matches!(told, Err(Blind::Garbled { .. })), "{told:?}");
        }
        assert!(
            matches!(Sight::ask(&path, own, Duration::from_millis(20)), Err(Blind::Nobody { .. })),
            "no answer"
        );
    }
}
