//! A crowd of watched threads, and a sidecar with a limit of open files.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::Value;

use crate::api;
use crate::crowd::Crowd;
use crate::process::{Process, binary};
use crate::sidecar::{Settings, Sidecar};

/// The crowd and its sidecar. Dropping it ends both.
#[derive(Debug)]
pub struct Limited {
    /// The watched threads.
    pub crowd: Crowd,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// The sidecar's process.
    pub process: Process,
    _folder: tempfile::TempDir,
}

impl Limited {
    /// Starts `threads` threads, and a sidecar with these limits of open files.
    #[track_caller]
    pub fn start(threads: u16, soft: u64, hard: u64, settings: &Settings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sidecar = Sidecar::configure(folder.path(), "crowd", "exec-s*", settings);
        let mut target = Command::new(binary("puppet"));
        target.arg("crowd").arg(&sidecar.heartbeat).arg(threads.to_string());
        let crowd = Crowd::start(target);
        let mut command = Command::new(binary("shard-watchdog"));
        command.arg("run").arg("--config").arg(&sidecar.config).env("SHARD_WATCHDOG_LOG", "debug");
        command.env("SHARD_WATCHDOG_THREAD_EVENTS", &settings.thread_events);
        limit(&mut command, soft, hard);
        let process = Process::start("sidecar", command);
        Self { crowd, sidecar, process, _folder: folder }
    }

    /// Number of descriptors that the sidecar has open.
    #[track_caller]
    pub fn held(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.pid())).expect("it runs").count()
    }

    /// Makes a thread end, and asserts that the sidecar responds in full. Returns the incident.
    #[track_caller]
    pub fn kills_for(&mut self, number: u16) -> Value {
        self.crowd.lose(number);
        assert_eq!(self.crowd.ended().signal(), Some(9), "killed");
        let incident = self.sidecar.incident_with("exited");
        assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
        assert_eq!(incident["thread"]["name"], format!("exec-s{number}"), "{incident:#}");
        self.process.line("the verdict in the log", 0, |line| line.contains("thread_gone").then_some(()));
        incident
    }

    /// How many threads the sidecar reports as unobserved.
    pub fn unobserved(&self) -> Option<f64> {
        let page = api::get(self.sidecar.http, "/metrics")?.body;
        let line = page.lines().find(|line| line.starts_with("shard_watchdog_unobserved_threads{"))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// Makes `command` start with this limit of open files.
pub fn limit(command: &mut Command, soft: u64, hard: u64) {
    let limit = move || {
        let limit = Rlimit { current: Some(soft), maximum: Some(hard) };
        setrlimit(Resource::Nofile, limit).map_err(Into::into)
    };
    // SAFETY: one system call and nothing else between fork and exec.
    unsafe { command.pre_exec(limit) };
}

/// Numbers of the threads that are, or are not, observed.
#[track_caller]
pub fn numbers(status: &Value, observed: bool) -> Vec<u16> {
    let threads = status["threads"].as_array().expect("threads").iter();
    let those = threads.filter(|thread| thread["unobserved"].is_null() == observed);
    let number = |thread: &Value| thread["name"].as_str()?.trim_start_matches("exec-s").parse().ok();
    those.map(|thread| number(thread).expect("a thread of the crowd")).collect()
}
