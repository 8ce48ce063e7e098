//! Which child has ended, told without reaping it: as long as a child is not reaped, its number and
//! that of its process group are its own.

use std::io;
use std::mem::MaybeUninit;

use rustix::process::{Pid, Signal, WaitOptions};

use super::signals;

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// As a shell would tell it: the exit code, or 128 and the signal.
    pub(super) code: u8,
    /// `exit code 1`, `SIGKILL`.
    pub(super) how: String,
}

/// Whether ends can be seen at all.
///
/// # Errors
/// If the kernel or a container's profile does not allow `waitid`.
pub(super) fn check() -> io::Result<()> {
    match ended(libc::P_ALL, 0) {
        Err(error) if error.raw_os_error() != Some(libc::ECHILD) => Err(error),
        _ => Ok(()),
    }
}

/// A child that has ended, whichever; `None` if none has.
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

/// Lets go of a child that has ended. From now on its number may be another's.
pub(super) fn reap(child: Pid) {
    // It has ended, so this does not wait; that it is no child any more is as good.
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
    // SAFETY: all bytes zero is a valid siginfo_t, and the call above has at most filled it in.
    // Where no child has ended, the pid in it stays zero; else these are the fields that waitid
    // gives.
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
        libc::CLD_KILLED | libc::CLD_DUMPED => {
            let name =
                Signal::from_named_raw(status).map_or_else(|| format!("signal {status}"), signals::name);
            End { code: low(128 + status), how: name }
        }
        _ => End { code: u8::MAX, how: "unknown".to_owned() },
    }
}
