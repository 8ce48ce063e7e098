//! What the kernel calls a wait, and how the sidecar classifies that name.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use shard_watchdog::observation::TaskState;
use shard_watchdog::probe::wait_channel;

use super::{AT_MOST, fact, task};
use crate::puppet::Wait;
use crate::wait;

/// Between two samples that must agree.
const LOOK: Duration = Duration::from_millis(20);

/// The state of a task, its wait channel and how the sidecar classifies it.
fn now(pid: i32, tid: i32) -> (char, String) {
    let folder = task(pid, tid);
    if !folder.exists() {
        return ('-', "does not wait: this kernel has no such call".to_owned());
    }
    let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
    let name = fs::read_to_string(folder.join("wchan")).unwrap_or_else(|error| error.to_string());
    let meaning = wait_channel::meaning(name.as_bytes(), TaskState::from(state));
    let meaning = meaning.map_or("nothing".to_owned(), |meaning| format!("{meaning:?}").to_lowercase());
    (state, format!("{state} {name} {meaning}"))
}

/// The same, once it has settled in a wanted state.
pub(super) fn settled(pid: i32, tid: i32, wanted: impl Fn(char) -> bool) -> String {
    let began = Instant::now();
    loop {
        let before = now(pid, tid);
        std::thread::sleep(LOOK);
        let after = now(pid, tid);
        if (before == after && (wanted(after.0) || after.0 == '-')) || began.elapsed() > AT_MOST {
            return after.1;
        }
    }
}

fn asleep(state: char) -> bool {
    matches!(state, 'S' | 'D')
}

fn one(name: &str, wait: impl FnOnce() + Send + 'static) {
    let (tell, told) = channel();
    let body = move || {
        let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get());
        wait();
    };
    // It waits until the process ends.
    let _ = std::thread::Builder::new().name("waits".to_owned()).spawn(body);
    let tid = told.recv_timeout(wait::GENEROUS).unwrap_or(0);
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    fact(&format!("wait.{name}"), settled(own, tid, asleep));
}

pub(super) fn tell() {
    one("futex", futex);
    one("futex-pi", || Wait::PriorityLock.begin(Path::new("")));
    one("nanosleep", || std::thread::sleep(Duration::from_secs(3600)));
    one("epoll", epoll);
    one("poll", || {
        let _ = rustix::event::poll(&mut [], None);
    });
    one("pipe-read", || {
        let (mut read, write) = std::io::pipe().expect("a pipe");
        let _ = read.read(&mut [0]);
        drop(write);
    });
    one("pipe-write", || {
        let (read, mut write) = std::io::pipe().expect("a pipe");
        while write.write_all(&[0; 4096]).is_ok() {}
        drop(read);
    });
    one("unix-read", || {
        let (mut here, there) = UnixStream::pair().expect("a pair");
        let _ = here.read(&mut [0]);
        drop(there);
    });
    one("accept", || {
        let _ = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.accept());
    });
    one("eventfd", || {
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).expect("an eventfd");
        let _ = rustix::io::read(&event, &mut [0; 8]);
    });
    one("vfork", || Wait::Vfork.begin(Path::new("")));
    one("permission", || Wait::Permission.begin(Path::new("/tmp/facts")));
}

fn futex() {
    static WORD: AtomicU32 = AtomicU32::new(0);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    while WORD.load(Ordering::Relaxed) == 0 {
        // SAFETY: the kernel reads this one word, which is static; there is no timeout.
        unsafe {
            libc::syscall(libc::SYS_futex, WORD.as_ptr(), operation, 0, std::ptr::null::<libc::timespec>());
        }
    }
}

fn epoll() {
    // SAFETY: one number; then room for one event, which outlives the call.
    unsafe {
        let epoll = libc::epoll_create1(0);
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        libc::epoll_wait(epoll, &raw mut event, 1, -1);
    }
}
