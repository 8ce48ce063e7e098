//! How a process of this crate ends: by signal or by panic, in bounded time either way.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shard_heartbeat::{Heartbeat, InFlight, ProcessState};
use shard_telemetry::service_manager::{News, ServiceManager};
use tokio::signal::unix::{SignalKind, signal};

use crate::deadline;
use crate::faults::Faults;

/// Exit code after a panic.
pub const PANICKED: i32 = 12;

/// Exit code when an orderly stop did not finish in time.
pub const STOP_HUNG: i32 = 13;

/// Whether the process was asked to stop. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Stopping(Arc<AtomicBool>);

impl Stopping {
    /// Asks every thread to finish.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the process was asked to stop.
    pub fn begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The service manager that started this process, if one did and gave a usable socket.
pub fn service_manager() -> ServiceManager {
    ServiceManager::of_environment().unwrap_or_else(|error| {
        tracing::warn!("{error}");
        ServiceManager::default()
    })
}

/// Notifies the service manager that this process is running. The service manager waits for this,
/// and ends a process that never sends it.
pub fn tell_ready(manager: &ServiceManager, status: &str) {
    let told = manager.tell_within(deadline::SERVICE_MANAGER, &[News::Ready, News::Status(status)]);
    if !told && manager.is_there() {
        tracing::warn!(within = ?deadline::SERVICE_MANAGER, "the service manager accepts no notifications: it was not told that this process runs");
    }
}

/// Notifies `main` of each SIGTERM and SIGINT. Fails only if the system refuses the handlers.
pub fn forward_signals(runtime: &tokio::runtime::Handle, main: Sender<()>) -> std::io::Result<()> {
    let _entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    runtime.spawn(async move {
        loop {
            let got = tokio::select! { got = terminate.recv() => got, got = interrupt.recv() => got };
            if got.is_none() {
                return;
            }
            // A full channel means that `main` has a notification that it has not read yet.
            let _ = main.try_send(());
        }
    });
    Ok(())
}

/// From now on a panic on any thread ends the process with [`PANICKED`], unless a fault set by a
/// test says otherwise. This project exists because of lost threads in living processes, so its own
/// processes must not have any.
///
/// The hook reports what happened, where, on which thread and during which work: first to the
/// segment, where the sidecar finds it, then with a backtrace to standard error.
pub fn end_on_panic(heartbeat: Option<Heartbeat>, faults: Faults) {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !faults.panic_ends_process() {
            tell(panic);
            return;
        }
        let facts = facts(panic, heartbeat.as_ref());
        if faults.hook_hangs() {
            say_last(heartbeat.as_ref(), &facts);
            hang();
        }
        // From here on everything can hang: on a lock that the panicking thread holds, or on a pipe
        // that nobody reads.
        let timer = {
            let (heartbeat, facts) = (heartbeat.clone(), facts.clone());
            end_after_saying(deadline::LAST_WORDS, PANICKED, move || {
                let facts =
                    format!("{facts}\nno backtrace: it was not told within {:?}", deadline::LAST_WORDS);
                say_last(heartbeat.as_ref(), &facts);
                write_if_room(&facts);
            })
        };
        if timer {
            let backtrace = std::backtrace::Backtrace::force_capture();
            let story = format!("{facts}\n{backtrace}");
            say_last(heartbeat.as_ref(), &story);
            write_to_stderr(&story);
            crate::logs::flush(deadline::LAST_WORDS);
        } else {
            // Nothing would end a hook that hangs, so it does nothing that can hang.
            say_last(heartbeat.as_ref(), &facts);
        }
        end_now(PANICKED);
    }));
}

/// The facts about a panic, one per line.
fn facts(panic: &std::panic::PanicHookInfo<'_>, heartbeat: Option<&Heartbeat>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let reason = panic.payload_as_str().unwrap_or("no words");
    let mut facts = format!("thread {name} panicked at {place}: {reason}");
    if let Some(work) = heartbeat.and_then(Heartbeat::in_flight) {
        let InFlight { name, work_key, attempt } = work;
        facts.push_str(&format!("\nin flight: {work_key}, attempt {attempt}, on {name}"));
    }
    facts
}

/// Writes to the segment, for the sidecar. If the process wrote last words before, those stand.
fn say_last(heartbeat: Option<&Heartbeat>, words: &str) {
    if let Some(heartbeat) = heartbeat {
        heartbeat.last_words(words);
        heartbeat.set_state(ProcessState::Failed);
    }
}

/// Writes to standard error in one write, so that the lines of two threads do not mix.
fn write_to_stderr(story: &str) {
    // If nobody can read it, the process must end all the same.
    let _ = std::io::stderr().write_all(format!("{story}\n").as_bytes());
}

/// The same, but without any lock and only if the write does not block.
fn write_if_room(story: &str) {
    // A pipe that is ready takes this many bytes without blocking.
    const AT_ONCE: usize = 4_096;
    // SAFETY: no code here closes standard error; if it were closed, the calls would only fail.
    let stderr = unsafe { rustix::fd::BorrowedFd::borrow_raw(2) };
    let mut ready = [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)];
    let room = poll(&mut ready, Some(&Timespec::default()))
        .is_ok_and(|ready_ones| ready_ones == 1 && ready[0].revents().contains(PollFlags::OUT));
    if room {
        let story = format!("{story}\n");
        let _ = rustix::io::write(stderr, story.as_bytes().get(..AT_ONCE).unwrap_or(story.as_bytes()));
    }
}

#[expect(clippy::disallowed_methods, reason = "a hook that hangs for ever is what was ordered")]
fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Ends the process with `code` after `delay`, whatever its other threads do meanwhile.
pub fn end_after(delay: Duration, code: i32) {
    // Without a thread for the timer the process can still end normally, or the watchdog ends it.
    end_after_saying(delay, code, || {});
}

/// The same, but calls `last` just before; false if no thread for the timer could be started.
fn end_after_saying(delay: Duration, code: i32, last: impl FnOnce() + Send + 'static) -> bool {
    let timer = move || {
        std::thread::sleep(delay);
        last();
        end_now(code)
    };
    std::thread::Builder::new().name("end-timer".to_owned()).spawn(timer).is_ok()
}

/// Ends the process now: no destructors, no exit handlers, nothing that could wait for a stuck
/// thread.
pub fn end_now(code: i32) -> ! {
    // SAFETY: `_exit` takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends only the calling thread, like a main thread that calls C's `pthread_exit`. Its stack is
/// left as it is, so what it lent to other threads stays valid.
pub fn end_this_thread() -> ! {
    loop {
        // SAFETY: the exit system call takes no pointers and does not return; other threads are not
        // affected, because nothing of this thread is unmapped or dropped.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Waits for threads to end, at most [`deadline::STOP`] for all together; returns the names of
/// those that did not.
pub fn join_all(threads: Vec<std::thread::JoinHandle<()>>) -> Vec<String> {
    let until = Instant::now() + deadline::STOP;
    let mut late = Vec::new();
    for thread in threads {
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(JOIN_LOOK);
        }
        if thread.is_finished() {
            // If it ended with a panic, the hook has reported it.
            #[expect(clippy::disallowed_methods, reason = "it has ended: nothing is left to wait for")]
            let _ = thread.join();
        } else {
            late.push(thread.thread().name().unwrap_or("unnamed").to_owned());
        }
    }
    late
}

/// How often a thread that should end is polled: there is no timed join, and a stop should feel
/// immediate.
pub(crate) const JOIN_LOOK: Duration = Duration::from_millis(2);
