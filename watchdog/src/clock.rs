//! The clocks: `CLOCK_MONOTONIC`, which the watch loop uses, and the wall clock that people read.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use shard_judge::clock::Monotonic;

/// Reads `CLOCK_MONOTONIC`. The judge never does: its observation carries the time.
pub fn now() -> Monotonic {
    Monotonic(nanoseconds(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic)))
}

/// Reads `CLOCK_BOOTTIME`, by which the kernel tells when a process started; `None` where it is
/// missing.
pub fn since_boot() -> Option<Duration> {
    let boot = rustix::time::clock_gettime_dynamic(rustix::time::DynamicClockId::Boottime).ok()?;
    Some(Duration::from_nanos(nanoseconds(boot)))
}

fn nanoseconds(time: rustix::time::Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// How long the machine has been suspended: what `CLOCK_BOOTTIME` gains on `CLOCK_MONOTONIC`.
/// Setting the wall clock affects neither.
#[derive(Clone, Copy, Debug, Default)]
pub struct Suspends {
    /// The difference at the first reading. In a time namespace it is not the time that the machine
    /// was suspended, and may be negative.
    begin: Option<i64>,
    told: u64,
}

/// The two clocks are read one after the other, so a gain of a few microseconds means nothing. No
/// machine is suspended for less than this.
const SHORTEST_SUSPEND: u64 = 1_000_000;

impl Suspends {
    /// Reads how long the machine was suspended since the first reading, in nanoseconds.
    ///
    /// Without that clock in the kernel, no suspend is ever detected.
    pub fn read(&mut self) -> u64 {
        let Ok(boot) = rustix::time::clock_gettime_dynamic(rustix::time::DynamicClockId::Boottime) else {
            return self.told;
        };
        // The later reading is subtracted, so that a delay between the two never looks like a
        // suspend.
        self.take(nanoseconds(boot), now().0)
    }

    fn take(&mut self, boot: u64, monotonic: u64) -> u64 {
        let ahead = boot.wrapping_sub(monotonic).cast_signed();
        let begin = *self.begin.get_or_insert(ahead);
        let since = u64::try_from(ahead.saturating_sub(begin)).unwrap_or(0);
        if since >= self.told.saturating_add(SHORTEST_SUSPEND) {
            self.told = since;
        }
        self.told
    }
}

/// Ties the monotonic clock to the wall clock once, so that all times of one run are on one scale
/// even if somebody sets the wall clock meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct WallAnchor {
    monotonic: Monotonic,
    wall: jiff::Timestamp,
    boot: Option<BootId>,
}

impl WallAnchor {
    /// Reads both clocks, one after the other.
    pub fn now() -> Self {
        Self { monotonic: now(), wall: jiff::Timestamp::now(), boot: BootId::read() }
    }

    /// The boot of the machine in which this was read.
    pub const fn boot(&self) -> Option<BootId> {
        self.boot
    }

    /// The wall-clock time of `at`.
    pub fn wall(&self, at: Monotonic) -> jiff::Timestamp {
        let (span, back) = if at >= self.monotonic {
            (at.since(self.monotonic), false)
        } else {
            (self.monotonic.since(at), true)
        };
        let moved = if back { self.wall.checked_sub(span) } else { self.wall.checked_add(span) };
        moved.unwrap_or(self.wall)
    }
}

/// Identifies a boot of this machine. A monotonic time is meaningless in another boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(pub u128);

impl BootId {
    /// The kernel's boot id; `None` if it cannot be read.
    pub fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        let plain = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        plain.then(|| u128::from_str_radix(&digits, 16).ok()).flatten().map(Self)
    }
}

impl Serialize for BootId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for BootId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no boot id"))
    }
}

/// One moment on every clock, so that it remains meaningful after a restart of the sidecar or of
/// the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The boot, if its id could be read.
    pub boot: Option<BootId>,
    /// On the monotonic clock of that boot.
    #[serde(rename = "monotonic_ns")]
    pub monotonic: Option<Monotonic>,
    /// On the wall clock.
    pub wall: jiff::Timestamp,
}

impl Moment {
    /// The present moment.
    pub fn now() -> Self {
        Self { boot: BootId::read(), monotonic: Some(now()), wall: jiff::Timestamp::now() }
    }

    /// The age of this moment at `now`: by the monotonic clock within one boot, by the wall clock
    /// across a reboot, and the smaller of both where the boot is unknown. Zero for a moment in the
    /// future.
    pub fn age(&self, now: &Self) -> Duration {
        let by_wall = Duration::try_from(now.wall.duration_since(self.wall)).unwrap_or_default();
        let (Some(then), Some(here)) = (self.monotonic, now.monotonic) else { return by_wall };
        let by_boot = here.since(then);
        match (self.boot, now.boot) {
            (Some(one), Some(other)) if one == other => by_boot,
            (Some(_), Some(_)) => by_wall,
            // It would be in the future, so it was another boot.
            _ if then > here => by_wall,
            _ => by_wall.min(by_boot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_suspend_is_one() {
        const SECOND: u64 = 1_000_000_000;
        let mut suspends = Suspends::default();
        // In a time namespace the boot clock may be behind.
        assert_eq!(suspends.take(5 * SECOND, 9 * SECOND), 0);
        assert_eq!(suspends.take(6 * SECOND + 900, 10 * SECOND), 0, "read one after the other");
        assert_eq!(
            suspends.take(7 * SECOND, 11 * SECOND + SECOND / 2),
            0,
            "half a second between the readings"
        );
        assert_eq!(suspends.take(68 * SECOND, 12 * SECOND), 60 * SECOND);
        assert_eq!(suspends.take(69 * SECOND + 900, 13 * SECOND), 60 * SECOND);
        assert_eq!(suspends.take(0, 14 * SECOND), 60 * SECOND, "it never becomes less");
        assert_eq!(suspends.take(u64::MAX, 0), 60 * SECOND, "nonsense");
    }

    #[test]
    fn a_machine_that_is_awake_is_not_suspended() {
        let mut suspends = Suspends::default();
        suspends.read();
        assert_eq!(suspends.read(), 0);
    }

    fn moment(boot: Option<u128>, seconds: u64, wall: i64) -> Moment {
        Moment {
            boot: boot.map(BootId),
            monotonic: Some(Monotonic(seconds * 1_000_000_000)),
            wall: jiff::Timestamp::from_second(1_800_000_000 + wall).unwrap(),
        }
    }

    fn age(then: Moment, now: Moment) -> u64 {
        then.age(&now).as_secs()
    }

    #[test]
    fn within_one_boot_the_wall_clock_does_not_matter() {
        for wall in [-86_400, 0, 86_400] {
            assert_eq!(age(moment(Some(1), 100, 0), moment(Some(1), 160, wall)), 60);
        }
        assert_eq!(age(moment(Some(1), 100, 0), moment(Some(1), 90, 86_400)), 0, "what lies ahead is now");
    }

    #[test]
    fn across_a_reboot_it_is_all_there_is() {
        assert_eq!(age(moment(Some(1), 5_000, 0), moment(Some(2), 9_000, 70)), 70);
        assert_eq!(age(moment(Some(1), 100, 0), moment(Some(2), 160, -5)), 0);
    }

    #[test]
    fn where_the_boot_is_not_known_the_lesser_age_counts() {
        assert_eq!(age(moment(None, 100, 0), moment(Some(2), 160, 86_400)), 60);
        assert_eq!(age(moment(None, 100, 0), moment(Some(2), 5_000, 30)), 30);
        assert_eq!(
            age(moment(None, 9_000, 0), moment(Some(2), 160, 86_400)),
            86_400,
            "another boot for sure"
        );
        assert_eq!(age(moment(Some(1), 100, 0), moment(None, 160, 86_400)), 60);
    }

    #[test]
    fn this_boot_has_an_id_that_is_written_and_read() {
        let boot = BootId::read().unwrap();
        let text = serde_json::to_string(&boot).unwrap();
        assert_eq!(serde_json::from_str::<BootId>(&text).unwrap(), boot);
        for bad in ["\"\"", "\"+0000000000000000000000000000000\"", "1", "\"g\""] {
            assert!(serde_json::from_str::<BootId>(bad).is_err(), "{bad}");
        }
    }
}
