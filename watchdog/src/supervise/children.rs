//! Detects which child has ended, without reaping it: until a child is reaped, its pid and its
//! process group id cannot be reused.

use std::fs;
use std::io;
use std::mem::MaybeUninit;

use rustix::process::{Pid, WaitOptions};

use crate::signals;

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// By the convention of shells: the exit code, or 128 plus the signal.
    pub(super) code: u8,
    /// `exit code 1`, `SIGKILL`.
    pub(super) how: String,
}

/// Checks that the ends of children can be detected.
///
/// # Errors
/// If the kernel or a container's profile does not allow `waitid`.
pub(super) fn check() -> io::Result<()> {
    match ended(libc::P_ALL, 0) {
        Err(error) if error.raw_os_error() != Some(libc::ECHILD) => Err(error),
        _ => Ok(()),
    }
}

/// Any child that has ended; `None` if none has.
pub(super) fn any_ended() -> Option<Pid> {
    let (pid, _) = ended(libc::P_ALL, 0).ok()??;
    Some(pid)
}

/// How this child ended; `None` if it has not.
pub(super) fn how_ended(child: Pid) -> Option<End> {
    let id = libc::id_t::try_from(child.as_raw_nonzero().get()).ok()?;
    let (_, end) = ended(libc::P_PID, id).ok()??;
    Some(end)
}

/// How often to read the list of children until two readings agree.
const READINGS: usize = 4;

/// Whether the calling thread, which starts all children and adopts all orphans, has no children
/// but these, ended or not. Also `false` where the kernel does not say (it has the file since 3.5,
/// if built for checkpoints).
///
/// Two system calls, however many processes the machine has: a scan of `/proc` takes 10 µs for each
/// of them, and longer where CPUs are scarce.
pub(super) fn are_only(known: &[Pid]) -> bool {
    // A child that is reaped while the list is read can hide the next one, so one reading proves
    // nothing.
    let mut before = None;
    for _ in 0..READINGS {
        let now = fs::read_to_string("/proc/thread-self/children").ok();
        if now.is_none() {
            return false;
        }
        if now == before {
            break;
        }
        before = now;
    }
    before.is_some_and(|list| are_among(&list, known))
}

fn are_among(list: &str, known: &[Pid]) -> bool {
    let known = |number: &str| {
        number.parse().is_ok_and(|number: i32| known.iter().any(|pid| pid.as_raw_nonzero().get() == number))
    };
    list.split_ascii_whitespace().all(known)
}

/// Reaps a child that has ended. From now on its pid may be reused.
pub(super) fn reap(child: Pid) {
    // It has ended, so this does not wait; if it is no longer a child, that is as good.
    let _ = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
}

fn ended(which: libc::idtype_t, id: libc::id_t) -> io::Result<Option<(Pid, End)>> {
    let mut told = MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: `told` is valid for a write of a siginfo_t.
        if unsafe { libc::waitid(which, id, told.as_mut_ptr(), options) } == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: all bytes zero is a valid siginfo_t, and the call above has at most filled it in. If
    // no child has ended, the pid in it stays zero; else these are the fields that waitid sets.
    let (pid, code, status) = unsafe {
        let told = told.assume_init();
        (told.si_pid(), told.si_code, told.si_status())
    };
    Ok(Pid::from_raw(pid).map(|pid| (pid, end(code, status))))
}

fn end(code: i32, status: i32) -> End {
    let low = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    match code {
        libc::CLD_EXITED => End { code: low(status), how: format!("exit code {status}") },
        libc::CLD_KILLED | libc::CLD_DUMPED => End { code: low(128 + status), how: signals::name_of(status) },
        _ => End { code: u8::MAX, how: "unknown".to_owned() },
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_children_is_held_against_those_that_are_known() {
        let known = [Pid::from_raw(7).unwrap(), Pid::from_raw(77).unwrap()];
        for (list, only) in [("", true), ("7 ", true), ("77 7 ", true), ("7 8 ", false), ("777 ", false)] {
            assert_eq!(are_among(list, &known), only, "{list:?}");
        }
        assert!(!are_among("seven ", &known));
    }

    #[test]
    fn a_child_that_nobody_knows_is_noticed() {
        // In a separate thread, because other tests start children too.
        let told = std::thread::spawn(|| {
            let before = are_only(&[]);
            let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            let pid = Pid::from_child(&child);
            let told = (before, are_only(&[pid]), are_only(&[]));
            child.kill().unwrap();
            let ended = are_only(&[]);
            child.wait().unwrap();
            (told, ended, are_only(&[]))
        });
        assert_eq!(told.join().unwrap(), ((true, true, false), false, true));
    }
}
