//! A service manager of the test's own: the socket that `NOTIFY_SOCKET` names, and nothing else.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::wait;

/// More than the longest message.
const MOST: usize = 8 << 10;

/// The manager.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// One that listens in `folder`.
    #[track_caller]
    pub fn listen(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket in a folder of the test's own");
        socket.set_nonblocking(true).expect("a socket can be told not to wait");
        Self { socket, path }
    }

    /// Has what the command starts tell this manager, which asks `pid` for a sign of life within
    /// `patience`; no pid: whoever reads it.
    pub fn manages(&self, command: &mut Command, patience: Option<Duration>, pid: Option<u32>) {
        command.env("NOTIFY_SOCKET", &self.path);
        if let Some(patience) = patience {
            command.env("WATCHDOG_USEC", patience.as_micros().to_string());
        }
        if let Some(pid) = pid {
            command.env("WATCHDOG_PID", pid.to_string());
        }
    }

    /// The next message, if there is one.
    #[track_caller]
    pub fn heard(&self) -> Option<String> {
        let mut bytes = [0; MOST];
        match self.socket.recv(&mut bytes) {
            Ok(length) => Some(String::from_utf8_lossy(&bytes[..length]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a message with this line; gives it, and those before it.
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
