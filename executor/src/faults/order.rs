//! The words in which tests order faults: one order a line.

use super::{Armed, Kind, Role};
use crate::deadline;

/// The most parts that a flood may add: beyond that the queues are full many times over, and only
/// the time grows.
const MOST_FLOOD: u64 = 10_000;
/// The largest core, GiB: more than some file systems take in one file.
const LARGEST_CORE: u64 = 1_024;

/// What a test may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `arm KIND [after N transactions] [block B]`.
    Arm(Armed),
    /// `hook on`, `hook off`: whether a panic ends the process, and whether a lost thread does.
    Hook(bool),
    /// `guard on`, `guard off`: whether a lost thread ends the process.
    Guard(bool),
    /// `list`.
    List,
    /// `struck`: the latest strikes and their times.
    Struck,
    /// `tied`: what is armed ends with this connection.
    Tied,
    /// `counters`: the process's counts of what it discarded.
    Counters,
    /// `disarm`: undo everything that is armed.
    Disarm,
}

/// Why an order was not carried out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The line is not an order.
    #[error(
        "{0:?} is not an order; orders are: arm KIND [after N transactions] [block B] with KIND panic|exit|spin|deadlock|hook-hang|slow 50ms|core GIB|leader-exit|exit-hang, at a shard also worker-panic|deaf|never-ready|send-panic|send-exit|drop-result|part-error|ghost|net-block|helper-panic|helper-spin|slow-state 100us, at a coordinator also drop-part|mute-state [N]|flood N|sacrifice-panic; hook on|off, guard on|off, list, struck, counters, tied, disarm"
    )]
    Unknown(String),
    /// A fault's conditions cannot be parsed.
    #[error("{0}")]
    Condition(String),
    /// The fault can never happen in this process.
    #[error("{kind} is a fault of the {role}, and this is the {here}")]
    Elsewhere {
        /// The fault's name.
        kind: &'static str,
        /// The process that the fault belongs to.
        role: Role,
        /// The process that got the order.
        here: Role,
    },
    /// More faults than can be armed at once.
    #[error("{0} faults are armed already: disarm first")]
    TooMany(usize),
}

impl std::str::FromStr for Order {
    type Err = OrderError;

    fn from_str(line: &str) -> Result<Self, OrderError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let unknown = || OrderError::Unknown(line.trim().to_owned());
        match words.as_slice() {
            ["list"] => Ok(Self::List),
            ["struck"] => Ok(Self::Struck),
            ["tied"] => Ok(Self::Tied),
            ["counters"] => Ok(Self::Counters),
            ["disarm"] => Ok(Self::Disarm),
            [switch @ ("hook" | "guard"), way @ ("on" | "off")] => {
                let on = *way == "on";
                Ok(if *switch == "hook" { Self::Hook(on) } else { Self::Guard(on) })
            }
            ["arm", "slow", by, conditions @ ..] => {
                let by = deadline::parse(by).map_err(OrderError::Condition)?;
                arm(Kind::Slow(by), conditions)
            }
            ["arm", "slow-state", by, conditions @ ..] => {
                let by = deadline::parse(by).map_err(OrderError::Condition)?;
                arm(Kind::SlowState(by), conditions)
            }
            ["arm", "core", size, conditions @ ..] => match number(size)? {
                size @ 1..=LARGEST_CORE => arm(Kind::Core(size), conditions),
                _ => Err(OrderError::Condition(format!("a core is of 1 to {LARGEST_CORE} GiB, not {size}"))),
            },
            ["arm", "flood", count, conditions @ ..] => match number(count)? {
                count @ 1..=MOST_FLOOD => arm(Kind::Flood(count), conditions),
                _ => {
                    Err(OrderError::Condition(format!("a flood is of 1 to {MOST_FLOOD} parts, not {count}")))
                }
            },
            ["arm", "mute-state", rest @ ..] => match rest {
                [] | ["after" | "block", ..] => arm(Kind::MuteState(u64::MAX), rest),
                [count, conditions @ ..] => match number(count)? {
                    0 => Err(OrderError::Condition("to mute no request is no fault".to_owned())),
                    count => arm(Kind::MuteState(count), conditions),
                },
            },
            ["arm", kind, conditions @ ..] => arm(plain(kind).ok_or_else(unknown)?, conditions),
            _ => Err(unknown()),
        }
    }
}

/// The kinds whose order is a single word.
pub(super) const PLAIN: [Kind; 20] = [
    Kind::Panic,
    Kind::Exit,
    Kind::Spin,
    Kind::Deadlock,
    Kind::HookHang,
    Kind::WorkerPanic,
    Kind::HelperPanic,
    Kind::HelperSpin,
    Kind::Deaf,
    Kind::NeverReady,
    Kind::SendPanic,
    Kind::SendExit,
    Kind::DropResult,
    Kind::PartError,
    Kind::Ghost,
    Kind::NetBlock,
    Kind::DropPart,
    Kind::SacrificePanic,
    Kind::LeaderExit,
    Kind::ExitHang,
];

/// The plain kind of this name.
fn plain(word: &str) -> Option<Kind> {
    // What the fault points of a process that embeds the heartbeat call the same faults.
    let word = match word {
        "hang" => Kind::Deadlock.name(),
        "end" => Kind::Exit.name(),
        other => other,
    };
    PLAIN.into_iter().find(|kind| kind.name() == word)
}

fn number(text: &str) -> Result<u64, OrderError> {
    text.parse().map_err(|_| OrderError::Condition(format!("{text:?} is not a whole number")))
}

fn arm(kind: Kind, mut conditions: &[&str]) -> Result<Order, OrderError> {
    let mut armed = Armed { kind, after: 0, block: None };
    let no =
        |condition| Err(OrderError::Condition(format!("{} has no condition {condition:?}", kind.name())));
    loop {
        conditions = match conditions {
            [] => return Ok(Order::Arm(armed)),
            ["after", ..] if !kind.counts() => return no("after"),
            ["block", ..] if !kind.knows_block() => return no("block"),
            ["after", count, "transactions" | "transaction", rest @ ..] | ["after", count, rest @ ..] => {
                armed.after = number(count)?;
                rest
            }
            ["block", block, rest @ ..] => {
                armed.block = Some(number(block)?);
                rest
            }
            [word, ..] => {
                let reason =
                    format!("{word:?} is not a condition; conditions are: after N transactions, block B");
                return Err(OrderError::Condition(reason));
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn armed(kind: Kind, after: u64, block: Option<u64>) -> Order {
        Order::Arm(Armed { kind, after, block })
    }

    #[test]
    fn orders_are_read() {
        assert_eq!("arm panic".parse(), Ok(armed(Kind::Panic, 0, None)));
        assert_eq!("arm exit after 3 transactions block 9".parse(), Ok(armed(Kind::Exit, 3, Some(9))));
        assert_eq!(" arm spin  block 9 after 1".parse(), Ok(armed(Kind::Spin, 1, Some(9))));
        assert_eq!("arm slow 50ms".parse(), Ok(armed(Kind::Slow(Duration::from_millis(50)), 0, None)));
        assert_eq!("arm hang".parse(), Ok(armed(Kind::Deadlock, 0, None)));
        assert_eq!("arm end after 1".parse(), Ok(armed(Kind::Exit, 1, None)));
        assert_eq!("hook off".parse(), Ok(Order::Hook(false)));
        assert_eq!("guard on".parse(), Ok(Order::Guard(true)));
        assert_eq!("counters".parse(), Ok(Order::Counters));
        assert_eq!("arm drop-part block 9".parse(), Ok(armed(Kind::DropPart, 0, Some(9))));
        assert_eq!("arm mute-state".parse(), Ok(armed(Kind::MuteState(u64::MAX), 0, None)));
        assert_eq!("arm mute-state 3 block 9".parse(), Ok(armed(Kind::MuteState(3), 0, Some(9))));
        assert_eq!("arm mute-state block 9".parse(), Ok(armed(Kind::MuteState(u64::MAX), 0, Some(9))));
        assert_eq!("arm flood 20 after 1".parse(), Ok(armed(Kind::Flood(20), 1, None)));
    }

    #[test]
    fn what_is_listed_is_the_order_that_armed_it() {
        for order in [
            "arm panic after 2 transactions block 7",
            "arm slow 50ms",
            "arm core 64 after 1 transactions",
            "arm mute-state",
            "arm mute-state 3 block 2",
            "arm flood 20",
            "arm hook-hang",
            "arm worker-panic",
            "arm deaf",
            "arm never-ready",
            "arm send-panic after 2",
            "arm send-exit",
            "arm drop-result",
            "arm part-error",
            "arm ghost after 1",
            "arm net-block",
            "arm drop-part",
            "arm leader-exit",
            "arm exit-hang",
        ] {
            let Ok(Order::Arm(armed)) = order.parse() else { panic!("{order}") };
            assert_eq!(format!("arm {armed}"), order);
        }
    }

    #[test]
    fn nonsense_is_answered_with_what_is_allowed() {
        for bad in [
            "",
            "arm",
            "arm everything",
            "hook",
            "arm panic after",
            "arm panic block x",
            "arm slow 5",
            "list all",
            "guard",
            "arm flood",
            "arm flood 0",
            "arm core",
            "arm core 0",
            "arm mute-state 0",
            "arm deaf after 1",
            "arm send-exit block 3",
        ] {
            let error = bad.parse::<Order>().expect_err(bad).to_string();
            assert!(!error.contains('\n') && error.len() > 10, "{error}");
        }
    }
}
