//! Whether a process was sent no signal that would end it, by what the kernel shows of it. Only
//! what is certain counts: where anything is unknown, it may have been.

use procfs::process::Process;

use super::TargetRecord;

/// `PF_EXITING` among the flags in `/proc/PID/stat`.
const EXITING: u32 = 0x4;

/// Whether this very process lives, and is neither ending nor about to receive a signal. Then
/// nobody who might have sent it one has done so: SIGKILL is pending or ends the process at once,
/// and SIGABRT makes it dump core.
pub fn is_unharmed(target: TargetRecord) -> bool {
    let Ok(process) = Process::new(target.pid) else { return false };
    // Signals first: a process that ends after this was read has no signal pending any more.
    let (Ok(status), Ok(stat)) = (process.status(), process.stat()) else { return false };
    let pending = status.sigpnd | status.shdpnd;
    let ending = matches!(stat.state, 'Z' | 'X' | 'x') || stat.flags & EXITING != 0;
    stat.starttime == target.start_time && pending == 0 && status.core_dumping != Some(true) && !ending
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::process::{Child, Command};

    use rustix::process::{Pid, Signal, kill_process};

    fn record(pid: i32) -> TargetRecord {
        let start_time =
            Process::new(pid).and_then(|process| process.stat()).map_or(0, |stat| stat.starttime);
        TargetRecord { pid, start_time, incarnation: 1 }
    }

    fn child() -> (Child, TargetRecord) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let target = record(i32::try_from(child.id()).unwrap());
        (child, target)
    }

    #[test]
    fn who_lives_on_was_sent_nothing() {
        let me = record(i32::try_from(std::process::id()).unwrap());
        assert!(is_unharmed(me));
        assert!(!is_unharmed(TargetRecord { start_time: me.start_time + 1, ..me }), "another with that pid");
        assert!(!is_unharmed(TargetRecord { pid: 0, ..me }));
    }

    #[test]
    fn who_is_dead_or_has_a_signal_pending_may_have_been_sent_one() {
        let (mut child, target) = child();
        assert!(is_unharmed(target));
        // The child has not been reaped, so its pid is its own.
        let signal = |signal| kill_process(Pid::from_raw(target.pid).unwrap(), signal).unwrap();
        signal(Signal::STOP);
        while Process::new(target.pid).unwrap().stat().unwrap().state != 'T' {
            std::thread::yield_now();
        }
        assert!(is_unharmed(target), "a stop ends nobody");
        signal(Signal::TERM);
        assert!(!is_unharmed(target), "SIGTERM is pending while it is stopped");
        signal(Signal::KILL);
        while Process::new(target.pid).unwrap().stat().unwrap().state != 'Z' {
            std::thread::yield_now();
        }
        assert!(!is_unharmed(target), "a zombie");
        while child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        assert!(!is_unharmed(target), "nobody");
    }
}
