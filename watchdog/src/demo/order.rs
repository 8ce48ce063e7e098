//! Requests of the demo: a fault of a shard, over its socket, and the verdict of a sidecar, over
//! loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::Fault;
use super::pace::Pace;
use crate::fault_socket::FaultSocket;

/// Timeout of an answer, on a usual machine whose two cores run a dozen processes.
const ANSWER: Duration = Duration::from_secs(2);
/// Transactions to let pass before the fault. A part has a hundred or so, so it strikes amid one.
const IN_THE_MIDDLE: u32 = 25;
/// More than any status; an endless answer must not fill the memory.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Arms a fault.
pub(super) fn arm(port: &Path, fault: Fault, pace: Pace) -> Result<(), String> {
    let name = fault.name();
    let mut orders = vec![format!("arm {name} after {IN_THE_MIDDLE} transactions")];
    if fault == Fault::Panic {
        // Otherwise the process ends itself, and a watchdog has nothing to detect.
        orders.insert(0, "hook off".to_owned());
    }
    let refused = |what: String| format!("the fault {name} could not be armed at {}: {what}", port.display());
    let mut socket =
        FaultSocket::connect_within(port, pace.of(ANSWER)).map_err(|error| refused(error.to_string()))?;
    for order in &orders {
        let answer = socket.order(order).map_err(|error| refused(error.to_string()))?;
        if !answer.starts_with("ok") {
            return Err(refused(format!("\"{order}\" was answered with \"{answer}\"")));
        }
    }
    Ok(())
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

fn connect(to: SocketAddr, answers: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, answers)?;
    stream.set_read_timeout(Some(answers))?;
    stream.set_write_timeout(Some(answers))?;
    Ok(stream)
}
