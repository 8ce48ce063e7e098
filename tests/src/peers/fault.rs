//! One fault, from the moment the target meets it until it works again.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::ground::Ground;
use crate::clock::monotonic_ns;
use crate::figures::{distribution, milliseconds};
use crate::wait;

/// What is done to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    Killed,
    /// The worker panics uncaught: the thread ends, the process lives and answers.
    Lost,
    /// The worker sleeps in the middle of its work, forever.
    Stall,
}

/// Results for the faults of one kind, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Number of faults so far.
    pub tried: usize,
    /// Times until the target was ended, for the faults that were detected.
    pub detect: Vec<f64>,
    /// Times until its next life had finished a piece of work.
    pub again: Vec<f64>,
}

impl Times {
    /// Whether the peer detected every one of them.
    pub fn seen(&self) -> bool {
        self.tried > 0 && self.detect.len() == self.tried
    }

    /// Causes the fault once more, unless the peer has already failed to detect one.
    #[track_caller]
    pub fn add(&mut self, fault: Fault, ground: &Ground, patience: Duration) {
        if self.tried > 0 && !self.seen() {
            return;
        }
        ground.settled();
        self.tried += 1;
        let pid = wait::until("the target", || ground.pid());
        let pid = Pid::from_raw(pid).expect("a pid");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
        let before = ground.events().len();
        let at = match fault {
            Fault::Killed => {
                let now = monotonic_ns();
                ground.kill();
                now
            }
            Fault::Lost | Fault::Stall => {
                let order = if fault == Fault::Lost { "/lose" } else { "/stall" };
                assert!(ground.order(order), "the target takes no order");
                ground.event("fault", before)
            }
        };
        let mut ends = [PollFd::new(&pidfd, PollFlags::IN)];
        let bound = Timespec::try_from(patience).expect("a short time");
        let ended = poll(&mut ends, Some(&bound)).is_ok_and(|ready| ready > 0);
        let dead = monotonic_ns();
        if !ended {
            // Every supervisor detects at least this.
            ground.kill();
        }
        let running = ground.event("running", before);
        if ended {
            self.detect.push(milliseconds(at, dead));
            self.again.push(milliseconds(at, running));
        }
    }

    /// Distribution of the detection times, for scripts; null if not detected.
    pub fn detect_ms(&self) -> Value {
        if self.seen() { distribution(&self.detect) } else { json!(null) }
    }

    /// Distribution of the times until it ran again, for scripts; null if not detected.
    pub fn running_again_ms(&self) -> Value {
        if self.seen() { distribution(&self.again) } else { json!(null) }
    }

    /// Median time until it ran again, ms.
    pub fn again_p50(&self) -> Option<f64> {
        self.running_again_ms()["p50"].as_f64()
    }

    /// Median time until detection, ms.
    pub fn detect_p50(&self) -> Option<f64> {
        self.detect_ms()["p50"].as_f64()
    }
}
