//! Collectors: a real one (rotel), whose record of what arrived is read back, and bad ones of our own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::process::Process;
use crate::skip;
use crate::{api, wait};

/// Where the folder of tools has it; `.ci/run` puts it there, from PyPI's package `rotel`.
const IN_TOOLS: &str = "../target/tools/rotel/rotel-agent";

/// A real collector on loopback that writes down everything it is sent.
#[derive(Debug)]
pub struct Collector {
    process: Process,
    /// Where it takes OTLP over HTTP.
    pub http: SocketAddr,
    /// Where it takes OTLP over gRPC.
    pub grpc: SocketAddr,
}

impl Collector {
    /// Where it is installed: `SHARD_ROTEL`, else the folder of tools. If it is not, `test` is noted as skipped; in CI that
    /// is a failure.
    #[track_caller]
    pub fn installed_or_skip(test: &str) -> Option<PathBuf> {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(IN_TOOLS);
        let found = std::env::var_os("SHARD_ROTEL").map(PathBuf::from).unwrap_or(tools);
        if found.is_file() {
            return Some(found);
        }
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!ci, "CI needs the collector: tests/tools installs it");
        skip::note(
            test,
            "the collector rotel is not installed (tests/tools installs it, SHARD_ROTEL names it)",
        );
        None
    }

    /// Starts it, and waits until it listens.
    #[track_caller]
    pub fn start(binary: &Path, folder: &Path) -> Self {
        let (http, grpc) = (api::free_address(), api::free_address());
        let mut command = Command::new(binary);
        command
            .arg("start")
            .args(["--otlp-http-endpoint", &http.to_string(), "--otlp-grpc-endpoint", &grpc.to_string()])
            .args(["--exporter", "blackhole", "--debug-log-verbosity", "detailed"])
            .args(["--debug-log", "traces", "--debug-log", "metrics", "--debug-log", "logs"])
            .current_dir(folder);
        let process = Process::start_into_file("collector", command, &folder.join("collector.out"));
        wait::until("a collector that listens", || TcpStream::connect(http).ok());
        wait::until("a collector that listens for gRPC", || TcpStream::connect(grpc).ok());
        Self { process, http, grpc }
    }

    /// Waits until it has written down a line that contains `words`.
    #[track_caller]
    pub fn has(&self, words: &str) {
        self.process.line(words, 0, |line| line.contains(words).then_some(()));
    }

    /// Everything that it has written down.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }

    /// The spans that arrived.
    pub fn spans(&self) -> Vec<Span> {
        let lines = self.lines();
        let mut spans: Vec<Span> = Vec::new();
        for line in &lines {
            let field = |name: &str| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            };
            if line.trim_start().starts_with("Span #") {
                spans.push(Span::default());
            }
            let Some(span) = spans.last_mut() else { continue };
            let places = [
                (&mut span.trace, "Trace ID"),
                (&mut span.parent, "Parent ID"),
                (&mut span.id, "ID"),
                (&mut span.name, "Name"),
            ];
            for (place, name) in places {
                if let Some(value) = field(name).filter(|_| place.is_none()) {
                    *place = Some(value);
                }
            }
        }
        spans
    }
}

/// One span as the collector wrote it down.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// Trace id, hex.
    pub trace: Option<String>,
    /// Its own id, hex.
    pub id: Option<String>,
    /// Its parent's; empty for a root.
    pub parent: Option<String>,
    /// Its name.
    pub name: Option<String>,
}

/// How a bad collector is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Accepts, reads and never answers.
    Silent,
    /// Answers 503 and asks for patience.
    Busy,
    /// Answers 429 and asks for patience.
    TooMany,
    /// Resets each connection after the first bytes.
    Resets,
}

/// A collector that is no good, on a loopback port.
#[derive(Debug)]
pub struct BadCollector {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Connections that it keeps at most; a sender with more open has lost count.
const MOST_CONNECTIONS: usize = 64;

impl BadCollector {
    /// Starts it.
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

    /// How often it was sent something.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for BadCollector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It looks round every few milliseconds.
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
                asked.fetch_add(u64::from(head.starts_with(b"POST ")), Ordering::Relaxed);
                answer(how, stream, head.starts_with(b"POST "))
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        });
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Answers as it should not; whether the connection stays.
fn answer(how: Bad, stream: &mut TcpStream, request: bool) -> bool {
    let status = match how {
        Bad::Silent => return true,
        Bad::Resets => {
            // Closed with something unread, a socket sends a reset.
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
