//! A minimal HTTP client for a sidecar.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// One HTTP response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// The body.
    pub body: String,
}

/// GET. `None` if nothing answers.
pub fn get(address: SocketAddr, path: &str) -> Option<Answer> {
    say(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// POST of JSON, with `host` as the Host header and further header lines.
pub fn post(address: SocketAddr, host: &str, path: &str, headers: &str, body: &str) -> Option<Answer> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    say(address, &format!("{head}{body}"))
}

/// Sends a complete request, which must ask to close the connection. Returns the response.
pub fn say(address: SocketAddr, request: &str) -> Option<Answer> {
    say_within(address, request, Duration::from_secs(10))
}

/// The same with another patience for each part of the response.
pub fn say_within(address: SocketAddr, request: &str, patience: Duration) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.set_write_timeout(Some(patience)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let text = read(&mut stream)?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some(Answer { code, body: if chunked { dechunk(body) } else { body.to_owned() } })
}

/// Reads until the response is complete: some servers leave the connection open all the same.
fn read(stream: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut some) = (Vec::new(), [0; 64 << 10]);
    loop {
        let read = stream.read(&mut some).ok()?;
        bytes.extend_from_slice(some.get(..read)?);
        if read == 0 || is_complete(&bytes) {
            return String::from_utf8(bytes).ok();
        }
    }
}

/// Whether there are as many bytes as the response says that its body has.
fn is_complete(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| bytes.len() >= end + 4 + length)
}

/// GET of JSON. `None` if nothing answers or the body is not JSON.
pub fn json(address: SocketAddr, path: &str) -> Option<Value> {
    serde_json::from_str(&get(address, path)?.body).ok()
}

fn dechunk(mut rest: &str) -> String {
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        let Some(chunk) = after.get(..size).filter(|_| size > 0) else { break };
        whole.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    whole
}

/// Below the ports that the kernel assigns to outgoing connections (from 32,768), so that none of
/// those collides.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A loopback address on which nothing listens and which no other test receives while this process
/// lives. A name in the abstract namespace stands for the port, and the kernel releases it however
/// this process ends.
#[track_caller]
pub fn free_address() -> SocketAddr {
    static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    // Processes that run at the same time start their search at different ports.
    let begin = (std::process::id().wrapping_mul(97) % u32::from(PORTS.end - PORTS.start)) as u16;
    for offset in 0..PORTS.end - PORTS.start {
        let port = PORTS.start + (begin + offset) % (PORTS.end - PORTS.start);
        let name = UnixAddr::from_abstract_name(format!("shard-tests-port-{port}")).expect("a short name");
        let Ok(reservation) = UnixListener::bind_addr(&name) else { continue };
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            reserved.push(reservation);
            return listener.local_addr().expect("a bound socket has an address");
        }
    }
    panic!("no free port between {} and {}", PORTS.start, PORTS.end);
}
