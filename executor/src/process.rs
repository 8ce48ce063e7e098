//! How a process of this crate ends: by signal, by panic, and in bounded time either way.

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

/// Exit code when an orderly stop did not come to its end in time.
pub const STOP_HUNG: i32 = 13;

/// Whether the process was asked to stop. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Stopping(Arc<AtomicBool>);

impl Stopping {
    /// Asks every thread to finish.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to finish.
    pub fn begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The service manager that started this process, if one did and named a way that can be used.
pub fn service_manager() -> ServiceManager {
    ServiceManager::of_environment().unwrap_or_else(|error| {
        tracing::warn!("{error}");
        ServiceManager::default()
    })
}

/// Tells the service manager that this process runs. It waits for that, and ends what never says
/// so.
pub fn tell_ready(manager: &ServiceManager, status: &str) {
    let told = manager.tell_within(deadline::SERVICE_MANAGER, &[News::Ready, News::Status(status)]);
    if !told && manager.is_there() {
        tracing::warn!(within = ?deadline::SERVICE_MANAGER, "the service manager takes no news: it was not told that this process runs");
    }
}

/// Tells `main` of each SIGTERM and SIGINT. Fails only if the system refuses the handlers.
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
            // Full means that it was told already and has not yet looked.
            let _ = main.try_send(());
        }
    });
    Ok(())
}

/// From now on a panic on any thread ends the process with [`PANICKED`], unless a test said
/// otherwise. A lost thread in a living process is what this project exists for; it must not be
/// made at home.
///
/// The hook says what happened, where, on which thread and in the middle of which work: to the
/// segment first, where the sidecar finds it, then with a backtrace to standard error.
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
        // From here on everything can hang: a lock that the panicking thread holds, a pipe that
        // nobody reads.
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
            // Nothing would end a hook that hangs, so it does nothing that could.
            say_last(heartbeat.as_ref(), &facts);
        }
        end_now(PANICKED);
    }));
}

/// What a panic comes to, a fact a line.
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

/// Into the segment, for the sidecar; the first words of the process stand.
fn say_last(heartbeat: Option<&Heartbeat>, words: &str) {
    if let Some(heartbeat) = heartbeat {
        heartbeat.last_words(words);
        heartbeat.set_state(ProcessState::Failed);
    }
}

/// In one write, so that the lines of two threads do not mix.
fn write_to_stderr(story: &str) {
    // That nobody can read it is no reason to do anything else than what follows.
    let _ = std::io::stderr().write_all(format!("{story}\n").as_bytes());
}

/// The same, past every lock and only if nobody has to wait for it.
fn write_if_room(story: &str) {
    // A pipe that can be written to takes this much without waiting.
    const AT_ONCE: usize = 4_096;
    // SAFETY: standard error is not closed by anybody here; if it were, the calls would only fail.
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
    // Without a thread for the timer there is still the ordinary way out, and the watchdog.
    end_after_saying(delay, code, || {});
}

/// The same, with something to do just before; false if there is no thread for the timer.
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

/// Ends the calling thread and only it, as a main thread that returns from C's `pthread_exit` does.
/// Its stack is left as it is, so what it borrowed to others stays valid.
pub fn end_this_thread() -> ! {
    loop {
        // SAFETY: the exit system call takes no pointers and does not return; other threads are not
        // concerned, because nothing of this thread is unmapped or dropped.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Waits for threads to end, for at most [`deadline::STOP`] together; returns the names of those
/// that did not.
pub fn join_all(threads: Vec<std::thread::JoinHandle<()>>) -> Vec<String> {
    let until = Instant::now() + deadline::STOP;
    let mut late = Vec::new();
    for thread in threads {
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(JOIN_LOOK);
        }
        if thread.is_finished() {
            // Its panic, if it ended by one, has been told by the hook.
            #[expect(clippy::disallowed_methods, reason = "it has ended: nothing is left to wait for")]
            let _ = thread.join();
        } else {
            late.push(thread.thread().name().unwrap_or("unnamed").to_owned());
        }
    }
    late
}

/// How often a thread that should end is looked at: there is no timed join, and a stop should feel
/// immediate.
pub(crate) const JOIN_LOOK: Duration = Duration::from_millis(2);
