//! Row 16: a block that ends every shard that runs it. The watchdog stops killing for it, the shard
//! refuses it, the coordinator executes it apart from them, and everything else goes on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use shard_tests::incident;
use shard_tests::poison::poisoned;
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, sweep, wait};

/// The only work of `stalling-target`.
const KEY: u64 = 7;

fn has(incident: &Value, step: &str) -> bool {
    incident::step_at(incident, step).is_some()
}

fn metric(sidecar: &Sidecar, name: &str) -> Option<f64> {
    let page = api::get(sidecar.http, "/metrics")?.body;
    page.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
}

#[test]
fn row_16_a_block_that_ends_every_shard_costs_each_two_lives_at_most_and_is_executed_apart() {
    poisoned("panic");
}

#[test]
fn row_16_a_block_at_which_every_shard_stands_still_is_killed_for_twice_at_most() {
    poisoned("deadlock");
}

/// A target that asks nothing and stalls at the same work in each of its lives.
struct Alone {
    sidecar: Sidecar,
    socket: std::path::PathBuf,
    supervisor: Process,
    mark: String,
    _folder: tempfile::TempDir,
}

impl Alone {
    fn start() -> Self {
        sweep::adopt_orphans();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("w.sock");
        let append = format!("socket = {socket:?}\n");
        let settings = Settings { stall_after: "500ms".to_owned(), kills: 10, append, ..Settings::default() };
        let sidecar = Sidecar::configure(folder.path(), "0", "exec-s0", &settings);
        let mark = format!("{}-alone", std::process::id());
        let mut command = Command::new(binary("shard-watchdog"));
        command.arg("supervise").arg("--config").arg(&sidecar.config).args(["--settled-after", "0s", "--"]);
        command.arg(binary("stalling-target")).arg(&sidecar.heartbeat).env(sweep::MARK, &mark);
        let supervisor = Process::start("supervisor", command);
        Self { sidecar, socket, supervisor, mark, _folder: folder }
    }

    fn killed(&self) -> usize {
        self.sidecar.incidents().iter().filter(|one| has(one, "signal")).count()
    }

    /// Waits until it is left alone, and checks that it stays so.
    fn left_alone(&self, kills: usize) -> Value {
        let status = wait::until("a target that is spared", || {
            self.sidecar.status().filter(|status| status["spared"] == true)
        });
        assert_eq!(status["verdict"], "crash_loop", "{status:#}");
        assert_eq!(status["crash_loop_keys"], serde_json::json!([KEY]), "{status:#}");
        assert_eq!(self.killed(), kills, "{status:#}");
        wait::holds_for(Duration::from_secs(2), "the target lives on", || {
            self.sidecar.status().is_some_and(|now| now["pid"] == status["pid"] && now["spared"] == true)
        });
        assert_eq!(self.killed(), kills, "{status:#}");
        status
    }

    fn clear(&self, key: &[&str]) -> std::process::Output {
        let mut command = Command::new(binary("shard-watchdog"));
        command.arg("clear").args(key).arg("--socket").arg(&self.socket);
        command.output().unwrap()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.supervisor.signal(Signal::TERM);
        sweep::sweep(&self.mark);
    }
}

#[test]
fn row_16_a_shard_that_stalls_at_the_same_work_is_killed_twice_and_then_left_alone_until_it_is_cleared() {
    let alone = Alone::start();
    let status = alone.left_alone(2);
    assert!(status["no_kill"].to_string().contains("crash_loop"), "{status:#}");
    assert_eq!(metric(&alone.sidecar, "shard_watchdog_crash_loop_keys{"), Some(1.0));
    let ready = api::get(alone.sidecar.http, "/shard/readyz").unwrap();
    assert!(ready.body.starts_with("crash_loop"), "{}", ready.body);
    // A withheld kill is an incident too, and here the latest one.
    let latest = alone.sidecar.incidents().pop().unwrap();
    assert!(has(&latest, "withheld") && !has(&latest, "signal"), "{latest:#}");
    assert!(latest["observations"].to_string().contains("crash loop"), "{latest:#}");
    shard_tests::replayed::prove(&alone.sidecar.config, &alone.sidecar.evidence, &latest);

    // The crash loop is remembered across a restart of the sidecar.
    let sidecar: i32 = alone.supervisor.line("the sidecar's pid", 0, |line| {
        line.strip_prefix("supervise: sidecar pid ")?.split(' ').next()?.parse().ok()
    });
    let from = alone.supervisor.line_count();
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(sidecar).unwrap(), PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    alone
        .supervisor
        .line("another sidecar", from, |line| line.starts_with("supervise: sidecar pid ").then_some(()));
    let again = alone.left_alone(2);
    assert_eq!(again["pid"], status["pid"]);

    // Another key has no effect; for this one the target is killed again, twice.
    let other = alone.clear(&["8"]);
    assert!(String::from_utf8_lossy(&other.stdout).contains("no crash loop"), "{other:?}");
    assert_eq!(alone.sidecar.status().unwrap()["spared"], true);
    let cleared = alone.clear(&["7"]);
    assert!(cleared.status.success(), "{cleared:?}");
    assert!(String::from_utf8_lossy(&cleared.stdout).contains("killed for again"), "{cleared:?}");
    wait::until("the kill that was due", || (alone.killed() > 2).then_some(()));
    alone.left_alone(4);
}
