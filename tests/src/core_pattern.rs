//! Where the kernel writes core files, machine-wide. Scenarios want them in the folder of the
//! process that dies.

use std::path::Path;

const FILE: &str = "/proc/sys/kernel/core_pattern";

/// While this lives, core files are written to the working directory of the process. If they
/// already are, nothing is changed.
#[derive(Debug)]
pub struct CorePattern {
    before: Option<String>,
}

impl CorePattern {
    /// Sets the pattern.
    ///
    /// # Errors
    /// The reason why it cannot be set, as a sentence.
    pub fn file() -> Result<Self, String> {
        let now = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE} cannot be read: {error}"))?;
        let now = now.trim_end();
        // A program, a socket, or a folder of the machine: what a test leaves there stays.
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
            // A failing test must leave the machine as it was; all it can do is report whether that
            // succeeded.
            if let Err(error) = std::fs::write(FILE, before) {
                eprintln!("{FILE} was {before:?} and could not be set back: {error}");
            }
        }
    }
}
