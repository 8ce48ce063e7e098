//! One line per event on standard error, written by a separate thread: a pipe that nobody reads
//! must not delay a restart.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that may wait to be written. A child in back-off causes two lines each time. If more wait,
/// nobody reads them, and then the oldest ones are the most useful.
const QUEUE: usize = 256;
/// Time limit for the last lines at the end. Writing them takes microseconds if the pipe is read.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The supervisor's log.
#[derive(Debug)]
pub(super) struct Log {
    sender: SyncSender<String>,
    written: Receiver<()>,
}

impl Log {
    /// Starts the thread. It inherits the blocked signals of the caller.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, lines) = sync_channel::<String>(QUEUE);
        let (done, written) = sync_channel(1);
        let write = move || {
            for line in lines {
                // There is no other place to report a failure.
                let _ = io::stderr().write_all(line.as_bytes());
            }
            drop(done);
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(Self { sender, written })
    }

    /// Logs one line. Never waits: a line that does not fit is lost.
    pub(super) fn say(&self, what: Arguments<'_>) {
        let _ =
            self.sender.try_send(format!("supervise: {what} at_monotonic_ns={}\n", crate::clock::now().0));
    }

    /// Waits for the last lines, for a limited time.
    pub(super) fn finish(self) {
        let Self { sender, written } = self;
        drop(sender);
        let (Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) =
            written.recv_timeout(LAST_LINES);
    }
}
