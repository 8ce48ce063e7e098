//! A running peer with its target.

use std::fmt::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::ground::Ground;
use super::kubelet::Kubelet;
use super::peer::{Peer, superlance};
use super::reaper::Reaper;
use super::target::WORKER;
use super::{THRESHOLD, kubelet};
use crate::process::{Process, binary};
use crate::sidecar::{Settings, Sidecar};
use crate::systemd::Systemd;
use crate::{api, sweep};

/// One running peer. Dropping it ends it with everything that it started.
#[derive(Debug)]
pub struct Running {
    /// The running peer.
    pub peer: Peer,
    /// Where its page is scraped, if it has one.
    pub scraped: Option<SocketAddr>,
    held: Held,
    mark: String,
}

#[derive(Debug)]
enum Held {
    Process(Process),
    Kubelet(#[expect(dead_code, reason = "dropping it ends it")] Kubelet),
    Systemd(Systemd),
    /// What monit starts is nobody's child.
    Monit(Process, #[expect(dead_code, reason = "dropping it ends it")] Reaper),
    /// The target runs on its own.
    Exporter(Process, #[expect(dead_code, reason = "dropping it ends it")] Process),
}

impl Running {
    /// Starts the peer and returns once it is running.
    #[track_caller]
    pub fn start(peer: Peer, ground: &Ground) -> Self {
        let mut scraped = None;
        let held = match peer {
            Peer::Ours => Held::Process(ours(ground)),
            Peer::Systemd(_) => Held::Systemd(systemd(ground)),
            Peer::Runit | Peer::GuardDog => Held::Process(scripts(ground, "runsvdir")),
            Peer::S6 => Held::Process(scripts(ground, "s6-svscan")),
            Peer::Monit(_) => Held::Monit(monit(peer, ground), Reaper::start(ground.pid_file())),
            Peer::Supervisord(_) => Held::Process(supervisord(ground)),
            Peer::Kubelet(_) => {
                let (words, mark) = (ground.words(), ground.mark.clone());
                Held::Kubelet(Kubelet::start(ground.port, move || marked(&words, &mark)))
            }
            Peer::ProcessExporter => {
                let target = Process::start("target", marked(&ground.words(), &ground.mark));
                let address = api::free_address();
                scraped = Some(address);
                let mut command = Command::new("prometheus-process-exporter");
                command.args(["-procnames", "peer-target", "-web.listen-address", &address.to_string()]);
                Held::Exporter(Process::start("process-exporter", command), target)
            }
        };
        let running = Self { peer, scraped, held, mark: ground.mark.clone() };
        if let Some(address) = scraped {
            crate::wait::until("the exporter's page", || api::get(address, "/metrics"));
        }
        running
    }

    /// The peer's own processes, without the target. None for a peer that is a few lines of ours.
    pub fn pids(&self, ground: &Ground) -> Vec<i32> {
        let root = match &self.held {
            Held::Kubelet(_) => return Vec::new(),
            Held::Process(process) | Held::Monit(process, _) | Held::Exporter(process, _) => process.pid(),
            Held::Systemd(systemd) => systemd.pid(),
        };
        let mut pids = vec![root];
        let mut next = 0;
        while let Some(pid) = pids.get(next) {
            next += 1;
            let children = sweep::children_of(*pid);
            pids.extend(children.into_iter().filter(|child| !ground.is_target(*child)));
        }
        pids
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let (Peer::Runit | Peer::GuardDog, Held::Process(process)) = (self.peer, &self.held) {
            // SIGTERM would leave each `runsv` behind.
            process.signal(Signal::HUP);
        }
        if let Held::Process(process) | Held::Monit(process, _) = &mut self.held {
            process.signal(Signal::TERM);
            let began = std::time::Instant::now();
            while process.is_running() && began.elapsed() < kubelet::TIMEOUT * 10 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        sweep::sweep(&self.mark);
    }
}

fn marked(words: &[String], mark: &str) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(sweep::MARK, mark);
    command
}

#[track_caller]
fn ours(ground: &Ground) -> Process {
    let settings = Settings {
        stall_after: format!("{}s", THRESHOLD.as_secs()),
        // This run itself causes frequent kills.
        kills: 1_000_000,
        ..Settings::default()
    };
    let sidecar = Sidecar::configure(ground.path(), "0", WORKER, &settings);
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["supervise", "--config"]).arg(&sidecar.config).arg("--").args(ground.words());
    command.env(sweep::MARK, &ground.mark);
    let process = Process::start("supervise", command);
    sidecar.wait_for("healthy");
    process
}

#[track_caller]
fn systemd(ground: &Ground) -> Systemd {
    let unit = format!(
        "StartLimitIntervalSec=0\n[Service]\nType=notify\nExecStart={}\nWatchdogSec={}\nRestart=always\n\
         Environment={}={}\n",
        ground.line(),
        THRESHOLD.as_secs(),
        sweep::MARK,
        ground.mark
    );
    Systemd::start(ground.path(), &[("target.service", unit)])
}

/// A peer that runs a script called `run` in each folder that it finds.
#[track_caller]
fn scripts(ground: &Ground, program: &str) -> Process {
    let services = ground.path().join("services");
    let service = services.join("target");
    std::fs::create_dir_all(&service).expect("a folder of our own");
    write_script(&service.join("run"), &ground.line());
    let mut command = if program == "runsvdir" {
        // On SIGTERM, which it would get if the harness were killed, it ends but leaves each
        // `runsv`.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "HUP", program]);
        command
    } else {
        Command::new(program)
    };
    command.arg(&services).env(sweep::MARK, &ground.mark).env_remove("SVDIR");
    Process::start(program, command)
}

#[track_caller]
fn write_script(path: &Path, line: &str) {
    std::fs::write(path, format!("#!/bin/sh\nexec 2>&1\nexec {line}\n")).expect("a folder of our own");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a file of our own");
}

#[track_caller]
fn monit(peer: Peer, ground: &Ground) -> Process {
    let path = |name: &str| ground.path().join(name).display().to_string();
    let pid = ground.pid_file().display().to_string();
    // monit gives what it starts its own environment, and waits until that has detached itself.
    let start = format!("/usr/bin/env {}={} setsid --fork {}", sweep::MARK, ground.mark, ground.line());
    let mut text = String::new();
    writeln!(text, "set daemon 1\nset pidfile {}\nset idfile {}", path("monit.pid"), path("monit.id"))
        .expect("a string");
    writeln!(text, "set statefile {}\nset log {}", path("monit.state"), path("monit.log")).expect("a string");
    writeln!(text, "check process target with pidfile {pid}\n  start program = \"{start}\"")
        .expect("a string");
    writeln!(text, "  stop program = \"/bin/sh -c 'kill $(cat {pid})'\"").expect("a string");
    if peer.told_of_worker() {
        let seconds = THRESHOLD.as_secs();
        let beat = path("beat");
        std::fs::write(&beat, "").expect("a folder of our own");
        // If the process depended on the file, as monit allows, a process that died by itself would
        // not be started again: it is what touches the file.
        writeln!(text, "check file beat with path {beat}\n  if timestamp > {seconds} seconds")
            .expect("a string");
        writeln!(text, "    then exec \"/bin/sh -c 'kill $(cat {pid})'\"").expect("a string");
    } else {
        let port = ground.port.port();
        writeln!(text, "  if failed host 127.0.0.1 port {port} protocol http request \"/healthz\"")
            .expect("a string");
        writeln!(text, "    with timeout 1 seconds for 2 cycles then restart").expect("a string");
    }
    let config = ground.path().join("monitrc");
    std::fs::write(&config, text).expect("a folder of our own");
    // monit refuses a config that others may read.
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).expect("a file of our own");
    let mut command = Command::new("monit");
    command.arg("-I").arg("-c").arg(&config).env(sweep::MARK, &ground.mark);
    Process::start("monit", command)
}

#[track_caller]
fn supervisord(ground: &Ground) -> Process {
    let path = |name: &str| ground.path().join(name).display().to_string();
    // `httpok` runs in Debian's Python, to which supervisor belongs, whatever other Python comes
    // first.
    let text = format!(
        "[supervisord]\nnodaemon=true\nlogfile={log}\npidfile={pid}\nchildlogdir={folder}\n\
         [unix_http_server]\nfile={socket}\n\
         [supervisorctl]\nserverurl=unix://{socket}\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
         [program:target]\ncommand={target}\nautorestart=true\n\
         [eventlistener:httpok]\nenvironment=PYTHONPATH=\"{plugin}\"\nevents=TICK_5\n\
         command=/usr/bin/python3 -u -m superlance.httpok -p target -t 1 http://{port}/healthz\n",
        log = path("supervisord.log"),
        pid = path("supervisord.pid"),
        folder = ground.path().display(),
        socket = path("supervisord.sock"),
        target = ground.line(),
        plugin = superlance().display(),
        port = ground.port,
    );
    let config = ground.path().join("supervisord.conf");
    std::fs::write(&config, text).expect("a folder of our own");
    let mut command = Command::new("supervisord");
    command.arg("--nodaemon").arg("--configuration").arg(&config).env(sweep::MARK, &ground.mark);
    Process::start("supervisord", command)
}
