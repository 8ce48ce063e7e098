//! Rows in which a shard is idle, slow, or held up from outside: the sidecar names the excuse and
//! never kills for it.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::super::recovers::tell;
use super::super::spared::{EXCUSED, over_cap};
use super::super::strike::{Who, hold};
use super::super::{Course, Need, Part, Row, Spared, Told, Work, scene};
use crate::clock::monotonic_ns;
use crate::cluster::{Cluster, Plan};
use crate::core_pattern::CorePattern;
use crate::process::Process;
use crate::puppet::THREAD;
use crate::restraint::jittered;
use crate::sidecar::{Settings, Sidecar};
use crate::soak::fault::{pid_of, signal};
use crate::{blocks, faketime, fault_kit, faults, incident, wait};

const fn row(
    number: &'static str,
    case: &'static str,
    what: &'static str,
    fault: &'static str,
    spared: Spared,
) -> Row {
    Row {
        number,
        case,
        part: Part::Spared,
        what,
        fault,
        needs: &[],
        alone: false,
        course: Course::Spared(spared),
    }
}

const fn by_hand(
    number: &'static str,
    case: &'static str,
    what: &'static str,
    fault: &'static str,
    play: fn(&Told),
) -> Row {
    scene(Part::Spared, number, case, what, fault, play)
}

fn caps(caps: &str) -> Settings {
    Settings { append: format!("[judge.excuse]\n{caps}\n"), ..Settings::default() }
}

/// Longer than the sidecar takes to notice that its target was moved to another cgroup.
fn three_seconds() -> Settings {
    Settings { stall_after: "3s".to_owned(), ..Settings::default() }
}

const KIT: &[Need] = &[Need::Root];
const GDB: &[Need] = &[Need::Program("gdb", "gdb")];
/// A thread without CPU for a moment looks the same, whatever took the CPU.
const NO_CPU: &[&str] = &["throttled", "starved"];

pub(super) const ROWS: &[Row] = &[
    by_hand("40", "", "idle for 100 × the threshold", "no blocks, with a threshold of 50 ms", idle),
    by_hand(
        "41",
        "",
        "one block of 10 × the threshold that progresses",
        "order: slow 50ms, threshold 200 ms",
        slow,
    ),
    row(
        "42",
        "",
        "its cgroup may use 5 % of a CPU, for 3 × the cap",
        "throttle --cpu 5",
        Spared {
            settings: || caps("throttled = \"2s\"\nstarved = \"2s\""),
            work: Work::Blocks,
            script: "throttle",
            more: &["--cpu", "5"],
            excuses: NO_CPU,
            throughout: false,
            held: Duration::from_secs(6),
            ..EXCUSED
        },
    )
    .on(&[Need::Controller("cpu")]),
    row(
        "42",
        "hogs",
        "32 CPU hogs for each core beside it, for 3 × the cap",
        "starve --hogs 32",
        Spared {
            settings: || caps("starved = \"2s\""),
            work: Work::Blocks,
            script: "starve",
            more: &["--hogs", "32"],
            excuses: &["starved"],
            throughout: false,
            held: Duration::from_secs(6),
            ..EXCUSED
        },
    )
    .on(&[Need::Root, Need::Program("chrt", "util-linux"), Need::Program("taskset", "util-linux")])
    .alone(),
    row(
        "43",
        "",
        "SIGSTOP, then SIGCONT within the excuse",
        "stop-process",
        Spared { script: "stop-process", excuses: &["stopped"], ..EXCUSED },
    ),
    row(
        "44",
        "",
        "somebody holds its thread by ptrace, past the cap",
        "freeze-thread --thread exec-s0",
        Spared {
            settings: || caps("traced = \"1s\""),
            script: "freeze-thread",
            who: Who::Thread("exec-s0"),
            excuses: &["traced"],
            pages: Some("traced"),
            ..EXCUSED
        },
    )
    .on(&[Need::Program("perl", "perl-base"), Need::Root]),
    by_hand(
        "44",
        "gdb",
        "a debugger sits on a breakpoint, past the cap",
        "gdb, with a cap of a second",
        debugger,
    )
    .on(GDB),
    by_hand(
        "44",
        "runs",
        "a debugger that lets it run excuses nothing",
        "gdb continue, then order: spin",
        lets_it_run,
    )
    .on(GDB),
    by_hand("45", "", "the kernel writes its core for seconds", "order: core 48, exit_within 2 s", core)
        .on(&[Need::Cores])
        .alone(),
    row(
        "46",
        "",
        "its cgroup is frozen and thawed",
        "freeze-cgroup --version 1",
        Spared { script: "freeze-cgroup", more: &["--version", "1"], excuses: &["frozen"], ..EXCUSED },
    )
    .on(&[Need::Controller("freezer")]),
    row(
        "46",
        "version-2",
        "the same in a cgroup of version 2",
        "freeze-cgroup --version 2",
        Spared {
            settings: three_seconds,
            script: "freeze-cgroup",
            more: &["--version", "2"],
            excuses: &["frozen"],
            held: Duration::from_secs(5),
            ..EXCUSED
        },
    )
    .on(&[Need::Unified]),
    by_hand(
        "47",
        "",
        "the watchdog itself is stopped for longer than the threshold",
        "stop-process, of the sidecar",
        stopped_sidecar,
    )
    .on(KIT),
    by_hand(
        "48",
        "",
        "the wall clock is set by an hour, forwards and back",
        "libfaketime under everything",
        wall_clock,
    )
    .on(&[Need::FakeTime]),
    by_hand(
        "49",
        "",
        "a graceful stop and a rolling restart",
        "SIGTERM to the shard, then to its supervisor",
        restart,
    ),
    by_hand("49", "reload", "the config is read again; a bad one", "SIGHUP to the sidecar", reload),
    row(
        "51",
        "",
        "its segment is replaced by garbage",
        "tear-segment --how garbage",
        Spared { script: "tear-segment", more: &["--how", "garbage"], work: Work::Blocks, ..EXCUSED },
    )
    .on(KIT),
    row(
        "51",
        "removed",
        "its segment is removed",
        "tear-segment --how remove",
        Spared { script: "tear-segment", more: &["--how", "remove"], work: Work::Blocks, ..EXCUSED },
    )
    .on(KIT),
    row(
        "51",
        "truncated",
        "its segment is replaced by half of it",
        "tear-segment --how truncate",
        Spared { script: "tear-segment", more: &["--how", "truncate"], work: Work::Blocks, ..EXCUSED },
    )
    .on(KIT),
    by_hand(
        "62",
        "",
        "three shards stand still at once, a little longer than the threshold",
        "order to puppets: wait gate, then go; jitter of 10 s",
        |told| {
            let (lived, of) = jittered();
            told.saw(&format!("condemned, then healthy: {lived} of {of} lived"));
            assert!(lived > 0, "all were killed");
        },
    ),
];

fn idle(told: &Told) {
    let settings = Settings { stall_after: "50ms".to_owned(), ..Settings::default() };
    let cluster = Cluster::start(&Plan { shards: 1, settings, coordinator: false, ..Plan::default() });
    let shard = &cluster.shards[0];
    shard.sidecar.wait_for("healthy");
    let held = Duration::from_secs(5);
    wait::holds_for(held, "healthy while idle", || {
        // Whether a busy sidecar answers at once is not tested here.
        shard.sidecar.status().is_none_or(|s| s["verdict"] == "healthy" && s["pid"] == shard.first_pid)
    });
    told.held(held);
    told.saw("healthy");
    shard.assert_unharmed();
}

fn slow(told: &Told) {
    let settings = Settings { stall_after: "200ms".to_owned(), ..Settings::default() };
    let plan = Plan { settings, block_deadline: "120s".to_owned(), coordinator: false, ..Plan::default() };
    let mut cluster = Cluster::start(&plan);
    let blocks = blocks::generated(cluster.folder(), 1, 100);
    for shard in &cluster.shards {
        shard.sidecar.wait_for("healthy");
        // 100 transactions over two shards, 50 ms each: at least 2 s, with a threshold of 200 ms.
        faults::order(&shard.faults, &["arm slow 50ms"]);
    }
    let began = monotonic_ns();
    cluster.run_blocks(&blocks, "120s");
    let verified = cluster.verified_after(0);
    told.time("verified", began, verified.at);
    told.saw("healthy");
    assert_eq!(verified.retries, 0, "{verified:?}");
    cluster.assert_common_rule(&[]);
}

/// Attaches gdb to the process `pid`; gdb ends after its commands. It reads no symbols: those of a
/// debug build take a minute.
#[track_caller]
fn attach(pid: i32, commands: &[&str]) -> Process {
    let mut command = Command::new("gdb");
    command.args(["--batch", "-nx", "--readnever", "-iex", "set auto-solib-add off", "-p", &pid.to_string()]);
    for one in commands {
        command.args(["-ex", one]);
    }
    let gdb = Process::start("gdb", command);
    wait::until("the debugger on it", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:\t"))?;
        (tracer != "0").then_some(())
    });
    gdb
}

fn debugger(told: &Told) {
    let mut cluster = Cluster::at_work(caps("traced = \"1s\""));
    let shard = &cluster.shards[0];
    let began = monotonic_ns();
    // The debugger stays attached for a while and ends by itself.
    let mut gdb = attach(shard.sidecar.pid(), &["shell sleep 5"]);
    wait::until("the excuse", || {
        shard.sidecar.status().filter(|status| status["threads"][0]["kind"] == "traced")
    });
    told.time("verdict", began, monotonic_ns());
    wait::until("the excuse to be past its cap", || over_cap(shard, "traced").then_some(()));
    told.saw("excused (traced), page");
    gdb.wait("the debugger's end");
    told.held(Duration::from_nanos(monotonic_ns() - began));
    faults::order(&shard.faults, &["disarm"]);
    shard.sidecar.wait_for("healthy");
    cluster.verified_after(monotonic_ns());
    cluster.assert_common_rule(&[]);
}

fn lets_it_run(told: &Told) {
    let mut cluster = Cluster::start(&Plan { block_deadline: "60s".to_owned(), ..Plan::default() });
    let sidecar = cluster.shards[0].sidecar.clone();
    let gdb = attach(sidecar.pid(), &["continue"]);
    let fired = cluster.inject(0, &["arm spin after 1"]);
    let incident = sidecar.incident("recovered");
    tell(told, &incident, fired);
    assert_eq!(
        (&incident["reason"], &incident["thread"]["kind"]),
        (&"stalled".into(), &"livelock".into()),
        "{incident:#}"
    );
    drop(gdb);
    cluster.assert_common_rule(&[0]);
}

fn core(told: &Told) {
    const EXIT_WITHIN: f64 = 2.0;
    let _pattern = CorePattern::file().unwrap_or_else(|why| panic!("{why}"));
    // Before it aborts, in the middle of a block, it reserves what the core is to contain: a second
    // of work while other rows run.
    let (judge, stall_after) = (format!("exit_within = \"{EXIT_WITHIN}s\""), "4s".to_owned());
    let settings = Settings { judge, stall_after, ..Settings::default() };
    let mut cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let sidecar = cluster.shards[0].sidecar.clone();
    let pid = sidecar.pid();
    let fired = cluster.inject(0, &["arm core 48"]);
    let excused = wait::until("the excuse", || {
        sidecar.status().filter(|status| status["threads"][0]["kind"] == "core_dumping")
    });
    told.time("verdict", fired, monotonic_ns());
    assert_eq!((&excused["verdict"], &excused["pid"]), (&"excused".into(), &pid.into()), "{excused:#}");
    // As long as the process exists, nothing is held against it.
    let incident = sidecar.incident("recovered");
    told.saw("excused (core_dumping), ends by itself");
    assert_eq!(incident["reason"], "process_gone", "{incident:#}");
    assert!(incident::step_at(&incident, "signal").is_none(), "{incident:#}");
    let lasted = excused_for(&sidecar);
    told.held(Duration::from_secs_f64(lasted));
    assert!(lasted > EXIT_WITHIN, "too short to show anything: {lasted} s");
    assert_eq!(sidecar.incidents().len(), 1, "{:#?}", sidecar.incidents());
    cluster.assert_common_rule(&[0]);
}

/// Seconds that the process was excused. Every watched thread was, and the status reports their
/// sum.
#[track_caller]
fn excused_for(sidecar: &Sidecar) -> f64 {
    let status = wait::until("a status", || sidecar.status());
    let threads = status["threads"].as_array().map_or(1, |threads| threads.len().max(1));
    let sum = status["excused_seconds"]["core_dumping"].as_f64().unwrap_or_default();
    sum / f64::from(u32::try_from(threads).unwrap_or(1))
}

fn stopped_sidecar(told: &Told) {
    let settings = Settings { stall_after: "6s".to_owned(), ..Settings::default() };
    let mut cluster = Cluster::at_work(settings);
    let shard = &cluster.shards[0];
    // One transaction of 11 s, of which the sidecar misses 7: by wall-clock time that is a stall,
    // but at most 4 s of it count.
    faults::order(&shard.faults, &["disarm", "arm slow 11s"]);
    wait::until("the long transaction", || {
        shard.sidecar.status()?["threads"][0]["heartbeat_age_seconds"].as_f64().filter(|age| *age > 0.4)
    });
    faults::order(&shard.faults, &["disarm"]);
    let stopped = hold(&cluster, "stop-process", Who::Sidecar, &[]);
    let began = monotonic_ns();
    wait::holds_for(Duration::from_secs(7), "the sidecar is stopped", || true);
    stopped.undo();
    told.held(Duration::from_nanos(monotonic_ns() - began));
    let late = wait::until("the time that it missed, as it tells it", || {
        shard.sidecar.status()?["excused_seconds"]["observer_late"].as_f64().filter(|late| *late > 5.0)
    });
    told.fact("observer_late_seconds", &late.into());
    told.saw("excused (observer_late)");
    shard.sidecar.wait_for("healthy");
    cluster.verified_after(monotonic_ns());
    cluster.assert_common_rule(&[]);
}

fn wall_clock(told: &Told) {
    const HOUR: i64 = 3_600;
    let library = faketime::library().expect("what this row needs");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("offset");
    let variables = faketime::variables(&library, &file);
    faketime::set(&file, 0, &variables);
    let mut cluster = Cluster::start(&Plan { environment: variables.clone(), ..Plan::default() });
    let shard = &cluster.shards[0];
    let watchdog = pid_of(shard, "sidecar").expect("it runs");
    assert!(
        faketime::has_mapped(shard.first_pid, &library) && faketime::has_mapped(watchdog, &library),
        "both have the clock"
    );
    let well = |status: &Value| {
        let verdict = status["verdict"].as_str().unwrap_or_default();
        ["healthy", "excused"].contains(&verdict) && status["pid"] == shard.first_pid
    };
    let began = monotonic_ns();
    for offset in [HOUR, -HOUR, 0] {
        let at = monotonic_ns();
        faketime::set(&file, offset, &variables);
        wait::holds_for(Duration::from_millis(1_500), "healthy under another clock", || {
            shard.sidecar.status().is_none_or(|status| well(&status))
        });
        cluster.verified_after(at);
    }
    told.held(Duration::from_nanos(monotonic_ns() - began));
    told.saw("healthy");
    cluster.assert_common_rule(&[]);
    // It must still detect a real fault.
    cluster.inject(0, &["arm spin"]);
    assert_eq!(cluster.shards[0].sidecar.incident("recovered")["reason"], "stalled");
}

fn restart(told: &Told) {
    let mut cluster = Cluster::start(&Plan::default());
    let sidecar = cluster.shards[0].sidecar.clone();
    let before = sidecar.pid();
    let began = monotonic_ns();
    // The supervisor restarts it, which is a rolling restart; the supervisor's own stop below is a
    // graceful one.
    assert!(signal(&cluster.shards[0], "CMD", Signal::TERM), "it runs");
    wait::until("the next incarnation", || {
        sidecar.status().filter(|status| status["verdict"] == "healthy" && status["pid"] != before)
    });
    told.time("running", began, monotonic_ns());
    told.time("verified", began, cluster.verified_after(monotonic_ns()).at);
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    let shard = &mut cluster.shards[0];
    shard.supervisor.signal(Signal::TERM);
    let status = shard.supervisor.wait("the supervisor's end");
    assert_eq!(status.code(), Some(0), "the code of the command: {status}");
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    told.saw("no incident, exit code 0");
}

fn reload(told: &Told) {
    let mut cluster = Cluster::start(&Plan::default());
    let shard = &cluster.shards[0];
    let reload = |text: &str| {
        std::fs::write(&shard.sidecar.config, text).expect("a file of our own");
        let from = shard.supervisor.line_count();
        assert!(signal(shard, "sidecar", Signal::HUP), "it runs");
        shard.supervisor.line("the reload", from, |line| line.contains("reload").then(|| line.to_owned()))
    };
    let config = std::fs::read_to_string(&shard.sidecar.config).expect("its config");
    let refused = reload("[target]\nshard = 7\n");
    assert!(refused.contains("keeps"), "{refused}");
    let taken = reload(&config.replace("stall_after = \"1s\"", "stall_after = \"3s\""));
    assert!(!taken.contains("keeps"), "{taken}");
    wait::until("the new threshold", || {
        let status = shard.sidecar.status()?;
        (status["threads"][0]["stall_after_seconds"] == 3.0).then_some(())
    });
    told.saw("no incident; the bad one is refused, the good one in force");
    cluster.verified_after(monotonic_ns());
    cluster.assert_common_rule(&[]);
}

/// Ends a puppet's watched thread from outside. Returns when.
#[track_caller]
pub(super) fn lose_from_outside(sidecar: &Sidecar) -> u64 {
    let pid = sidecar.pid().to_string();
    let at = monotonic_ns();
    let ended = fault_kit::run(
        "kill-thread",
        fault_kit::command("kill-thread", &["--pid", &pid, "--thread", THREAD]),
    );
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    at
}
