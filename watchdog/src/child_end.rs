//! Waits for the end of a child process, and never for ever.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How the child ended; `None` if it has not by `within`, or cannot be asked. It is asked every
/// `look`, and reaped.
pub fn within(child: &mut Child, within: Duration, look: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(look),
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
}
