//! What the thread at fault was doing, in one line, as far as the kernel's view of it tells. A
//! guess for a person: nothing rests on it.

use super::Evidence;
use super::thread::{SyscallEvidence, ThreadEvidence};

/// Names of threads that wait for the same thing beyond these are counted only.
const MOST_NAMES: usize = 3;
/// Bits of a futex operation that say what it does, without its flags (`uapi/linux/futex.h`).
const FUTEX_COMMAND: u64 = 0x7f;
/// `FUTEX_WAIT`, `FUTEX_LOCK_PI`, `FUTEX_WAIT_BITSET`, `FUTEX_WAIT_REQUEUE_PI` and
/// `FUTEX_LOCK_PI2`.
const FUTEX_WAITS: [u64; 5] = [0, 6, 9, 11, 13];

impl Evidence {
    /// What the thread `tid` was doing, as a clause that begins with its name; `None` if it is not
    /// among the evidence or the kernel did not tell.
    pub fn guess(&self, tid: i32) -> Option<String> {
        let thread = self.thread(tid)?;
        let name = thread.label();
        let call = thread.syscall.as_ref();
        let in_call = call.and_then(|call| call.name.as_deref());
        let told = match (thread.state.as_deref()?, in_call) {
            ("running", _) => match call.filter(|call| call.number >= 0) {
                Some(SyscallEvidence { name: Some(call), .. }) => format!("{name} runs in {call}"),
                _ => format!("{name} runs"),
            },
            ("stopped", _) => format!("{name} is stopped"),
            ("traced", _) => format!("{name} is held by a tracer"),
            ("zombie" | "dead", _) => format!("{name} has ended"),
            (state, call) => {
                let sleeps = if state == "disk_sleep" { "cannot be interrupted" } else { "sleeps" };
                let call = call.map(|call| format!(" in {call}")).unwrap_or_default();
                let wchan = thread.wchan.as_ref().map(|wchan| format!(" ({wchan})")).unwrap_or_default();
                format!("{name} {sleeps}{call}{wchan}{}", self.beside(thread))
            }
        };
        Some(told)
    }

    /// Who else waits for the same futex.
    fn beside(&self, thread: &ThreadEvidence) -> String {
        let Some(word) = futex(thread) else { return String::new() };
        let others: Vec<String> = self
            .threads
            .iter()
            .filter(|other| other.tid != thread.tid && futex(other) == Some(word))
            .map(ThreadEvidence::label)
            .collect();
        let more = others.len().saturating_sub(MOST_NAMES);
        let names = others.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
        match (others.len(), more) {
            (0, _) => format!(", at {word}, where no other thread waits"),
            (1, _) => format!(", at {word}, where {names} waits too"),
            (_, 0) => format!(", at {word}, where {names} wait too"),
            (_, more) => format!(", at {word}, where {names} and {more} more wait too"),
        }
    }
}

/// The address for which a thread waits by a futex.
fn futex(thread: &ThreadEvidence) -> Option<&str> {
    let call = thread.syscall.as_ref()?;
    let argument = |index: usize| call.arguments.get(index).map(String::as_str);
    let operation = || u64::from_str_radix(argument(1)?.strip_prefix("0x")?, 16).ok();
    match call.name.as_deref()? {
        "futex" if FUTEX_WAITS.contains(&(operation()? & FUTEX_COMMAND)) => argument(0),
        "futex_wait" => argument(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tid: i32, name: &str, state: &str, call: Option<(&str, [&str; 2])>) -> ThreadEvidence {
        ThreadEvidence {
            tid,
            watched_as: Some(name.to_owned()),
            state: Some(state.to_owned()),
            syscall: call.map(|(name, arguments)| SyscallEvidence {
                number: 1,
                name: Some(name.to_owned()),
                arguments: arguments.iter().map(ToString::to_string).collect(),
                ..SyscallEvidence::default()
            }),
            ..ThreadEvidence::default()
        }
    }

    fn guess(threads: &[ThreadEvidence]) -> Option<String> {
        let evidence = Evidence { threads: threads.to_vec(), ..Evidence::default() };
        evidence.guess(1)
    }

    const WAITS: Option<(&str, [&str; 2])> = Some(("futex", ["0x7f10", "0x80"]));

    #[test]
    fn who_waits_for_the_same_futex_is_named() {
        let mut first = thread(1, "exec-s0", "sleeping", WAITS);
        first.wchan = Some("futex_wait_queue".to_owned());
        let told = guess(&[first.clone()]).unwrap();
        assert_eq!(
            told,
            "exec-s0 sleeps in futex (futex_wait_queue), at 0x7f10, where no other thread waits"
        );
        let other = |tid: i32| thread(tid, &format!("w{tid}"), "sleeping", WAITS);
        let told = guess(&[first.clone(), other(2)]).unwrap();
        assert!(told.ends_with("where w2 waits too"), "{told}");
        let told = guess(&[first.clone(), other(2), other(3), other(4), other(5)]).unwrap();
        assert!(told.ends_with("where w2, w3, w4 and 1 more wait too"), "{told}");
        let wakes = thread(2, "w2", "sleeping", Some(("futex", ["0x7f10", "0x81"])));
        assert!(guess(&[first, wakes]).unwrap().ends_with("no other thread waits"), "a wake is no wait");
    }

    #[test]
    fn a_thread_that_runs_or_is_held_says_so() {
        assert_eq!(guess(&[thread(1, "a", "running", None)]).unwrap(), "a runs");
        assert_eq!(guess(&[thread(1, "a", "traced", None)]).unwrap(), "a is held by a tracer");
        let reads = thread(1, "a", "disk_sleep", Some(("pread64", ["0x3", "0x0"])));
        assert_eq!(guess(&[reads]).unwrap(), "a cannot be interrupted in pread64");
        assert_eq!(guess(&[]), None);
    }
}
