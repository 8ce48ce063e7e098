//! CPU hogs, which make a machine busy.

use std::process::Command;

use crate::process::Process;

/// Processes that burn CPU until they are dropped.
#[derive(Debug)]
pub struct Hogs(#[expect(dead_code, reason = "dropping it ends them")] Vec<Process>);

impl Hogs {
    /// Starts `count` of them.
    #[track_caller]
    pub fn start(count: usize) -> Self {
        let hog = |number| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "while :; do :; done"]);
            Process::start(&format!("hog {number}"), command)
        };
        Self((0..count).map(hog).collect())
    }
}
