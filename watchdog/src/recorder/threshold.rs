//! From gaps to thresholds: how much longer than any observed gap a `stall_after` must be.
//!
//! Of n similar gaps, the next one is the longest with a probability of one in n + 1: a threshold
//! at the longest gap itself kills about once per recording of this length. How much margin reduces
//! that depends on how fast long gaps become rare. If they become rare as slowly as 1/t² (as with
//! disks and garbage collectors; hardly anything is slower), a threshold of m times the longest gap
//! is exceeded about once in m² such recordings.

use std::time::Duration;

use super::gaps::ThreadGaps;

/// Multiple of the longest gap after many gaps: exceeded once in 16 such recordings at worst.
const MARGIN: u32 = 4;
/// The same after little observation: the longest of few gaps says little, and the load of some
/// minutes is not that of a day. Exceeded once in 100 such recordings at worst.
const WIDE_MARGIN: u32 = 10;
/// From this many gaps on, the longest one can be trusted.
const MANY: u64 = 1_000;
/// This much time covers more than one kind of load: an hour of blocks, of the cron jobs beside
/// them, of a neighbour's backup.
pub const LONG: Duration = Duration::from_secs(3_600);
/// No `stall_after` is shorter: otherwise the sidecar would need more than 250 observations a
/// second, and a busy machine now and then takes a fifth of this time from any thread.
const SHORTEST: Duration = Duration::from_millis(500);
/// A warning comes when this fraction of the threshold has passed: half, so that a kill never comes
/// unannounced.
const WARN_SHARE: u32 = 2;

/// The thresholds for one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// `stall_after`
    pub stall_after: Duration,
    /// `warn_after`
    pub warn_after: Duration,
    /// The multiple of the longest gap that was required.
    pub margin: u32,
    /// Why that multiple.
    pub why: &'static str,
}

impl Threshold {
    /// The thresholds with the required margin; `None` if no gap was seen to end. `recorded`: how
    /// long the recording is.
    pub fn of(gaps: &ThreadGaps, recorded: Duration) -> Option<Self> {
        let (margin, why) = match (gaps.gaps, recorded) {
            (0, _) => return None,
            (..MANY, _) => (WIDE_MARGIN, "few gaps were seen"),
            (_, recorded) if recorded < LONG => (WIDE_MARGIN, "less than an hour was recorded"),
            _ => (MARGIN, "many gaps were seen in an hour or more"),
        };
        let asked = gaps.longest.saturating_mul(margin);
        let (stall_after, why) = if asked <= SHORTEST {
            (SHORTEST, "no threshold should be shorter: a busy machine takes 100 ms from anybody")
        } else {
            (round_up(asked), why)
        };
        Some(Self { stall_after, warn_after: round_down(stall_after / WARN_SHARE), margin, why })
    }
}

/// The leading digits of a threshold: more would suggest more precision than there is.
const DIGITS: [u128; 4] = [1, 2, 3, 5];

fn steps() -> impl DoubleEndedIterator<Item = u128> {
    // Up to 5 × 10¹⁶ ms, which is longer than any recording.
    (0..17).flat_map(|power| DIGITS.map(|digit| digit * 10_u128.pow(power)))
}

/// Rounds up to the next 1, 2, 3 or 5 times a power of ten milliseconds.
fn round_up(time: Duration) -> Duration {
    let millis = time.as_nanos().div_ceil(1_000_000);
    milliseconds(steps().find(|step| *step >= millis).unwrap_or(millis))
}

fn round_down(time: Duration) -> Duration {
    let millis = time.as_millis();
    milliseconds(steps().rfind(|step| *step <= millis).unwrap_or(millis))
}

fn milliseconds(count: u128) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Monotonic;

    fn gaps(count: u64, longest: Duration) -> ThreadGaps {
        let mut gaps = ThreadGaps::default();
        (0..count).for_each(|_| gaps.add(longest, Monotonic(1)));
        gaps
    }

    #[test]
    fn a_threshold_is_a_round_multiple_of_the_longest_gap() {
        let of =
            |count, millis, recorded| Threshold::of(&gaps(count, Duration::from_millis(millis)), recorded);
        assert_eq!(of(0, 0, LONG), None);
        let few = of(1, 480, LONG).unwrap();
        assert_eq!((few.margin, few.stall_after), (10, Duration::from_secs(5)));
        assert_eq!(few.warn_after, Duration::from_secs(2));
        let short = of(MANY, 480, LONG - Duration::from_secs(1)).unwrap();
        assert_eq!((short.margin, short.why), (10, "less than an hour was recorded"));
        let long = of(MANY, 480, LONG).unwrap();
        assert_eq!((long.margin, long.stall_after), (4, Duration::from_secs(2)));
    }

    #[test]
    fn no_threshold_is_so_short_that_a_busy_machine_passes_it() {
        let threshold = Threshold::of(&gaps(1, Duration::from_micros(3)), LONG).unwrap();
        assert_eq!(threshold.stall_after, SHORTEST);
        assert_eq!(threshold.warn_after, Duration::from_millis(200));
        assert_eq!(round_up(Duration::MAX), Duration::from_millis(u64::MAX));
    }
}
