//! Signals that are not for the supervisor: passed on to the command, as an init does, where the
//! command has a use for them.
//!
//! One that the command does not catch would end it. Nobody asks for that with SIGHUP or SIGUSR1 to
//! a supervisor, so it is not passed on then, and the log says so.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

use super::log::Log;
use super::signals;
use super::ward::Ward;

/// Those with names. Not among them: what a fault of the program itself raises, and what stops or
/// continues a terminal's jobs.
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

/// All that are passed on.
pub(super) fn passed_on() -> impl Iterator<Item = i32> {
    NAMED.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

/// Passes one on, and says to whom. SIGHUP is also for the sidecar, which then reads its config
/// again.
pub(super) fn pass_on(signal: i32, cmd: &Ward, sidecar: Option<&Ward>, log: &Log) {
    if signal == libc::SIGWINCH {
        // It ends nobody, and comes with every change of a window.
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
        // It waits for this signal from its first moments on; before, its config is about to be
        // read anyway. But until it does, the signal would end it.
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

/// Whether a process has a signal blocked, as one has that waits for it.
fn is_blocked(proc: &Path, pid: Pid, signal: i32) -> bool {
    masks(proc, pid, &[b"SigBlk:"]).is_some_and(|mask| holds(mask, signal))
}

/// Threads that are asked. A signal's fate is the same for all of a process, and who blocks one
/// does so in all of them.
const MOST_THREADS: usize = 64;

/// What these masks of a process hold, of any of its threads: while one waits for a signal by
/// sigwait, the kernel shows it as not blocked in that thread, so the main thread alone does not
/// tell.
fn masks(proc: &Path, pid: Pid, keys: &[&[u8]]) -> Option<u64> {
    let own = proc.join(pid.as_raw_nonzero().to_string());
    let mut all = masks_in(&own.join("status"), keys)?;
    if let Ok(tasks) = fs::read_dir(own.join("task")) {
        let tasks = tasks.flatten().take(MOST_THREADS);
        all |= tasks.filter_map(|task| masks_in(&task.path().join("status"), keys)).fold(0, |a, b| a | b);
    }
    Some(all)
}

/// As bytes: the name in the first line need not be text.
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
