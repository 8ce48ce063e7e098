//! What the demo asks of others: a fault of a shard, over its socket, and the verdict of a sidecar,
//! over loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Fault;
use super::pace::Pace;

/// How long an answer may take, on a usual machine whose two cores run a dozen processes.
const ANSWER: Duration = Duration::from_secs(2);
/// Transactions that are let through first. Parts have a hundred or so, so this is the middle of one.
const IN_THE_MIDDLE: u32 = 25;
/// More than any status; an answer without end must not fill the memory.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Arms a fault.
pub(super) fn arm(port: &Path, fault: Fault, pace: Pace) -> Result<(), String> {
    let name = fault.name();
    let mut orders = vec![format!("arm {name} after {IN_THE_MIDDLE} transactions")];
    if fault == Fault::Panic {
        // Otherwise the process ends itself, and there is nothing for a watchdog to see.
        orders.insert(0, "hook off".to_owned());
    }
    let refused = |what: String| format!("the fault {name} could not be armed at {}: {what}", port.display());
    for (order, answer) in
        orders.iter().zip(talk(port, &orders, pace).map_err(|error| refused(error.to_string()))?)
    {
        if !answer.starts_with("ok") {
            return Err(refused(format!("«{order}» was answered with «{answer}»")));
        }
    }
    Ok(())
}

fn talk(port: &Path, orders: &[String], pace: Pace) -> std::io::Result<Vec<String>> {
    let mut stream = connect_socket(port, pace.of(ANSWER))?;
    let mut answers = BufReader::new(stream.try_clone()?.take(LONGEST_ANSWER));
    let mut all = Vec::new();
    for order in orders {
        stream.write_all(format!("{order}\n").as_bytes())?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        all.push(answer.trim().to_owned());
    }
    Ok(all)
}

/// The verdict of a sidecar, or why there is none.
pub(super) fn verdict(listen: SocketAddr, pace: Pace) -> Result<String, String> {
    let answer = get(listen, "/api/v1/status", pace.of(ANSWER)).map_err(|error| error.to_string())?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let status: serde_json::Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let verdict = status.get("verdict").and_then(serde_json::Value::as_str);
    verdict.map(str::to_owned).ok_or_else(|| "its status has no verdict".to_owned())
}

fn get(listen: SocketAddr, path: &str, answers: Duration) -> std::io::Result<String> {
    let mut stream = connect(listen, answers)?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Never waits to be accepted: a shard that is stopped accepts nobody.
fn connect_socket(to: &Path, answers: Duration) -> std::io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(to)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(answers))?;
    stream.set_write_timeout(Some(answers))?;
    Ok(stream)
}

fn connect(to: SocketAddr, answers: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, answers)?;
    stream.set_read_timeout(Some(answers))?;
    stream.set_write_timeout(Some(answers))?;
    Ok(stream)
}
