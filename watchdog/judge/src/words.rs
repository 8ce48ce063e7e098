//! What is observed, in the words of what people read.

use alloc::format;
use alloc::string::String;

use core::fmt;
use core::time::Duration;

use crate::observation::{TaskObservation, TaskState, WaitChannel};
use crate::stall_clock::Sample;

/// A duration to three digits, with its unit: `98.5 ms`, `1.37 s`, `10 min`, `2 h 5 min`. More
/// digits say nothing to a person who compares it with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounded(pub Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0 s");
        }
        for (unit, name, most) in [
            (1, "ns", 1_000_000),
            (1_000, "us", 1_000_000),
            (1_000_000, "ms", 1_000_000),
            (1_000_000_000, "s", 60_000),
        ] {
            let thousandths = to_three_digits(nanos.saturating_mul(1_000) / unit);
            if thousandths < most {
                return write_thousandths(f, thousandths, name);
            }
        }
        let whole = self.0.as_secs();
        // Half a second below a minute is one.
        let whole = whole.max(60);
        match whole {
            60..3_600 => pair(f, (whole / 60, "min"), (whole % 60, "s")),
            3_600..86_400 => pair(f, (whole / 3_600, "h"), (whole % 3_600 / 60, "min")),
            _ => pair(f, (whole / 86_400, "d"), (whole % 86_400 / 3_600, "h")),
        }
    }
}

/// Rounds a number of thousandths to three digits of the whole number.
const fn to_three_digits(thousandths: u128) -> u128 {
    let step = match thousandths {
        0..10_000 => 10,
        10_000..100_000 => 100,
        _ => 1_000,
    };
    (thousandths + step / 2) / step * step
}

fn write_thousandths(f: &mut fmt::Formatter<'_>, thousandths: u128, unit: &str) -> fmt::Result {
    let (whole, rest) = (thousandths / 1_000, thousandths % 1_000);
    match (rest % 100, rest) {
        (_, 0) => write!(f, "{whole} {unit}"),
        (0, _) => write!(f, "{whole}.{} {unit}", rest / 100),
        _ => write!(f, "{whole}.{:02} {unit}", rest / 10),
    }
}

fn pair(f: &mut fmt::Formatter<'_>, first: (u64, &str), second: (u64, &str)) -> fmt::Result {
    write!(f, "{} {}", first.0, first.1)?;
    if second.0 == 0 { Ok(()) } else { write!(f, " {} {}", second.0, second.1) }
}

/// The observation of an incident that says how a thread stood still between two samples.
pub fn between(earlier: Sample, last: Sample) -> String {
    let apart = Rounded(last.watched.saturating_sub(earlier.watched));
    let (first, then) = (state(earlier.task), state(last.task));
    let then = if first == then { format!("still {then}") } else { then };
    let more = |now: Option<u64>, before: Option<u64>| {
        let more = now?.checked_sub(before?)?;
        Some(Rounded(Duration::from_nanos(more)))
    };
    let used = more(last.task.cpu_ns, earlier.task.cpu_ns)
        .map_or_else(|| "its CPU time cannot be read".into(), |cpu| format!("it used {cpu} of CPU time"));
    let waited = more(last.task.run_delay_ns, earlier.task.run_delay_ns)
        .map_or_else(String::new, |delay| format!(" and waited {delay} for a CPU"));
    format!("the kernel's view of it: {first}, and {apart} later {then}; in between {used}{waited}")
}

fn state(task: TaskObservation) -> String {
    let state = match task.state {
        TaskState::Running => "runnable",
        TaskState::Sleeping => "sleeping",
        TaskState::DiskSleep => "in uninterruptible sleep",
        TaskState::Stopped => "stopped",
        TaskState::Traced => "held by a tracer",
        TaskState::Zombie => "a zombie",
        TaskState::Dead => "dead",
        TaskState::Other => "in a state that has no name",
    };
    let wait = match task.wait {
        Some(WaitChannel::Frozen) => " (frozen)",
        Some(WaitChannel::Futex) => " (futex)",
        Some(WaitChannel::Memory) => " (memory.high)",
        Some(WaitChannel::Answer) => " (for somebody's answer)",
        Some(WaitChannel::RealTime) => " (real-time class)",
        Some(WaitChannel::Other) | None => "",
    };
    format!("{state}{wait}")
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn a_duration_has_three_digits_and_the_unit_that_fits() {
        for (nanos, text) in [
            (0, "0 s"),
            (7, "7 ns"),
            (999, "999 ns"),
            (1_000, "1 us"),
            (76_300, "76.3 us"),
            (999_499, "999 us"),
            (999_500, "1 ms"),
            (98_531_818, "98.5 ms"),
            (150_000_000, "150 ms"),
            (1_000_068_971, "1 s"),
            (1_371_031_018, "1.37 s"),
            (1_305_000_000, "1.31 s"),
            (1_049_000_000, "1.05 s"),
            (5_000_000_000, "5 s"),
            (59_949_999_999, "59.9 s"),
            (59_950_000_000, "1 min"),
            (90_000_000_000, "1 min 30 s"),
            (600_000_000_000, "10 min"),
            (7_500_000_000_000, "2 h 5 min"),
            (180_000_000_000_000, "2 d 2 h"),
        ] {
            assert_eq!(Rounded(Duration::from_nanos(nanos)).to_string(), text, "{nanos}");
        }
        assert_eq!(Rounded(Duration::MAX).to_string(), "213503982334601 d 7 h");
    }

    #[test]
    fn two_samples_are_told_by_what_changed() {
        let sample = |state, wait, cpu_ns, run_delay_ns, ms| Sample {
            task: TaskObservation { state, cpu_ns, run_delay_ns, wait },
            counted: Duration::ZERO,
            watched: Duration::from_millis(ms),
        };
        let futex = Some(WaitChannel::Futex);
        let asleep = sample(TaskState::Sleeping, futex, Some(450), Some(7), 900);
        assert_eq!(
            between(asleep, Sample { watched: Duration::from_millis(1_000), ..asleep }),
            "the kernel's view of it: sleeping (futex), and 100 ms later still sleeping (futex); in between it used \
             0 s of CPU time and waited 0 s for a CPU"
        );
        let ran = sample(TaskState::Running, None, Some(40_000_450), None, 950);
        assert_eq!(
            between(asleep, ran),
            "the kernel's view of it: sleeping (futex), and 50 ms later runnable; in between it used 40 ms of CPU time"
        );
        let hidden = sample(TaskState::Running, None, None, None, 1_000);
        assert!(between(ran, hidden).ends_with("still runnable; in between its CPU time cannot be read"));
    }
}
