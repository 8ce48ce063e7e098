//! Times on the command line of the longer test programs.

use std::time::Duration;

/// From `1s` to `24h`: a whole number and one of `s`, `m` and `h`.
///
/// # Errors
/// What is allowed, in a sentence.
pub fn parse(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(unit).and_then(|digits| digits.parse::<u64>().ok());
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        _ => None,
    };
    let time = number.zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds));
    match time {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("not a time from 1s to 24h, such as 90s, 10m or 1h".to_owned()),
    }
}
