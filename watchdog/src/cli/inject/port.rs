//! Faults from inside: ordered over a fault socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use shard_watchdog::clock;
use shard_watchdog::demo::process::Heard;
use shard_watchdog::fault_socket::FaultSocket;

use super::super::plain;
use super::fault::{DEFAULT_HOLD, Fault};

/// The text before the time of a strike.
const AT: &str = "at_monotonic_ns=";
/// The answer to `list` while nothing is armed.
const NOTHING_ARMED: &str = "armed: none";

/// A fault that a process is ordered to inject into itself.
#[derive(Debug)]
pub(super) struct Ordered {
    path: PathBuf,
    /// The line to send.
    order: String,
    hold: Duration,
    pid: Option<i32>,
    /// `None` once it is no longer of use.
    socket: Option<FaultSocket>,
    armed_at: u64,
    struck: Option<(u64, Instant)>,
    undone: Option<(u64, Result<(), String>)>,
}

impl Ordered {
    /// Connects, and refuses a process that it should not give orders to.
    pub(super) fn new(
        path: &Path,
        words: &[String],
        thread: Option<&str>,
        hold: Option<Duration>,
    ) -> Result<Self, String> {
        let mut order = format!("arm {}", words.join(" "));
        if let Some(thread) = thread {
            order.push_str(&format!(" thread {thread}"));
        }
        if order.chars().any(char::is_control) {
            return Err("an order is one line without control characters".to_owned());
        }
        let socket = FaultSocket::connect(path).map_err(|error| {
            let next = match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                    "Was the process started with its fault socket (shard-executor: --faults PATH)?"
                }
                ErrorKind::PermissionDenied => "Only the user of the process and root may use it",
                ErrorKind::WouldBlock => "The process accepts no connections: it may be stopped",
                _ => "Give --socket the fault socket of the process",
            };
            format!("no process takes orders at {}: {error}. {next}", path.display())
        })?;
        let peer = socket.peer();
        // What a process of another user answers proves nothing about a process of this user.
        if !peer.is_own_or_root() && !rustix::process::geteuid().is_root() {
            return Err(format!(
                "{} belongs to a process of user {}: give --socket one of this user's own",
                path.display(),
                peer.uid
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            order,
            hold: hold.unwrap_or(DEFAULT_HOLD),
            pid: peer.pid,
            socket: Some(socket),
            armed_at: 0,
            struck: None,
            undone: None,
        })
    }

    fn ask(&mut self, order: &str) -> Result<String, String> {
        let path = self.path.display().to_string();
        let socket = self.socket.as_mut().ok_or_else(|| format!("the connection to {path} is gone"))?;
        let answer =
            socket.order(order).map_err(|error| format!("{path} does not answer {order:?}: {error}"))?;
        if answer.starts_with("ok") {
            Ok(answer)
        } else {
            Err(format!("{path} refuses {order:?}: {}", plain(&answer)))
        }
    }

    fn whom(&self) -> String {
        let name = self.pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        match (self.pid, name) {
            (Some(pid), Some(name)) => format!("process {pid} ({})", plain(name.trim_end())),
            (Some(pid), None) => format!("process {pid}"),
            (None, _) => "the process".to_owned(),
        }
    }

    /// Disarms what is armed and lets threads that hang continue, in the process that was broken
    /// and not in its successor.
    fn disarm(&mut self) -> Result<(), String> {
        if self.socket.is_some() && self.ask("disarm").is_ok() {
            return Ok(());
        }
        match FaultSocket::connect(&self.path) {
            // The process has ended, and its fault with it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Ok(())
            }
            Ok(socket) if self.pid.is_some() && socket.peer().pid != self.pid => Ok(()),
            Ok(mut socket) => match socket.order("disarm") {
                Ok(answer) if answer.starts_with("ok") => Ok(()),
                Ok(answer) => Err(format!("{} refuses to disarm: {}", self.path.display(), plain(&answer))),
                Err(error) => Err(self.stays(&error)),
            },
            Err(error) => Err(self.stays(&error)),
        }
    }

    fn stays(&self, error: &std::io::Error) -> String {
        format!("{} no longer takes orders ({error}): the fault ends with the process", self.path.display())
    }
}

impl Fault for Ordered {
    fn name(&self) -> String {
        self.order.trim_start_matches("arm ").to_owned()
    }

    fn pid(&self) -> Option<i32> {
        self.pid
    }

    fn must_not_kill(&self) -> bool {
        false
    }

    fn would(&mut self) -> Result<String, String> {
        let (order, whom, path) = (&self.order, self.whom(), self.path.display());
        let hold = self.hold.as_secs_f64();
        Ok(format!("  order {whom} at {path}: {order}\n  after {hold} s at most: disarm"))
    }

    fn begin(&mut self, _: &Sender<Heard>) -> Result<(), String> {
        let listed = self.ask("list")?;
        if !listed.contains(NOTHING_ARMED) {
            return Err(format!(
                "a fault is already armed at {} ({}): wait until it is over, or send disarm there",
                self.path.display(),
                plain(&listed)
            ));
        }
        // If this program is killed, the process drops all its faults.
        self.ask("tied")?;
        self.armed_at = clock::now().0;
        let order = self.order.clone();
        self.ask(&order).map(drop)
    }

    fn hear(&mut self, _: String) {}

    fn look(&mut self) -> Result<(), String> {
        if self.struck.is_none() {
            // A process that no longer answers has been struck so that it cannot.
            let at = match self.ask("struck") {
                Ok(answer) => struck_since(&answer, self.armed_at),
                Err(_) => Some(clock::now().0),
            };
            self.struck = at.map(|at| (at, Instant::now()));
        }
        if self.struck.is_some_and(|(_, seen)| seen.elapsed() >= self.hold) {
            self.undo();
        }
        Ok(())
    }

    fn struck_at(&self) -> Option<u64> {
        self.struck.map(|(at, _)| at)
    }

    fn is_told_late(&self) -> bool {
        false
    }

    fn undo(&mut self) {
        if self.undone.is_none() {
            let undone = self.disarm();
            self.undone = Some((clock::now().0, undone));
            self.socket = None;
        }
    }

    fn undone(&self) -> Option<Result<(), String>> {
        self.undone.as_ref().map(|(_, undone)| undone.clone())
    }

    fn undone_at(&self) -> Option<u64> {
        self.undone.as_ref().map(|(at, _)| *at)
    }
}

/// The time of the first reported strike since `armed`. Ignores times that are impossible.
fn struck_since(answer: &str, armed: u64) -> Option<u64> {
    let times = answer.split(AT).skip(1);
    let times = times.filter_map(|rest| rest.split([',', ' ']).next()?.parse::<u64>().ok());
    let now = clock::now().0;
    times.filter(|at| (armed..=now).contains(at)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strikes_since_the_order_count() {
        let now = clock::now().0;
        let told = format!(
            "ok: struck: hang at x thread y {AT}5, spin at x thread y {AT}{now}, end {AT}{}",
            u64::MAX
        );
        assert_eq!(struck_since(&told, now - 1), Some(now));
        assert_eq!(struck_since("ok: struck: none", 0), None);
        assert_eq!(struck_since(&format!("{AT}soon"), 0), None);
    }
}
