//! One line an event on standard error, written by a thread of its own: a pipe that nobody reads
//! must not delay a restart.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that may wait to be written. A child in back-off makes two lines each time; more waiting
/// than this means that nobody reads, and then the oldest tell most.
const QUEUE: usize = 256;
/// How long the last lines may take at the end. Writing them takes microseconds if anybody reads.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The supervisor's log.
#[derive(Debug)]
pub(super) struct Log {
    sender: SyncSender<String>,
    written: Receiver<()>,
}

impl Log {
    /// Starts its thread. It inherits the blocked signals of the caller.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, lines) = sync_channel::<String>(QUEUE);
        let (done, written) = sync_channel(1);
        let write = move || {
            for line in lines {
                // Nobody is left to be told of a failure.
                let _ = io::stderr().write_all(line.as_bytes());
            }
            drop(done);
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(Self { sender, written })
    }

    /// One line. Never waits: what does not fit is lost.
    pub(super) fn say(&self, what: Arguments<'_>) {
        let _ =
            self.sender.try_send(format!("supervise: {what} at_monotonic_ns={}\n", crate::clock::now().0));
    }

    /// Gives the last lines a moment.
    pub(super) fn finish(self) {
        let Self { sender, written } = self;
        drop(sender);
        let (Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) =
            written.recv_timeout(LAST_LINES);
    }
}
