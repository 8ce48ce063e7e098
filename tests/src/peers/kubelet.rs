//! What a kubelet does with a container that has an HTTP liveness probe, in a few lines of ours.
//!
//! One probe each `periodSeconds`; an answer from 200 to 399 within `timeoutSeconds` is a success;
//! after `failureThreshold` failures in a row SIGTERM, SIGKILL at the end of the grace period, and
//! the container is started again. A container that ended by itself is found by a look each second.
//! The back-off from the second restart on (10 s, doubled up to 5 min) is left out: each fault here
//! stands for the first in a long time.

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

/// `periodSeconds`; Kubernetes has 10 unless told otherwise, and takes no less than this.
pub const PERIOD: Duration = Duration::from_secs(1);
/// `timeoutSeconds`, as Kubernetes has it unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(1);
/// `failureThreshold`, as Kubernetes has it unless told otherwise.
pub const FAILURES: u32 = 3;
/// `terminationGracePeriodSeconds`, as Kubernetes has it unless told otherwise.
const GRACE: Duration = Duration::from_secs(30);
/// Between two looks whether the grace period is over, or the harness.
const LOOK: Duration = Duration::from_millis(10);

/// One under way. Dropping it ends it with its container.
#[derive(Debug)]
pub struct Kubelet {
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Kubelet {
    /// Keeps what `command` makes running, and probes it at `port`.
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

/// Probes until it has to end.
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

/// SIGTERM; whatever has not ended after the grace period is killed.
fn terminate(container: &mut Process) {
    container.signal(Signal::TERM);
    let began = Instant::now();
    while container.is_running() && began.elapsed() < GRACE {
        std::thread::sleep(LOOK);
    }
    container.signal(Signal::KILL);
}

/// One probe: something if it was a success.
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
