//! How a fault is announced once it has struck.

use std::io::Write;

use super::kind::Kind;
use crate::clock::monotonic_ns;

/// Announces that a fault struck, as the last thing that the thread does: measurements start from
/// there. Create it before anything else in the thread, so that it is dropped after everything
/// else, also when unwinding.
#[derive(Default)]
pub struct LastWords(pub(super) Option<Kind>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if let Some(kind) = self.0 {
            announce(kind);
        }
    }
}

/// Prints one line on stderr, in one write: the lines of two threads must not mix, and the time is
/// only good if nothing delays it.
pub fn announce(kind: Kind) {
    let line = format!("fault {} fired at_monotonic_ns={}\n", kind.name(), monotonic_ns());
    let _ = std::io::stderr().write_all(line.as_bytes());
}
