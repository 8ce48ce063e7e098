//! What a kubelet does with a container that has an HTTP liveness probe, in a few lines of ours.
//!
//! It sends one probe each `periodSeconds`. An answer from 200 to 399 within `timeoutSeconds` is a
//! success. After `failureThreshold` failures in a row it sends SIGTERM, then SIGKILL at the end of
//! the grace period, and starts the container again. It detects a container that ended by itself by
//! polling each second. The back-off from the second restart on (10 s, doubled up to 5 min) is left
//! out: each fault here stands for the first in a long time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::Process;
use crate::wait;

/// `periodSeconds`. The default of Kubernetes is 10; this is its minimum.
pub const PERIOD: Duration = Duration::from_secs(1);
/// `timeoutSeconds`, the default of Kubernetes.
pub const TIMEOUT: Duration = Duration::from_secs(1);
/// `failureThreshold`, the default of Kubernetes.
pub const FAILURES: u32 = 3;
/// `terminationGracePeriodSeconds`, the default of Kubernetes.
const GRACE: Duration = Duration::from_secs(30);
/// Interval between checks whether the grace period or the harness has ended.
const LOOK: Duration = Duration::from_millis(10);

/// A running kubelet. Dropping it ends it with its container.
#[derive(Debug)]
pub struct Kubelet {
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Kubelet {
    /// Keeps a process made by `command` running, and probes it at `port`.
    #[track_caller]
    pub fn start(port: SocketAddr, command: impl Fn() -> Command + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&end);
        let run = move || {
            while !told.load(Ordering::Relaxed) {
                let mut container = Process::start("container", command());
                live(&mut container, port, &told);
                terminate(&mut container);
            }
        };
        let thread = std::thread::Builder::new().name("kubelet".to_owned()).spawn(run).expect("a thread");
        Self { end, thread }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if !std::thread::panicking() {
            wait::until("the end of the kubelet", || self.thread.is_finished().then_some(()));
        }
    }
}

/// Probes until the container has to end.
fn live(container: &mut Process, port: SocketAddr, end: &AtomicBool) {
    let mut failures = 0;
    let mut next = Instant::now() + PERIOD;
    while failures < FAILURES && !end.load(Ordering::Relaxed) {
        if Instant::now() < next {
            std::thread::sleep(LOOK);
            continue;
        }
        next += PERIOD;
        if !container.is_running() {
            return;
        }
        failures = if probe(port).is_some() { 0 } else { failures + 1 };
    }
}

/// Sends SIGTERM, and kills what has not ended after the grace period.
fn terminate(container: &mut Process) {
    container.signal(Signal::TERM);
    let began = Instant::now();
    while container.is_running() && began.elapsed() < GRACE {
        std::thread::sleep(LOOK);
    }
    container.signal(Signal::KILL);
}

/// Sends one probe: `Some` if it was a success.
fn probe(port: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect_timeout(&port, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(TIMEOUT)).ok()?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {port}\r\nConnection: close\r\n\r\n").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    let code = std::str::from_utf8(&head).ok()?.strip_prefix("HTTP/1.1 ")?.parse::<u16>().ok()?;
    (200..400).contains(&code).then_some(())
}
