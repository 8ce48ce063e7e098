//! Whether the target would be watched now, and what this user may do to it: signal it, read what
//! evidence needs, dump it. Everything is asked of the kernel, and nothing is done to the target.

use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use shard_heartbeat::Reader;

use crate::adopt::misfit::{Misfit, Refusal};
use crate::adopt::{Wanted, check};
use crate::config::{Config, KillBy, KillMode};
use crate::dump::permission;
use crate::evidence::{Evidence, Subject};
use crate::probe::Adopted;

use super::{Remark, Report, Topic};

/// Looks for the target as the sidecar does, and asks what it would be allowed.
pub(super) fn look(config: &Config, report: &mut Report) {
    let Ok(wanted) = Wanted::of(config) else { return };
    // That there is none, or none that can be read, is said with the names.
    let Ok(reader) = Reader::open(&wanted.heartbeat) else { return };
    if wanted.apart {
        let note = "the target is in another pid namespace (kill.by = \"exit-code\"): whether it may be watched, only the \
                    sidecar beside it can tell";
        report.notes.push(note.to_owned());
        return;
    }
    match check::adopt(reader, &wanted) {
        Ok(adopted) => of_target(config, &adopted, report),
        Err(Refusal::NoOwner { why: Misfit::Absent | Misfit::Ended, .. }) => {
            let note = "no process writes the segment now: what this user may see of the target and do to it was not checked";
            report.notes.push(note.to_owned());
        }
        Err(refusal) => report.warn(Remark::new(
            Topic::Target,
            "target",
            format!("as user {} sees it, nothing would be watched now: {refusal}", own_uid()),
        )),
    }
}

fn of_target(config: &Config, adopted: &Adopted, report: &mut Report) {
    let pid = adopted.handle.identity().pid;
    let limit = config.evidence.time_limit;
    if !limit.is_zero() {
        let subject = Subject { at_fault: Some(pid), watched: Vec::new(), others: false };
        let deadline = crate::clock::now().plus(limit);
        for lack in Evidence::gather(adopted.handle.process(), &subject, deadline).lacks() {
            let told = format!("evidence of an incident would be incomplete: {lack}");
            report.warn(Remark::new(Topic::Privileges, "evidence", told));
        }
    }
    report.warnings.extend(of_process(config, pid));
}

/// What this user may not do to that process, although the config asks for it.
pub(super) fn of_process(config: &Config, pid: i32) -> Vec<Remark> {
    let mut found = Vec::new();
    if config.kill.by != KillBy::Signal {
        return found;
    }
    let signal = Pid::from_raw(pid).map(test_kill_process);
    if signal == Some(Err(Errno::PERM)) {
        let then = match config.kill.mode {
            KillMode::Enforce => "no kill would reach it",
            KillMode::Observe => "a person's kill would not reach it, nor would one under \"enforce\"",
        };
        let told = format!(
            "user {} may not signal process {pid}: {then}. Run the sidecar as the target's user, or give it CAP_KILL (systemd: \
             AmbientCapabilities=CAP_KILL; containers: capabilities, add KILL)",
            own_uid()
        );
        found.push(Remark::new(Topic::Privileges, "kill.mode", told));
    }
    if config.evidence.minidump
        && let Ok(Some(missing)) = permission::missing(Path::new("/proc"), pid)
    {
        let told = format!("no minidump could be taken: process {pid} {missing}");
        found.push(Remark::new(Topic::Privileges, "evidence.minidump", told));
    }
    found
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
