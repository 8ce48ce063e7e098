//! What holds kills back though the verdict stands: the brake on kills that bring no progress, and
//! the jitter in which a stall may end.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Process, binary};
use crate::puppet::{self, Stage};
use crate::sidecar::{Settings, Sidecar};
use crate::{incident, sweep, wait};

/// A supervised target that makes no progress in any of its lives, and its sidecar.
#[derive(Debug)]
pub struct Stalling {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// What started both.
    pub supervisor: Process,
    socket: PathBuf,
    mark: String,
    _folder: tempfile::TempDir,
}

impl Stalling {
    /// Starts it, with these further arguments of `stalling-target`.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        sweep::adopt_orphans();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("w.sock");
        let append = format!("socket = {socket:?}\n");
        let settings = Settings { stall_after: "500ms".to_owned(), kills: 10, append, ..Settings::default() };
        let sidecar = Sidecar::configure(folder.path(), "0", "exec-s0", &settings);
        let mark = format!("{}-stalling", std::process::id());
        let mut command = Command::new(binary("shard-watchdog"));
        command.arg("supervise").arg("--config").arg(&sidecar.config).args(["--settled-after", "0s", "--"]);
        command.arg(binary("stalling-target")).arg(&sidecar.heartbeat).args(arguments);
        command.env(sweep::MARK, &mark);
        let supervisor = Process::start("supervisor", command);
        Self { sidecar, supervisor, socket, mark, _folder: folder }
    }

    /// How many incidents had a signal.
    pub fn killed(&self) -> usize {
        self.sidecar.incidents().iter().filter(|one| has(one, "signal")).count()
    }

    /// Waits until `holds` is true of its status, and checks that it stays so, that the process
    /// lives on, and that there were this many kills.
    #[track_caller]
    pub fn left_alone(&self, kills: usize, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let status = wait::until(what, || self.sidecar.status().filter(&holds));
        // Documents follow what they tell, on a busy disk by seconds.
        wait::until("the documents of its kills", || (self.killed() >= kills).then_some(()));
        assert_eq!(self.killed(), kills, "{status:#}");
        wait::holds_for(Duration::from_secs(2), "the target lives on", || {
            self.sidecar.status().is_some_and(|now| now["pid"] == status["pid"] && holds(&now))
        });
        assert_eq!(self.killed(), kills, "{status:#}");
        status
    }

    /// The latest incident, once its document says that its kill was withheld.
    #[track_caller]
    pub fn withheld(&self) -> Value {
        wait::until("the document of a withheld kill", || {
            self.sidecar.incidents().pop().filter(|latest| has(latest, "withheld"))
        })
    }

    /// Runs `shard-watchdog clear`, with this key if there is one, and returns what it prints.
    #[track_caller]
    pub fn clear(&self, key: &[&str]) -> String {
        let mut command = Command::new(binary("shard-watchdog"));
        command.arg("clear").args(key).arg("--socket").arg(&self.socket);
        let mut clear = Process::start("clear", command);
        let status = clear.wait("an answer");
        let lines = wait::until("all that it printed", || clear.all_lines());
        assert!(status.success(), "{status}: {lines:?}");
        lines.join("\n")
    }
}

impl Drop for Stalling {
    fn drop(&mut self) {
        self.supervisor.signal(Signal::TERM);
        sweep::sweep(&self.mark);
    }
}

/// A target that stands still at another piece of work in each life is killed three times and then
/// left alone, until a person clears it.
#[track_caller]
pub fn braked() {
    let target = Stalling::start(&["--other-work"]);
    let brakes = |status: &Value| status["braked"] == true && status["verdict"] == "condemned";
    let status = target.left_alone(3, "a target whose kills brought nothing", brakes);
    assert_eq!(status["kills_without_progress"], 3, "{status:#}");
    assert!(status["no_kill"].to_string().contains("no_progress"), "{status:#}");
    let latest = target.withheld();
    assert!(!has(&latest, "signal"), "{latest:#}");
    crate::replayed::prove(&target.sidecar.config, &target.sidecar.evidence, &latest);
    let cleared = target.clear(&[]);
    assert!(cleared.contains("3 kills without progress"), "{cleared}");
    target.left_alone(6, "the brake again", brakes);
}

/// Several shards stand still at once, each long enough for a verdict, and go on soon afterwards:
/// most of them live, because each kill waits for a random part of ten seconds. Returns how many
/// lived, of how many.
#[track_caller]
pub fn jittered() -> (usize, usize) {
    const SHARDS: usize = 3;
    let jitter = "jitter = \"10s\"\n".to_owned();
    let settings = Settings { stall_after: "500ms".to_owned(), kill: jitter, ..Settings::default() };
    let stages: Vec<Stage> = (0..SHARDS).map(|_| Stage::start(&settings)).collect();
    let pids: Vec<i32> = stages.iter().map(|stage| stage.sidecar.pid()).collect();
    for stage in &stages {
        stage.order("wait gate");
    }
    for stage in &stages {
        wait::until("the verdict", || {
            stage.sidecar.incidents().into_iter().find(|incident| incident["reason"] == "stalled")
        });
        // One that was killed at once goes on in another life, and needs no order.
        puppet::order(stage.port, "go");
    }
    let lived = stages.iter().zip(pids).filter(|(stage, pid)| {
        stage.sidecar.wait_for("healthy")["pid"] == *pid
            && stage.sidecar.incidents().iter().all(|incident| !has(incident, "signal"))
    });
    (lived.count(), SHARDS)
}

fn has(incident: &Value, step: &str) -> bool {
    incident::step_at(incident, step).is_some()
}
