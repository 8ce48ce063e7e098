//! Rows about the surroundings of a shard and its sidecar: disks, clocks, descriptors, floods,
//! collectors, starts, configs.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use shard_executor::{block, warm_up};

use super::super::recovers::tell;
use super::super::strike::{Who, hold};
use super::super::{Need, Part, Row, Told, scene};
use super::held::lose_from_outside;
use crate::cgroup::Cgroup;
use crate::clock::monotonic_ns;
use crate::cluster::{Blocks, Cluster, Plan, Strain};
use crate::collector::Traced;
use crate::fault_kit::{self, Fault};
use crate::process::Process;
use crate::puppet::Stage;
use crate::sidecar::Settings;
use crate::{api, faults, incident, wait};

const fn row(
    number: &'static str,
    case: &'static str,
    what: &'static str,
    fault: &'static str,
    play: fn(&Told),
) -> Row {
    scene(Part::Spared, number, case, what, fault, play)
}

const KIT: &[Need] = &[Need::Root];
const PERL: &[Need] = &[Need::Root, Need::Program("perl", "perl-base")];
const UNSHARE: &[Need] = &[Need::Root, Need::Program("perl", "perl-base"), Need::Namespaces(&["--mount"])];
const TIME: &[Need] =
    &[Need::Root, Need::Program("perl", "perl-base"), Need::Namespaces(&["--time", "--boottime", "1"])];

pub(super) const ROWS: &[Row] = &[
    scene(
        Part::Seen,
        "30",
        "sidecar",
        "the sidecar has no descriptor left, and a thread is lost",
        "exhaust-descriptors of the sidecar, kill-thread",
        blind_sidecar,
    )
    .on(PERL),
    row("30", "shard", "the shard can open no file", "exhaust-descriptors", |told| {
        let mut cluster = Cluster::start(&Plan::default());
        let exhausted = hold(&cluster, "exhaust-descriptors", Who::Shard, &[]);
        unharmed_for(told, &mut cluster, Duration::from_secs(3));
        exhausted.undo();
    })
    .on(KIT),
    row("48", "since-boot", "its clocks since boot are hours ahead", "jump-clock", clocks_since_boot)
        .on(TIME),
    row("52", "", "a burst fills a channel that then drains", "order to the coordinator: flood 25", burst),
    row("53", "", "HTTP flood", "flood-http, 32 connections", |told| {
        let stage = Stage::start(&Settings::default());
        let url = format!("http://{}/metrics", stage.sidecar.http);
        let flood = Fault::begin("flood-http", &["--url", &url, "--connections", "32", "--for", "5m"]);
        lost_meanwhile(told, &stage);
        flood.undo();
    })
    .on(PERL)
    .alone(),
    row(
        "53",
        "collector",
        "a collector that takes everything and answers nothing",
        "hang-collector",
        hung_collector,
    )
    .on(PERL),
    row("53", "full-disk", "the disk of the evidence is full", "fill-disk", |told| {
        let stage = Stage::start_on_a_small_disk(&Settings::default());
        let pid = stage.sidecar.pid().to_string();
        let evidence = stage.sidecar.evidence.display().to_string();
        let full = Fault::begin("fill-disk", &["--pid", &pid, "--folder", &evidence, "--for", "5m"]);
        lost_meanwhile(told, &stage);
        full.undo();
    })
    .on(UNSHARE),
    row("53", "slow-disk", "its disk is slow", "slow-disk", |told| {
        let stage = Stage::start(&Settings::default());
        let pid = stage.sidecar.pid().to_string();
        let slow = Fault::begin("slow-disk", &["--pid", &pid, "--folder", "/var/tmp", "--for", "5m"]);
        lost_meanwhile(told, &stage);
        slow.undo();
    })
    .on(&[Need::Controller("blkio"), Need::Program("perl", "perl-base")]),
    row("53", "unread-log", "a log that nobody reads", "a full pipe as standard error", unread_log),
    row("56", "", "a slow start within its grace", "a target that says it boots, for 3 s", slow_start),
    row(
        "56",
        "outlasts",
        "a start that outlasts its grace, 1 s",
        "a target that says it boots",
        too_slow_start,
    ),
    row("57", "", "a glob in the config that matches no thread", "[[thread]] name = \"nobody-*\"", no_thread),
    row(
        "59",
        "",
        "the first block after a start needs tables",
        "a block that calls every precompile",
        |told| {
            let folder = tempfile::tempdir().expect("a folder");
            let block = warm_up::block().expect("a block");
            block::write(&block, &folder.path().join("1.json")).expect("a file of our own");
            first_block(told, folder.path());
        },
    ),
    row("60", "", "its cgroup gives it no memory", "memory.limit_in_bytes, without OOM kills", no_memory)
        .on(&[Need::Controller("memory")]),
    row("63", "", "an OTEL_… variable is wrong", "four of them, one at a time", odd_telemetry),
    row(
        "66",
        "",
        "SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT to the supervisor",
        "each of them",
        signals_to_supervisor,
    ),
];

/// Asserts that the shard stays healthy and blocks continue.
#[track_caller]
fn unharmed_for(told: &Told, cluster: &mut Cluster, time: Duration) {
    let shard = &cluster.shards[0];
    wait::holds_for(time, "healthy, and the same process", || {
        shard.sidecar.status().is_none_or(|status| {
            let verdict = status["verdict"].as_str().unwrap_or_default();
            ["healthy", "excused"].contains(&verdict) && status["pid"] == shard.first_pid
        })
    });
    told.held(time);
    told.saw("healthy");
    cluster.verified_after(monotonic_ns());
    cluster.assert_common_rule(&[]);
}

/// While something disturbs the sidecar, its target loses a thread: that is detected, killed for
/// and restarted all the same.
#[track_caller]
fn lost_meanwhile(told: &Told, stage: &Stage) {
    /// A flood leaves little of the machine to anything else.
    const WITHIN: Duration = Duration::from_secs(15);
    let fired = lose_from_outside(&stage.sidecar);
    let incident = wait::until("a target that was killed and restarted", || {
        let told = [stage.sidecar.incidents(), stage.sidecar.told_incidents()].concat();
        told.into_iter().find(|incident| incident::step_at(incident, "restarted").is_some())
    });
    tell(told, &incident, fired);
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    let verdict = incident::step_at(&incident, "verdict").expect("it was judged");
    told.time_within("verdict", fired, verdict, WITHIN);
}

fn blind_sidecar(told: &Told) {
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let watchdog = stage.watchdog().to_string();
    let blind = Fault::begin("exhaust-descriptors", &["--pid", &watchdog, "--for", "5m"]);
    let arguments = ["--pid", &pid.to_string(), "--thread", crate::puppet::THREAD];
    let fired = monotonic_ns();
    assert_eq!(fault_kit::run("kill-thread", fault_kit::command("kill-thread", &arguments)).code, Some(0));
    blind.undo();
    let incident = stage.sidecar.incident("recovered");
    tell(told, &incident, fired);
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert_ne!(stage.sidecar.wait_for("healthy")["pid"], pid);
}

fn clocks_since_boot(told: &Told) {
    let script = fault_kit::folder().join("jump-clock");
    let script = script.display().to_string();
    let words = [&*script, "--boottime", "10h", "--monotonic", "3h", "--for", "5m", "--"];
    let stage = Stage::start_inside(&words, &Settings::default());
    let pid = stage.sidecar.pid();
    let held = Duration::from_secs(2);
    wait::holds_for(held, "healthy under another clock", || {
        stage.sidecar.status().is_none_or(|status| {
            // On a busy machine it may be starved for a moment.
            let verdict = status["verdict"].as_str().unwrap_or_default();
            status["pid"] == pid && ["healthy", "excused"].contains(&verdict)
        })
    });
    told.held(held);
    lose_from_outside(&stage.sidecar);
    let incident = stage.sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    told.fact("then", &incident["why"]);
    told.saw("healthy, and watched: thread_gone, killed");
}

fn burst(told: &Told) {
    /// In addition to the shard's own parts, and below the 32 that its queue holds.
    const MORE: u32 = 25;
    let limits = "max_age = \"1s\"\nmax_depth = 10\nconsumer = \"exec-s*\"";
    let settings = Settings { stall_after: "30s".to_owned(), ..Settings::default() };
    let settings = settings.channel_rule("commands", limits, "kill");
    let plan = Plan { settings, block_deadline: "60s".to_owned(), ..Plan::coordinator_first() };
    let mut cluster = Cluster::start(&plan);
    // 20 transactions in a part, 10 ms each: the burst takes some 5 s, several times the allowed
    // age.
    for shard in &cluster.shards {
        faults::order(&shard.faults, &["arm slow 10ms"]);
    }
    let fired = cluster.inject_coordinator(&[&format!("arm flood {MORE}")]);
    let (number, status) = wait::until("a report of the burst", || {
        let statuses = cluster.shards.iter().map(|shard| shard.sidecar.status());
        statuses.enumerate().find_map(|(number, status)| {
            status.filter(|status| status["verdict"] == "degraded").map(|status| (number, status))
        })
    });
    told.time("verdict", fired, monotonic_ns());
    assert!(status["reason"].to_string().contains("commands"), "{status:#}");
    let healthy = cluster.shards[number].sidecar.wait_for("healthy");
    told.time("healthy", fired, monotonic_ns());
    assert_eq!(healthy["kills_left"], 3, "{healthy:#}");
    told.saw("degraded (channel), reported, then healthy");
    for shard in &cluster.shards {
        faults::order(&shard.faults, &["disarm"]);
    }
    told.time("verified", fired, cluster.verified_after(monotonic_ns()).at);
    cluster.assert_common_rule(&[]);
}

fn hung_collector(told: &Told) {
    let collector = api::free_address();
    let append = format!("[otlp]\nendpoint = \"http://{collector}\"\ninterval = \"100ms\"\n");
    let hung = Fault::begin("hang-collector", &["--listen", &collector.to_string(), "--for", "5m"]);
    let stage = Stage::start(&Settings { append, ..Settings::default() });
    lost_meanwhile(told, &stage);
    hung.undo();
    stage.sidecar.wait_for("healthy");
}

fn unread_log(told: &Told) {
    let strained = Some((0, Strain::UnreadLogs));
    let mut cluster = Cluster::start(&Plan { strained, ..Plan::default() });
    // Its pipe was full before it started and is held open, unread, until the end.
    let fired = cluster.inject(0, &["hook off", "arm panic after 3"]);
    let incident = cluster.shards[0].sidecar.incident_with("restarted");
    tell(told, &incident, fired);
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert!(incident::step_at(&incident, "signal").is_some(), "{incident:#}");
    let dead = incident::step_at(&incident, "exited").expect("it died");
    told.time("verified", fired, cluster.verified_after(dead).at);
    assert!(cluster.shards[0].apart.as_mut().is_some_and(Process::is_running), "the sidecar lives");
    cluster.assert_common_rule(&[0]);
}

#[track_caller]
fn booting(grace: &str) -> (tempfile::TempDir, Traced) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings { judge: format!("startup_grace = {grace:?}"), ..Settings::default() };
    let traced = Traced::start_in_boot(folder.path(), "slow", &settings);
    (folder, traced)
}

/// Asserts that a start's verdict outlasts every other threshold, and that the target then comes
/// up.
#[track_caller]
fn boots(told: &Told, grace: &str, verdict: &str) {
    let (_folder, traced) = booting(grace);
    let sidecar = &traced.sidecar;
    let first = sidecar.wait_for(verdict);
    let held = Duration::from_secs(3);
    wait::holds_for(held, "the same verdict, and the same process", || {
        sidecar.status().is_none_or(|status| status["verdict"] == verdict && status["pid"] == first["pid"])
    });
    told.held(held);
    traced.boots_no_longer();
    assert_eq!(sidecar.wait_for("healthy")["pid"], first["pid"]);
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    told.saw(&format!("{verdict}, then healthy"));
}

fn slow_start(told: &Told) {
    boots(told, "1h", "starting");
}

fn too_slow_start(told: &Told) {
    boots(told, "1s", "degraded");
}

fn no_thread(told: &Told) {
    let settings = Settings {
        thread: Some("nobody-*".to_owned()),
        judge: "startup_grace = \"500ms\"".to_owned(),
        ..Settings::default()
    };
    let cluster = Cluster::start(&Plan { shards: 1, settings, coordinator: false, ..Plan::default() });
    let began = monotonic_ns();
    let status = cluster.shards[0].sidecar.wait_for("degraded");
    told.time("verdict", began, monotonic_ns());
    assert!(status["reason"].as_str().is_some_and(|why| why.contains("nobody-*")), "{status:#}");
    told.saw("degraded, page");
    cluster.shards[0].assert_unharmed();
}

/// Runs the blocks of `folder` over shards that have executed nothing, with sidecars that kill
/// after a second without progress.
#[track_caller]
fn first_block(told: &Told, folder: &std::path::Path) {
    const RUNS: usize = 3;
    let blocks = Blocks::Generated { blocks: 1, transactions: 1 };
    let mut cluster = Cluster::start(&Plan { coordinator: false, blocks, ..Plan::default() });
    let began = monotonic_ns();
    cluster.run_blocks(folder, "20s");
    let mut at = 0;
    for run in 0..RUNS {
        let verified = cluster.verified_after(at);
        assert_eq!(verified.retries, 0, "run {run}");
        at = verified.at;
        if run == 0 {
            told.time("verified", began, at);
        }
    }
    told.saw("healthy, no retry");
    cluster.assert_common_rule(&[]);
}

fn no_memory(told: &Told) {
    let memory = Cgroup::make("memory").unwrap_or_else(|why| panic!("{why}"));
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    memory.set("memory.limit_in_bytes", "16M");
    // A process that allocates more waits until there is more.
    memory.set("memory.oom_control", "1");
    memory.take(pid);
    let began = monotonic_ns();
    stage.order("wait memory");
    wait::until(&format!("the excuse, not {:?}", stage.sidecar.status()), || {
        stage.sidecar.status().filter(|status| status["threads"][0]["kind"] == "memory_throttled")
    });
    told.time("verdict", began, monotonic_ns());
    let held = Duration::from_secs(3);
    wait::holds_for(held, "excused, and alive", || {
        stage.sidecar.status().is_none_or(|status| status["verdict"] == "excused" && status["pid"] == pid)
    });
    told.held(held);
    told.saw("excused (memory_throttled)");
    memory.set("memory.limit_in_bytes", "-1");
    assert_eq!(stage.sidecar.wait_for("healthy")["pid"], pid);
    assert!(stage.sidecar.incidents().is_empty(), "{:#?}", stage.sidecar.incidents());
}

fn odd_telemetry(told: &Told) {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const ODD: [(&str, &str); 4] = [
        ("OTEL_METRIC_EXPORT_INTERVAL", "10s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1e3"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        (ENDPOINT, "unix:///run/otel.sock"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let mut traced = Traced::start(folder.path(), "0", &Settings::default(), &[]);
    let pid = traced.sidecar.pid();
    for (name, value) in ODD {
        assert!(traced.end_sidecar(Signal::TERM).success());
        // Nothing listens at the first endpoint; the log line about that is not the one counted.
        let variables = [(ENDPOINT, "http://127.0.0.1:9"), (name, value)];
        traced.set_variables(&variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        traced.start_sidecar();
        traced.watchdog().line("its start", 0, |line| line.contains("\"started\"").then_some(()));
        let lines = traced.watchdog().lines();
        let warned: Vec<_> = lines.iter().filter(|line| line.contains("telemetry_setting")).collect();
        assert!(warned.len() == 1 && warned[0].contains(name), "{name}={value}: {warned:#?}");
        assert!(!lines.concat().contains("hunter2"), "{warned:#?}");
    }
    told.saw("one warning each; watched on");
    assert_eq!(traced.sidecar.wait_for("healthy")["pid"], pid);
    shards_go_on(&ODD.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(traced.end_sidecar(Signal::TERM).success());
}

/// Asserts that a shard and its coordinator execute blocks with the first of these variables.
#[track_caller]
fn shards_go_on(odd: &[(String, String)]) {
    let environment = odd.iter().take(3).cloned().collect();
    let mut cluster = Cluster::start(&Plan { environment, ..Plan::coordinator_first() });
    cluster.verified_after(monotonic_ns());
    cluster.assert_common_rule(&[]);
}

fn signals_to_supervisor(told: &Told) {
    let mut cluster = Cluster::start(&Plan::default());
    let shard = &cluster.shards[0];
    for (signal, name) in
        [(Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::USR2, "USR2"), (Signal::QUIT, "QUIT")]
    {
        let from = shard.supervisor.line_count();
        shard.supervisor.signal(signal);
        let said = shard.supervisor.line("what becomes of it", from, |line| {
            (line.contains(&format!("SIG{name}")) && line.contains("passed on")).then(|| line.to_owned())
        });
        told.fact(name, &json!(said));
    }
    told.saw("passed on or withheld, and told");
    let alive: Value = shard.sidecar.wait_for("healthy")["pid"].clone();
    assert_eq!(alive, shard.first_pid);
    cluster.verified_after(monotonic_ns());
    cluster.assert_common_rule(&[]);
}
