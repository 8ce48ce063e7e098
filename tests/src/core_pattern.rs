//! Where the kernel writes cores to, on the whole machine. Scenarios want them in the folder of the
//! process that dies.

use std::path::Path;

const FILE: &str = "/proc/sys/kernel/core_pattern";

/// Cores are written to the working directory of the process as long as this lives. Where they are
/// already, nothing is changed.
#[derive(Debug)]
pub struct CorePattern {
    before: Option<String>,
}

impl CorePattern {
    /// Sees to it.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub fn file() -> Result<Self, String> {
        let now = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE} cannot be read: {error}"))?;
        let now = now.trim_end();
        // A program, a socket, or a folder of the machine's own: what a test leaves there stays.
        if !now.starts_with(['|', '@']) && !Path::new(now).is_absolute() && !now.is_empty() {
            return Ok(Self { before: None });
        }
        std::fs::write(FILE, "core").map_err(|error| {
            format!("cores go to {now:?} on this machine and {FILE} cannot be changed: {error}")
        })?;
        Ok(Self { before: Some(now.to_owned()) })
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A test that fails must leave the machine as it was; whether it could is all that can
            // be said.
            if let Err(error) = std::fs::write(FILE, before) {
                eprintln!("{FILE} was {before:?} and could not be set back: {error}");
            }
        }
    }
}
