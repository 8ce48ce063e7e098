//! Signals that are not meant for the supervisor. It forwards them to the command, as an init does,
//! if the command handles them.
//!
//! A signal that the command does not catch would end it. Nobody who sends SIGHUP or SIGUSR1 to a
//! supervisor wants that, so then the signal is not forwarded, and the log says so.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

use super::log::Log;
use super::ward::Ward;
use crate::signals;

/// The forwarded signals that have names. Signals that a fault of the program itself raises, and
/// those that stop or continue a terminal's jobs, are excluded.
const NAMED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGIO,
    libc::SIGWINCH,
];

/// All signals that are forwarded.
pub(super) fn passed_on() -> impl Iterator<Item = i32> {
    NAMED.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

/// Forwards a signal, and logs to whom. SIGHUP also goes to the sidecar, which then reloads its
/// config.
pub(super) fn pass_on(signal: i32, cmd: &Ward, sidecar: Option<&Ward>, log: &Log) {
    if signal == libc::SIGWINCH {
        // It ends no process, and comes with every change of a window.
        cmd.signal(signal);
        return;
    }
    let name = signals::name_of(signal);
    let to_sidecar = if signal == libc::SIGHUP { reload(sidecar) } else { "" };
    match cmd.running().map(|pid| (pid, is_caught(Path::new("/proc"), pid, signal))) {
        Some((pid, Some(true))) => {
            cmd.signal(signal);
            log.say(format_args!("{name}: passed on to CMD pid {}{to_sidecar}", pid.as_raw_nonzero()));
        }
        Some((pid, caught)) => {
            let why = if caught.is_some() {
                "it does not catch it and would end"
            } else {
                "/proc does not tell whether it catches it"
            };
            let pid = pid.as_raw_nonzero();
            log.say(format_args!(
                "{name}: not passed on to CMD pid {pid}: {why}; send it to that pid if that is wanted{to_sidecar}"
            ));
        }
        None => log.say(format_args!("{name}: CMD does not run and does not get it{to_sidecar}")),
    }
}

fn reload(sidecar: Option<&Ward>) -> &'static str {
    match sidecar {
        // The sidecar waits for this signal from early in its life; before that, it is about to
        // read its config anyway. But until it waits, the signal would end it.
        Some(sidecar)
            if sidecar.running().is_some_and(|pid| is_blocked(Path::new("/proc"), pid, libc::SIGHUP)) =>
        {
            sidecar.signal(libc::SIGHUP);
            "; the sidecar reads its config again"
        }
        Some(_) => "; the sidecar is only starting, and reads its config now",
        None => "",
    }
}

/// Whether a process catches, ignores or blocks a signal; `None` if the kernel does not say.
fn is_caught(proc: &Path, pid: Pid, signal: i32) -> Option<bool> {
    Some(holds(masks(proc, pid, &[b"SigCgt:", b"SigIgn:", b"SigBlk:"])?, signal))
}

/// Whether a process blocks a signal, as one does that waits for it.
fn is_blocked(proc: &Path, pid: Pid, signal: i32) -> bool {
    masks(proc, pid, &[b"SigBlk:"]).is_some_and(|mask| holds(mask, signal))
}

/// Limit of threads that are read. The disposition of a signal is that of the whole process, and a
/// process that blocks one does so in all threads.
const MOST_THREADS: usize = 64;

/// The union of these masks over the threads of a process. While a thread waits for a signal by
/// sigwait, the kernel shows it as not blocked in that thread, so reading the main thread is not
/// enough.
fn masks(proc: &Path, pid: Pid, keys: &[&[u8]]) -> Option<u64> {
    let own = proc.join(pid.as_raw_nonzero().to_string());
    let mut all = masks_in(&own.join("status"), keys)?;
    if let Ok(tasks) = fs::read_dir(own.join("task")) {
        let tasks = tasks.flatten().take(MOST_THREADS);
        all |= tasks.filter_map(|task| masks_in(&task.path().join("status"), keys)).fold(0, |a, b| a | b);
    }
    Some(all)
}

/// Read as bytes: the name in the first line need not be text.
fn masks_in(status: &Path, keys: &[&[u8]]) -> Option<u64> {
    let status = fs::read(status).ok()?;
    let mask = |key: &&[u8]| {
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(*key))?;
        u64::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 16).ok()
    };
    keys.iter().try_fold(0, |all, key| Some(all | mask(key)?))
}

fn holds(mask: u64, signal: i32) -> bool {
    u32::try_from(signal - 1).ok().and_then(|bit| mask.checked_shr(bit)).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_caught_is_read_from_the_masks() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("7");
        std::fs::create_dir(&own).unwrap();
        let pid = Pid::from_raw(7).unwrap();
        assert_eq!(is_caught(folder.path(), pid, libc::SIGHUP), None, "nobody says");
        // Caught: SIGHUP and the last real-time signal; ignored: SIGUSR1; blocked: SIGUSR2.
        let status =
            b"Name:\t\xff\nSigBlk:\t0000000000000800\nSigIgn:\t0000000000000200\nSigCgt:\t8000000000000001\n";
        std::fs::write(own.join("status"), status).unwrap();
        for (signal, caught) in [
            (libc::SIGHUP, true),
            (libc::SIGUSR1, true),
            (libc::SIGUSR2, true),
            (64, true),
            (libc::SIGQUIT, false),
            (34, false),
        ] {
            assert_eq!(is_caught(folder.path(), pid, signal), Some(caught), "signal {signal}");
        }
        assert!(
            is_blocked(folder.path(), pid, libc::SIGUSR2) && !is_blocked(folder.path(), pid, libc::SIGHUP)
        );
        // Its main thread waits for SIGHUP, so only the others show that it is blocked.
        let other = own.join("task/8");
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("status"), b"SigBlk:\t0000000000000801\n").unwrap();
        assert!(is_blocked(folder.path(), pid, libc::SIGHUP));
    }

    #[test]
    fn what_stops_the_supervisor_is_not_passed_on() {
        let own = [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGSEGV, libc::SIGABRT, libc::SIGTSTP];
        assert!(passed_on().all(|signal| !own.contains(&signal)));
        assert_eq!(signals::name_of(libc::SIGRTMIN() + 3), "SIGRTMIN+3");
    }
}
