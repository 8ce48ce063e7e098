//! The socket on which faults are ordered: a line in, a line out, by one thread that never waits
//! for anybody in particular. Whatever is no order ends the connection.

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

/// The most bytes of an order; the longest real one has about 200.
const MOST_LINE: usize = 512;
/// Connections at once: a test needs one, and the port must not be a way to use up descriptors.
const MOST_CONNECTIONS: usize = 8;
/// How long a connection may say nothing. A test that keeps one open between faults stays far
/// below.
const SILENCE: Duration = Duration::from_secs(600);
/// How often the silent ones are looked for.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Before the next attempt when accepting fails, as it does while descriptors are used up.
const PAUSE: Duration = Duration::from_millis(50);

/// Why the port could not be opened. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket is not to be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Its thread is not to be had.
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
        // An eventfd takes a one whatever it holds, short of 2^64 of them.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }
}

/// Opens the socket at `path` and lets this user, and root, arm faults in this process from now on,
/// by a thread of its own called `faults`. A socket that a dead process left there is replaced. The
/// file has mode 0600, and nobody else may be able to write to its folder.
///
/// # Errors
/// If the path is not to be had, or no thread.
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

/// Everything that the thread looks after.
struct Desk {
    listener: UnixListener,
    stop: Arc<OwnedFd>,
    talks: Vec<Talk>,
    points: &'static Points,
}

impl Desk {
    /// Waits for something to do and does it. False: it is over.
    fn turn(&mut self) -> bool {
        let mut ready = vec![PollFd::new(&self.stop, PollFlags::IN)];
        // Who comes while every place is taken waits in the backlog.
        let accepts = self.talks.len() < MOST_CONNECTIONS;
        let listened = if accepts { PollFlags::IN } else { PollFlags::empty() };
        ready.push(PollFd::new(&self.listener, listened));
        ready.extend(self.talks.iter().map(|talk| PollFd::new(&talk.stream, PollFlags::IN)));
        // Interrupted or not, what is ready is looked at.
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
                // Its mode keeps others from the socket; this holds whatever became of that.
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
    /// Of a line that has not ended.
    said: Vec<u8>,
    /// What is armed goes with it.
    tied: bool,
    /// When it last said something.
    heard: Instant,
}

impl Talk {
    /// Takes what it says. False: it is over.
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
            // Whoever says such a thing is not a test, or a test that is wrong: no reason to hear
            // more of it.
            Err(error) => {
                self.answer(&format!("error: {error}"));
                false
            }
        }
    }

    /// Whoever does not read its answers is not waited for.
    fn answer(&mut self, answer: &str) -> bool {
        self.stream.write_all(format!("{answer}\n").as_bytes()).is_ok()
    }
}

#[cfg(test)]
#[path = "port/tests.rs"]
mod tests;
