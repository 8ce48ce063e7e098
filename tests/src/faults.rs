//! Orders faults through an executor's fault port.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::wait;

/// Sends each order to the socket at `port`, one per line, and checks that it was accepted. Returns
/// the answers.
#[track_caller]
pub fn order(port: &Path, orders: &[&str]) -> Vec<String> {
    let stream = wait::until("the fault port", || connect(port).ok());
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    over(&stream, &stream, orders)
}

/// Connects, or fails at once. A stopped process accepts no connection, and once its backlog is
/// full, the next connect would block forever.
pub fn connect(port: &Path) -> std::io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(port)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Sends orders over an existing connection.
#[track_caller]
pub(crate) fn over(read: impl Read, mut write: impl Write, orders: &[&str]) -> Vec<String> {
    let mut answers = BufReader::new(read);
    let mut all = Vec::new();
    for order in orders {
        writeln!(write, "{order}").expect("the fault port takes orders");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("the fault port answers");
        assert!(answer.starts_with("ok"), "'{order}' was not taken: {answer}");
        all.push(answer.trim_end().to_owned());
    }
    all
}

/// The counter of this name in the process behind the port, such as `results_dropped`.
#[track_caller]
pub fn counter(port: &Path, name: &str) -> u64 {
    let answers = order(port, &["counters"]);
    let line = answers.first().expect("one answer an order");
    let counts = line.split_whitespace().filter_map(|word| word.split_once('='));
    let found = counts.into_iter().find(|(counted, _)| *counted == name).and_then(|(_, n)| n.parse().ok());
    found.unwrap_or_else(|| panic!("no {name} in '{line}'"))
}

/// When a fault fired, if `line` reports one.
pub fn fired_at(line: &str) -> Option<u64> {
    line.contains("fault ").then_some(())?;
    line.split_once("fired at_monotonic_ns=")?.1.trim().parse().ok()
}
