//! Collectors that misbehave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::api;

/// How a collector misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Accepts, reads and never answers.
    Silent,
    /// Answers 503 and asks to retry later.
    Busy,
    /// Answers 429 and asks to retry later.
    TooMany,
    /// Resets each connection after the first bytes.
    Resets,
}

/// A misbehaving collector on a loopback port.
#[derive(Debug)]
pub struct BadCollector {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Most connections that it holds open. A sender with more has lost count.
const MOST_CONNECTIONS: usize = 64;
/// How a request over HTTP begins.
const POST: &[u8] = b"POST ";
/// How a connection over gRPC begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

impl BadCollector {
    /// Starts the collector.
    #[track_caller]
    pub fn start(how: Bad) -> Self {
        let address = api::free_address();
        let listener = TcpListener::bind(address).expect("a reserved port is free");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let (asked, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (asked, stop) = (Arc::clone(&asked), Arc::clone(&stop));
            std::thread::spawn(move || serve(&listener, how, &asked, &stop))
        };
        Self { address, asked, stop, thread: Some(thread) }
    }

    /// How many HTTP requests or gRPC connections it has received.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for BadCollector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread checks for a stop every few milliseconds.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, how: Bad, asked: &AtomicU64, stop: &AtomicBool) {
    let mut open: Vec<TcpStream> = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = listener.accept()
            && open.len() < MOST_CONNECTIONS
            && stream.set_nonblocking(true).is_ok()
        {
            open.push(stream);
        }
        open.retain_mut(|stream| match stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(some) => {
                let head = buffer.get(..some).unwrap_or_default();
                let request = head.starts_with(POST);
                asked.fetch_add(u64::from(request || head.starts_with(PREFACE)), Ordering::Relaxed);
                answer(how, stream, request)
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        });
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Misbehaves as ordered. Returns whether the connection stays open.
fn answer(how: Bad, stream: &mut TcpStream, request: bool) -> bool {
    let status = match how {
        Bad::Silent => return true,
        Bad::Resets => {
            // A socket closed without lingering sends a reset, whatever was read from it.
            rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))
                .expect("a socket lingers");
            return false;
        }
        Bad::Busy => "503 Service Unavailable",
        Bad::TooMany => "429 Too Many Requests",
    };
    !request
        || stream
            .write_all(format!("HTTP/1.1 {status}\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n").as_bytes())
            .is_ok()
}
