//! How slow this machine is, and how that extends the demo's times. A machine that is emulated,
//! busy with other work or limited by a small quota needs longer for every step, and slowness alone
//! must end nothing there.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{DemoError, process, text};

/// The reference workload: a process that starts and generates this much of a chain, which
/// exercises the EVM, hashing, memory and a few files. On a busy machine it waits for a CPU like
/// everything else.
const WORK: [&str; 4] = ["--blocks", "4", "--txs", "200"];
/// What the workload takes at most on a usual machine: half of what a build without optimization
/// took on two cores of a small virtual machine.
const USUAL: Duration = Duration::from_millis(400);
/// Time limit of the workload: a machine that is slower cannot run the demo.
const AT_MOST: Duration = USUAL.saturating_mul(SLOWEST);
/// The greatest factor: a second then takes three minutes.
pub const SLOWEST: u32 = 200;

/// How many times slower than a usual machine this one is; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace(u32);

impl Pace {
    /// A given factor.
    pub(super) fn given(factor: u32) -> Self {
        Self(factor.clamp(1, SLOWEST))
    }

    /// Measures the factor by the reference workload, in a folder inside `root` that it removes
    /// afterwards. Also returns the measured time.
    pub(super) fn measure(executor: &Path, root: &Path) -> Result<(Self, Duration), DemoError> {
        let folder = root.join("pace");
        let failed = |why: String| {
            DemoError::Prepare(format!(
                "cannot measure how fast this machine is: {why}; repair the executor, or give --slow FACTOR"
            ))
        };
        let mut command = Command::new(executor);
        command.args(["generate", "--out", text(&folder)?]).args(WORK);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let began = Instant::now();
        let mut work = process::Process::start(&mut command).map_err(|error| failed(error.to_string()))?;
        let status = work.wait(began + AT_MOST);
        let took = began.elapsed();
        // What cannot be removed lies in the demo's own folder.
        let _ = std::fs::remove_dir_all(&folder);
        match status {
            Some(status) if status.success() => Ok((Self::by(took), took)),
            Some(status) => Err(failed(format!("the executor's generate ended with {status}"))),
            None => Err(failed(format!("it did not do in {AT_MOST:?} what usually takes {USUAL:?}"))),
        }
    }

    fn by(took: Duration) -> Self {
        let factor = took.as_nanos() / USUAL.as_nanos();
        Self::given(u32::try_from(factor).unwrap_or(SLOWEST))
    }

    /// The factor.
    pub(super) const fn factor(self) -> u32 {
        self.0
    }

    /// The time for something that takes `usual` on a usual machine.
    pub(super) const fn of(self, usual: Duration) -> Duration {
        usual.saturating_mul(self.0)
    }

    /// The same, in the form of configs and flags.
    pub(super) fn text(self, usual: Duration) -> String {
        format!("{}ms", self.of(usual).as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_machine_changes_nothing_and_a_slow_one_every_time_by_as_much() {
        let second = Duration::from_secs(1);
        for (took, factor) in [(1, 1), (399, 1), (799, 1), (800, 2), (8_100, 20), (u64::MAX, SLOWEST)] {
            let pace = Pace::by(Duration::from_millis(took));
            assert_eq!(pace.factor(), factor, "{took} ms");
            assert_eq!(pace.of(second), second * factor);
        }
        assert_eq!(Pace::given(0).factor(), 1);
        assert_eq!(Pace::given(20).text(Duration::from_millis(250)), "5000ms");
    }
}
