//! The main thread's watch over the others. If a required thread ends although nobody asked the
//! process to stop, the process ends in bounded time, with a reason and an exit code.
//!
//! A thread's handle shows only that it has ended. A thread that lives but makes no progress is the
//! watchdog's job.

use std::any::Any;
use std::fmt;
use std::thread::JoinHandle;
use std::time::Duration;

use shard_heartbeat::{Heartbeat, ProcessState};

use crate::{deadline, logs, process};

/// Exit code when a required thread is lost.
pub const THREAD_LOST: i32 = 14;

/// A sidecar that has not beaten for this long counts as absent. It beats a few times a second.
const WATCHED: Duration = Duration::from_secs(2);

/// A required thread, or network task, that has ended.
#[derive(Debug)]
pub struct Lost {
    name: String,
    how: How,
}

#[derive(Debug)]
enum How {
    Returned,
    Panicked(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, how } = self;
        match how {
            How::Returned => write!(f, "{name} has ended although nobody asked it to"),
            How::Panicked(words) => write!(f, "{name} has ended by a panic: {words}"),
        }
    }
}

/// The required threads and tasks of a process.
#[derive(Debug, Default)]
pub struct Guard {
    threads: Vec<JoinHandle<()>>,
    tasks: Vec<(&'static str, tokio::task::JoinHandle<()>)>,
}

impl Guard {
    /// Adds a required thread.
    pub fn keep(&mut self, thread: JoinHandle<()>) {
        self.threads.push(thread);
    }

    /// Adds a required task of the async runtime; `name` is its name in messages.
    pub fn keep_task(&mut self, name: &'static str, task: tokio::task::JoinHandle<()>) {
        self.tasks.push((name, task));
    }

    /// The first required thread or task that has ended, if any.
    pub fn lost(&mut self) -> Option<Lost> {
        if let Some(place) = self.threads.iter().position(JoinHandle::is_finished) {
            let thread = self.threads.swap_remove(place);
            let name = format!("thread {}", thread.thread().name().unwrap_or("without a name"));
            #[expect(clippy::disallowed_methods, reason = "it has ended: nothing is left to wait for")]
            let how = match thread.join() {
                Ok(()) => How::Returned,
                Err(panic) => How::Panicked(words(panic.as_ref())),
            };
            return Some(Lost { name, how });
        }
        let (name, _) = self.tasks.iter().find(|(_, task)| task.is_finished())?;
        Some(Lost { name: format!("the {name}"), how: How::Returned })
    }

    /// The threads, to join them in an orderly stop.
    pub fn into_threads(self) -> Vec<JoinHandle<()>> {
        self.threads
    }
}

/// The message of a panic.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}

/// Whether a sidecar watches this process now; `age` is the time since its last beat.
pub fn is_watched(age: Option<Duration>) -> bool {
    age.is_some_and(|age| age < WATCHED)
}

/// Ends the process because of `lost`. A sidecar that watches gets [`deadline::WATCHDOG_FIRST`] to
/// take its evidence of the living process and to end it. `tell` is called first, so that peers
/// stop waiting for this process.
pub fn end(lost: &Lost, heartbeat: Option<&Heartbeat>, watched: bool, tell: impl FnOnce(&str)) -> ! {
    process::end_after(deadline::WATCHDOG_FIRST + deadline::LAST_WORDS, THREAD_LOST);
    let reason = lost.to_string();
    tell(&reason);
    if let Some(heartbeat) = heartbeat {
        heartbeat.last_words(&reason);
        heartbeat.set_state(ProcessState::Failed);
    }
    tracing::error!(code = THREAD_LOST, "{reason}; the process ends");
    if watched {
        std::thread::sleep(deadline::WATCHDOG_FIRST);
    }
    logs::flush(deadline::LAST_WORDS);
    process::end_now(THREAD_LOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(body: impl FnOnce() + Send + 'static) -> Lost {
        let mut guard = Guard::default();
        let thread = std::thread::Builder::new().name("exec-s7".to_owned()).spawn(body).expect("a thread");
        guard.keep(thread);
        loop {
            if let Some(lost) = guard.lost() {
                return lost;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_thread_that_returned_is_named() {
        assert_eq!(ended(|| {}).to_string(), "thread exec-s7 has ended although nobody asked it to");
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let told = ended(|| panic!("no {} left", "fuel")).to_string();
        assert_eq!(told, "thread exec-s7 has ended by a panic: no fuel left");
    }

    #[test]
    fn a_thread_that_lives_is_not_lost() {
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let mut guard = Guard::default();
        guard.keep(std::thread::spawn(move || {
            let _ = hold.recv_timeout(Duration::from_secs(60));
        }));
        assert!(guard.lost().is_none());
        drop(release);
    }
}
