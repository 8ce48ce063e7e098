//! A coordinator, shards, and for each of them a supervisor with a sidecar.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shard_telemetry::service_manager;

use super::config::Sidecar;
use super::pace::Pace;
use super::process::{Heard, Process};
use super::{DemoError, order, text};

/// A shard's executor thread beats with each transaction: a second without a beat is two orders of
/// magnitude too long.
const SHARD_STALL_AFTER: Duration = Duration::from_secs(1);
/// Time limit of a block, the coordinator's own default.
const BLOCK_DEADLINE: Duration = Duration::from_secs(5);
/// The coordinator may wait for a block for its whole deadline; only silence beyond it is a stall.
const COORDINATOR_STALL_AFTER: Duration = BLOCK_DEADLINE.saturating_mul(2);
/// Time for the members of the cluster to end in order: more than the two seconds that each of them
/// takes at most.
const ENDS_WITHIN: Duration = Duration::from_secs(4);
/// Ports below the kernel's usual range for outgoing connections. Within that range a coordinator
/// that connects to the port of a dead shard can connect to itself, and then the shard cannot bind
/// its port again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The file in the demo's folder that lists every `/metrics`.
pub(super) const TARGETS: &str = "targets.json";

/// One member: a supervisor, the process it runs, and the sidecar beside that.
#[derive(Debug)]
struct Member {
    process: Process,
    listen: SocketAddr,
    evidence: PathBuf,
    /// The socket for arming faults, of a shard only.
    faults: PathBuf,
    /// Where the executor exposes its metrics.
    metrics: SocketAddr,
}

/// All members: the shards by number, then the coordinator.
#[derive(Debug)]
pub(super) struct Cluster {
    members: Vec<Member>,
    pace: Pace,
}

impl Cluster {
    /// Starts the cluster.
    pub(super) fn start(
        shards: u16,
        executor: &Path,
        blocks: &Path,
        root: &Path,
        pace: Pace,
        sender: &Sender<Heard>,
    ) -> Result<Self, DemoError> {
        let ports = free_ports(3 * usize::from(shards) + 2)?;
        let mut ports = ports.into_iter();
        let mut port = || ports.next().ok_or_else(|| DemoError::Prepare("ran out of free ports".to_owned()));
        let starter = Starter { root, sender, program: own_program()?, pace };
        let mut members = Vec::new();
        let mut addresses = Vec::new();
        for number in 0..shards {
            let (listen, metrics) = (port()?, port()?);
            let faults = root.join(format!("{number}.faults"));
            let mut words = words(executor, &["shard", "--id"])?;
            words.extend([number.to_string(), "--listen".to_owned(), listen.to_string()]);
            words.extend(["--faults".to_owned(), text(&faults)?.to_owned()]);
            words.extend(["--metrics".to_owned(), metrics.to_string()]);
            addresses.push(listen.to_string());
            let (name, thread) = (number.to_string(), format!("exec-s{number}"));
            let mut member = starter.start(
                &name,
                &thread,
                SHARD_STALL_AFTER,
                usize::from(number),
                (port()?, metrics),
                words,
            )?;
            member.faults = faults;
            members.push(member);
        }
        let mut words = words(executor, &["coordinator", "--repeat", "0", "--json", "--shards"])?;
        words.extend([addresses.join(","), "--blocks".to_owned(), text(blocks)?.to_owned()]);
        words.extend(["--block-deadline".to_owned(), pace.text(BLOCK_DEADLINE)]);
        let (who, metrics) = (usize::from(shards), port()?);
        words.extend(["--metrics".to_owned(), metrics.to_string()]);
        members.push(starter.start(
            "coordinator",
            "coord",
            COORDINATOR_STALL_AFTER,
            who,
            (port()?, metrics),
            words,
        )?);
        let cluster = Self { members, pace };
        let targets = root.join(TARGETS);
        std::fs::write(&targets, cluster.targets())
            .map_err(|error| DemoError::Prepare(format!("cannot write {}: {error}", targets.display())))?;
        Ok(cluster)
    }

    /// Every `/metrics`, in the form of Prometheus' `file_sd`.
    fn targets(&self) -> String {
        let job = |job: &str, address: fn(&Member) -> SocketAddr| {
            let targets: Vec<_> = self.members.iter().map(|member| address(member).to_string()).collect();
            serde_json::json!({"labels": {"job": job}, "targets": targets})
        };
        serde_json::json!([
            job("shard-watchdog", |member| member.listen),
            job("shard-executor", |member| member.metrics)
        ])
        .to_string()
    }

    /// A line for each member with its addresses.
    pub(super) fn addresses(&self) -> Vec<String> {
        let line = |(number, member): (usize, &Member)| {
            let name = if number + 1 == self.members.len() {
                "coordinator".to_owned()
            } else {
                format!("shard {number}")
            };
            let (sidecar, executor) = (member.listen, member.metrics);
            format!("      {name:<12} sidecar http://{sidecar}/  executor http://{executor}/metrics")
        };
        self.members.iter().enumerate().map(line).collect()
    }

    /// The number of shards.
    pub(super) fn shards(&self) -> u16 {
        u16::try_from(self.members.len().saturating_sub(1)).unwrap_or(u16::MAX)
    }

    /// The socket for arming faults of a shard.
    pub(super) fn faults(&self, shard: u16) -> &Path {
        self.members.get(usize::from(shard)).map_or(Path::new(""), |member| &member.faults)
    }

    /// Where the sidecar of a shard stores its evidence.
    pub(super) fn evidence(&self, shard: u16) -> &Path {
        self.members.get(usize::from(shard)).map_or(Path::new(""), |member| &member.evidence)
    }

    /// The first sidecar that does not report healthy, and what it reports.
    pub(super) fn unhealthy(&self) -> Option<String> {
        self.members.iter().enumerate().find_map(|(number, member)| {
            match order::verdict(member.listen, self.pace) {
                Ok(verdict) if verdict == "healthy" => None,
                Ok(other) | Err(other) => {
                    let whose = if number + 1 == self.members.len() {
                        "the coordinator".to_owned()
                    } else {
                        format!("shard {number}")
                    };
                    Some(format!("the sidecar of {whose} at {}: {other}", member.listen))
                }
            }
        })
    }

    /// Ends everything: first in order, then at once (a second SIGTERM makes a supervisor kill its
    /// children). What is left when this returns is killed.
    pub(super) fn end(mut self) {
        for _ in 0..2 {
            self.members.iter().for_each(|member| member.process.signal(Signal::TERM));
            let until = Instant::now() + self.pace.of(ENDS_WITHIN);
            self.members.retain_mut(|member| member.process.wait(until).is_none());
        }
    }
}

impl Drop for Cluster {
    /// A start that failed half-way leaves supervisors for which nothing calls [`Cluster::end`].
    fn drop(&mut self) {
        self.members.iter().for_each(|member| member.process.signal(Signal::TERM));
    }
}

struct Starter<'a> {
    root: &'a Path,
    sender: &'a Sender<Heard>,
    program: PathBuf,
    pace: Pace,
}

impl Starter<'_> {
    fn start(
        &self,
        name: &str,
        thread: &str,
        stall_after: Duration,
        who: usize,
        (listen, metrics): (SocketAddr, SocketAddr),
        words: Vec<String>,
    ) -> Result<Member, DemoError> {
        let file = |ending: &str| self.root.join(format!("{name}.{ending}"));
        let (heartbeat, config) = (file("heartbeat"), file("toml"));
        let (evidence, socket) = (self.root.join(name), file("sock"));
        let sidecar = Sidecar {
            shard: name,
            heartbeat: &heartbeat,
            thread,
            stall_after,
            evidence: &evidence,
            listen,
            socket: &socket,
            pace: self.pace,
        };
        let failed = |error: std::io::Error| DemoError::Prepare(format!("cannot start {name}: {error}"));
        std::fs::write(&config, sidecar.toml()?).map_err(failed)?;
        let mut command = Command::new(&self.program);
        command.arg("supervise").arg("--config").arg(&config).arg("--").args(words);
        command.arg("--heartbeat").arg(&heartbeat);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Variables that a person set for other runs must not affect this one.
        for (variable, _) in std::env::vars_os() {
            if variable
                .to_str()
                .is_some_and(|v| v.starts_with("SHARD_WATCHDOG_") || v.starts_with("SHARD_EXECUTOR_"))
            {
                command.env_remove(variable);
            }
        }
        // If the demo runs as a service, none of these members is that service.
        for variable in service_manager::VARIABLES {
            command.env_remove(variable);
        }
        let mut process = Process::start(&mut command).map_err(failed)?;
        process.listen(who, self.sender).map_err(failed)?;
        Ok(Member { process, listen, evidence, faults: PathBuf::new(), metrics })
    }
}

fn own_program() -> Result<PathBuf, DemoError> {
    std::env::current_exe()
        .map_err(|error| DemoError::Prepare(format!("the path of this program is unknown: {error}")))
}

fn words(program: &Path, arguments: &[&str]) -> Result<Vec<String>, DemoError> {
    Ok(std::iter::once(text(program)?).chain(arguments.iter().copied()).map(str::to_owned).collect())
}

/// Free ports. They are released before they are used, so another program could take one; the
/// process that needs it then fails to start and says so.
fn free_ports(count: usize) -> Result<Vec<SocketAddr>, DemoError> {
    // Demos that start together have adjacent pids, so this spreads their first ports.
    let start = std::process::id().wrapping_mul(97) % u32::from(PORTS.end - PORTS.start);
    let first = u16::try_from(start).unwrap_or(0);
    let candidates = (PORTS.start + first..PORTS.end).chain(PORTS.start..PORTS.start + first);
    let held: Vec<TcpListener> = candidates
        .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .take(count)
        .collect();
    let ports: Vec<SocketAddr> = held.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    if ports.len() < count {
        return Err(DemoError::Prepare(format!("fewer than {count} free ports in {PORTS:?} on 127.0.0.1")));
    }
    Ok(ports)
}
