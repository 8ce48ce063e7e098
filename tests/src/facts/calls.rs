//! Which system calls and which fields the kernel has.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::channel;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{AT_MOST, fact};
use crate::wait;

pub(super) fn tell() {
    let names = calls();
    fact("calls.absent", if names.is_empty() { "none".to_owned() } else { names.join(" ") });
    fact("vdso.absent", vdso());
    fact("thread-pidfd", thread_pidfd());
    fact("pidfd-get-info", pidfd_info());
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    fact("stat.fields", behind_name.split_whitespace().count() + 2);
    let own = ["schedstat", "wchan", "syscall", "timerslack_ns"];
    fact("proc.absent", absent("/proc/self", &own));
    fact("pressure", if fs::metadata("/proc/pressure/cpu").is_ok() { "yes" } else { "no" });
}

fn absent(folder: &str, names: &[&str]) -> String {
    let absent = |name: &&&str| fs::metadata(format!("{folder}/{name}")).is_err();
    let absent: Vec<_> = names.iter().filter(absent).copied().collect();
    if absent.is_empty() { "none".to_owned() } else { absent.join(" ") }
}

/// The system calls a sidecar would make that this kernel lacks. Each is tried with arguments that
/// it refuses.
fn calls() -> Vec<&'static str> {
    let minus = -1_i64;
    let all = [
        ("pidfd_open", libc::SYS_pidfd_open, [minus, 0, 0, 0, 0, 0]),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal, [minus, 0, 0, 0, 0, 0]),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, [minus, 0, 0, 0, 0, 0]),
        ("close_range", libc::SYS_close_range, [1, 0, 0, 0, 0, 0]),
        ("epoll_pwait2", libc::SYS_epoll_pwait2, [minus, 0, 0, 0, 0, 0]),
        ("statx", libc::SYS_statx, [minus, 0, 0, 0, 0, 0]),
        ("openat2", libc::SYS_openat2, [minus, 0, 0, 0, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [minus, 0, 0, 0, 0, 0]),
        ("futex_waitv", libc::SYS_futex_waitv, [0, 0, 0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [0, 0, 0, 0, 0, 0]),
        ("getcpu", libc::SYS_getcpu, [0, 0, 0, 0, 0, 0]),
    ];
    let missing = |(name, number, [a, b, c, d, e, f]): (&'static str, libc::c_long, [i64; 6])| {
        // SAFETY: every pointer among the arguments is null and every descriptor or process is -1,
        // so that the call is refused, or writes nothing.
        let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
        let errno = std::io::Error::last_os_error().raw_os_error();
        (answer < 0 && errno == Some(libc::ENOSYS)).then_some(name)
    };
    all.into_iter().filter_map(missing).collect()
}

/// Which vDSO functions the kernel does not map into the process.
fn vdso() -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) else { return "all".to_owned() };
    let place = line.split(' ').next().and_then(|place| place.split_once('-'));
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
    let (from, to) = place.map_or((0, 0), |(from, to)| (number(from), number(to)));
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
    let read = fs::File::open("/proc/self/mem").and_then(|memory| memory.read_exact_at(&mut bytes, from));
    if let Err(error) = read {
        return error.to_string();
    }
    let names = ["__vdso_clock_gettime", "__vdso_getcpu", "__vdso_getrandom"];
    let there = |name: &&&str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    let absent: Vec<_> = names.iter().filter(|name| !there(name)).copied().collect();
    if absent.is_empty() { "none".to_owned() } else { absent.join(" ") }
}

/// `PIDFD_THREAD` of `linux/pidfd.h`.
const PIDFD_THREAD: libc::c_int = libc::O_EXCL;
/// `PIDFD_GET_INFO`, with the 64 bytes of its first version.
const PIDFD_GET_INFO: libc::c_ulong = (3 << 30) | (64 << 16) | (0xff << 8) | 11;

fn pidfd(id: i32, flags: libc::c_int) -> std::io::Result<OwnedFd> {
    // SAFETY: it takes two numbers; the descriptor that it returns belongs to nobody else.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, id, flags);
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)))
    }
}

/// Whether a thread can have a pidfd, and whether the pidfd reports the thread's end.
fn thread_pidfd() -> String {
    let (tell, told) = channel();
    let (end, ends) = channel::<()>();
    let body = move || {
        let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get());
        let _ = ends.recv_timeout(AT_MOST);
    };
    let thread = std::thread::Builder::new().name("ends".to_owned()).spawn(body);
    let tid = told.recv_timeout(wait::GENEROUS).unwrap_or(0);
    let pidfd = match pidfd(tid, PIDFD_THREAD) {
        Ok(pidfd) => pidfd,
        Err(error) => return format!("no ({error})"),
    };
    let polled = |seconds| {
        let mut ends = [PollFd::new(&pidfd, PollFlags::IN)];
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        rustix::event::poll(&mut ends, Some(&time)).is_ok_and(|ready| ready > 0)
    };
    let before = polled(0);
    drop(end);
    let after = polled(5);
    drop(thread);
    match (before, after) {
        (false, true) => "yes, readable at the end of the thread".to_owned(),
        (before, after) => format!("yes, but readable before {before} and after {after} its end"),
    }
}

fn pidfd_info() -> String {
    let Ok(own) = pidfd(i32::try_from(std::process::id()).unwrap_or(0), 0) else {
        return "no pidfd".to_owned();
    };
    let mut info = [0_u64; 8];
    // SAFETY: it writes at most the 64 bytes encoded in its number, into a buffer of that size.
    let answer = unsafe { libc::ioctl(own.as_raw_fd(), PIDFD_GET_INFO, info.as_mut_ptr()) };
    if answer == 0 { "yes".to_owned() } else { "no".to_owned() }
}
