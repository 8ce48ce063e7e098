//! A process for tests.

use std::process::Command;

/// Killed when the test ends, however it ends.
pub(super) struct Child(pub(super) std::process::Child);

impl Child {
    /// One that does nothing for longer than any test takes.
    pub(super) fn start() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
