//! A shard and its sidecar under a commonly used supervisor: runit, s6 or supervisord, each with
//! the scripts of `watchdog/deploy` as shipped, in a folder of the test's own.
//!
//! Everything started carries a mark in its environment, by which the test finds what is left at
//! the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, PidfdFlags, Signal, getuid, pidfd_open, pidfd_send_signal};

use crate::process::{Process, binary};
use crate::sidecar::{Settings, Sidecar};
use crate::{api, sweep, wait};

/// The supervisors for which scripts are shipped, besides systemd and Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `runsvdir` and `sv`.
    Runit,
    /// `s6-svscan` and `s6-svc`.
    S6,
    /// `supervisord` and `supervisorctl`.
    Supervisord,
}

impl Kind {
    /// Its folder in `watchdog/deploy`, and (except for supervisord) the name of Debian's package.
    const fn name(self) -> &'static str {
        match self {
            Self::Runit => "runit",
            Self::S6 => "s6",
            Self::Supervisord => "supervisord",
        }
    }

    /// The supervising program, and the package that contains it.
    const fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Runit => ("runsvdir", "runit"),
            Self::S6 => ("s6-svscan", "s6"),
            Self::Supervisord => ("supervisord", "supervisor"),
        }
    }

    /// Why it cannot run here; `None` if it can.
    pub fn impossible(self) -> Option<String> {
        let (program, package) = self.program();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        (!found).then(|| format!("{program} is not installed (apt-get install {package})"))
    }

    /// The folder that is shipped for it.
    pub fn shipped(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../watchdog/deploy").join(self.name())
    }
}

/// The two services of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The executor.
    Executor,
    /// The sidecar of the executor.
    Watchdog,
}

impl Service {
    const fn name(self) -> &'static str {
        match self {
            Self::Executor => "shard-executor",
            Self::Watchdog => "shard-watchdog",
        }
    }
}

/// Shard 0 under a supervisor. Dropping it ends everything, by force if necessary.
#[derive(Debug)]
pub struct Supervised {
    kind: Kind,
    process: Option<Process>,
    /// The folder that the supervisor scans.
    scripts: PathBuf,
    /// Where the supervisor and its scripts write their logs.
    pub logs: PathBuf,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Where the shard listens.
    pub listen: SocketAddr,
    /// The socket of its fault port.
    pub faults: PathBuf,
    mark: String,
}

impl Supervised {
    /// Starts the supervisor with both services and returns at once. `folder` is the test's.
    #[track_caller]
    pub fn start(kind: Kind, folder: &Path, settings: &Settings) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep::adopt_orphans();
        let mark = format!("supervised-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let sidecar = Sidecar::configure(folder, "0", "exec-s0", settings);
        let (listen, faults) = (api::free_address(), folder.join("0.faults"));
        let (scripts, logs) = (folder.join("services"), folder.join("log"));
        let variables = format!(
            "SHARD_EXECUTOR_LISTEN={listen}\nSHARD_EXECUTOR_HEARTBEAT={}\nSHARD_EXECUTOR_FAULTS={}\n\
             SHARD_WATCHDOG_URL=http://{}\n",
            sidecar.heartbeat.display(),
            faults.display(),
            sidecar.http
        );
        std::fs::write(folder.join("0.env"), variables).expect("a folder of the test's own");
        std::fs::create_dir(&logs).expect("a folder of the test's own");
        copied(kind, &scripts, folder, &logs);
        let mut command = Command::new(kind.program().0);
        match kind {
            Kind::Runit | Kind::S6 => command.arg(&scripts),
            Kind::Supervisord => {
                command.arg("--nodaemon").arg("--configuration").arg(scripts.join("main.conf"))
            }
        };
        command
            .env("SHARD_ETC", folder)
            .env("SHARD_LOG", &logs)
            .env("SHARD_USER", whoami())
            .env("SHARD_EXECUTOR", binary("shard-executor"))
            .env("SHARD_WATCHDOG", binary("shard-watchdog"))
            .env(sweep::MARK, &mark)
            // Whatever this machine sets for its own services.
            .env_remove("SVDIR");
        let process = Some(Process::start(kind.program().0, command));
        Self { kind, process, scripts, logs, sidecar, listen, faults, mark }
    }

    /// Pid of a service, as the supervisor reports it.
    #[track_caller]
    pub fn pid(&self, service: Service) -> i32 {
        wait::until(&format!("the pid of {}", service.name()), || {
            let said = match self.kind {
                Kind::Runit => self.ask("sv", &["status"], service),
                Kind::S6 => self.ask("s6-svstat", &["-o", "pid"], service),
                Kind::Supervisord => self.ask("supervisorctl", &["pid"], service),
            };
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            let digits = match self.kind {
                // run: /…/shard-executor-0: (pid 4711) 3s; run: log: (pid 4710) 3s
                Kind::Runit => said.strip_prefix("run: ")?.split_once("(pid ")?.1.split_once(')')?.0,
                Kind::S6 | Kind::Supervisord => said.trim(),
            };
            digits.parse::<i32>().ok().filter(|pid| *pid > 0)
        })
    }

    /// Stops a service as an operator would.
    #[track_caller]
    pub fn stop(&self, service: Service) {
        let told = match self.kind {
            Kind::Runit => self.ask("sv", &["-w", "60", "stop"], service),
            Kind::S6 => self.ask("s6-svc", &["-wD", "-T", "60000", "-d"], service),
            Kind::Supervisord => self.ask("supervisorctl", &["stop"], service),
        };
        assert!(told.status.success(), "{} was not stopped: {told:?}", service.name());
    }

    /// Starts a stopped service again.
    #[track_caller]
    pub fn start_again(&self, service: Service) {
        let told = match self.kind {
            Kind::Runit => self.ask("sv", &["-w", "60", "start"], service),
            Kind::S6 => self.ask("s6-svc", &["-wu", "-T", "60000", "-u"], service),
            Kind::Supervisord => self.ask("supervisorctl", &["start"], service),
        };
        assert!(told.status.success(), "{} was not started: {told:?}", service.name());
    }

    /// Kills a service. Its supervisor was not told to restart it, so the pid is the service's
    /// until it is dead.
    #[track_caller]
    pub fn kill(&self, service: Service) {
        let pid = Pid::from_raw(self.pid(service)).expect("a pid");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
        pidfd_send_signal(&pidfd, Signal::KILL).expect("it is ours");
    }

    /// Ends everything with the supervisor's own command, and waits until nothing is left.
    #[track_caller]
    pub fn end(mut self) {
        let started = sweep::carrying(&self.mark);
        assert!(started.len() > 2, "a supervisor and two services at least: {started:?}");
        let mut process = self.process.take().expect("it runs until it is ended");
        match self.kind {
            // It tells each runsv to end, and ends itself.
            Kind::Runit => process.signal(Signal::HUP),
            Kind::S6 => {
                let mut command = Command::new("s6-svscanctl");
                run(command.arg("-t").arg(&self.scripts));
            }
            Kind::Supervisord => {
                let mut command = Command::new("supervisorctl");
                run(command.arg("-c").arg(self.scripts.join("main.conf")).arg("shutdown"));
            }
        }
        process.wait("the end of the supervisor");
        wait::until("the end of all that it has started", || {
            let left = sweep::carrying(&self.mark);
            // What it left when it ended is now our child, and ours to reap.
            sweep::reap(&started);
            left.is_empty().then_some(())
        });
    }

    #[track_caller]
    fn ask(&self, program: &str, arguments: &[&str], service: Service) -> Output {
        let mut command = Command::new(program);
        match self.kind {
            Kind::Runit | Kind::S6 => {
                command.args(arguments).arg(self.scripts.join(format!("{}-0", service.name())))
            }
            Kind::Supervisord => {
                let name = format!("{0}:{0}-0", service.name());
                command.arg("-c").arg(self.scripts.join("main.conf")).args(arguments).arg(name)
            }
        };
        run(&mut command)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.process.is_some() && std::thread::panicking() {
            for (name, text) in self.told() {
                let skip = text.lines().count().saturating_sub(20);
                eprintln!("--- last lines of {name}:");
                text.lines().skip(skip).for_each(|line| eprintln!("    {line}"));
            }
        }
        self.process = None;
        sweep::sweep(&self.mark);
    }
}

impl Supervised {
    /// The logs that the shipped log services write, by folder or file name.
    pub fn told(&self) -> Vec<(String, String)> {
        let Ok(entries) = std::fs::read_dir(&self.logs) else { return Vec::new() };
        let read = |path: PathBuf| {
            let file = if path.is_dir() { path.join("current") } else { path.clone() };
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some((name, String::from_utf8_lossy(&std::fs::read(file).ok()?).into_owned()))
        };
        entries.flatten().filter_map(|entry| read(entry.path())).collect()
    }
}

/// Copies the shipped files for shard 0, as their README describes.
#[track_caller]
fn copied(kind: Kind, to: &Path, folder: &Path, logs: &Path) {
    std::fs::create_dir(to).expect("a folder of the test's own");
    let copy = |from: PathBuf, to: PathBuf| {
        let mut command = Command::new("cp");
        let copied = run(command.arg("-a").arg(from).arg(to));
        assert!(copied.status.success(), "{copied:?}");
    };
    match kind {
        Kind::Runit | Kind::S6 => {
            for service in [Service::Executor, Service::Watchdog] {
                copy(kind.shipped().join(service.name()), to.join(format!("{}-0", service.name())));
            }
        }
        Kind::Supervisord => {
            for script in [Service::Executor.name(), Service::Watchdog.name()] {
                copy(kind.shipped().join(script), to.join(script));
            }
            // It has no syntax for a variable with a default.
            let conf = std::fs::read_to_string(kind.shipped().join("shard.conf")).expect("what is shipped");
            assert!(conf.contains("=/var/log/shard/"), "{conf}");
            let conf = conf.replace("=/var/log/shard/", &format!("={}/", logs.display()));
            std::fs::write(to.join("shard.conf"), conf).expect("the config can be written");
            let socket = folder.join("supervisor.sock");
            let main = format!(
                "[supervisord]\nlogfile={logs}/supervisord.log\npidfile={folder}/supervisord.pid\nchildlogdir={logs}\n\
                 [unix_http_server]\nfile={socket}\n[supervisorctl]\nserverurl=unix://{socket}\n\
                 [rpcinterface:supervisor]\n\
                 supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
                 [include]\nfiles={scripts}/shard.conf\n",
                logs = logs.display(),
                folder = folder.display(),
                socket = socket.display(),
                scripts = to.display()
            );
            std::fs::write(to.join("main.conf"), main).expect("the config can be written");
        }
    }
}

/// Name of the user who runs the test; to run as that user, no privileges need be dropped.
#[track_caller]
pub fn whoami() -> String {
    if getuid().is_root() {
        return "root".to_owned();
    }
    let output = run(Command::new("id").arg("-un"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs one of the supervisor's own commands to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}
