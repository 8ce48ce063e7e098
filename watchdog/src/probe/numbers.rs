//! Only those numbers of `stat` and `schedstat` that an observation needs: the watch loop reads
//! them each time, and needs neither the others nor memory to hold them.

/// The values taken from `stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Scheduler state, field 3.
    pub state: char,
    /// Kernel flags, field 9.
    pub flags: u32,
    /// Clock ticks in user mode, field 14.
    pub user: u64,
    /// Clock ticks in the kernel, field 15.
    pub system: u64,
    /// Start time in clock ticks since boot, field 22.
    pub start_time: u64,
    /// Begin and end of its program's code, fields 26 and 27.
    pub code: (u64, u64),
    /// Begin of its stack, field 28.
    pub start_stack: u64,
    /// Mask of pending signals, field 31.
    pub pending: u64,
    /// The CPU on which it ran last, field 39; `None` if it is missing.
    pub cpu: Option<u32>,
    /// Scheduling policy, field 41; `None` if it is missing.
    pub policy: Option<u32>,
    /// Exit code, field 52; `None` before Linux 3.5.
    pub exit_code: Option<i32>,
}

/// The values taken from `schedstat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedstat {
    /// CPU time, nanoseconds.
    pub cpu_ns: u64,
    /// Time spent runnable but not running, nanoseconds.
    pub run_delay_ns: u64,
    /// Number of time slices received.
    pub slices: u64,
}

impl Stat {
    /// Parses the text of the file; `None` if it is malformed.
    pub fn parse(text: &[u8]) -> Option<Self> {
        // The name, in parentheses, may contain anything, even parentheses.
        let name_ends = text.iter().rposition(|byte| *byte == b')')?;
        let mut fields = Fields { rest: text.get(name_ends + 1..)?, next: 3 };
        let state = char::from(*fields.field(3)?.first()?);
        Some(Self {
            state,
            flags: fields.number(9)?,
            user: fields.number(14)?,
            system: fields.number(15)?,
            start_time: fields.number(22)?,
            code: (fields.number(26)?, fields.number(27)?),
            start_stack: fields.number(28)?,
            pending: fields.number(31)?,
            cpu: fields.number(39),
            policy: fields.number(41),
            exit_code: fields.number(52),
        })
    }
}

impl Schedstat {
    /// Parses the text of the file; `None` if it is malformed.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = Fields { rest: text, next: 1 };
        let (cpu_ns, run_delay_ns) = (fields.number(1)?, fields.number(2)?);
        Some(Self { cpu_ns, run_delay_ns, slices: fields.number(3)? })
    }
}

/// Fields separated by spaces, in order.
struct Fields<'a> {
    rest: &'a [u8],
    /// Number of the first field in `rest`.
    next: u32,
}

impl<'a> Fields<'a> {
    /// The field with that number, which must be after those requested before.
    fn field(&mut self, number: u32) -> Option<&'a [u8]> {
        loop {
            let begin = self.rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
            let rest = self.rest.get(begin..)?;
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let (field, behind) = rest.split_at_checked(end)?;
            (self.rest, self.next) = (behind, self.next.saturating_add(1));
            if self.next > number {
                return Some(field);
            }
        }
    }

    fn number<T: std::str::FromStr>(&mut self, number: u32) -> Option<T> {
        std::str::from_utf8(self.field(number)?).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procfs::FromRead as _;

    #[test]
    fn the_numbers_are_those_that_another_reader_finds() {
        let text = std::fs::read("/proc/thread-self/stat").unwrap();
        let (stat, other) =
            (Stat::parse(&text).unwrap(), procfs::process::Stat::from_read(&text[..]).unwrap());
        assert_eq!((stat.state, stat.flags, stat.pending), (other.state, other.flags, other.signal));
        assert_eq!((stat.user, stat.system), (other.utime, other.stime));
        assert_eq!(stat.code, (other.startcode, other.endcode));
        assert_eq!((stat.start_time, stat.start_stack), (other.starttime, other.startstack));
        assert_eq!(stat.cpu.map(i64::from), other.processor.map(i64::from));
        assert_eq!((stat.policy, stat.exit_code), (other.policy, other.exit_code));
        assert!(stat.start_time > 0);
    }

    #[test]
    fn a_name_may_hold_anything() {
        let numbers: String = (3..=52).map(|field| format!(" {field}")).collect();
        for name in ["a", "a) R 1 2 3", "((", "\n", ""] {
            let text = format!("7 ({name}){}\n", numbers.replacen('3', "S", 1));
            let stat = Stat::parse(text.as_bytes()).unwrap();
            let expected = Stat {
                state: 'S',
                flags: 9,
                user: 14,
                system: 15,
                start_time: 22,
                code: (26, 27),
                start_stack: 28,
                pending: 31,
                cpu: Some(39),
                policy: Some(41),
                exit_code: Some(52),
            };
            assert_eq!(stat, expected, "{name:?}");
        }
    }

    #[test]
    fn what_has_another_form_tells_nothing() {
        for text in ["", ")", "7 (a)", "7 (a) S 1 2 3", "7 (a) S 1 1 1 0 -1 x 0 0 0 0 30 12", "garbage"] {
            assert_eq!(Stat::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Schedstat::parse(b"1 2\n"), None);
        assert_eq!(Schedstat::parse(b"-1 2 3\n"), None);
        let sched = Schedstat { cpu_ns: 5, run_delay_ns: 6, slices: 7 };
        assert_eq!(Schedstat::parse(b"5 6 7\n"), Some(sched));
    }
}
