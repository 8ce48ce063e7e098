//! Collectors: a real one (rotel), whose record of what arrived is read back, and misbehaving ones
//! of our own; and a target that reports which trace its work belongs to.

mod bad;
mod record;
mod tls;
mod traced;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;
use crate::skip;
use crate::{api, wait};

pub use bad::{Bad, BadCollector};
pub use record::{Attributes, Log, Point, Record, Span};
pub use tls::TlsFront;
pub use traced::{DEADLINE, Traced, TracedTarget, trace_of};

/// Its place in the folder of tools; `.ci/run` installs it there from PyPI's package `rotel`.
const IN_TOOLS: &str = "../target/tools/rotel/rotel-agent";

/// A real collector on loopback that records everything it is sent.
#[derive(Debug)]
pub struct Collector {
    process: Process,
    /// Where it receives OTLP over HTTP.
    pub http: SocketAddr,
    /// Where it receives OTLP over gRPC.
    pub grpc: SocketAddr,
}

impl Collector {
    /// The installed binary: `SHARD_ROTEL`, otherwise the one in the folder of tools. If there is
    /// none, `test` is recorded as skipped; in CI that is a failure.
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

    /// Starts the collector and waits until it listens.
    #[track_caller]
    pub fn start(binary: &Path, folder: &Path) -> Self {
        Self::start_at(binary, folder, api::free_address(), api::free_address())
    }

    /// Like [`Self::start`], with all HTTP endpoints below `path`, such as `/otlp`.
    #[track_caller]
    pub fn start_below(binary: &Path, folder: &Path, path: &str) -> Self {
        let below = ["traces", "metrics", "logs"]
            .map(|kind| [format!("--otlp-receiver-{kind}-http-path"), format!("{path}/v1/{kind}")]);
        Self::start_with(binary, folder, (api::free_address(), api::free_address()), &below.concat())
    }

    /// Like [`Self::start`], at these addresses.
    #[track_caller]
    pub fn start_at(binary: &Path, folder: &Path, http: SocketAddr, grpc: SocketAddr) -> Self {
        Self::start_with(binary, folder, (http, grpc), &[])
    }

    #[track_caller]
    fn start_with(
        binary: &Path,
        folder: &Path,
        (http, grpc): (SocketAddr, SocketAddr),
        more: &[String],
    ) -> Self {
        let mut command = Command::new(binary);
        command
            .arg("start")
            .args(["--otlp-http-endpoint", &http.to_string(), "--otlp-grpc-endpoint", &grpc.to_string()])
            .args(["--exporter", "blackhole", "--debug-log-verbosity", "detailed"])
            .args(["--debug-log", "traces", "--debug-log", "metrics", "--debug-log", "logs"])
            .args(more)
            .current_dir(folder);
        let process = Process::start_into_file("collector", command, &folder.join("collector.out"));
        wait::until("a collector that listens", || TcpStream::connect(http).ok());
        wait::until("a collector that listens for gRPC", || TcpStream::connect(grpc).ok());
        Self { process, http, grpc }
    }

    /// Waits until the record has a line that contains `words`. Cheap enough to run during a timed
    /// section.
    #[track_caller]
    pub fn has(&self, words: &str) {
        self.process.line(words, 0, |line| line.contains(words).then_some(()));
    }

    /// What has arrived so far.
    pub fn record(&self) -> Record {
        Record::read(&self.process.lines())
    }

    /// Waits until `wanted` finds something in what has arrived.
    #[track_caller]
    pub fn arrived<T>(&self, what: &str, mut wanted: impl FnMut(&Record) -> Option<T>) -> T {
        let mut read = 0;
        wait::until(&format!("at the collector: {what}"), || {
            let lines = self.process.lines();
            // Parsing costs more than counting lines.
            (lines.len() > read).then_some(())?;
            read = lines.len();
            wanted(&Record::read(&lines))
        })
    }

    /// Waits for the root span of a trace, which is sent last, and returns all spans of the trace,
    /// sorted by start time.
    #[track_caller]
    pub fn whole_trace(&self, id: &str) -> Vec<Span> {
        let mut spans = self.arrived(&format!("the root of trace {id}"), |record| {
            let spans = record.trace(id);
            spans.iter().any(|span| span.parent.is_empty()).then_some(())?;
            Some(spans.into_iter().cloned().collect::<Vec<_>>())
        });
        spans.sort_by_key(|span| (span.start, !span.parent.is_empty()));
        spans
    }
}
