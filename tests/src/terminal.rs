//! A terminal of a test's own, in which a program runs that a person would look at.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use vt100::Parser;

use crate::wait;

/// A program in a terminal. Dropping it ends both.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    /// What a person sees from and types into.
    own: File,
    shown: Arc<Mutex<Shown>>,
}

struct Shown {
    parser: Parser,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parser.screen().contents())
    }
}

fn size(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a terminal has a size")
}

const fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    /// Starts `command` in a terminal of this size, as its controlling terminal.
    #[track_caller]
    pub fn start(mut command: Command, rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let own = openpt(flags).expect("a terminal");
        grantpt(&own).expect("a terminal");
        unlockpt(&own).expect("a terminal");
        let other = ioctl_tiocgptpeer(&own, flags).expect("its other end");
        tcsetwinsize(&other, winsize(rows, columns)).expect("a size");
        let handle = || other.try_clone().expect("a handle");
        command.stdin(handle()).stdout(handle()).stderr(handle()).env("TERM", "xterm-256color");
        // SAFETY: these calls are async-signal-safe and touch no memory of ours.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().expect("the program starts");
        // From here on only the child has the other end.
        drop((command, other));
        let parser = Parser::new(size(rows), size(columns), 0);
        let shown = Arc::new(Mutex::new(Shown { parser, bytes: Vec::new() }));
        let (mut from, into) = (File::from(own.try_clone().expect("a handle")), Arc::clone(&shown));
        let read = move || {
            let mut some = [0; 4096];
            // An error means that nobody has the other end open any more.
            while let Ok(count @ 1..) = from.read(&mut some) {
                let mut shown = into.lock().unwrap_or_else(PoisonError::into_inner);
                shown.parser.process(&some[..count]);
                shown.bytes.extend_from_slice(&some[..count]);
            }
        };
        std::thread::Builder::new().name("terminal".to_owned()).spawn(read).expect("a thread");
        Self { child, own: File::from(own), shown }
    }

    fn shown<T>(&self, what: impl FnOnce(&Shown) -> T) -> T {
        what(&self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is on the screen now.
    pub fn screen(&self) -> String {
        self.shown(|shown| shown.parser.screen().contents())
    }

    /// All that was ever written to it.
    pub fn bytes(&self) -> Vec<u8> {
        self.shown(|shown| shown.bytes.clone())
    }

    /// Waits until the screen has this text.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    /// Waits until the screen is as wanted. Returns it.
    #[track_caller]
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let began = std::time::Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(began.elapsed() < wait::GENEROUS, "{what} is not on the screen:\n{screen}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Types these keys.
    #[track_caller]
    pub fn keys(&mut self, keys: &[u8]) {
        self.own.write_all(keys).expect("somebody reads them");
    }

    /// Changes its size, as a person does with a window.
    #[track_caller]
    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).parser.set_size(size(rows), size(columns));
        tcsetwinsize(&self.own, winsize(rows, columns)).expect("a size");
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::kill_process(pid.expect("a pid"), signal);
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait::until("the end of the program", || child.try_wait().expect("a child"))
    }

    /// Whether it is as it was before the program began: the first screen, with a cursor, in which
    /// what is typed is shown and signals are sent.
    pub fn is_restored(&self) -> bool {
        let modes = tcgetattr(&self.own).expect("its modes").local_modes;
        let plain = modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        let screen = self.shown(|shown| {
            let screen = shown.parser.screen();
            !screen.alternate_screen() && !screen.hide_cursor()
        });
        plain && screen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
