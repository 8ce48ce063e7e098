//! Rows about faults that cannot be remedied at once: they end in bounded time, are reported, and
//! nothing is killed over and over.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use super::super::recovers::tell;
use super::super::strike::{Who, hold};
use super::super::{Need, Part, Row, Told, scene};
use super::messages::ends_with_3;
use crate::clock::monotonic_ns;
use crate::cluster::{Blocks, Cluster, Plan};
use crate::crowd::Move;
use crate::limited::Limited;
use crate::poison::poisoned;
use crate::process::{Process, binary};
use crate::restraint::braked;
use crate::sidecar::{Settings, Sidecar};
use crate::soak::fault::signal;
use crate::unstarted::does_not_start;
use crate::{api, incident, sweep, wait};

const fn row(
    number: &'static str,
    case: &'static str,
    what: &'static str,
    fault: &'static str,
    play: fn(&Told),
) -> Row {
    scene(Part::Seen, number, case, what, fault, play)
}

pub(super) const ROWS: &[Row] = &[
    row("16", "", "a block ends every shard that executes it", "shards start with: panic block 2", |told| {
        poison(told, "panic");
    }),
    row(
        "16",
        "stalls",
        "every shard stands still at a block",
        "shards start with: deadlock block 2",
        |told| {
            poison(told, "deadlock");
        },
    ),
    row("17", "", "the address is taken", "another listener on the shard's port", address_taken),
    row("17", "never-ready", "a shard is never ready", "the shard starts with: never-ready", never_ready),
    row("18", "", "the supervisor does not restart", "SIGSTOP to it, SIGKILL to the shard", no_restart),
    row("20", "", "a process outlives SIGKILL", "order: exit-hang, then freeze-cgroup", outlives_sigkill)
        .on(&[Need::Controller("freezer")]),
    row("24", "", "two shards die at once", "order to both: panic", two_die),
    row("24", "all", "a part kills whoever runs it", "shards start with: panic", all_die),
    row("25", "", "the coordinator's own thread panics", "order: panic, with the hook off", |told| {
        coordinator(told, &["hook off", "arm panic"], "thread_gone", None);
    }),
    row("25", "returns", "the coordinator's own thread returns", "order: exit, with the guard off", |told| {
        coordinator(told, &["guard off", "arm exit"], "thread_gone", None);
    }),
    row(
        "25",
        "deadlock",
        "the coordinator's own thread waits for a lock for ever",
        "order: deadlock",
        |told| {
            coordinator(told, &["arm deadlock"], "stalled", Some("deadlock"));
        },
    ),
    row("25", "spin", "the coordinator's own thread loops without end", "order: spin", |told| {
        coordinator(told, &["arm spin"], "stalled", Some("livelock"));
    }),
    row(
        "29",
        "",
        "kill after kill brings no finished work",
        "a target that stands still at other work in each life",
        |told| {
            braked();
            told.saw("3 kills, then no_progress until `clear`");
        },
    ),
    row(
        "30",
        "",
        "more threads than the sidecar has descriptors for",
        "400 watched threads, 512 descriptors",
        few_descriptors,
    ),
    row(
        "30",
        "enough",
        "as many threads as its descriptors allow, all at work",
        "64 watched threads, 256 descriptors",
        enough_descriptors,
    ),
    row(
        "31",
        "",
        "a shell wrapper is the command; it is killed, its child holds the port",
        "SIGKILL to the wrapper",
        wrapper,
    ),
];

fn poison(told: &Told, fault: &str) {
    let (looping, deaths) = poisoned(fault);
    told.saw(&format!("crash_loop on {looping} of 2, {deaths} deaths, executed apart"));
}

fn address_taken(told: &Told) {
    let address = api::free_address();
    let _taken = TcpListener::bind(address).expect("a free address");
    unstarted(told, "bind", "cannot listen on", &["--listen", &address.to_string()]);
}

fn never_ready(told: &Told) {
    let (address, folder) = (api::free_address().to_string(), tempfile::tempdir().expect("a folder"));
    let faults = folder.path().join("0.faults");
    let faults = faults.to_str().expect("a path that is text");
    let arguments = ["--listen", &address, "--faults", faults, "--arm", "arm never-ready"];
    unstarted(told, "never-ready", "did not start within", &arguments);
}

#[track_caller]
fn unstarted(told: &Told, case: &str, says: &str, arguments: &[&str]) {
    let came = does_not_start(case, 2, says, arguments);
    told.saw(&format!("exit code 2, waits {:?} ms", came.waits));
    told.fact("said", &json!(came.said));
    told.time("answer", came.began, came.ended);
}

fn no_restart(told: &Told) {
    let settings = Settings { append: "[restart]\nwithin = \"2s\"\n".to_owned(), ..Settings::default() };
    let mut cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let shard = &cluster.shards[0];
    // A hung supervisor neither reaps nor restarts.
    shard.supervisor.signal(Signal::STOP);
    let fired = monotonic_ns();
    assert!(signal(shard, "CMD", Signal::KILL), "it runs");
    let dead = shard.sidecar.wait_for("dead");
    told.time_within("verdict", fired, monotonic_ns(), Duration::from_secs(12));
    assert!(dead["reason"].as_str().is_some_and(|why| why.contains("restart")), "{dead:#}");
    wait::holds_for(Duration::from_secs(2), "dead, and nothing else is tried", || {
        shard.sidecar.status().is_none_or(|status| status["verdict"] == "dead")
    });
    assert_eq!(metric(&shard.sidecar, "shard_watchdog_kills_total"), Some(0.0));
    // The other shard does all the work meanwhile.
    told.time("verified", fired, cluster.verified_after(monotonic_ns()).at);
    shard.supervisor.signal(Signal::CONT);
    let incident = shard.sidecar.incident("recovered");
    told.saw("dead (restart_overdue), page, no kill");
    let has = |step| incident::step_at(&incident, step).is_some();
    assert!(!has("signal") && has("restart_overdue"), "{incident:#}");
    shard.sidecar.wait_for("healthy");
    cluster.assert_common_rule(&[0]);
}

fn outlives_sigkill(told: &Told) {
    let settings = Settings { judge: "exit_within = \"2s\"".to_owned(), ..Settings::default() };
    let mut cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let sidecar = cluster.shards[0].sidecar.clone();
    let pid = sidecar.pid();
    // It has reported that it ends, and hangs in its exit; then the freezer takes it. SIGKILL waits
    // for the thaw.
    let fired = cluster.inject(0, &["arm exit-hang"]);
    let frozen = hold(&cluster, "freeze-cgroup", Who::Shard, &["--version", "1"]);
    let steps = |incident: &Value, step: &str| {
        let all = incident["timeline"].as_array().into_iter().flatten();
        all.filter(|entry| entry["step"] == step).count()
    };
    let incident = wait::until("the incident to say that it is not dead", || {
        sidecar.incidents().into_iter().find(|incident| steps(incident, "not_dead") > 0)
    });
    assert_eq!(incident["reason"], "exit_hung", "{incident:#}");
    wait::holds_for(Duration::from_secs(3), "dying, and the same process", || {
        sidecar.status().is_none_or(|status| status["verdict"] == "dying" && status["pid"] == pid)
    });
    assert_eq!(metric(&sidecar, "shard_watchdog_kills_total"), Some(1.0));
    frozen.undo();
    let incident = sidecar.incident("recovered");
    tell(told, &incident, fired);
    told.saw("exit_hung, not_dead, page, one signal");
    assert_eq!(steps(&incident, "signal"), 1, "{incident:#}");
    assert_eq!(metric(&sidecar, "shard_watchdog_kills_left"), Some(2.0));
    told.time("verified", fired, cluster.verified_after(monotonic_ns()).at);
    cluster.assert_common_rule(&[0]);
}

fn two_die(told: &Told) {
    let mut cluster = Cluster::start(&Plan { shards: 3, ..Plan::coordinator_first() });
    let fired = cluster.inject(0, &["arm panic after 3"]);
    cluster.inject(1, &["arm panic after 3"]);
    told.time("verified", fired, cluster.verified_after(monotonic_ns()).at);
    for number in [0, 1] {
        let incident = cluster.shards[number].sidecar.incident("recovered");
        tell(told, &incident, fired);
        assert_eq!(incident["reason"], "process_gone", "{incident:#}");
    }
    cluster.assert_common_rule(&[0, 1]);
}

fn all_die(told: &Told) {
    let shard_arguments = ["--arm", "arm panic after 3"].map(str::to_owned).to_vec();
    // Whether the block is to blame belongs to another row.
    let environment = vec![("SHARD_EXECUTOR_POISON_AFTER".to_owned(), "0".to_owned())];
    let plan = Plan { shard_arguments, environment, coordinator: false, ..Plan::coordinator_first() };
    let mut cluster = Cluster::start(&plan);
    let blocks = cluster.blocks();
    let began = monotonic_ns();
    cluster.run_blocks(&blocks, "8s");
    let said = ends_with_3(told, &mut cluster, began);
    assert!(said.contains("block ") && said.contains("part ") && said.contains("shard "), "{said}");
    let retries = cluster.coordinator().events().iter().filter(|event| event["event"] == "retry").count();
    assert!(retries <= 6, "three a part at the most: {retries}");
    for incident in cluster.shards.iter().flat_map(|shard| shard.sidecar.told_incidents()) {
        assert_eq!(incident["reason"], "process_gone", "nobody was killed: {incident:#}");
    }
}

#[track_caller]
fn coordinator(told: &Told, orders: &[&str], reason: &str, kind: Option<&str>) {
    let coordinator_sidecar = Some(Settings { thread: Some("coord".to_owned()), ..Settings::default() });
    // A restarted coordinator begins with the first block again, and each block retried before must
    // come round.
    let blocks = Blocks::Generated { blocks: 10, transactions: 40 };
    let mut cluster = Cluster::start(&Plan { coordinator_sidecar, blocks, ..Plan::default() });
    let sidecar = cluster.coordinator().sidecar.clone().expect("it has one");
    let before = sidecar.pid();
    let fired = cluster.inject_coordinator(orders);
    // Whether the sidecar calls that recovered depends on whether it finds the thread between two
    // blocks: µs in 20 ms.
    let incident = sidecar.incident_with("restarted");
    tell(told, &incident, fired);
    assert_eq!(
        (&incident["reason"], &incident["thread"]["name"]),
        (&reason.into(), &"coord".into()),
        "{incident:#}"
    );
    if let Some(kind) = kind {
        assert_eq!(incident["thread"]["kind"], kind, "{incident:#}");
    }
    let dead = incident::step_at(&incident, "exited").expect("it died");
    told.time("verified", fired, cluster.verified_after(dead).at);
    assert_eq!(sidecar.incidents().len(), 1);
    assert_ne!(sidecar.pid(), before, "another process coordinates now");
    cluster.assert_common_rule(&[]);
}

fn few_descriptors(told: &Told) {
    let mut limited = Limited::start(400, 512, 512, &Settings::default());
    let status = limited.sidecar.wait_for("degraded");
    let seen = crate::limited::numbers(&status, true);
    let unseen = 400 - seen.len();
    assert!((200..300).contains(&unseen), "{unseen} are out of sight");
    let why = status["reason"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains(&format!("{unseen} of 400 watched threads are out of sight")), "{why}");
    let counted = limited.unobserved().map(|counted| counted.to_string());
    assert_eq!(counted, Some(unseen.to_string()), "the metric that pages");
    let fired = monotonic_ns();
    let incident = limited.kills_for(seen[0]);
    tell(told, &incident, fired);
    told.saw("degraded, page; thread_gone, killed, for one that is seen");
}

fn enough_descriptors(told: &Told) {
    let settings = Settings { stall_after: "10m".to_owned(), ..Settings::default() };
    let mut limited = Limited::start(64, 256, 256, &settings);
    limited.sidecar.wait_for("healthy");
    limited.crowd.all(Move::Progress);
    wait::until("all threads at work", || {
        let status = limited.sidecar.status()?;
        status["threads"].as_array()?.iter().all(|thread| thread["work_key"].is_u64()).then_some(())
    });
    assert!(limited.held() < 256, "{} held", limited.held());
    limited.crowd.all(Move::Rest);
    let fired = monotonic_ns();
    let incident = limited.kills_for(63);
    tell(told, &incident, fired);
}

/// What a shell does when it runs one program, or what a person writes to get a log beside it.
const WRAPPER: &str = "\"$0\" \"$@\" & wait $!; true";

fn wrapper(told: &Told) {
    sweep::adopt_orphans();
    let folder = tempfile::tempdir().expect("a folder");
    let mark = format!("wrapper-{}", std::process::id());
    let sidecar = Sidecar::configure(folder.path(), "0", "exec-s0", &Settings::default());
    let executor: PathBuf = binary("shard-executor");
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["supervise", "--settled-after", "0ms", "--config"]).arg(&sidecar.config);
    command.args(["--", "sh", "-c", WRAPPER]).arg(&executor);
    command.args(["shard", "--id", "0", "--listen", &api::free_address().to_string(), "--heartbeat"]);
    command.arg(&sidecar.heartbeat).env(sweep::MARK, &mark);
    let supervisor = Process::start("supervisor", command);
    let before = sidecar.wait_for("healthy")["pid"].clone();
    let number: i32 = supervisor.line("the pid of the wrapper", 0, |line| {
        line.strip_prefix("supervise: CMD pid ")?.split(' ').next()?.parse().ok()
    });
    let pid = Pid::from_raw(number).expect("a pid");
    assert_ne!(before, json!(number), "the shard is the wrapper's child");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    let fired = monotonic_ns();
    pidfd_send_signal(&pidfd, Signal::KILL).expect("it is ours");
    supervisor.line("the end of its group", 0, |line| line.contains("and its group are gone").then_some(()));
    told.time("dead", fired, monotonic_ns());
    wait::until("another shard on the same port", || {
        let status = sidecar.status()?;
        (status["verdict"] == "healthy" && status["pid"] != before).then_some(())
    });
    told.time("running", fired, monotonic_ns());
    told.saw("the group ends, the restart binds");
    let code2 = supervisor.lines().iter().any(|line| line.contains("ended (exit code 2)"));
    assert!(!code2, "no start has failed at the port");
    supervisor.signal(Signal::TERM);
    drop(supervisor);
    sweep::sweep(&mark);
}

/// A metric, summed over its series.
fn metric(sidecar: &Sidecar, name: &str) -> Option<f64> {
    let page = api::get(sidecar.http, "/metrics")?.body;
    let values =
        page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    Some(values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}
