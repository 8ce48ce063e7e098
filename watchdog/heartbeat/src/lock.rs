//! Locks that allow one writer and one sidecar per path.
//!
//! They are POSIX record locks because a forked child does not inherit those: a child that outlives
//! its dead writer cannot keep the next incarnation out. `flock` and open-file-description locks
//! live on in every inherited descriptor. The price of record locks: they never conflict inside one
//! process, and they are lost when the process closes *any* descriptor of the file. So this process
//! keeps a list of the lock files it holds, and checks it before it opens one. Lock files are never
//! removed: otherwise two processes could hold the lock at once.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Device, inode and the process that took the lock: a forked child inherits the list but not the
/// locks.
type Held = (u64, u64, u32);

static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: Option<OwnedFd>,
    held: Held,
}

/// Why a lock was not taken.
#[derive(Debug)]
pub(crate) enum LockError {
    Held(Option<u32>),
    /// The lock file at this path belongs to this user, whose lock cannot be trusted.
    Foreign(PathBuf, u32),
    Io(PathBuf, io::Error),
}

/// Who holds a lock, as far as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockHolder {
    /// The process with this pid, in the caller's pid namespace.
    Process(u32),
    /// A process of another pid namespace, or one that used another kind of lock.
    Unseen,
    /// The lock file exists and is not locked.
    Nobody,
    /// There is no lock file, or it cannot be queried or trusted.
    Unknown,
}

/// Who holds the lock that belongs to `path`: the file of that name plus `suffix`. Creates, takes
/// and releases nothing. A lock file that belongs neither to root nor to `owner`, the owner of the
/// segment, proves nothing: in a folder like /tmp anybody can create one.
pub(crate) fn holder_of(path: &Path, suffix: &str, owner: u32) -> LockHolder {
    let path = beside(path, suffix);
    let me = std::process::id();
    let list = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    match rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
        // Not opened: closing it again would release our own lock.
        Ok(stat) if list.contains(&(stat.st_dev, stat.st_ino, me)) => return LockHolder::Process(me),
        Ok(stat)
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && [0, owner].contains(&stat.st_uid) => {}
        _ => return LockHolder::Unknown,
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open(&path, flags, Mode::empty()).map_or(LockHolder::Unknown, |file| ask(&file))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

impl FileLock {
    /// Takes the lock that belongs to `path`: the file of that name plus `suffix`. If `owner` is
    /// given, a lock file that belongs neither to this user nor to root nor to `owner` is refused.
    pub(crate) fn take(path: &Path, suffix: &str, owner: Option<u32>) -> Result<FileLock, LockError> {
        let path = beside(path, suffix);
        let me = std::process::id();
        let mut list = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|held| held.2 == me);
        lock(&path, me, owner, &mut list).map_err(|error| match error {
            Refused::By(pid) => LockError::Held(pid),
            Refused::Of(uid) => LockError::Foreign(path, uid),
            Refused::System(errno) => LockError::Io(path, errno.into()),
        })
    }
}

enum Refused {
    By(Option<u32>),
    Of(u32),
    System(Errno),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Refused {
        Refused::System(errno)
    }
}

fn lock(path: &Path, me: u32, owner: Option<u32>, list: &mut Vec<Held>) -> Result<FileLock, Refused> {
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        // Checked before it is opened: closing it again would release our own lock.
        Ok(stat) if list.contains(&(stat.st_dev, stat.st_ino, me)) => return Err(Refused::By(Some(me))),
        // Opening a device or a pipe can have effects of its own.
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            return Err(Refused::System(Errno::LOOP));
        }
        Ok(_) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let file =
        open(path).map_err(|errno| foreign(path, owner).map_or(Refused::System(errno), Refused::Of))?;
    // Of the file that was opened, whatever the name leads to by now.
    let uid = rustix::fs::fstat(&file)?.st_uid;
    if is_foreign(uid, owner) {
        return Err(Refused::Of(uid));
    }
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN | Errno::ACCESS) => return Err(Refused::By(holder(file.as_fd()))),
        Err(errno) => return Err(errno.into()),
    }
    let stat = rustix::fs::fstat(&file)?;
    let held = (stat.st_dev, stat.st_ino, me);
    list.push(held);
    Ok(FileLock { file: Some(file), held })
}

/// The owner of a lock file that could not be opened, if that is a user whose lock is not trusted.
fn foreign(path: &Path, owner: Option<u32>) -> Option<u32> {
    let uid = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok()?.st_uid;
    is_foreign(uid, owner).then_some(uid)
}

fn is_foreign(uid: u32, owner: Option<u32>) -> bool {
    owner.is_some_and(|owner| ![0, owner, rustix::process::geteuid().as_raw()].contains(&uid))
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // First without CREATE: fs.protected_regular refuses it for a file of another user in a sticky
    // folder.
    match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        done => return done,
    }
    match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
        Err(Errno::EXIST) => rustix::fs::open(path, flags, Mode::empty()),
        done => done,
    }
}

/// The pid of the holder in our pid namespace, if it has one there.
fn holder(file: impl AsFd) -> Option<u32> {
    match ask(file) {
        LockHolder::Process(pid) => Some(pid),
        LockHolder::Unseen | LockHolder::Nobody | LockHolder::Unknown => None,
    }
}

/// Asks the kernel. Uses `libc`, because the kernel returns -1 for a holder that used an
/// open-file-description lock, which `rustix` does not expect.
fn ask(file: impl AsFd) -> LockHolder {
    // SAFETY: `flock` is a plain C struct for which all zeroes is a valid value.
    let mut ask: libc::flock = unsafe { std::mem::zeroed() };
    ask.l_type = libc::F_WRLCK as libc::c_short;
    ask.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open for the length of the borrow, and `ask` is a valid flock that
    // F_GETLK may overwrite.
    let answer = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_GETLK, &raw mut ask) };
    if answer != 0 {
        return LockHolder::Unknown;
    }
    if ask.l_type == libc::F_UNLCK as libc::c_short {
        return LockHolder::Nobody;
    }
    u32::try_from(ask.l_pid).ok().filter(|pid| *pid > 0).map_or(LockHolder::Unseen, LockHolder::Process)
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let mut list = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the list's lock, so that no other thread takes the lock again before this close has
        // released it.
        drop(self.file.take());
        list.retain(|held| *held != self.held);
    }
}
