//! Ways to stop inside the kernel that are neither a sleep nor a disk, for the puppet's thread.

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::act::LIVES;

/// One way to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wait {
    /// Makes no more progress, asleep for a second at a time.
    Hang = 1,
    /// Waits for a child of a vfork, which never calls exec.
    Vfork,
    /// Waits for a lock with priority inheritance, whose owner lives and never releases it.
    PriorityLock,
    /// Waits for the permission to open a file, which nobody grants. Needs root.
    Permission,
    /// One step that takes 32 MiB, which its cgroup may refuse.
    Memory,
    /// One step of system calls: a twentieth of a second of its own CPU time.
    Calls,
    /// One step that takes a third of a second of CPU time, on any machine.
    Busy,
    /// Waits for nothing, and burns CPU forever.
    Spin,
    /// Stands still until the order `go`.
    Gate,
    /// Waits for a page that nobody brings (userfaultfd).
    Page,
    /// Waits for a file system that is mounted and that nobody serves (FUSE). Needs root.
    FileSystem,
    /// Waits for a decision on a system call that nobody takes (seccomp notification).
    Decision,
}

impl Wait {
    /// The wait that an order names.
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "hang" => Self::Hang,
            "vfork" => Self::Vfork,
            "priority-lock" => Self::PriorityLock,
            "permission" => Self::Permission,
            "memory" => Self::Memory,
            "calls" => Self::Calls,
            "busy" => Self::Busy,
            "spin" => Self::Spin,
            "gate" => Self::Gate,
            "page" => Self::Page,
            "file-system" => Self::FileSystem,
            "decision" => Self::Decision,
            _ => return None,
        })
    }

    /// The wait of this number; any other number hangs.
    pub fn numbered(number: u8) -> Self {
        let all = [
            Self::Vfork,
            Self::PriorityLock,
            Self::Permission,
            Self::Memory,
            Self::Calls,
            Self::Busy,
            Self::Spin,
            Self::Gate,
            Self::Page,
            Self::FileSystem,
            Self::Decision,
        ];
        all.into_iter().find(|wait| *wait as u8 == number).unwrap_or(Self::Hang)
    }

    /// Whether it ends by itself.
    pub const fn ends(self) -> bool {
        matches!(self, Self::Memory | Self::Calls | Self::Busy)
    }

    /// Begins to wait. Returns once the wait is over, if it ends; `near` is a file beside which
    /// others may be created.
    pub fn begin(self, near: &Path) {
        match self {
            Self::Hang => std::thread::sleep(Duration::from_secs(1)),
            Self::Vfork => vfork(),
            Self::PriorityLock => lock(),
            Self::Permission => permission(near),
            Self::Memory => take_memory(),
            Self::Calls => calls(),
            Self::Busy => busy(Duration::from_millis(300)),
            Self::Spin => busy(Duration::MAX),
            // Whoever calls this looks again whether it may go on.
            Self::Gate => std::thread::sleep(Duration::from_millis(2)),
            Self::Page => super::owed::page(),
            Self::FileSystem => super::owed::file_system(near),
            Self::Decision => super::owed::decision(),
        }
    }
}

fn vfork() {
    let flags = libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has its own copy of the memory, as after a fork. As the
    // child of a process with many threads it may call only what is async-signal-safe, and bare
    // system calls, `alarm`, `pause` and `_exit` are.
    unsafe {
        if libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) == 0 {
            // The port of the parent is not its own.
            libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
            libc::alarm(LIVES);
            libc::pause();
            libc::_exit(0);
        }
    }
}

fn lock() {
    static LOCK: AtomicU32 = AtomicU32::new(0);
    // The word says that the main thread owns it; the main thread knows nothing of it.
    LOCK.store(std::process::id(), Ordering::Relaxed);
    let operation = libc::FUTEX_LOCK_PI | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel reads and writes this one word, which is static; the timeout is null, so
    // it waits without one.
    unsafe {
        libc::syscall(libc::SYS_futex, LOCK.as_ptr(), operation, 0, std::ptr::null::<libc::timespec>());
    }
}

fn permission(near: &Path) {
    let path = near.with_extension("guarded");
    if std::fs::write(&path, "").is_err() {
        return;
    }
    let mut name = path.as_os_str().as_bytes().to_vec();
    name.push(0);
    // SAFETY: both calls take numbers and one path that ends with a zero and outlives them; the
    // descriptor that the first returns belongs to nobody else.
    let _listener = unsafe {
        let listener = libc::fanotify_init(libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC, 0);
        if listener < 0 {
            return;
        }
        let listener = OwnedFd::from_raw_fd(listener);
        let mark = libc::fanotify_mark(
            std::os::fd::AsRawFd::as_raw_fd(&listener),
            libc::FAN_MARK_ADD,
            libc::FAN_OPEN_PERM,
            libc::AT_FDCWD,
            name.as_ptr().cast(),
        );
        if mark != 0 {
            return;
        }
        listener
    };
    let _ = File::open(path);
}

fn take_memory() {
    const PAGE: usize = 4096;
    const ALL: usize = 32 << 20;
    let mut memory = vec![0_u8; ALL];
    for page in memory.chunks_mut(PAGE) {
        // What is never read need not be written.
        std::hint::black_box(&mut page[0]);
        page[0] = 1;
    }
    std::hint::black_box(memory);
}

fn calls() {
    // A twentieth of a second, or many seconds while a tracer stops it at each call: its own clock
    // would be slowed by the tracer, too.
    const CALLS: u32 = 200_000;
    for _ in 0..CALLS {
        call();
    }
}

/// Uses this much CPU time of this thread, with next to no system calls.
fn busy(time: Duration) {
    /// Some tenths of a millisecond in an unoptimized program.
    const BETWEEN_LOOKS: u32 = 10_000;
    let used = || {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
    };
    let until = used().saturating_add(time);
    while used() < until {
        for turn in 0..BETWEEN_LOOKS {
            std::hint::black_box(turn);
        }
    }
}

fn call() {
    // SAFETY: it takes nothing, writes nothing and cannot fail. The library's own function might
    // answer from a cache.
    unsafe { libc::syscall(libc::SYS_getppid) };
}
