//! Reaps a target that detached itself from its parent, as the first process of a machine does. The
//! harness adopts such orphans; one that nobody reaps remains as a zombie, for which monit does not
//! start another.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::sweep;

/// Between two polls: negligible compared with a cycle of monit, which is a second.
const LOOK: Duration = Duration::from_millis(5);

/// A running reaper, until it is dropped.
#[derive(Debug)]
pub struct Reaper(Arc<AtomicBool>);

impl Reaper {
    /// Reaps every process whose pid appeared in that file.
    pub fn start(pid_file: PathBuf) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&end);
        let run = move || {
            let mut pid = None;
            while !told.load(Ordering::Relaxed) {
                let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
                let now = text.trim().parse::<i32>().ok();
                if now.is_some() && now != pid {
                    sweep::reap(pid.as_slice());
                    pid = now;
                }
                sweep::reap(pid.as_slice());
                std::thread::sleep(LOOK);
            }
        };
        std::thread::Builder::new().name("reaper".to_owned()).spawn(run).expect("a thread");
        Self(end)
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
