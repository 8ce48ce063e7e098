//! A service manager of the test's own: just the socket that `NOTIFY_SOCKET` names.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::wait;

/// Bytes, more than the longest message.
const MOST: usize = 8 << 10;

/// A manager that receives messages.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// Creates a manager that listens in `folder`.
    #[track_caller]
    pub fn listen(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket in a folder of the test's own");
        socket.set_nonblocking(true).expect("a socket can be told not to wait");
        Self { socket, path }
    }

    /// Makes everything that the command starts notify this manager, which expects a sign of life
    /// from `pid` within `patience`; without a pid, from whichever process reads the setting.
    pub fn manages(&self, command: &mut Command, patience: Option<Duration>, pid: Option<u32>) {
        command.env("NOTIFY_SOCKET", &self.path);
        if let Some(patience) = patience {
            command.env("WATCHDOG_USEC", patience.as_micros().to_string());
        }
        if let Some(pid) = pid {
            command.env("WATCHDOG_PID", pid.to_string());
        }
    }

    /// The next message, if any.
    #[track_caller]
    pub fn heard(&self) -> Option<String> {
        let mut bytes = [0; MOST];
        match self.socket.recv(&mut bytes) {
            Ok(length) => Some(String::from_utf8_lossy(&bytes[..length]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a message with a line that begins with `line`. Returns it and those before it.
    #[track_caller]
    pub fn until(&self, line: &str) -> Vec<String> {
        let mut all = Vec::new();
        wait::until(&format!("{line} from the process"), || {
            while let Some(message) = self.heard() {
                let found = message.lines().any(|said| said.starts_with(line));
                all.push(message);
                if found {
                    return Some(());
                }
            }
            None
        });
        all
    }
}
