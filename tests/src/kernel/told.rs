//! What a kernel and the scenarios of `tests/kernels` printed, and what they should have printed.

use serde_json::Value;

/// The first kernel version with `PIDFD_THREAD`.
const TELLS_OF_THREADS: (u32, u32) = (6, 9);

/// The excuses of the scenario `core.sh`, by kind.
const EXCUSES: [&str; 3] = ["memory_throttled", "throttled", "frozen"];
/// Seconds: twice the threshold of that scenario.
const EXCUSED_FOR: f64 = 8.0;
/// What ended in that scenario, and the reason and kinds the sidecar must report. It cannot
/// identify a deadlock where the kernel does not say in what a thread sleeps.
const ENDS: [(&str, (&str, &[&str])); 3] = [
    ("deadlock", ("stalled", &["deadlock", "unknown"])),
    ("livelock", ("stalled", &["livelock"])),
    ("gone", ("process_gone", &[""])),
];
/// The faults of the scenario `demos.sh`, and the only reason for a condemnation in each.
const FAULTS: [(&str, &str); 5] = [
    ("panic", "thread_gone"),
    ("exit", "thread_gone"),
    ("spin", "stalled"),
    ("deadlock", "stalled"),
    ("leader-exit", "leader_gone"),
];

/// The printed lines.
#[derive(Debug)]
pub struct Told {
    all: Vec<String>,
}

impl Told {
    /// Splits `text` into lines.
    pub fn new(text: &str) -> Self {
        Self { all: text.lines().map(|line| line.trim_end().to_owned()).collect() }
    }

    /// The whole text, for a message.
    pub fn text(&self) -> String {
        self.all.join("\n")
    }

    /// The rest of each line that begins with `words`.
    pub fn of(&self, words: &str) -> impl Iterator<Item = &str> {
        self.all.iter().filter_map(move |line| line.strip_prefix(words)?.strip_prefix(' '))
    }

    /// The kernel's own name for its release.
    pub fn kernel(&self) -> Option<&str> {
        self.of("KERNEL").next()
    }

    /// Whether the kernel never reached our first process, or failed on its own later.
    pub fn failed_by_itself(&self) -> bool {
        let panicked = self.all.iter().any(|line| line.contains("Kernel panic - not syncing"));
        panicked || self.kernel().is_none()
    }

    /// The sidecar's status at the end of a phase.
    ///
    /// # Errors
    /// If there is none, or it is not JSON.
    pub fn status(&self, phase: &str) -> Result<Value, String> {
        let status = self.of(&format!("STATUS {phase}")).next();
        let status = status.ok_or_else(|| format!("no status of {phase}"))?;
        serde_json::from_str(status).map_err(|error| format!("{error}: {status}"))
    }

    /// The puppet's pid before and after a phase.
    ///
    /// # Errors
    /// If the phase did not end.
    pub fn pids(&self, phase: &str) -> Result<(&str, &str), String> {
        let words = format!("PID {phase}");
        let mut pids = self.of(&words);
        pids.next().zip(pids.next()).ok_or_else(|| format!("{phase} did not end"))
    }

    /// The reported incidents, in order.
    ///
    /// # Errors
    /// If one of them is not JSON.
    pub fn incidents(&self) -> Result<Vec<Value>, String> {
        let parse = |text| serde_json::from_str(text).map_err(|error| format!("{error}: {text}"));
        self.of("INCIDENT").map(parse).collect()
    }

    /// Whether the scenario `core.sh` went as it should: a puppet that was only held up was not
    /// killed, one that stood still or span was, and one that ended by itself was restarted without
    /// a kill.
    ///
    /// # Errors
    /// What went wrong.
    pub fn core_held(&self) -> Result<(), String> {
        for excuse in EXCUSES {
            let status = self.status(excuse)?;
            let seconds = status["excused_seconds"][excuse].as_f64().unwrap_or_default();
            let (before, after) = self.pids(excuse)?;
            if status["verdict"] != "excused" || seconds < EXCUSED_FOR || before != after {
                return Err(format!("{excuse}: pid {before}, then {after}: {status:#}"));
            }
        }
        for (phase, _) in ENDS {
            let (before, after) = self.pids(phase)?;
            if before == after || after.is_empty() {
                return Err(format!("{phase}: pid {before}, then {after}"));
            }
        }
        let status = self.status("gone")?;
        let events = if self.version() >= TELLS_OF_THREADS { "pidfd" } else { "poll" };
        if status["kills_left"] != 1 || status["thread_events"] != events {
            return Err(format!("not 1 kill left and {events}: {status:#}"));
        }
        let incidents = self.incidents()?;
        let word = |incident: &Value, at| {
            incident.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let told: Vec<_> = incidents
            .iter()
            .map(|incident| (word(incident, "/reason"), word(incident, "/thread/kind")))
            .collect();
        let as_expected = told.len() == ENDS.len()
            && told.iter().zip(ENDS).all(|((reason, kind), (_, (expected, kinds)))| {
                reason == expected && kinds.contains(&kind.as_str())
            });
        if as_expected { Ok(()) } else { Err(format!("condemned: {told:?}, not {ENDS:?}")) }
    }

    /// Whether the scenario `demos.sh` went as it should: each fault was recovered from, and
    /// nothing without a fault was condemned.
    ///
    /// # Errors
    /// What went wrong.
    pub fn demos_recovered(&self) -> Result<(), String> {
        for (fault, reason) in FAULTS {
            let code = self.of(&format!("CODE {fault}")).next();
            let condemned: Vec<_> = self.of(&format!("KILLED {fault}")).map(str::to_owned).collect();
            if code != Some("0") || condemned != [reason] {
                return Err(format!("demo --fault {fault}: code {code:?}, condemned: {condemned:?}"));
            }
        }
        Ok(())
    }

    /// How many times slower than a usual machine the demos found this one: minimum and maximum.
    pub fn slowness(&self) -> Option<(u32, u32)> {
        let factor = |line: &str| -> Option<u32> {
            let (_, rest) = line.split_once("demo: machine: ")?;
            if rest.starts_with("no slower") { Some(1) } else { rest.split(' ').next()?.parse().ok() }
        };
        let factors: Vec<u32> = self.of("DEMO").filter_map(factor).collect();
        factors.iter().min().copied().zip(factors.iter().max().copied())
    }

    fn version(&self) -> (u32, u32) {
        let mut numbers =
            self.kernel().unwrap_or_default().split(['.', '-', '+']).map(|word| word.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_boot_says_nothing_of_the_sidecar() {
        assert!(Told::new("").failed_by_itself());
        assert!(
            Told::new("KERNEL 7.3.0\nPID frozen 5\nKernel panic - not syncing: Segfault").failed_by_itself()
        );
        assert!(!Told::new("KERNEL 7.3.0\nPID frozen 5").failed_by_itself());
    }

    #[test]
    fn a_demo_that_condemned_somebody_else_too_has_not_recovered() {
        let each = |fault: &str, reason: &str| format!("CODE {fault} 0\nKILLED {fault} {reason}\n");
        let good: String = FAULTS.map(|(fault, reason)| each(fault, reason)).concat();
        assert_eq!(Told::new(&good).demos_recovered(), Ok(()));
        assert!(Told::new(&format!("{good}KILLED spin stalled")).demos_recovered().is_err());
        assert!(Told::new(&good.replacen("CODE exit 0", "CODE exit 1", 1)).demos_recovered().is_err());
        assert!(Told::new("").core_held().is_err());
    }

    #[test]
    fn the_slowness_is_that_of_the_demos() {
        let told = Told::new(
            "DEMO panic demo: machine: no slower than usual (as given)\nDEMO exit demo: machine: 20 times slower than usual (…)",
        );
        assert_eq!(told.slowness(), Some((1, 20)));
    }
}
