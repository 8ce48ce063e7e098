//! The socket on which faults are ordered: a line in, a line out, served by one thread that never
//! waits for any single client. A line that is not an order ends the connection.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::order::Order;
use super::points::{POINTS, Points};
use super::socket::{self, SocketError, SocketFile};
use crate::peer::Peer;

/// The longest order, in bytes; the longest real one has about 200.
const MOST_LINE: usize = 512;
/// Connections at once: a test needs one, and the port must not be a way to use up descriptors.
const MOST_CONNECTIONS: usize = 8;
/// How long a connection may be silent. A test that keeps one open between faults stays far below.
const SILENCE: Duration = Duration::from_secs(600);
/// How often silent connections are checked.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Pause before the next attempt when accepting fails, for example while no descriptors are left.
const PAUSE: Duration = Duration::from_millis(50);

/// Why the port could not be opened. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket could not be bound.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Its thread could not be started.
    #[error("cannot start a thread for the fault socket: {0}. Raise the limit of threads or of open files")]
    Thread(std::io::Error),
}

/// The open port. When it is dropped, its socket is removed and everything is disarmed.
#[derive(Debug)]
pub struct Port {
    stop: Arc<OwnedFd>,
    _file: SocketFile,
}

impl Drop for Port {
    fn drop(&mut self) {
        // Adding one to an eventfd succeeds unless it already holds nearly 2^64.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }
}

/// Opens the socket at `path`, through which this user and root can arm faults in this process from
/// now on; a thread called `faults` serves it. A socket left there by a dead process is replaced.
/// The file has mode 0600, and nobody else may be able to write to its folder.
///
/// # Errors
/// If the socket cannot be bound at that path, or the thread cannot be started.
pub fn serve(path: &Path) -> Result<Port, ServeError> {
    serve_points(path, &POINTS)
}

fn serve_points(path: &Path, points: &'static Points) -> Result<Port, ServeError> {
    let (listener, file) = socket::bind(path)?;
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let stop = Arc::new(eventfd(0, flags).map_err(|error| ServeError::Thread(error.into()))?);
    let mut desk = Desk { listener, stop: Arc::clone(&stop), talks: Vec::new(), points };
    let serve = move || {
        while desk.turn() {}
        points.disarm();
    };
    std::thread::Builder::new().name("faults".to_owned()).spawn(serve).map_err(ServeError::Thread)?;
    Ok(Port { stop, _file: file })
}

/// Everything that the thread serves.
struct Desk {
    listener: UnixListener,
    stop: Arc<OwnedFd>,
    talks: Vec<Talk>,
    points: &'static Points,
}

impl Desk {
    /// Waits for events and handles them. Returns false when the port is to close.
    fn turn(&mut self) -> bool {
        let mut ready = vec![PollFd::new(&self.stop, PollFlags::IN)];
        // While all places are taken, new connections wait in the backlog.
        let accepts = self.talks.len() < MOST_CONNECTIONS;
        let listened = if accepts { PollFlags::IN } else { PollFlags::empty() };
        ready.push(PollFd::new(&self.listener, listened));
        ready.extend(self.talks.iter().map(|talk| PollFd::new(&talk.stream, PollFlags::IN)));
        // Handles what is ready even if the poll was interrupted.
        let _ = poll(&mut ready, Some(&LOOK_EVERY));
        let happened: Vec<bool> = ready.iter().map(|one| !one.revents().is_empty()).collect();
        drop(ready);
        if happened[0] {
            return false;
        }
        let (now, points) = (Instant::now(), self.points);
        let mut spoke = happened[2..].iter();
        self.talks.retain_mut(|talk| {
            let goes_on = if spoke.next() == Some(&true) {
                talk.listen(points, now)
            } else {
                now.duration_since(talk.heard) < SILENCE
            };
            if !goes_on && talk.tied {
                points.disarm();
            }
            goes_on
        });
        if accepts && happened[1] {
            self.accept(now);
        }
        true
    }

    fn accept(&mut self, now: Instant) {
        match self.listener.accept() {
            Ok((stream, _)) => {
                // The socket's mode already keeps others out; this check holds even if the mode was
                // changed.
                let own = Peer::of(&stream).is_ok_and(|peer| peer.is_own_or_root());
                if own && stream.set_nonblocking(true).is_ok() {
                    self.talks.push(Talk { stream, said: Vec::new(), tied: false, heard: now });
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// One connection.
struct Talk {
    stream: UnixStream,
    /// The received part of an unfinished line.
    said: Vec<u8>,
    /// Whether everything is disarmed when it ends.
    tied: bool,
    /// When it last sent anything.
    heard: Instant,
}

impl Talk {
    /// Reads and handles what it sent. Returns false when the connection is to end.
    fn listen(&mut self, points: &Points, now: Instant) -> bool {
        let mut bytes = [0; MOST_LINE];
        let got = match self.stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(got) => got,
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        self.heard = now;
        self.said.extend_from_slice(&bytes[..got]);
        while let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.said.drain(..=end).collect();
            if line.len() > MOST_LINE {
                return self.refuse_length();
            }
            if !self.obey(points, &String::from_utf8_lossy(&line)) {
                return false;
            }
        }
        self.said.len() < MOST_LINE || self.refuse_length()
    }

    fn refuse_length(&mut self) -> bool {
        self.answer(&format!("error: an order has at most {MOST_LINE} bytes"));
        false
    }

    fn obey(&mut self, points: &Points, line: &str) -> bool {
        match line.parse::<Order>() {
            Ok(order) => {
                self.tied |= order == Order::Tied;
                let answer = points.obey(order).unwrap_or_else(|error| format!("error: {error}"));
                self.answer(&answer)
            }
            // The client is not a test, or a faulty one: no reason to read more from it.
            Err(error) => {
                self.answer(&format!("error: {error}"));
                false
            }
        }
    }

    /// Sends an answer. A client that does not read its answers is not waited for: then this
    /// returns false.
    fn answer(&mut self, answer: &str) -> bool {
        self.stream.write_all(format!("{answer}\n").as_bytes()).is_ok()
    }
}

#[cfg(test)]
#[path = "port/tests.rs"]
mod tests;
