//! How a process of this crate ends: by signal, by panic, and in bounded time either way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use shard_heartbeat::{Heartbeat, ProcessState};
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

/// From now on a panic on any thread ends the process with [`PANICKED`], unless a test said otherwise. A lost thread in a
/// living process is what this project exists for; it must not be made at home.
#[expect(clippy::disallowed_methods, reason = "a hook that hangs for ever can be ordered")]
pub fn end_on_panic(heartbeat: Option<Heartbeat>, faults: Faults) {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !faults.panic_ends_process() {
            tell(panic);
            return;
        }
        if faults.hook_hangs() {
            if let Some(heartbeat) = &heartbeat {
                heartbeat.last_words(&panic.to_string());
            }
            loop {
                std::thread::park();
            }
        }
        // Telling can hang: a pipe that nobody reads, a lock that the panicking thread holds.
        end_after(deadline::LAST_WORDS, PANICKED);
        if let Some(heartbeat) = &heartbeat {
            heartbeat.set_state(ProcessState::Failed);
        }
        tell(panic);
        end_now(PANICKED);
    }));
}

/// Ends the process with `code` after `delay`, whatever its other threads do meanwhile.
pub fn end_after(delay: Duration, code: i32) {
    let timer = move || {
        std::thread::sleep(delay);
        end_now(code)
    };
    // Without a thread for the timer there is still the ordinary way out, and the watchdog.
    let _ = std::thread::Builder::new().name("end-timer".to_owned()).spawn(timer);
}

/// Ends the process now: no destructors, no exit handlers, nothing that could wait for a stuck thread.
pub fn end_now(code: i32) -> ! {
    // SAFETY: `_exit` takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends the calling thread and only it, as a main thread that returns from C's `pthread_exit` does. Its stack is left as
/// it is, so what it borrowed to others stays valid.
pub fn end_this_thread() -> ! {
    loop {
        // SAFETY: the exit system call takes no pointers and does not return; other threads are not concerned, because
        // nothing of this thread is unmapped or dropped.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Waits for threads to end, for at most [`deadline::STOP`] together; returns the names of those that did not.
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

/// How often a thread that should end is looked at: there is no timed join, and a stop should feel immediate.
const JOIN_LOOK: Duration = Duration::from_millis(2);
