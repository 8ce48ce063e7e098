//! The watchdog itself: whatever ends or holds it, its supervisor brings it back, it adopts the
//! running target and has lost no incident. The executor never waits for it, and can tell that
//! nobody watches.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::super::strike::{Who, hold};
use super::super::{Need, Part, Row, Told, scene};
use crate::cgroup::Cgroup;
use crate::clock::monotonic_ns;
use crate::cluster::{Cluster, Plan, Shard};
use crate::pair::Pair;
use crate::process::{Process, binary};
use crate::puppet::order;
use crate::sidecar::{Settings, Sidecar};
use crate::soak::fault::{pid_of, signal};
use crate::{api, wait};

/// A second on an idle machine, after the supervisor's backoff.
const ADOPTED_WITHIN: Duration = Duration::from_secs(10);

const fn row(case: &'static str, what: &'static str, fault: &'static str, play: fn(&Told)) -> Row {
    scene(Part::Watchdog, "watchdog", case, what, fault, play)
}

pub(super) const ROWS: &[Row] = &[
    row("killed", "the sidecar is killed", "SIGKILL to it", |told| {
        comes_back(told, |shard| assert!(signal(shard, "sidecar", Signal::KILL), "it runs"));
    }),
    row(
        "panicking",
        "a thread of the sidecar panics, which ends it",
        "SIGABRT to it, which is how it ends",
        |told| {
            comes_back(told, |shard| assert!(signal(shard, "sidecar", Signal::ABORT), "it runs"));
        },
    ),
    row("out-of-memory", "the kernel kills the sidecar for its memory", "memory.limit_in_bytes", |told| {
        let memory = Cgroup::make("memory").unwrap_or_else(|why| panic!("{why}"));
        comes_back(told, |shard| out_of_memory(shard, &memory));
    })
    .on(&[Need::Controller("memory")]),
    row("upgraded", "the sidecar is ended in order and started anew, under load", "SIGTERM to it", |told| {
        comes_back(told, |shard| assert!(signal(shard, "sidecar", Signal::TERM), "it runs"));
    }),
    row("stopped", "the sidecar is stopped: nobody watches", "stop-process, of the sidecar", stopped)
        .on(&[Need::Root]),
    row("early", "the sidecar is started before the target", "a sidecar, then a target", early),
    row("twice", "the sidecar is started twice", "a second one on the same segment", twice),
];

/// One incident exists already; then the sidecar ends and comes back.
#[track_caller]
fn comes_back(told: &Told, end: impl FnOnce(&Shard)) {
    let mut cluster = Cluster::start(&Plan::default());
    cluster.inject(0, &["hook off", "arm panic after 3"]);
    let shard = &cluster.shards[0];
    let earlier = shard.sidecar.incident("recovered");
    let target = shard.sidecar.wait_for("healthy")["pid"].clone();
    let before = pid_of(shard, "sidecar");
    let from = shard.supervisor.line_count();
    let fired = monotonic_ns();
    end(shard);
    shard.supervisor.line("the next sidecar", from, |line| {
        line.strip_prefix("supervise: sidecar pid ")?.contains(" started ").then_some(())
    });
    told.time("running", fired, monotonic_ns());
    shard.supervisor.line("the adoption", from, |line| line.contains("\"event\":\"adopted\"").then_some(()));
    told.time_within("adopted", fired, monotonic_ns(), ADOPTED_WITHIN);
    assert_ne!(pid_of(shard, "sidecar"), before, "another sidecar");
    let status = shard.sidecar.wait_for("healthy");
    assert_eq!(status["pid"], target, "the target was left alone");
    assert_eq!(status["kills_left"], 2, "the kill before it is not forgotten: {status:#}");
    let incidents = shard.sidecar.told_incidents();
    assert!(
        incidents.len() == 1 && incidents[0]["id"] == earlier["id"],
        "nothing said is lost: {incidents:#?}"
    );
    told.time("verified", fired, cluster.verified_after(fired).at);
    // The new sidecar really watches.
    cluster.inject(0, &["hook off", "arm panic after 3"]);
    wait::until("the next incident", || {
        let incidents = cluster.shards[0].sidecar.incidents();
        (incidents.len() == 2 && incidents[1]["status"] == "recovered").then_some(())
    });
    told.saw("adopted again, no incident lost, kills again");
    cluster.assert_common_rule(&[0]);
}

/// The kernel kills a process that exceeds its memory limit.
#[track_caller]
fn out_of_memory(shard: &Shard, memory: &Cgroup) {
    let pid = wait::until("the pid of the sidecar", || pid_of(shard, "sidecar"));
    memory.set("memory.limit_in_bytes", "64K");
    memory.take(pid);
    wait::until("the end of the sidecar", || {
        // Each page that it writes takes memory.
        let _ = api::get(shard.sidecar.http, "/");
        (pid_of(shard, "sidecar") != Some(pid)).then_some(())
    });
}

fn stopped(told: &Told) {
    let mut cluster = Cluster::start(&Plan { metrics: true, ..Plan::default() });
    let metrics = cluster.shards[0].metrics.expect("the plan says so");
    let age = || {
        let page = api::get(metrics, "/metrics")?.body;
        let line = page.lines().find(|line| line.starts_with("shard_executor_watchdog_age_seconds"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    wait::until("that somebody watches", || age().filter(|age| *age < 1.0));
    let stopped = hold(&cluster, "stop-process", Who::Sidecar, &[]);
    let began = monotonic_ns();
    wait::until("that nobody watches", || age().filter(|age| *age > 2.0));
    told.time("verdict", began, monotonic_ns());
    told.time("verified", began, cluster.verified_after(monotonic_ns()).at);
    stopped.undo();
    told.held(Duration::from_nanos(monotonic_ns() - began));
    wait::until("that somebody watches again", || age().filter(|age| *age < 1.0));
    told.saw("the executor says that nobody watches, and goes on");
    cluster.shards[0].sidecar.wait_for("healthy");
    cluster.assert_common_rule(&[]);
}

fn early(told: &Told) {
    let mut pair = Pair::configure();
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    pair.sidecar.wait_for("unguarded");
    let began = monotonic_ns();
    pair.start_target(Command::new(binary("puppet")));
    pair.sidecar.wait_for("healthy");
    told.time_within("adopted", began, monotonic_ns(), ADOPTED_WITHIN);
    pair.watched();
    told.saw("unguarded, then healthy, and watched: thread_gone, killed");
}

fn twice(told: &Told) {
    let mut pair = Pair::configure();
    pair.start_target(Command::new(binary("puppet")));
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    let pid = pair.sidecar.wait_for("healthy")["pid"].clone();
    // The same target and segment, with a folder and a port of its own.
    let second = Sidecar::configure(pair.folder.path(), "second", "exec-s0", &Settings::default());
    let text = std::fs::read_to_string(&pair.sidecar.config).expect("its config");
    let text = text
        .replace(&pair.sidecar.http.to_string(), &second.http.to_string())
        .replace(&pair.sidecar.evidence.display().to_string(), &second.evidence.display().to_string());
    std::fs::write(&second.config, text).expect("a file of our own");
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["run", "--config"]).arg(&second.config);
    let running = Process::start("the second sidecar", command);
    let refused = second.wait_for("unguarded");
    assert!(refused["pid"].is_null(), "{refused:#}");
    told.fact("refused", &refused["reason"]);
    assert_eq!(pair.sidecar.wait_for("healthy")["pid"], pid);
    order(pair.port, "rename twice");
    pair.watched();
    assert!(second.incidents().is_empty(), "one of them has killed: {:#?}", second.incidents());
    drop(running);
    told.saw("the second one is refused, the first one watches");
}
