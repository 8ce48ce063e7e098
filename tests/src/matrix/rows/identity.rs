//! Rows about identity and visibility: nothing but the target is ever watched or signalled, and
//! what is hidden is reported.

use std::io::{Seek, Write};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};
use serde_json::Value;
use shard_heartbeat::layout;

use super::super::recovers::tell;
use super::super::{Need, Part, Row, Told, scene};
use crate::clock::monotonic_ns;
use crate::cluster::{Cluster, Plan};
use crate::pair::{Pair, blind_for, odd_executable, under_boot_id, unshare};
use crate::process::{Process, binary};
use crate::puppet::{Nursery, Stage, THREAD, order, order_unanswered};
use crate::sidecar::{Settings, Sidecar};
use crate::ward::Ward;
use crate::{api, wait};

/// Long enough for many observations, and for several thresholds.
const A_WHILE: Duration = Duration::from_secs(2);
/// Namespaces of two containers that do not share their processes.
const APART: &[&str] = &["--pid", "--fork", "--kill-child", "--mount-proc"];
const TIME: &[&str] = &["--time", "--boottime", "100000", "--fork", "--kill-child"];
const USER: &[&str] = &["--user", "--map-root-user"];
const MOUNT: &[Need] = &[Need::Root, Need::Namespaces(&["--mount"])];

const fn spared(
    number: &'static str,
    case: &'static str,
    what: &'static str,
    fault: &'static str,
    play: fn(&Told),
) -> Row {
    scene(Part::Spared, number, case, what, fault, play)
}

pub(super) const ROWS: &[Row] = &[
    scene(
        Part::Seen,
        "22",
        "",
        "another thread takes the name and place of a lost one",
        "order to a puppet: replace",
        |told| replaced(told, "replace"),
    ),
    scene(
        Part::Seen,
        "22",
        "unregistered",
        "the same, and the other one knows of no watch",
        "order to a puppet: replace unregistered",
        |told| replaced(told, "replace unregistered"),
    ),
    scene(
        Part::Seen,
        "30",
        "unreadable",
        "the kernel tells nothing of a watched thread, and it hangs",
        "its stat and status covered for the sidecar",
        unreadable,
    )
    .on(MOUNT),
    spared(
        "50",
        "",
        "a stranger gets the pid of a dead target and maps its segment",
        "a pid namespace in which the next pid is chosen",
        stranger,
    )
    .on(&[Need::ChosenPids]),
    spared(
        "50",
        "thread",
        "a thread gets the id of a lost one while the sidecar does not look",
        "a pid namespace in which the next id is chosen",
        same_thread_id,
    )
    .on(&[Need::ChosenPids]),
    spared(
        "54",
        "",
        "a watched thread gets another name, another one gets the old",
        "orders to a puppet",
        renamed,
    ),
    spared("55", "", "the target forks", "order to a puppet: fork", forks),
    spared(
        "55",
        "exec",
        "the target becomes another program",
        "order to a puppet: exec other",
        another_program,
    ),
    spared("55", "again", "the target runs itself anew", "order to a puppet: exec again", itself_anew),
    spared(
        "58",
        "",
        "a segment names another process of the same user",
        "a copy of the segment with another pid in it",
        forged,
    ),
    spared(
        "64",
        "",
        "an executable whose name is cut inside a character",
        "a puppet with such a name",
        |told| {
            let mut pair = Pair::configure();
            let program = odd_executable(pair.folder.path());
            pair.start_target(Command::new(program));
            watched(told, pair);
        },
    ),
    spared(
        "64",
        "threads",
        "threads of such names, in another pid namespace",
        "a puppet with such names, in a pid namespace",
        odd_threads,
    )
    .on(&[Need::ChosenPids]),
    spared("65", "", "a boot id of its own", "a mount namespace", |told| {
        let mut pair = Pair::configure();
        let id = pair.folder.path().join("boot_id");
        std::fs::write(&id, "0f0e0d0c-0b0a-4908-8706-050403020100\n").expect("a file of our own");
        pair.start_target(under_boot_id(&id));
        watched(told, pair);
    })
    .on(MOUNT),
    spared("65", "time", "a time namespace", "unshare --time", |told| in_namespace(told, TIME))
        .on(&[Need::Namespaces(TIME)]),
    spared("65", "user", "a user namespace", "unshare --user", |told| in_namespace(told, USER))
        .on(&[Need::Namespaces(USER)]),
    spared(
        "65",
        "apart",
        "two containers that do not share their processes",
        "unshare --pid, twice",
        |told| {
            let mut pair = Pair::configure();
            pair.start_target(unshare(APART, binary("puppet")));
            pair.start_sidecar(unshare(APART, binary("shard-watchdog")));
            pair.refused("shareProcessNamespace: true");
            told.saw("unguarded, with what to do");
        },
    )
    .on(&[Need::Namespaces(APART)]),
    spared(
        "65",
        "restored",
        "a restore from a checkpoint",
        "the same pid and segment, another start",
        restored,
    )
    .on(&[Need::ChosenPids]),
];

fn replaced(told: &Told, how: &str) {
    let stage = Stage::start(&Settings::default());
    let before = stage.sidecar.wait_for("healthy");
    let fired = monotonic_ns();
    stage.order_unanswered(how);
    let incident = stage.sidecar.incident("recovered");
    tell(told, &incident, fired);
    assert_lost(&incident, Some(&before["threads"][0]["tid"]));
    assert_ne!(stage.sidecar.wait_for("healthy")["pid"], before["pid"], "another process by now");
    assert_eq!(stage.sidecar.incidents().len(), 1);
}

/// Asserts the incident of a lost thread: this thread, and one signal.
#[track_caller]
fn assert_lost(incident: &Value, tid: Option<&Value>) {
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert_eq!(incident["thread"]["name"], THREAD, "{incident:#}");
    if let Some(tid) = tid {
        assert_eq!(incident["thread"]["tid"], *tid, "{incident:#}");
    }
    assert_eq!(signals(incident), 1, "{incident:#}");
}

fn signals(incident: &Value) -> usize {
    incident["timeline"].as_array().into_iter().flatten().filter(|entry| entry["step"] == "signal").count()
}

/// Asserts that it is still the same process, left alone, with no further incidents.
#[track_caller]
fn unharmed(sidecar: &Sidecar, pid: &Value, incidents: usize) {
    wait::holds_for(A_WHILE, "the same process, in nobody's way", || {
        sidecar.status().is_none_or(|status| {
            let fine = ["healthy", "excused", "degraded"].map(Value::from).contains(&status["verdict"]);
            fine && status["pid"] == *pid
        })
    });
    assert_eq!(sidecar.wait_for("healthy")["pid"], *pid);
    assert_eq!(sidecar.incidents().len(), incidents, "{:#?}", sidecar.incidents());
}

/// Asserts that the target, whatever surrounds it, is left alone, and killed for a lost thread.
#[track_caller]
fn watched(told: &Told, mut pair: Pair) {
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    let incident = pair.watched();
    told.held(A_WHILE);
    told.fact("then", &incident["why"]);
    told.saw("healthy, and watched: thread_gone, killed");
}

fn in_namespace(told: &Told, kinds: &[&str]) {
    let mut pair = Pair::configure();
    pair.start_target(unshare(kinds, binary("puppet")));
    watched(told, pair);
}

fn unreadable(told: &Told) {
    let mut pair = Pair::configure();
    pair.start_target(Command::new(binary("puppet")));
    let tid = order(pair.port, "rename exec-s0").number("tid");
    let garbage = pair.folder.path().join("garbage");
    std::fs::write(&garbage, "no file of the kernel\n").expect("a file of our own");
    let began = monotonic_ns();
    pair.start_sidecar(blind_for(pair.running[0].pid(), tid, &garbage));
    let unseen = wait::until("that it is out of sight", || {
        pair.sidecar.status().filter(|status| status["threads"][0]["unobserved"] == "unreadable")
    });
    told.time("verdict", began, monotonic_ns());
    assert_eq!(unseen["verdict"], "degraded", "{unseen:#}");
    order(pair.port, "hang");
    wait::holds_for(A_WHILE, "degraded, and nobody is killed blindly", || {
        pair.sidecar.status().is_none_or(|status| status["verdict"] == "degraded")
    });
    told.held(A_WHILE);
    assert!(pair.sidecar.incidents().is_empty(), "{:#?}", pair.sidecar.incidents());
    let page = api::get(pair.sidecar.http, "/metrics").expect("metrics").body;
    let counts = |line: &str| {
        line.starts_with("shard_watchdog_unobserved_threads{")
            && line.contains("\"unreadable\"")
            && line.ends_with(" 1")
    };
    assert!(page.lines().any(counts), "the metric that pages: {page}");
    told.saw("degraded, page, nobody killed blindly");
}

#[track_caller]
fn ward() -> Ward {
    Ward::start(Nursery::open().unwrap_or_else(|why| panic!("{why}")))
}

fn stranger(told: &Told) {
    let ward = ward();
    let watchdog = ward.start_sidecar("pidfd");
    assert_eq!(ward.sidecar.wait_for("healthy")["pid"], ward.pid);
    ward.end(ward.pid, "KILL");
    // The stranger maps the very segment, which names its pid: only its start time shows that it is
    // another process.
    ward.stranger(ward.pid);
    let nobody = |status: &Value| status["pid"].is_null() && status["verdict"] != "healthy";
    ward.sidecar.wait_for("dead");
    wait::holds_for(A_WHILE, "nobody is watched", || ward.sidecar.status().is_none_or(|now| nobody(&now)));
    told.held(A_WHILE);
    ward.end(watchdog, "TERM");
    ward.start_sidecar("pidfd");
    let refused = wait::until("the refusal of a sidecar that begins with the stale segment", || {
        let status = ward.sidecar.status()?;
        status["reason"].as_str()?.contains("started at another time").then_some(status)
    });
    assert!(nobody(&refused), "{refused:#}");
    let next = ward.start_target();
    let healthy = ward.sidecar.wait_for("healthy");
    assert_eq!(healthy["pid"], next, "{healthy:#}");
    assert!(ward.nursery.is_alive(ward.pid), "nobody has signalled the stranger");
    let incidents = ward.sidecar.incidents();
    assert!(incidents.iter().all(|incident| signals(incident) == 0), "{incidents:#?}");
    told.saw("dead, then the next target; the stranger lives");
}

fn same_thread_id(told: &Told) {
    let ward = ward();
    let watchdog = ward.start_sidecar("pidfd");
    ward.sidecar.wait_for("healthy");
    ward.nursery.signal(watchdog, "STOP");
    let fired = monotonic_ns();
    let tid = order(ward.port, "reuse").number("is");
    ward.nursery.signal(watchdog, "CONT");
    let incident = ward.sidecar.incident_with("exited");
    tell(told, &incident, fired);
    assert_lost(&incident, Some(&tid.into()));
    wait::until("its end", || (!ward.nursery.is_alive(ward.pid)).then_some(()));
}

fn restored(told: &Told) {
    let ward = ward();
    ward.start_sidecar("pidfd");
    ward.sidecar.wait_for("healthy");
    ward.end(ward.pid, "KILL");
    ward.sidecar.incident_with("exited");
    ward.restore(ward.pid);
    let watched = ward.sidecar.wait_for("healthy");
    assert_eq!((&watched["pid"], &watched["restored"]), (&ward.pid.into(), &true.into()), "{watched:#}");
    wait::holds_for(A_WHILE, "it is left alone while it is well", || ward.nursery.is_alive(ward.pid));
    told.held(A_WHILE);
    order_unanswered(ward.port, "lose");
    let lost = wait::until("the incident of the lost thread", || {
        ward.sidecar.incidents().into_iter().find(|incident| incident["reason"] == "thread_gone")
    });
    wait::until("its end", || (!ward.nursery.is_alive(ward.pid)).then_some(()));
    assert_eq!(lost["thread"]["tid"], watched["threads"][0]["tid"], "{lost:#}");
    told.saw("healthy, and watched: thread_gone, killed");
}

fn renamed(told: &Told) {
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.wait_for("healthy")["pid"].clone();
    let tid = stage.order("rename somebody-else").number("tid");
    let double = stage.order("double").number("tid");
    assert_ne!(double, tid);
    unharmed(&stage.sidecar, &pid, 0);
    // The second thread ends: it was never the watched one.
    assert_eq!(stage.order("undouble").number("was"), double);
    unharmed(&stage.sidecar, &pid, 0);
    told.held(2 * A_WHILE);
    // The watched thread stays watched whatever its name.
    stage.order_unanswered("lose");
    assert_lost(&stage.sidecar.incident("recovered"), Some(&tid.into()));
    told.saw("healthy, and watched: thread_gone, killed");
}

fn forks(told: &Told) {
    let stage = Stage::start(&Settings::default());
    let parent = stage.sidecar.wait_for("healthy")["pid"].clone();
    let child = stage.order("fork").number("child");
    unharmed(&stage.sidecar, &parent, 0);
    told.held(A_WHILE);
    stage.order_unanswered("lose");
    assert_lost(&stage.sidecar.incident("recovered"), None);
    let now = stage.sidecar.wait_for("healthy")["pid"].clone();
    assert!(now != parent && now != child, "{now} after {parent}, whose child is {child}");
    let pid = Pid::from_raw(child).expect("a pid");
    assert!(test_kill_process(pid).is_ok(), "the child outlived the kill of its parent");
    kill(child);
    // Its end concerns nobody.
    unharmed(&stage.sidecar, &now, 1);
    told.saw("healthy; the child outlives its parent's kill");
}

/// Kills a process that this row started.
#[track_caller]
fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a pid");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    pidfd_send_signal(&pidfd, Signal::KILL).expect("it is ours");
}

fn another_program(told: &Told) {
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    stage.order_unanswered("exec other");
    let status = stage.sidecar.wait_for("unguarded");
    assert!(status["pid"].is_null(), "{status:#}");
    wait::holds_for(A_WHILE, "another program is no target", || {
        stage.sidecar.status().is_none_or(|status| status["verdict"] == "unguarded")
    });
    told.held(A_WHILE);
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
    assert_eq!(comm, "sleep\n");
    assert!(stage.sidecar.incidents().is_empty(), "{:#?}", stage.sidecar.incidents());
    // The next process that the supervisor starts is watched again.
    kill(pid);
    assert_ne!(stage.sidecar.wait_for("healthy")["pid"], pid);
    told.saw("unguarded, let go unharmed; the next one is healthy");
}

fn itself_anew(told: &Told) {
    let stage = Stage::start(&Settings::default());
    let before = stage.sidecar.wait_for("healthy");
    let port = api::free_address();
    stage.order_unanswered(&format!("exec again {port}"));
    let after = wait::until("the next incarnation of the same process", || {
        let status = stage.sidecar.status()?;
        let other = status["incarnation"] != before["incarnation"] && status["verdict"] == "healthy";
        (other && status["pid"] == before["pid"]).then_some(status)
    });
    assert_eq!(after["threads"][0]["tid"], order(port, "rename again").number("tid"), "its new thread");
    unharmed(&stage.sidecar, &before["pid"], 0);
    told.held(A_WHILE);
    told.saw("healthy, another incarnation of the same pid");
}

fn forged(told: &Told) {
    let cluster = Cluster::start(&Plan { shards: 1, coordinator: false, ..Plan::default() });
    let shard = &cluster.shards[0];
    let real = shard.sidecar.wait_for("healthy")["pid"].clone();
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let mut victim = Process::start("victim", sleep);
    // The forged segment claims that its writer's executor thread is gone, which would be a reason
    // to kill.
    let forged = cluster.folder().join("forged");
    let bytes = std::fs::read(&shard.sidecar.heartbeat).expect("the segment");
    let mut file = std::fs::File::create(&forged).expect("a file of our own");
    let pid = u64::try_from(victim.pid()).expect("a pid");
    let written = file
        .write_all(&bytes)
        .and_then(|()| file.seek(std::io::SeekFrom::Start(layout::H_PID as u64)))
        .and_then(|_| file.write_all(&pid.to_le_bytes()));
    written.expect("a file of our own");
    let sidecar = Sidecar::configure(cluster.folder(), "forged-sidecar", "exec-s0", &Settings::default());
    sidecar.watch_shard("0");
    std::fs::rename(&forged, &sidecar.heartbeat).expect("a file of our own");
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("run").arg("--config").arg(&sidecar.config);
    let _watchdog = Process::start("second sidecar", command);
    let status = wait::until("the refusal", || {
        sidecar
            .status()
            .filter(|status| status["reason"].as_str().is_some_and(|why| why.contains("does not map")))
    });
    assert_eq!(status["verdict"], "unguarded", "{status:#}");
    wait::holds_for(A_WHILE, "the victim lives", || victim.is_running());
    told.held(A_WHILE);
    assert_eq!(shard.sidecar.wait_for("healthy")["pid"], real);
    told.saw("unguarded, with the reason; the victim lives");
}

fn odd_threads(told: &Told) {
    /// "исполнитель", as far as 15 bytes of it go: the last character is cut.
    const CUT: &str = "d0b8d181d0bfd0bed0bbd0bdd0b8d1";
    let nursery = Nursery::open().unwrap_or_else(|why| panic!("{why}"));
    let pair = Pair::configure();
    let program = odd_executable(pair.folder.path());
    let words = pair.target();
    nursery.start(&program, &words.each_ref().map(String::as_str));
    order(pair.port, &format!("rename-bytes {CUT}"));
    order(pair.port, "double-bytes fffe0a5c293a");
    watched(told, pair);
    drop(nursery);
}
