//! A sidecar that is killed at one chosen system call of its journal, and the one after it.
//!
//! The kernel runs no part of a system call that is entered with SIGKILL, so a kill before each
//! call is a kill after each one before it. What a sidecar says reaches the disk in one order: a
//! document is written under another name, synced, and renamed, and each contains one step more
//! than the one before. So nothing that was said is lost if, whenever it is killed, the document of
//! the last rename is there, whole. The log is written by another thread and may be ahead of the
//! disk, by the write that was cut short and by those that waited behind it: this much is lost.

mod takeover;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use shard_watchdog::probe::task::TaskDir;

use crate::pair::Pair;
use crate::process::{Process, binary};
use crate::puppet::order_unanswered;
use crate::{incident, wait};

pub use takeover::while_taking_over;

/// The calls of the journal that change files; which name one has depends on the architecture.
const TRACED: &str = "?mkdirat,?unlinkat,?write,?fsync,?renameat,?renameat2";
/// No sidecar makes as many calls of one kind for one incident: something repeats itself.
const MOST: usize = 60;

/// Whether strace is here; if not, `test` is noted as skipped, and in CI it fails.
#[track_caller]
pub fn possible(test: &str) -> bool {
    if Path::new("/usr/bin/strace").is_file() {
        return true;
    }
    let why = "strace is not installed (apt-get install strace)";
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs it: {why}");
    crate::skip::note(test, why);
    false
}

/// Kills a sidecar at its first call of this kind in the course of an incident, then one at its
/// second, until one makes too few of them to be killed. Each time the next sidecar must find
/// everything in order. Returns how many were killed.
#[track_caller]
pub fn at_each(call: &str) -> usize {
    for number in 1..=MOST {
        if !killed_at(call, number) {
            return number - 1;
        }
    }
    panic!("more than {MOST} calls of {call} for one incident");
}

/// Returns whether it was killed.
#[track_caller]
fn killed_at(call: &str, number: usize) -> bool {
    let at = format!("{call} {number}");
    let mut pair = Pair::configure();
    pair.start_target(Command::new(binary("puppet")));
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    pair.sidecar.wait_for("healthy");
    let mut sidecar = pair.running.pop().expect("the sidecar");
    let calls = pair.folder.path().join("calls");
    let _tracer = trace(&sidecar, call, number, &calls);
    order_unanswered(pair.port, "lose");
    let target = pair.running[0].pid();
    let killed = until_it_ends(&mut pair, &mut sidecar);
    let signalled = pair.running.len() == 2 || is_ending(target);
    let said = said(&wait::until("all that it said", || sidecar.all_lines()));
    if killed {
        let (first, whole) = on_disk(&pair.sidecar.evidence, &calls, &said, &at);
        goes_on(&mut pair, first, whole, signalled, &at);
    }
    killed
}

/// Attaches strace to the thread of the journal, to kill its process at that call.
#[track_caller]
fn trace(sidecar: &Process, call: &str, number: usize, calls: &Path) -> Process {
    let tasks = PathBuf::from(format!("/proc/{}/task", sidecar.pid()));
    let journal = wait::until("the thread of the journal", || {
        let mut tasks = fs::read_dir(&tasks).ok()?.filter_map(Result::ok).map(|task| task.path());
        tasks.find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "journal\n"))
    });
    let mut command = Command::new("/usr/bin/strace");
    command.args(["-qq", "-e", &format!("trace={TRACED}"), "-o"]).arg(calls);
    command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={number}"), "-p"]);
    command.arg(journal.file_name().expect("a thread id"));
    let tracer = Process::start("strace", command);
    wait::until("the tracer on it", || {
        let status = fs::read_to_string(journal.join("status")).ok()?;
        (!status.contains("TracerPid:\t0\n")).then_some(())
    });
    tracer
}

/// Whether the process has ended, or will by a SIGKILL that it was sent.
fn is_ending(pid: i32) -> bool {
    let task = TaskDir::open(Path::new(&format!("/proc/{pid}/task/{pid}")));
    let stat = task.ok().and_then(|task| task.stat().ok().flatten());
    stat.is_none_or(|stat| stat.ending)
}

/// Restarts the target when it has died, and tells a sidecar that has seen everything to end.
/// Returns whether the sidecar was killed.
#[track_caller]
fn until_it_ends(pair: &mut Pair, sidecar: &mut Process) -> bool {
    wait::until("the end of the sidecar", || {
        restart(pair);
        let evidence = incident::all(&pair.sidecar.evidence);
        if evidence.iter().any(|one| one["status"] == "recovered") {
            sidecar.signal(Signal::TERM);
        }
        sidecar.ended().map(|status| status.signal() == Some(libc::SIGKILL))
    })
}

/// Starts the second life of the target as soon as its first one is over.
#[track_caller]
fn restart(pair: &mut Pair) {
    if pair.running.len() == 1 && !pair.running[0].is_running() {
        pair.start_target(Command::new(binary("puppet")));
    }
}

/// The id of the incident and its steps, as the log says.
fn said(lines: &[String]) -> Option<(String, Vec<String>)> {
    let lines: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let opened = lines.iter().find(|line| line["event"] == "incident_opened")?;
    let steps = lines.iter().filter(|line| line["event"] == "incident_step");
    let steps = steps.filter_map(|line| line["step"].as_str().map(str::to_owned)).collect();
    Some((opened["incident"].as_str()?.to_owned(), steps))
}

/// Compares the disk with what was said. Returns the incident's id if its document is there, and
/// whether it is complete.
#[track_caller]
fn on_disk(
    evidence: &Path,
    calls: &Path,
    said: &Option<(String, Vec<String>)>,
    at: &str,
) -> (Option<String>, bool) {
    let calls = fs::read_to_string(calls).expect("the calls of the journal");
    let renamed = |line: &&str| line.starts_with("renameat") && line.contains("\"incident.json\"");
    let renamed = calls.lines().filter(renamed).filter(|line| line.ends_with(" = 0")).count();
    let documents = incident::all(evidence);
    assert_eq!(documents.len(), renamed.min(1), "{at}: a document for each renamed one\n{calls}");
    let Some(document) = documents.first() else { return (None, false) };
    let steps: Vec<_> =
        document["timeline"].as_array().expect("steps").iter().map(|one| &one["step"]).collect();
    assert_eq!(steps.len(), renamed + 2, "{at}: one step more in each, after the first three: {document:#}");
    if let Some((id, told)) = said {
        assert_eq!(document["id"], id.as_str(), "{at}");
        // Of what was said first, as much as there is must be there.
        for step in told.iter().take(steps.len() - 3) {
            assert!(steps.iter().any(|there| *there == step), "{at}: {step} is lost: {document:#}");
        }
    }
    let id = document["id"].as_str().expect("an id");
    (Some(id.to_owned()), document["status"] == "recovered")
}

/// The next sidecar goes on with what is there, and leaves nothing else.
#[track_caller]
fn goes_on(pair: &mut Pair, first: Option<String>, whole: bool, signalled: bool, at: &str) {
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    let mut sidecar = pair.running.pop().expect("the sidecar");
    wait::until("the second life of the target", || {
        restart(pair);
        (pair.running.len() == 2).then_some(())
    });
    let status = pair.sidecar.wait_for("healthy");
    let evidence = pair.sidecar.evidence.clone();
    let Some(first) = first else {
        // Its signal was reported to nobody who could have written that down (ADR 016). If it was
        // killed before it sent one, the next sidecar condemned the target itself.
        let expected = if signalled { (Some(3), 0) } else { (Some(2), 1) };
        let found = (status["kills_left"].as_u64(), incident::all(&evidence).len());
        assert_eq!(found, expected, "{at}: {status:#}");
        let folders = files(&evidence).into_iter().filter(|file| file.ends_with("/incident.json")).count();
        let all = files(&evidence).into_iter().filter(|file| file.contains("/incidents/")).count();
        assert!(folders == expected.1 && (all == 0) == signalled, "{at}: {folders} of {all}");
        return;
    };
    assert_eq!(status["kills_left"], 2, "{at}: one kill was sent, and is paid for once: {status:#}");
    // Whether it has a recording depends on where it was cut short.
    let story = wait::until("the end of the story", || {
        incident::all(&evidence).into_iter().find(|one| one["status"] == "recovered")
    });
    let told = pair.sidecar.told_incidents();
    assert_eq!((told.len(), told[0]["id"].as_str()), (1, Some(first.as_str())), "{at}: {told:#?}");
    let steps = story["timeline"].as_array().expect("steps");
    let restarted = steps.iter().filter(|step| step["step"] == "sidecar_restarted").count();
    assert_eq!(restarted, usize::from(!whole), "{at}: {story:#}");
    // A file of the present moment is unfinished too.
    sidecar.signal(Signal::TERM);
    sidecar.wait("its end");
    for file in files(&evidence) {
        let name = file.rsplit('/').next().unwrap_or_default();
        assert!(!name.starts_with('.'), "{at}: {file} was left");
    }
    let kills = fs::read_to_string(evidence.join("kills.json")).expect("the kills");
    assert_eq!(kills.matches(&first).count(), 1, "{at}: {kills}");
}

/// Everything below a folder.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.insert(path.display().to_string());
    }
    found
}
