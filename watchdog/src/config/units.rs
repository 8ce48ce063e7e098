//! Durations as `"1s 500ms"` and sizes as `"256MiB"`.

use std::time::Duration;

/// The form of a duration, for messages.
pub const DURATION_FORM: &str =
    "a duration in double quotes, such as \"5s\" or \"1m 30s\" (units: ns us ms s m h d)";
/// The form of a size, for messages.
pub const SIZE_FORM: &str = "a size in double quotes, such as \"256MiB\" (units: B KiB MiB GiB)";
/// A century: more must be a typing error, and sums of a few such durations stay far from overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Reads a duration: whole numbers with units, from the largest to the smallest or in any order,
/// summed.
pub fn duration(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().ok()?;
        let one = match unit {
            "ns" => Duration::from_nanos(1),
            "us" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(24 * 3600),
            _ => return None,
        };
        sum = sum.checked_add(one.checked_mul(u32::try_from(number).ok()?)?)?;
        rest = after.trim_start();
    }
    (sum <= LONGEST).then_some(sum)
}

/// The form that [`duration`] reads: `1m 30s`.
pub fn written(time: Duration) -> String {
    let units = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let mut left = time.as_nanos();
    let mut parts = Vec::new();
    for (unit, nanos) in units {
        if left >= nanos {
            parts.push(format!("{}{unit}", left / nanos));
            left %= nanos;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Reads a size in bytes.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The form that [`size`] reads: `256MiB`.
pub fn size_written(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    whole.map_or_else(|| format!("{bytes}B"), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_is_written_reads_as_the_same() {
        for bytes in [0, 1, 1023, 1024, 1536, 16 << 20, 256 << 20, 2 << 30, (2 << 30) + 1, u64::MAX] {
            assert_eq!(size(&size_written(bytes)), Some(bytes), "{}", size_written(bytes));
        }
        assert_eq!((&*size_written(256 << 20), &*size_written(2 << 30)), ("256MiB", "2GiB"));
    }

    #[test]
    fn durations_are_sums_of_units() {
        assert_eq!(duration("1s 500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("5ns"), Some(Duration::from_nanos(5)));
        assert_eq!(duration("0s"), Some(Duration::ZERO));
        for wrong in ["", "5", "s", "-1s", "1.5s", "1 s", "99999999999d", "1s x", "1y"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("256MiB"), Some(256 << 20));
        assert_eq!(size("17179869184GiB"), None);
        for wrong in ["", "256", "MiB", "1MB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_duration_is_read_as_it_was_written() {
        for millis in [1, 500, 1_000, 90_000, 3_600_001, 86_400_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(duration(&written(time)), Some(time), "{}", written(time));
        }
        assert_eq!(written(Duration::from_millis(90_500)), "1m 30s 500ms");
        let short = Duration::from_nanos(250_007);
        assert_eq!((written(short).as_str(), duration("250us 7ns")), ("250us 7ns", Some(short)));
    }
}
