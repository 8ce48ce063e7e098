//! The text form of fault orders: one order a line.

use std::fmt;
use std::time::Duration;

/// Default duration of a fault from the moment it strikes: longer than any threshold that people
/// set, and it ends by itself if it is forgotten.
const LASTS: Duration = Duration::from_secs(600);
/// The longest duration of a fault.
const MOST: Duration = Duration::from_secs(3_600);
/// The longest name of a place or a thread, in bytes; a longer one is a mistake.
const LONGEST_NAME: usize = 64;

/// The kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The thread sleeps and does not come back.
    Hang,
    /// The thread uses CPU and gets nowhere.
    Spin,
    /// The thread ends silently: it unwinds without running a panic hook, and drops what it owns.
    End,
    /// The thread panics.
    Panic,
    /// Each pass takes this much longer.
    Slow(Duration),
}

impl Kind {
    /// Its name in orders and in answers.
    const fn name(self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::Spin => "spin",
            Self::End => "end",
            Self::Panic => "panic",
            Self::Slow(_) => "slow",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Self::Slow(by) = self { write!(f, " {}", Told(*by)) } else { Ok(()) }
    }
}

/// A fault that is armed and waits to strike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Armed {
    pub(super) kind: Kind,
    /// Only at this place.
    pub(super) place: Option<String>,
    /// Only on this thread: its registered name, else the kernel's.
    pub(super) thread: Option<String>,
    /// How many passes are let through first.
    pub(super) after: u64,
    /// Whether it strikes every pass, not only the first.
    pub(super) always: bool,
    /// Its duration from its first strike.
    pub(super) lasts: Duration,
}

impl fmt::Display for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        for (word, name) in [("at", &self.place), ("thread", &self.thread)] {
            name.as_ref().map_or(Ok(()), |name| write!(f, " {word} {name}"))?;
        }
        if self.after > 0 {
            write!(f, " after {}", self.after)?;
        }
        write!(f, " {} for {}", if self.always { "always" } else { "once" }, Told(self.lasts))
    }
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// `arm KIND [at PLACE] [thread NAME] [after N] [once|always] [for DURATION]`
    Arm(Armed),
    /// `list`: the armed faults, and how many threads a fault holds.
    List,
    /// `struck`: the latest strikes and their times.
    Struck,
    /// `tied`: everything is disarmed when this connection ends.
    Tied,
    /// `disarm`: removes all armed faults and releases the threads that a fault holds.
    Disarm,
}

/// Why a line is not a valid order.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OrderError {
    /// Not an order.
    #[error(
        "{0:?} is not an order; orders are: arm KIND [at PLACE] [thread NAME] [after N] [once|always] [for DURATION] with KIND hang|spin|end|panic|slow 50ms; list, struck, tied, disarm"
    )]
    Unknown(String),
    /// A fault whose conditions cannot be read.
    #[error("{0}")]
    Condition(String),
}

impl std::str::FromStr for Order {
    type Err = OrderError;

    fn from_str(line: &str) -> Result<Self, OrderError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let unknown = || OrderError::Unknown(line.trim().to_owned());
        let (kind, conditions) = match words.as_slice() {
            ["list"] => return Ok(Self::List),
            ["struck"] => return Ok(Self::Struck),
            ["tied"] => return Ok(Self::Tied),
            ["disarm"] => return Ok(Self::Disarm),
            ["arm", "slow", by, conditions @ ..] => (Kind::Slow(duration(by)?), conditions),
            ["arm", kind, conditions @ ..] => (plain(kind).ok_or_else(unknown)?, conditions),
            _ => return Err(unknown()),
        };
        conditions_of(kind, conditions).map(Self::Arm)
    }
}

/// The kinds that are one word, including the executor port's names for the same faults.
fn plain(word: &str) -> Option<Kind> {
    match word {
        "hang" | "deadlock" => Some(Kind::Hang),
        "spin" => Some(Kind::Spin),
        "end" | "exit" => Some(Kind::End),
        "panic" => Some(Kind::Panic),
        _ => None,
    }
}

fn conditions_of(kind: Kind, mut words: &[&str]) -> Result<Armed, OrderError> {
    let always = matches!(kind, Kind::Slow(_));
    let mut armed = Armed { kind, place: None, thread: None, after: 0, always, lasts: LASTS };
    loop {
        words = match words {
            [] => return Ok(armed),
            ["at", place, rest @ ..] => {
                armed.place = Some(name(place)?);
                rest
            }
            ["thread", thread, rest @ ..] => {
                armed.thread = Some(name(thread)?);
                rest
            }
            ["after", count, rest @ ..] => {
                armed.after = count
                    .parse()
                    .map_err(|_| OrderError::Condition(format!("{count:?} is not a whole number")))?;
                rest
            }
            ["for", time, rest @ ..] => {
                armed.lasts = duration(time)?;
                rest
            }
            [word @ ("once" | "always"), rest @ ..] => {
                armed.always = *word == "always";
                rest
            }
            [word, ..] => {
                return Err(OrderError::Condition(format!(
                    "{word:?} is not a condition; conditions are: at PLACE, thread NAME, after N, once, always, for DURATION"
                )));
            }
        };
    }
}

fn name(text: &str) -> Result<String, OrderError> {
    if text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
        return Err(OrderError::Condition(format!("a name has 1 to {LONGEST_NAME} printable characters")));
    }
    Ok(text.to_owned())
}

/// Units in microseconds, in the order tried when a duration is printed: the first of which it is a
/// whole multiple.
const UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

fn duration(text: &str) -> Result<Duration, OrderError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, micros)| *micros);
    let read = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    match read.map(Duration::from_micros) {
        Some(time) if !time.is_zero() && time <= MOST => Ok(time),
        Some(_) => Err(OrderError::Condition(format!("{text} is not longer than nothing and at most 1h"))),
        None => Err(OrderError::Condition(format!("{text:?} is not a duration such as 50ms or 30s"))),
    }
}

/// Prints a duration as it is written in an order.
struct Told(Duration);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        let (name, unit) = UNITS.into_iter().find(|(_, unit)| micros % unit == 0).unwrap_or(("us", 1));
        write!(f, "{}{name}", micros / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(order: &str) -> Armed {
        let Ok(Order::Arm(armed)) = order.parse() else { panic!("{order}") };
        armed
    }

    #[test]
    fn what_is_listed_is_the_order_that_armed_it() {
        for order in [
            "hang once for 10m",
            "spin at commit thread exec-s0 after 3 once for 30s",
            "end always for 1h",
            "panic at a:b/c once for 10m",
            "slow 50ms always for 2s",
            "slow 1500us at x once for 10m",
        ] {
            assert_eq!(armed(&format!("arm {order}")).to_string(), order);
        }
        assert_eq!(armed(" arm  exit after 1 at commit"), armed("arm end at commit after 1 once"));
        assert_eq!(armed("arm deadlock"), armed("arm hang for 600s"));
    }

    #[test]
    fn nonsense_is_answered_with_what_is_allowed() {
        let long = format!("arm hang at {}", "x".repeat(LONGEST_NAME + 1));
        for bad in [
            "",
            "arm",
            "arm everything",
            "arm slow",
            "arm slow 5",
            "arm slow 0ms",
            "arm slow 99999999999999999999h",
            "arm slow 18446744073709551615h",
            "arm hang for 2h",
            "arm hang at",
            "arm hang after x",
            "arm hang after -1",
            "arm hang at a\u{1b}b",
            "list all",
            "disarm now",
            &long,
        ] {
            let error = bad.parse::<Order>().expect_err(bad).to_string();
            assert!(error.len() > 10 && !error.chars().any(char::is_control), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_does_more_than_be_refused(line in "\\PC{0,200}") {
            let _ = line.parse::<Order>();
        }

        #[test]
        fn what_can_be_read_is_told_so_that_it_reads_the_same(
            line in "arm (hang|spin|end|exit|panic|slow [0-9]{1,4}(us|ms|s))( (at|thread) [a-z]{1,9}| after [0-9]{1,19}| once| always| for [0-9]{1,5}(us|ms|s|m|h)){0,4}"
        ) {
            if let Ok(Order::Arm(armed)) = line.parse() {
                let again = format!("arm {armed}").parse();
                proptest::prop_assert_eq!(again, Ok(Order::Arm(armed)));
            }
        }
    }
}
