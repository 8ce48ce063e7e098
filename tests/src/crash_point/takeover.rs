//! A sidecar that is killed while it takes over what an earlier one left.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::{MOST, TRACED, files, restart};
use crate::pair::Pair;
use crate::process::{Process, binary};
use crate::puppet::order_unanswered;
use crate::{incident, wait};

/// Kills a sidecar at each call of the journal while that takes over from an earlier one: it goes
/// on with an open incident, deletes a closed one, and removes what was left unfinished. Returns
/// how many were killed.
#[track_caller]
pub fn while_taking_over() -> usize {
    let mut pair = Pair::configure();
    pair.start_target(Command::new(binary("puppet")));
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    let mut sidecar = pair.running.pop().expect("the sidecar");
    for status in ["recovered", "open"] {
        pair.sidecar.wait_for("healthy");
        order_unanswered(pair.port, "lose");
        wait::until("an incident in that state", || {
            if status == "recovered" {
                restart(&mut pair);
            }
            let died = |one: &Value| incident::step_at(one, "exited").is_some() && one["status"] == status;
            incident::all(&pair.sidecar.evidence).into_iter().rfind(died)
        });
        if status == "recovered" {
            pair.running.remove(0);
        }
    }
    sidecar.signal(Signal::KILL);
    sidecar.wait("its end");
    let config = fs::read_to_string(&pair.sidecar.config).expect("the config");
    let one = "[evidence]\nkeep = { incidents = 1, bytes = \"256MiB\" }\n";
    fs::write(&pair.sidecar.config, config.replace("[evidence]\n", one)).expect("the config");
    let evidence = pair.sidecar.evidence.clone();
    let open = incident::all(&evidence).pop().expect("the open incident");
    fs::write(evidence.join(".kills.json.new"), "{").expect("an unfinished file");
    fs::create_dir(evidence.join("incidents/20260101T000000000Z-0000")).expect("an empty folder");
    let before = pair.folder.path().join("before");
    copy(&evidence, &before);
    let calls = ["unlinkat", "fsync", "?renameat,?renameat2", "mkdirat"];
    calls
        .iter()
        .map(|call| (1..=MOST).take_while(|number| taken_over(&pair, call, *number, &before, &open)).count())
        .sum()
}

/// Whether a sidecar that takes over was killed at that call. The next one finds everything.
#[track_caller]
fn taken_over(pair: &Pair, call: &str, number: usize, before: &Path, open: &Value) -> bool {
    let at = format!("{call} {number} of a takeover");
    let sidecar = &pair.sidecar;
    fs::remove_dir_all(&sidecar.evidence).expect("the folder of the last attempt");
    copy(before, &sidecar.evidence);
    let run = |command: &mut Command| {
        command.arg("run").arg("--config").arg(&sidecar.config);
    };
    let mut command = Command::new("/usr/bin/strace");
    // The tracer is no parent of the sidecar, so that signals and the exit status are its own.
    command.args(["-D", "-f", "-qq", "-e", &format!("trace={TRACED}"), "-o", "/dev/null"]);
    // Only the journal makes such calls.
    command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={number}")]);
    command.arg(binary("shard-watchdog"));
    run(&mut command);
    let mut traced = Process::start("sidecar under strace", command);
    let killed = wait::until("its end, or a takeover without one", || {
        let taken = || {
            let all = incident::all(&sidecar.evidence);
            let restarted = |one: &Value| incident::step_at(one, "sidecar_restarted").is_some();
            (all.len() == 1 && all.iter().all(restarted)).then_some(false)
        };
        let ended = traced.ended().map(|status| status.signal() == Some(libc::SIGKILL));
        ended.or_else(|| taken().filter(|_| sidecar.status().is_some()))
    });
    drop(traced);
    let mut command = Command::new(binary("shard-watchdog"));
    run(&mut command);
    let next = Process::start("next sidecar", command);
    let found = wait::until("the open incident", || {
        sidecar.told_incidents().into_iter().find(|one| one["id"] == open["id"])
    });
    assert_eq!(found["status"], "open", "{at}: {found:#}");
    assert!(steps(&found).starts_with(&steps(open)), "{at}: {found:#}");
    assert_eq!(
        steps(&found).iter().filter(|step| *step == "sidecar_restarted").count(),
        1,
        "{at}: {found:#}"
    );
    wait::until("no more than the limit", || (incident::all(&sidecar.evidence).len() == 1).then_some(()));
    let left = wait::until("its budget", || sidecar.status()?["kills_left"].as_u64());
    assert_eq!(left, 1, "{at}: two kills");
    drop(next);
    for file in files(&sidecar.evidence) {
        let name = file.rsplit('/').next().unwrap_or_default();
        assert!(!name.starts_with('.') && name != "20260101T000000000Z-0000", "{at}: {file} was left");
    }
    killed
}

fn steps(incident: &Value) -> Vec<Value> {
    incident["timeline"].as_array().into_iter().flatten().map(|step| step["step"].clone()).collect()
}

/// Copies a folder with everything in it, as it is.
#[track_caller]
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
    assert!(done.success(), "{}", from.display());
}
