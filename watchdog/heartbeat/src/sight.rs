//! How a process lets itself be seen by a sidecar of another pid namespace: it gives it `/proc`, as
//! it sees it itself, and a pidfd of itself, over a socket beside the segment.
//!
//! Both are descriptors of the kernel's, so what they tell is the kernel's word and not this
//! process's, and what may be read through them is asked of the kernel for each reader: who has
//! another user sees no more than before. The sidecar cannot signal through them: no pidfd reaches
//! into a pid namespace beside its own.

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
/// First byte of an answer: what comes with it is `/proc` and a pidfd, in this order.
const VERSION: u8 = 1;
/// Descriptors that come with an answer.
const GIVEN: usize = 2;
/// Sidecars that may wait at once: there is one, and perhaps the one that takes its place.
const BACKLOG: i32 = 8;
/// After a failure to accept, which is as a rule one to get a descriptor: long enough not to spin.
const PAUSE: Duration = Duration::from_millis(100);
/// Inode of the top folder of any `/proc`: `PROC_ROOT_INO` of the kernel's
/// `include/linux/proc_fs.h`.
const PROC_ROOT: u64 = 1;

/// What a process has given away to be seen.
#[derive(Debug)]
pub struct Sight {
    proc: OwnedFd,
    pidfd: OwnedFd,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Blind {
    /// Nobody is there to give it.
    #[error("nobody answers at {}: {source}", path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another user's process answers.
    #[error("{} is answered by a process of user {found}, and the segment belongs to user {owner}", path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Who answers.
        found: u32,
        /// Whose the segment is.
        owner: u32,
    },
    /// What was given is something else.
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
    /// answer for so long.
    ///
    /// # Errors
    /// If nobody answers in time, or somebody else does.
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

    /// Where the given `/proc` is, for as long as this lives.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.proc.as_raw_fd()))
    }

    /// The pidfd of the process: readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Answers whoever asks at the socket beside the segment at `path`, for the life of this process,
/// by a thread of its own.
///
/// # Errors
/// If the socket cannot be made or the thread not be started.
pub(crate) fn show(path: &Path) -> io::Result<()> {
    let path = beside(path);
    // One that an earlier incarnation left. The segment's lock says that there is none now.
    match rustix::fs::unlink(&path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let listener = socket(SocketFlags::CLOEXEC)?;
    // Before it has a name: the name gets this mode.
    rustix::fs::fchmod(&listener, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path)?)?;
    rustix::net::listen(&listener, BACKLOG)?;
    let answer_all = move || {
        loop {
            match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
                // Who could not wait, or may not be answered, is none of the next one's business.
                Ok(asking) => drop(give(&asking)),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    };
    std::thread::Builder::new().name("hb-sight".to_owned()).spawn(answer_all).map(|_| ())
}

/// Gives one that asks what it needs to see. It has no say in how long that takes: a message as
/// short as this one finds room in a new socket.
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
        // Who asks and does not wait costs the next one nothing.
        for _ in 0..BACKLOG / 2 {
            let gone = socket(SocketFlags::CLOEXEC).unwrap();
            rustix::net::connect(&gone, &SocketAddrUnix::new(beside(&path)).unwrap()).unwrap();
        }
        Sight::ask(&path, own, WITHIN).unwrap();
        // What an earlier incarnation left is no hindrance.
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
