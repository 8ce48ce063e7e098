//! The compared peers, and how each is set up.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::supervised;
use crate::systemd::Systemd;

/// What a peer's check covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The process or its main loop, as the peer's documentation describes.
    Process,
    /// The worker, because the target was written to report on it.
    Worker,
}

/// A compared peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `shard-watchdog supervise`.
    Ours,
    /// systemd with `WatchdogSec`.
    Systemd(Reach),
    /// `runsvdir`.
    Runit,
    /// `s6-svscan`.
    S6,
    /// monit, checking a port or the time stamp of a file.
    Monit(Reach),
    /// supervisord with superlance's `httpok`.
    Supervisord(Reach),
    /// A kubelet's liveness probe.
    Kubelet(Reach),
    /// A thread of the target, like Envoy's guard dog, under runit.
    GuardDog,
    /// An exporter: it watches and does nothing.
    ProcessExporter,
}

use Reach::{Process, Worker};

/// All peers, in the order of the table.
pub const ALL: [Peer; 13] = [
    Peer::Ours,
    Peer::GuardDog,
    Peer::Systemd(Worker),
    Peer::Monit(Worker),
    Peer::Kubelet(Worker),
    Peer::Supervisord(Worker),
    Peer::Systemd(Process),
    Peer::Monit(Process),
    Peer::Kubelet(Process),
    Peer::Supervisord(Process),
    Peer::Runit,
    Peer::S6,
    Peer::ProcessExporter,
];

/// Where `tests/tools` installs superlance.
pub fn superlance() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/superlance")
}

impl Peer {
    /// Name on the command line and in the figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Systemd(Process) => "systemd",
            Self::Systemd(Worker) => "systemd-worker",
            Self::Runit => "runit",
            Self::S6 => "s6",
            Self::Monit(Process) => "monit",
            Self::Monit(Worker) => "monit-worker",
            Self::Supervisord(Process) => "supervisord",
            Self::Supervisord(Worker) => "supervisord-worker",
            Self::Kubelet(Process) => "kubelet",
            Self::Kubelet(Worker) => "kubelet-worker",
            Self::GuardDog => "guard-dog",
            Self::ProcessExporter => "process-exporter",
        }
    }

    /// Name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Ours => "shard-watchdog",
            Self::Systemd(Process) => "systemd, main loop notifies",
            Self::Systemd(Worker) => "systemd, worker notifies",
            Self::Runit => "runit",
            Self::S6 => "s6",
            Self::Monit(Process) => "monit, port",
            Self::Monit(Worker) => "monit, file of the worker",
            Self::Supervisord(Process) => "supervisord, httpok",
            Self::Supervisord(Worker) => "supervisord, httpok asks for the worker",
            Self::Kubelet(Process) => "kubelet-like probe",
            Self::Kubelet(Worker) => "kubelet-like probe asks for the worker",
            Self::GuardDog => "guard dog in the process",
            Self::ProcessExporter => "process-exporter",
        }
    }

    /// The peer's settings, as far as they matter for the measurement.
    pub const fn settings(self) -> &'static str {
        match self {
            Self::Ours => {
                "`supervise`, `stall_after = \"2s\"`, `mode = \"enforce\"`; defaults otherwise, except for a kill budget that lasts"
            }
            Self::Systemd(Process) => {
                "`Type=notify`, `WatchdogSec=2`, `Restart=always`, no start limit; the main loop notifies twice a second"
            }
            Self::Systemd(Worker) => {
                "as in the row where the main loop notifies, but the worker notifies once a second, between two pieces of work"
            }
            Self::Runit => "`runsvdir`, `exec` in `run`",
            Self::S6 => "`s6-svscan`, `exec` in `run`",
            Self::Monit(Process) => {
                "`set daemon 1`; `failed port … protocol http … with timeout 1 seconds for 2 cycles then restart`"
            }
            Self::Monit(Worker) => {
                "`set daemon 1`; the worker touches a file, `if timestamp > 2 seconds then exec` of a script that kills; the next cycle restarts"
            }
            Self::Supervisord(Process) => {
                "`autorestart=true`; superlance's `httpok -t 1` on `TICK_5`, its shortest"
            }
            Self::Supervisord(Worker) => {
                "as without it, but `/healthz` answers 503 if the worker is late by 2 s"
            }
            Self::Kubelet(Process) => {
                "`periodSeconds: 1`, `timeoutSeconds: 1`, `failureThreshold: 3`, SIGTERM, restarted at once"
            }
            Self::Kubelet(Worker) => "as without it, but `/healthz` answers 503 if the worker is late by 2 s",
            Self::GuardDog => {
                "a thread that checks every 200 ms and aborts if the worker has made no progress for 2 s; runit restarts"
            }
            Self::ProcessExporter => "`-procnames peer-target`, scraped every 5 s",
        }
    }

    /// The evidence it leaves for a later investigation.
    pub const fn evidence(self) -> &'static str {
        match self {
            Self::Ours => "incident: timeline, last words, recording",
            Self::Systemd(_) => "journal line, core of SIGABRT",
            Self::Runit | Self::S6 => "none",
            Self::Monit(_) | Self::Supervisord(_) => "log line",
            Self::Kubelet(_) => "event",
            Self::GuardDog => "log line, core of SIGABRT",
            Self::ProcessExporter => "series",
        }
    }

    /// Whether it does anything to a process.
    pub fn acts(self) -> bool {
        self != Self::ProcessExporter
    }

    /// Whether the target was written to report its worker to this peer.
    pub const fn told_of_worker(self) -> bool {
        matches!(
            self,
            Self::Ours
                | Self::GuardDog
                | Self::Systemd(Worker)
                | Self::Monit(Worker)
                | Self::Supervisord(Worker)
                | Self::Kubelet(Worker)
        )
    }

    /// Whether it queries the target over HTTP. If it should but does not, it is set up wrongly,
    /// and would be reported as detecting nothing.
    pub const fn asks(self) -> bool {
        matches!(self, Self::Monit(Process) | Self::Supervisord(_) | Self::Kubelet(_))
    }

    /// The target's arguments in addition to those for all peers; `beat` is the file that a worker
    /// touches.
    pub fn flags(self, beat: &str) -> Vec<String> {
        let flags: &[&str] = match self {
            Self::Systemd(Worker) => &["--worker-notifies"],
            Self::Monit(Worker) => &["--beat-file", beat],
            Self::Supervisord(Worker) | Self::Kubelet(Worker) => &["--health-asks-worker"],
            Self::GuardDog => &["--guard-dog"],
            _ => &[],
        };
        flags.iter().map(|flag| (*flag).to_owned()).collect()
    }

    /// Its Debian package, and the program that shows that it is installed.
    const fn package(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Systemd(_) => Some(("systemd", "systemctl")),
            Self::Runit | Self::GuardDog => Some(("runit", "runsvdir")),
            Self::S6 => Some(("s6", "s6-svscan")),
            Self::Monit(_) => Some(("monit", "monit")),
            Self::Supervisord(_) => Some(("supervisor", "supervisord")),
            Self::ProcessExporter => Some(("prometheus-process-exporter", "prometheus-process-exporter")),
            Self::Ours | Self::Kubelet(_) => None,
        }
    }

    /// Why it cannot be measured here; `None` if it can.
    pub fn impossible(self) -> Option<String> {
        if let Self::Systemd(_) = self {
            return Systemd::impossible();
        }
        let (package, program) = self.package()?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
            return Some(format!("{program} is not installed (apt-get install {package})"));
        }
        let lacks_plugin = matches!(self, Self::Supervisord(_)) && !superlance().is_dir();
        lacks_plugin.then(|| "superlance is not installed: run tests/tools".to_owned())
    }

    /// The measured version; empty where the peer is a few lines of this repository.
    #[track_caller]
    pub fn version(self) -> String {
        let Some((package, _)) = self.package() else {
            return if self == Self::Ours { env!("CARGO_PKG_VERSION").to_owned() } else { String::new() };
        };
        let mut command = Command::new("dpkg-query");
        let said = supervised::run(command.args(["--show", "--showformat=${Version}", package]));
        let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        let plugin = std::fs::read_to_string(superlance().join("version")).unwrap_or_default();
        match self {
            Self::Supervisord(_) => format!("{version}, superlance {}", plugin.trim()),
            Self::GuardDog => format!("runit {version}"),
            _ => version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_have_names_of_their_own() {
        let mut names: Vec<&str> = ALL.iter().map(|peer| peer.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
