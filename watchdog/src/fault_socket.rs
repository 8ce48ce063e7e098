//! The client of a fault socket, of an executor or of a process that embeds the heartbeat. It sends
//! a line and receives a line, and never waits without a limit.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use shard_heartbeat::Peer;

/// Timeout of an answer, on a usual machine whose two cores run a dozen processes.
const ANSWER: Duration = Duration::from_secs(2);
/// More than any answer; an endless one must not fill the memory.
const LONGEST_ANSWER: usize = 1 << 16;

/// A connection to a fault socket.
#[derive(Debug)]
pub(crate) struct FaultSocket {
    stream: BufReader<UnixStream>,
    peer: Peer,
    patience: Duration,
}

impl FaultSocket {
    /// Connects, with the timeout for answers on a usual machine.
    pub(crate) fn connect(to: &Path) -> io::Result<Self> {
        Self::connect_within(to, ANSWER)
    }

    /// The same, with another timeout for answers. Never waits to be accepted: a stopped process
    /// accepts no connection.
    pub(crate) fn connect_within(to: &Path, patience: Duration) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(to)?)?;
        let peer = Peer::of(&socket)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream: BufReader::new(stream), peer, patience })
    }

    /// The process that listens there.
    pub(crate) const fn peer(&self) -> Peer {
        self.peer
    }

    /// Sends an order and returns the answer. After an error the connection must not be used again:
    /// a late answer would be taken for that to the next order.
    pub(crate) fn order(&mut self, order: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{order}\n").as_bytes())?;
        let until = Instant::now() + self.patience;
        let mut answer = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.get_ref().set_read_timeout(Some(left))?;
            let some = self.stream.fill_buf()?;
            if some.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let end = some.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(some.len(), |end| end + 1);
            answer.extend_from_slice(&some[..taken]);
            self.stream.consume(taken);
            if end.is_some() {
                return Ok(String::from_utf8_lossy(&answer).trim_end().to_owned());
            }
            if answer.len() > LONGEST_ANSWER {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer has no end"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// The result of an order that is answered like this.
    fn answered(answer: &'static [u8], then: Duration) -> io::Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults");
        let listener = UnixListener::bind(&path).unwrap();
        let answers = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut order = String::new();
            BufReader::new(&stream).read_line(&mut order).unwrap();
            let mut sent = true;
            for part in answer.chunks(if then.is_zero() { answer.len().max(1) } else { 1 }) {
                sent = sent && stream.write_all(part).is_ok();
                std::thread::sleep(if sent { then } else { Duration::ZERO });
            }
            order
        });
        let told = FaultSocket::connect(&path).and_then(|mut socket| socket.order("list"));
        #[expect(clippy::disallowed_methods, reason = "it ends with the connection")]
        let order = answers.join().unwrap();
        assert_eq!(order, "list\n");
        told
    }

    #[test]
    fn whatever_is_answered_comes_to_a_line_or_an_error() {
        let endless: &'static [u8] = Box::leak(vec![b'x'; 2 * LONGEST_ANSWER].into_boxed_slice());
        for (answer, expected) in [
            (&b"ok\n"[..], Ok("ok")),
            (b"ok: a\r\nmore\n", Ok("ok: a")),
            (b"\xff\0\n", Ok("\u{fffd}\0")),
            (b"\n", Ok("")),
            (b"ok", Err(io::ErrorKind::UnexpectedEof)),
            (b"", Err(io::ErrorKind::UnexpectedEof)),
            (endless, Err(io::ErrorKind::InvalidData)),
        ] {
            let told = answered(answer, Duration::ZERO);
            assert_eq!(told.as_deref().map_err(io::Error::kind), expected);
        }
    }

    #[test]
    fn who_answers_byte_by_byte_has_no_more_time_than_others() {
        let began = Instant::now();
        let told = answered(&[b'x'; 40], Duration::from_millis(100));
        // The error kind of a read timeout varies with its moment.
        assert!(matches!(told.unwrap_err().kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock));
        assert!(began.elapsed() >= ANSWER);
    }

    #[test]
    fn nobody_there_is_an_error_at_once() {
        assert!(FaultSocket::connect(Path::new("/nowhere/faults")).is_err());
    }
}
