//! What `watchdog/deploy/systemd` ships, installed by the commands of its README on a host of the
//! test's own with the real systemd: version 252 of this machine, and 257.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and the test runner ends a wait without end"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use shard_tests::cgroup::Cgroup;
use shard_tests::host::{Deployed, Host, Release};
use shard_tests::sidecar::Sidecar;
use shard_tests::{api, blocks, faults, skip, wait};
use tempfile::TempDir;

const SHARD: &str = "shard-executor@0.service";
const WATCHDOG: &str = "shard-watchdog@0.service";
const COORDINATOR: &str = "shard-coordinator.service";

/// The highest exposure of a unit as measured by `systemd-analyze security`, in tenths.
const EXPOSED_AT_MOST: &str = "--threshold=20";

/// Notes the test as skipped if there is a reason; in CI it fails.
fn skipped(test: &str, why: Option<String>) -> bool {
    let Some(why) = why else { return false };
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs this: {why}");
    skip::note(test, &why);
    true
}

/// A host with shard 0 and its watchdog, installed as the README says.
struct Stage {
    sidecar: Sidecar,
    listen: SocketAddr,
    deployed: Deployed,
    host: Host,
    // Dropped last: the host is in it.
    folder: TempDir,
}

impl Stage {
    /// `None`: not possible on this machine. `config`: replacements in the watchdog's config;
    /// `unit`: a drop-in for the shard's unit.
    fn start(test: &str, release: Release, config: &[(&str, &str)], unit: &str) -> Option<Self> {
        if skipped(test, Host::impossible(release)) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let host = Host::start(folder.path(), release);
        let deployed = host.install(folder.path());
        let (listen, metrics, http) = (api::free_address(), api::free_address(), api::free_address());
        let env = host.path("/etc/shard-executor/0.env");
        let ports = [("127.0.0.1:7001", &*listen.to_string()), ("127.0.0.1:9621", &*metrics.to_string())];
        replace(&env, &ports);
        let faults = fs::read_to_string(&env).unwrap() + "SHARD_EXECUTOR_FAULTS=/run/shard/0.faults\n";
        fs::write(&env, faults).unwrap();
        let toml = host.path("/etc/shard-watchdog/0.toml");
        replace(&toml, &[("127.0.0.1:9611", &http.to_string()), ("\"observe\"", "\"enforce\"")]);
        replace(&toml, config);
        if !unit.is_empty() {
            host.drop_in(SHARD, "test", unit);
        }
        let told = host.shell(&deployed.in_project(&deployed.commands("## Install", 1)));
        assert!(told.starts_with("ok\n"), "{told}");
        let sidecar = Sidecar {
            config: toml,
            http,
            evidence: host.path("/var/lib/shard-watchdog/0"),
            heartbeat: host.path("/run/shard/0.heartbeat"),
        };
        sidecar.wait_for("healthy");
        Some(Self { sidecar, listen, deployed, host, folder })
    }

    /// Starts the coordinator's unit, which runs until it is stopped.
    fn load(&self) {
        blocks::generated(self.folder.path(), 10, 20);
        let from = self.folder.path().join("blocks");
        self.host.shell(&format!(
            "mkdir -p /var/lib/shard-executor && cp -r '{}' /var/lib/shard-executor/blocks",
            from.display()
        ));
        self.host.shell(&self.deployed.in_units(&self.deployed.commands("## Install", 3)));
        let env = self.host.path("/etc/shard-executor/coordinator.env");
        let (listen, metrics, http) = (self.listen, api::free_address(), api::free_address());
        let shards = ("127.0.0.1:7001,127.0.0.1:7002", &*listen.to_string());
        replace(&env, &[shards, ("127.0.0.1:9620", &metrics.to_string())]);
        let more = "SHARD_EXECUTOR_REPEAT=0\nSHARD_EXECUTOR_BLOCK_DEADLINE=60s\n";
        fs::write(&env, fs::read_to_string(&env).unwrap() + more).unwrap();
        let toml = self.host.path("/etc/shard-watchdog/coordinator.toml");
        replace(&toml, &[("127.0.0.1:9610", &http.to_string())]);
        self.host.shell("systemctl enable --now shard-coordinator");
        assert_eq!(self.host.property(COORDINATOR, "StatusText"), "the coordinator runs");
        wait::until("the coordinator to be watched", || {
            (api::json(http, "/api/v1/status")?["verdict"] == "healthy").then_some(())
        });
        self.verifies();
    }

    /// Waits for a block that is verified after now.
    fn verifies(&self) {
        let verified = || self.host.journal_of(Some(COORDINATOR)).matches(" verified ").count();
        let before = verified();
        wait::until("the next block", || (verified() > before).then_some(()));
    }

    /// Loses the executor thread, and waits for the end of the incident, which is the `number`th.
    fn lose_thread(&self, number: usize) -> Value {
        faults::order(&self.host.path("/run/shard/0.faults"), &["hook off", "arm panic"]);
        wait::until(&format!("incident {number} to be over"), || {
            let incidents = self.sidecar.incidents();
            let newest = incidents.iter().max_by_key(|one| one["id"].as_str().map(str::to_owned))?;
            (incidents.len() == number && newest["status"] == "recovered").then(|| newest.clone())
        })
    }

    /// What `check` prints on standard error.
    fn check(&self) -> String {
        let arguments =
            ["-u", "shard", "--", "shard-watchdog", "check", "--config", "/etc/shard-watchdog/0.toml"];
        let output = self.host.run("runuser", &arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[track_caller]
fn replace(file: &Path, pairs: &[(&str, &str)]) {
    let mut text = fs::read_to_string(file).unwrap();
    for (from, to) in pairs {
        assert!(text.contains(from), "{from} in {text}");
        text = text.replace(from, to);
    }
    fs::write(file, text).unwrap();
}

/// A line of `/proc/PID/status`.
fn status_of(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().to_owned()
}

/// Whether this process, run by root, has `CAP_SYS_RESOURCE`: a container's root often lacks it.
fn may_raise_limits() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let effective = u64::from_str_radix(&status_of(std::process::id().cast_signed(), "CapEff"), 16).unwrap();
    effective >> CAP_SYS_RESOURCE & 1 == 1
}

/// The thread of that name.
fn thread(pid: i32, name: &str) -> i32 {
    let named = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(|entry| entry.path());
    let task = tasks.find(named).unwrap_or_else(|| panic!("no thread {name}"));
    task.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../watchdog/deploy/systemd/units")
}

#[test]
fn the_units_are_hardened() {
    let test = "the_units_are_hardened";
    let there = Path::new("/usr/bin/systemd-analyze").is_file();
    if skipped(test, (!there).then(|| "systemd is not installed (apt-get install systemd)".to_owned())) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for unit in ["shard-executor@", "shard-watchdog@", "shard-coordinator"] {
        let instance = unit.replace('@', "@0");
        let file = folder.path().join(format!("{instance}.service"));
        fs::copy(units().join(format!("{unit}.service")), &file).unwrap();
        // Real-time priority and locked memory must not increase it either.
        if unit == "shard-watchdog@" {
            let drop_in = folder.path().join(format!("{instance}.service.d"));
            fs::create_dir(&drop_in).unwrap();
            fs::copy(units().join("../drop-ins/real-time.conf"), drop_in.join("real-time.conf")).unwrap();
        }
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--no-pager", "--offline=yes", EXPOSED_AT_MOST]).arg(&file);
        let output = analyze.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        println!("{}", said.lines().last().unwrap_or_default());
    }
}

fn a_lost_thread_a_reload_and_an_upgrade(test: &str, release: Release) {
    let Some(stage) = Stage::start(test, release, &[], "") else { return };
    let Stage { host, deployed, sidecar, .. } = &stage;
    // Nothing runs as root or with a privilege, and both have declared themselves ready.
    let (shard, watchdog) = (host.main_pid(SHARD), host.main_pid(WATCHDOG));
    for (unit, pid) in [(SHARD, shard), (WATCHDOG, watchdog)] {
        assert_eq!(status_of(pid, "CapPrm").trim_start_matches('0'), "", "{unit}");
        assert_ne!(status_of(pid, "Uid").split_whitespace().next(), Some("0"), "{unit}");
        assert_eq!(host.property(unit, "ControlGroup"), format!("/shards.slice/{unit}"));
    }
    assert_eq!(sidecar.pid(), inside(shard));
    assert_eq!(host.property(SHARD, "StatusText"), "shard 0 runs");
    wait::until("the verdict as the status of the unit", || {
        host.property(WATCHDOG, "StatusText").starts_with("healthy: ").then_some(())
    });
    assert_eq!(stage.check(), "", "limits, pauses and descriptors go together");
    let explained =
        format!("export SHARD_WATCHDOG_URL=http://{}\n{}", sidecar.http, deployed.commands("## Install", 2));
    assert!(host.shell(&explained).contains("healthy"));
    let verify =
        host.shell(&format!("systemd-analyze verify --man=no {SHARD} {WATCHDOG} {COORDINATOR} 2>&1"));
    assert_eq!(verify, "");

    stage.load();
    let incident = stage.lose_thread(1);
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert_eq!(host.property(SHARD, "NRestarts"), "1");
    assert_ne!(host.main_pid(SHARD), shard);
    assert_eq!(host.main_pid(WATCHDOG), watchdog, "it is the shard that was killed");
    let line = host.told(WATCHDOG, "verdict condemned");
    assert!(line.contains("exec-s0") && line.contains("ended while process"), "{line}");
    stage.verifies();

    // A bad config fails the reload and changes nothing; a good one takes effect.
    let config = fs::read_to_string(&sidecar.config).unwrap();
    fs::write(&sidecar.config, config.replace("stall_after = \"5s\"", "stall_after = \"soon\"")).unwrap();
    let reload = host.run("systemctl", &["reload", WATCHDOG]);
    assert!(!reload.status.success());
    host.told(WATCHDOG, "found \"soon\"");
    fs::write(&sidecar.config, config.replace("\"enforce\"", "\"observe\"")).unwrap();
    host.shell(&format!("systemctl reload {WATCHDOG}"));
    wait::until("the new mode", || (sidecar.status()?["mode"] == "observe").then_some(()));
    // With Type=notify systemctl may return as soon as the signal is sent, before the reload ends.
    host.wait_for(WATCHDOG, "ActiveState", "active");
    assert_eq!(host.main_pid(WATCHDOG), watchdog, "a reload is no restart");
    fs::write(&sidecar.config, config).unwrap();

    // The upgrade of the README: the shard does not notice, and nothing recorded is forgotten.
    let shard = host.main_pid(SHARD);
    host.shell(&deployed.in_project(&deployed.commands("## Upgrade", 0)));
    assert_ne!(host.main_pid(WATCHDOG), watchdog);
    sidecar.wait_for("healthy");
    stage.verifies();
    assert_eq!(host.main_pid(SHARD), shard, "its shard was left alone");
    assert_eq!(sidecar.told_incidents().len(), 1);
    assert_eq!(sidecar.status().unwrap()["kills_left"], 2, "the kill is paid for");

    // An orderly stop of everything at once is no incident.
    host.shell("systemctl stop shards.target");
    for unit in [SHARD, WATCHDOG] {
        // `systemctl` returns when the target has stopped; the units that stop with it may need a
        // moment more.
        host.wait_for(unit, "ActiveState", "inactive");
        assert_eq!(host.property(unit, "Result"), "success");
    }
    assert_eq!(sidecar.incidents().len(), 1);
    assert!(sidecar.heartbeat.is_file(), "the folder outlives the units");
}

#[test]
fn a_lost_thread_a_reload_and_an_upgrade_under_systemd_252() {
    a_lost_thread_a_reload_and_an_upgrade(
        "a_lost_thread_a_reload_and_an_upgrade_under_systemd_252",
        Release::Machine,
    );
}

#[test]
fn a_lost_thread_a_reload_and_an_upgrade_under_systemd_257() {
    a_lost_thread_a_reload_and_an_upgrade(
        "a_lost_thread_a_reload_and_an_upgrade_under_systemd_257",
        Release::Trixie,
    );
}

/// The pid inside the host of a process with this pid on this machine.
fn inside(pid: i32) -> i32 {
    status_of(pid, "NSpid").split_whitespace().next_back().unwrap().parse().unwrap()
}

fn a_watch_loop_that_stands_still_and_a_frozen_shard(test: &str, release: Release) {
    let freezer = match Cgroup::make("freezer") {
        Ok(freezer) => freezer,
        Err(why) => return assert!(skipped(test, Some(why))),
    };
    let Some(stage) = Stage::start(test, release, &[], "") else { return };
    let Stage { host, sidecar, .. } = &stage;
    // Long enough for a busy machine, and for the state awaited below not to pass unseen.
    host.drop_in(WATCHDOG, "test", "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=60s\n");
    host.shell(&format!("systemctl restart {WATCHDOG}"));
    stage.load();
    stage.lose_thread(1);
    let shard = host.main_pid(SHARD);

    // systemd freezes the shard in the middle of its work: it is excused, and nothing is killed.
    let orders = host.path("/run/shard/0.faults");
    // A block now takes ten seconds instead of some hundredths of one: the shard is in the middle
    // of a slow one.
    faults::order(&orders, &["arm slow 500ms"]);
    wait::until("a block that takes its time", || {
        let status = sidecar.status()?;
        status["threads"][0]["work_age_seconds"].as_f64().filter(|age| *age > 1.0)
    });
    host.shell(&format!("systemctl freeze {SHARD}"));
    let excused = sidecar.wait_for("excused");
    assert_eq!(excused["threads"][0]["kind"], "frozen", "{excused:#}");
    host.shell(&format!("systemctl thaw {SHARD}"));
    faults::order(&orders, &["disarm"]);
    sidecar.wait_for("healthy");
    assert_eq!(host.main_pid(SHARD), shard);

    // Only the watchdog's most important thread stands still. All others go on.
    let watchdog = host.main_pid(WATCHDOG);
    freezer.take_thread(thread(watchdog, "watch"));
    freezer.set("freezer.state", "FROZEN");
    host.wait_for(WATCHDOG, "SubState", "stop-watchdog");
    freezer.set("freezer.state", "THAWED");
    host.wait_for(WATCHDOG, "NRestarts", "1");
    adopted_again(&stage, shard, watchdog);
    host.told(WATCHDOG, "Watchdog timeout");

    // The whole process stands still.
    let watchdog = host.main_pid(WATCHDOG);
    let pid = rustix::process::Pid::from_raw(watchdog).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    host.wait_for(WATCHDOG, "NRestarts", "2");
    adopted_again(&stage, shard, watchdog);
}

fn adopted_again(stage: &Stage, shard: i32, before: i32) {
    wait::until("another watchdog", || (stage.host.main_pid(WATCHDOG) != before).then_some(()));
    stage.sidecar.wait_for("healthy");
    assert_eq!(stage.sidecar.pid(), inside(shard), "the same shard");
    assert_eq!(stage.sidecar.told_incidents().len(), 1, "what was said is not forgotten");
    stage.verifies();
}

#[test]
fn a_watch_loop_that_stands_still_and_a_frozen_shard_under_systemd_252() {
    a_watch_loop_that_stands_still_and_a_frozen_shard(
        "a_watch_loop_that_stands_still_and_a_frozen_shard_under_systemd_252",
        Release::Machine,
    );
}

#[test]
fn a_watch_loop_that_stands_still_and_a_frozen_shard_under_systemd_257() {
    a_watch_loop_that_stands_still_and_a_frozen_shard(
        "a_watch_loop_that_stands_still_and_a_frozen_shard_under_systemd_257",
        Release::Trixie,
    );
}

fn a_start_limit_and_a_second_instance(test: &str, release: Release) {
    let freezer = match Cgroup::make("freezer") {
        Ok(freezer) => freezer,
        Err(why) => return assert!(skipped(test, Some(why))),
    };
    // More than the budget needs at once, and less than it needs in an hour.
    let unit = "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=4\n[Service]\nTimeoutStopSec=1s\n";
    let Some(stage) = Stage::start(test, release, &[("\"30s\"", "\"2s\"")], unit) else { return };
    let Stage { host, sidecar, .. } = &stage;
    let warned = stage.check();
    assert!(warned.contains("StartLimitBurst=23") && warned.contains(SHARD), "{warned}");

    // It happens as foreseen: given up after deaths by signal, under a name that does not say so
    // (262 does).
    let deaths = wait::until("systemd to give the shard up", || {
        host.run("systemctl", &["kill", "-s", "KILL", SHARD]);
        let state = wait::until("the next life of the shard", || {
            let state = host.property(SHARD, "ActiveState");
            matches!(&*state, "active" | "failed").then_some(state)
        });
        (state == "failed").then(|| host.property(SHARD, "NRestarts"))
    });
    // The refused start is counted too.
    assert_eq!(deaths, "4", "four starts are the limit");
    assert_eq!(host.property(SHARD, "Result"), "signal");
    host.told(SHARD, "Start request repeated too quickly");
    sidecar.wait_for("dead");
    host.drop_in(SHARD, "test", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nTimeoutStopSec=1s\n");
    host.shell(&format!("systemctl reset-failed {SHARD}; systemctl start {SHARD}"));
    sidecar.wait_for("healthy");
    assert_eq!(stage.check(), "");

    // It outlives SIGKILL: systemd starts another shard beside it, which refuses to run until the
    // first has gone. Not because of its port, which is also taken, but because of the segment, on
    // which all depends.
    let env = host.path("/etc/shard-executor/0.env");
    let text = fs::read_to_string(&env).unwrap().replace("SHARD_EXECUTOR_METRICS=", "#");
    fs::write(&env, text).unwrap();
    let shard = host.main_pid(SHARD);
    let first = inside(shard);
    freezer.take(shard);
    freezer.set("freezer.state", "FROZEN");
    host.shell(&format!("systemctl restart --no-block {SHARD}"));
    let refused = host.told(SHARD, "another writer holds this segment");
    assert!(refused.contains(&first.to_string()), "{refused}");
    assert!(Path::new(&format!("/proc/{shard}")).exists(), "both were there at once");
    freezer.set("freezer.state", "THAWED");
    wait::until("the next life of the shard", || {
        let status = sidecar.status()?;
        (status["verdict"] == "healthy" && status["pid"] != first).then_some(())
    });

    // Where the pause grows, check expects the longest.
    let pauses = "[Service]\nRestartSec=1s\nRestartSteps=8\nRestartMaxDelaySec=1min\n";
    host.drop_in(SHARD, "pauses", pauses);
    let warned = stage.check();
    if release == Release::Trixie {
        assert!(
            warned.contains("RestartMaxDelaySec=1m") && warned.contains("never becomes shorter"),
            "{warned}"
        );
    } else {
        // 252 does not know steps, and one second fits twice.
        assert_eq!(warned, "");
    }
    host.drop_in(SHARD, "pauses", "[Service]\nRestartSec=5s\n");
    assert!(stage.check().contains("RestartSec=5s"));
}

#[test]
fn a_start_limit_and_a_second_instance_under_systemd_252() {
    a_start_limit_and_a_second_instance(
        "a_start_limit_and_a_second_instance_under_systemd_252",
        Release::Machine,
    );
}

#[test]
fn a_start_limit_and_a_second_instance_under_systemd_257() {
    a_start_limit_and_a_second_instance(
        "a_start_limit_and_a_second_instance_under_systemd_257",
        Release::Trixie,
    );
}

#[test]
fn real_time_without_a_capability_and_a_supervisor_that_is_the_service() {
    let test = "real_time_without_a_capability_and_a_supervisor_that_is_the_service";
    let Some(stage) = Stage::start(test, Release::Machine, &[], "") else { return };
    let Stage { host, deployed, sidecar, .. } = &stage;
    let drop_in = deployed.commands("## Install", 4);
    if !may_raise_limits() {
        // Root on this machine may not raise a limit. A privilege in its place shows what else the
        // drop-in lifts.
        let privileges = "CAP_SYS_NICE CAP_IPC_LOCK";
        let instead =
            format!("[Service]\nAmbientCapabilities={privileges}\nCapabilityBoundingSet={privileges}\n");
        host.drop_in(WATCHDOG, "instead-of-limits", &instead);
    }
    host.shell(&deployed.in_units(&drop_in));
    assert_eq!(host.property(WATCHDOG, "LimitRTPRIO"), "10");
    assert_eq!(host.property(WATCHDOG, "LimitMEMLOCK"), "infinity");
    sidecar.wait_for("healthy");
    let watchdog = host.main_pid(WATCHDOG);
    let watch = thread(watchdog, "watch");
    wait::until("real-time priority", || {
        let stat = fs::read_to_string(format!("/proc/{watchdog}/task/{watch}/stat")).unwrap();
        // Counted after the name: field 41 of proc(5) is the policy, and 1 is SCHED_FIFO.
        let policy = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap().to_owned();
        (policy == "1").then_some(())
    });
    assert_ne!(status_of(watchdog, "VmLck"), "0 kB");
    assert!(!may_raise_limits() || status_of(watchdog, "CapPrm").trim_start_matches('0').is_empty());

    // What the supervisor starts is not the service, so it does not get the manager's variables.
    // The supervisor ends with the code of its command, which SIGTERM ended.
    let unit = "[Service]\nType=notify\nWatchdogSec=3s\nRestart=always\nRestartSec=0\nSuccessExitStatus=143\n\
                ExecStart=/usr/local/bin/shard-watchdog supervise -- bash -c 'env >/run/env; exec sleep 1000'\n";
    host.write("/etc/systemd/system/supervised.service", unit);
    host.shell("systemctl daemon-reload; systemctl start supervised");
    let env = wait::until("the environment of the command", || {
        fs::read_to_string(host.path("/run/env")).ok().filter(|env| env.contains("SHARD_WATCHDOG_SUPERVISED"))
    });
    assert!(!env.contains("NOTIFY_SOCKET") && !env.contains("WATCHDOG_USEC"), "{env}");
    let supervisor = host.main_pid("supervised");
    let pid = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    host.wait_for("supervised", "NRestarts", "1");
    host.shell("systemctl stop supervised");
    assert_eq!(host.property("supervised", "Result"), "success");
    assert!(!host.journal().contains("reception only permitted"), "{}", host.journal());
}
