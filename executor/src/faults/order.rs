//! The words in which tests order faults: one line an order.

use super::{Armed, Kind};
use crate::deadline;

/// What a test may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `arm KIND [after N transactions] [block B]`.
    Arm(Armed),
    /// `hook on`, `hook off`: whether a panic ends the process.
    Hook(bool),
    /// `list`.
    List,
    /// `disarm`: forget all that is armed.
    Disarm,
}

/// Why an order was not carried out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Not an order.
    #[error(
        "{0:?} is not an order; orders are: arm panic|exit|spin|deadlock|leader-exit|exit-hang|slow 50ms [after N transactions] [block B], hook on|off, list, disarm"
    )]
    Unknown(String),
    /// A fault whose conditions cannot be read.
    #[error("{0}")]
    Condition(String),
    /// More faults than can be armed.
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
            ["disarm"] => Ok(Self::Disarm),
            ["hook", "on"] => Ok(Self::Hook(true)),
            ["hook", "off"] => Ok(Self::Hook(false)),
            ["arm", "slow", by, conditions @ ..] => {
                let by = deadline::parse(by).map_err(OrderError::Condition)?;
                arm(Kind::Slow(by), conditions)
            }
            ["arm", kind, conditions @ ..] => {
                let kind = match *kind {
                    "panic" => Kind::Panic,
                    "exit" => Kind::Exit,
                    "spin" => Kind::Spin,
                    "deadlock" => Kind::Deadlock,
                    "leader-exit" => Kind::LeaderExit,
                    "exit-hang" => Kind::ExitHang,
                    _ => return Err(unknown()),
                };
                arm(kind, conditions)
            }
            _ => Err(unknown()),
        }
    }
}

fn arm(kind: Kind, mut conditions: &[&str]) -> Result<Order, OrderError> {
    let mut armed = Armed { kind, after: 0, block: None };
    let number = |text: &str| {
        text.parse::<u64>().map_err(|_| OrderError::Condition(format!("{text:?} is not a whole number")))
    };
    loop {
        conditions = match conditions {
            [] => return Ok(Order::Arm(armed)),
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
        assert_eq!("hook off".parse(), Ok(Order::Hook(false)));
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
        ] {
            let error = bad.parse::<Order>().expect_err(bad).to_string();
            assert!(!error.contains('\n') && error.len() > 10, "{error}");
        }
    }
}
