//! How the whole process handles signals, panics and priorities.

use std::io;

use rustix::process::Signal;

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// The signals that the main thread waits for, blocked in every thread.
#[derive(Clone, Copy)]
pub struct Signals(libc::sigset_t);

/// If a panic cannot even be printed, because nobody reads the pipe, the process ends after this
/// many seconds.
const PRINT_WITHIN_SECONDS: libc::c_uint = 2;

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread and in all threads that it starts.
pub fn block() -> io::Result<Signals> {
    // SAFETY: a sigset_t is plain data that sigemptyset fills before anything reads it; the other
    // calls get pointers to it and nothing else.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
            0 => Ok(Signals(set)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Signals {
    /// Waits for the next signal.
    pub fn wait(&self) -> Heard {
        let mut signal = 0;
        // SAFETY: both pointers point to live values of the right type.
        let answer = unsafe { libc::sigwait(&raw const self.0, &raw mut signal) };
        if answer == 0 && signal == libc::SIGHUP { Heard::Reload } else { Heard::Stop }
    }
}

/// Makes the main thread stop, as SIGTERM from outside would.
pub fn stop_ourselves() {
    // SAFETY: kill has no memory effects; the signal is blocked in every thread, and the main
    // thread receives it.
    let _ = unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
}

/// A sidecar that has lost a thread must not live on as if it watched: any panic ends it, and its
/// supervisor restarts it.
pub fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // SAFETY: alarm has no memory effects. Its signal ends the process if the printing hangs.
        unsafe { libc::alarm(PRINT_WITHIN_SECONDS) };
        print(panic);
        std::process::abort();
    }));
}

/// Gives this thread real-time priority and prevents the process's memory from being paged out.
/// Where that is not allowed, logs it and continues.
pub fn be_real_time(priority: i32) {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: pid 0 is the calling thread; the pointer points to a live value.
    let scheduled = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameter)
    };
    if scheduled == 0 {
        tracing::info!(priority, "the watch thread runs with SCHED_FIFO");
    } else {
        let error = io::Error::last_os_error();
        tracing::warn!(%error, priority, "no real-time priority for the watch thread: detection may be late on a busy machine; give CAP_SYS_NICE or LimitRTPRIO=");
    }
    // SAFETY: mlockall takes no pointers.
    let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    if locked != 0 {
        let error = io::Error::last_os_error();
        tracing::warn!(%error, "memory is not locked: a machine short of memory may page the watchdog out; give LimitMEMLOCK=");
    }
}

/// The name of any signal, real-time ones included.
pub fn name_of(number: i32) -> String {
    let first = libc::SIGRTMIN();
    match Signal::from_named_raw(number) {
        Some(signal) => name(signal),
        None if number >= first => format!("SIGRTMIN+{}", number - first),
        None => format!("signal {number}"),
    }
}

/// The name of a signal in its usual form.
pub fn name(signal: Signal) -> String {
    let name = match signal {
        Signal::HUP => "SIGHUP",
        Signal::INT => "SIGINT",
        Signal::QUIT => "SIGQUIT",
        Signal::ILL => "SIGILL",
        Signal::TRAP => "SIGTRAP",
        Signal::ABORT => "SIGABRT",
        Signal::BUS => "SIGBUS",
        Signal::FPE => "SIGFPE",
        Signal::KILL => "SIGKILL",
        Signal::USR1 => "SIGUSR1",
        Signal::SEGV => "SIGSEGV",
        Signal::USR2 => "SIGUSR2",
        Signal::PIPE => "SIGPIPE",
        Signal::ALARM => "SIGALRM",
        Signal::TERM => "SIGTERM",
        Signal::WINCH => "SIGWINCH",
        Signal::XCPU => "SIGXCPU",
        Signal::SYS => "SIGSYS",
        other => return format!("signal {}", other.as_raw()),
    };
    name.to_owned()
}
