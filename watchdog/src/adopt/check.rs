//! Whether a segment's owner may be watched. The segment names its own victim, so it is believed
//! only where the kernel confirms it: the process maps this very file, runs as the file's owner and
//! no other user, is in the configured unit, and is neither this sidecar nor one of its ancestors.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use shard_heartbeat::{Header, Reader, Sight};

use crate::probe::Adopted;
use crate::probe::handle::{HandleError, TargetHandle};
use crate::probe::start_times::StartTimes;
use crate::probe::task::{StatusError, TaskDir, Uids};
use crate::snapshot::TargetIdentity;

use super::clocks::Offsets;
use super::hidden::{self, Hidden};
use super::kept_maps::KeptMaps;
use super::mapping::{self, Mapping};
use super::misfit::{Misfit, Refusal};
use super::{Wanted, custody, restored, unit};

/// A longer chain of parents is a race or a lie.
const MOST_ANCESTORS: usize = 128;

/// Fails if the segment names another shard than the config.
pub fn is_of_shard(reader: &Reader, wanted: &Wanted) -> Result<(), Refusal> {
    let found = &reader.header().shard;
    if *found == wanted.shard {
        return Ok(());
    }
    Err(Refusal::OtherShard { found: found.clone(), wanted: wanted.shard.clone() })
}

/// Finds and checks the owner of `reader`'s segment. Nothing checks again later whether the owner
/// still maps it; [`adopt_and_keep`] returns what that needs.
pub fn adopt(reader: Reader, wanted: &Wanted) -> Result<Adopted, Refusal> {
    adopt_and_keep(reader, wanted, None).map(|(adopted, _)| adopted)
}

/// Like `adopt`; also returns what is needed to check again whether the target maps the segment.
/// With a `sight`, it looks for the target in that `/proc`, named by [`Wanted::proc_root`].
pub(super) fn adopt_and_keep(
    reader: Reader,
    wanted: &Wanted,
    sight: Option<Arc<Sight>>,
) -> Result<(Adopted, KeptMaps), Refusal> {
    let root = &wanted.proc_root;
    is_of_shard(&reader, wanted)?;
    custody::check(&reader, wanted)?;
    let owner = find(&reader, wanted)?;
    // A process restored from a checkpoint need not have its locks back.
    if !owner.start_times.is_restored() {
        custody::is_in_its_place(&reader, owner.pid)?;
    }
    let identity = TargetIdentity {
        pid: owner.pid,
        start_time: owner.start_time,
        incarnation: reader.header().incarnation,
    };
    let now = crate::clock::now();
    let handle = match &sight {
        None => TargetHandle::open(root, identity, reader.as_fd(), now)?,
        Some(sight) => {
            let pidfd = sight.pidfd().try_clone_to_owned();
            let pidfd = pidfd.map_err(|error| HandleError::Refused {
                pid: owner.pid,
                source: Errno::from_io_error(&error).unwrap_or(Errno::MFILE),
            })?;
            TargetHandle::open_with(pidfd, root, identity, reader.as_fd(), now)?
        }
    };
    // After the handle has seen which program runs: this program maps the file, not the one before
    // an exec.
    let kept = KeptMaps::open(handle.process(), reader.file_id(), reader.path(), handle.mapped(), now)
        .ok_or(HandleError::Ended(owner.pid))?;
    // And it is still the process that was checked above through other descriptors.
    if let Some(why) = handle.contradicts(now) {
        return Err(Refusal::Unproven(why));
    }
    let proc_dir = root.join(owner.pid.to_string());
    let leader = proc_dir.join("task").join(owner.pid.to_string());
    let leader = TaskDir::open(&leader).map_err(|_| HandleError::Ended(owner.pid))?;
    let adopted = Adopted {
        handle,
        segment: Some(reader),
        proc_dir,
        leader,
        other_pid_namespace: owner.other_pid_namespace,
        start_times: owner.start_times,
        sight,
    };
    Ok((adopted, kept))
}

#[derive(Clone, Debug)]
struct Owner {
    pid: i32,
    start_time: u64,
    other_pid_namespace: bool,
    start_times: StartTimes,
}

/// A process that fits in everything but, perhaps, its start time.
#[derive(Clone, Debug)]
struct Candidate {
    pid: i32,
    start_time: u64,
    other_pid_namespace: bool,
    mapping: Mapping,
    /// Ticks by which its clock differs from ours; `None` if no clock reconciles its start time
    /// with the segment's.
    offset: Option<i64>,
    /// The clock difference that the kernel reports, in ticks.
    clock: i64,
}

impl Candidate {
    fn exact(&self) -> Option<Owner> {
        Some(self.owner(StartTimes::shifted(self.offset?)))
    }

    const fn owner(&self, start_times: StartTimes) -> Owner {
        let Self { pid, start_time, other_pid_namespace, .. } = *self;
        Owner { pid, start_time, other_pid_namespace, start_times }
    }
}

/// The process that the segment names, or, for a target in another pid namespace, the process that
/// fits.
///
/// A process with the start time that the segment names takes precedence. If there is none, it
/// looks for a writer restored from a checkpoint, and exactly one process must fit.
fn find(reader: &Reader, wanted: &Wanted) -> Result<Owner, Refusal> {
    let pid = reader.header().pid;
    let named = i32::try_from(pid).unwrap_or_default();
    let direct = fits(named, reader, wanted);
    if let Some(owner) = direct.as_ref().ok().and_then(Candidate::exact) {
        return Ok(owner);
    }
    let mut nearest = (named, direct.err().unwrap_or(Misfit::OtherStart));
    let mut restored = Vec::new();
    for pid in processes(&wanted.proc_root) {
        match fits(pid, reader, wanted) {
            Ok(candidate) => match candidate.exact() {
                Some(owner) => return Ok(owner),
                None => restored.push(candidate),
            },
            Err(why) if why.nearness() > nearest.1.nearness() => nearest = (pid, why),
            Err(_) => {}
        }
    }
    let why = match &restored[..] {
        [] => Err(nearest),
        [candidate] => {
            let proc_dir = wanted.proc_root.join(candidate.pid.to_string());
            restored::start_times(reader, &proc_dir, candidate.mapping, candidate.clock)
                .map(|start_times| candidate.owner(start_times))
                .map_err(|why| (candidate.pid, why))
        }
        [candidate, ..] => Err((candidate.pid, Misfit::Ambiguous)),
    };
    why.map_err(|(candidate, why)| {
        let why = match why {
            // No such process is visible: perhaps because other users' processes are hidden.
            Misfit::Absent => hidden::hidepid(&wanted.proc_root)
                .map_or(Misfit::Absent, |mode| Misfit::Hidden(Hidden::HidePid(mode))),
            why => why,
        };
        Refusal::NoOwner {
            pid,
            candidate: Some(candidate).filter(|_| why.nearness() > 0),
            why: why.seen_from_within(in_pid_namespace(&wanted.proc_root)),
            other_boot: !same_boot(&wanted.proc_root, reader.header()),
        }
    })
}

/// Every visible process.
fn processes(root: &Path) -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
}

/// Whether process `pid` may be the owner; cheap checks first.
fn fits(pid: i32, reader: &Reader, wanted: &Wanted) -> Result<Candidate, Misfit> {
    let (header, root) = (reader.header(), &wanted.proc_root);
    let dir = TaskDir::open(&root.join(pid.to_string())).map_err(|errno| unopened(errno, root))?;
    let stat = match dir.stat() {
        Ok(stat) => stat.ok_or(Misfit::Ended)?,
        // Whatever hides or garbles `stat` also affects `status`, whose error shows which it is.
        Err(_) => return Err(dir.try_status().err().map_or(Misfit::Malformed, |error| unread(error, root))),
    };
    let status = dir.try_status().map_err(|error| unread(error, root))?.ok_or(Misfit::Ended)?;
    let namespaces = status.nspid.as_deref().unwrap_or_default();
    let innermost = namespaces.last().copied().unwrap_or(pid);
    if u32::try_from(innermost).ok() != Some(header.pid) {
        return Err(Misfit::OtherNumber);
    }
    let owner = reader.owner_uid();
    let uids = Uids { real: status.ruid, effective: status.euid, saved: status.suid };
    if !uids.are_all(owner) {
        return Err(Misfit::OtherUser { uids, owner });
    }
    let mapping = mapping::of(&dir, reader.file_id(), reader.path());
    if ours(pid, root) {
        // The segment names the number of this sidecar or of one of its ancestors, yet that process
        // does not map it: the writer is in another namespace.
        return Err(if mapping == Ok(None) { Misfit::ForeignNamespace } else { Misfit::Ourselves });
    }
    let mapping = mapping.map_err(|errno| match errno {
        Errno::NOENT | Errno::SRCH => Misfit::Ended,
        errno => Misfit::Hidden(hidden::why(&dir, errno, root)),
    })?;
    let mapping = mapping.ok_or(Misfit::NotMapped)?;
    if let Some(wanted) = &wanted.systemd_unit {
        unit::stands_in(&dir, wanted)?;
    }
    // In the same time namespace both have the same clock. A process that maps the file but started
    // at another time is a child that inherited it, or a restored writer.
    let clocks = Offsets::of(pid, root);
    Ok(Candidate {
        pid,
        start_time: stat.start_time,
        other_pid_namespace: namespaces.len() > 1,
        mapping,
        offset: clocks.fit(stat.start_time, header.start_time),
        clock: clocks.first(),
    })
}

/// Why the folder of a process cannot be opened.
fn unopened(errno: Errno, root: &Path) -> Misfit {
    match errno {
        errno if hidden::is_short(errno) => Misfit::Hidden(Hidden::Short(errno)),
        Errno::PERM | Errno::ACCESS => {
            let mode = hidden::hidepid(root);
            Misfit::Hidden(mode.map_or(Hidden::Denied(errno), Hidden::HidePid))
        }
        _ => Misfit::Absent,
    }
}

fn unread(error: StatusError, root: &Path) -> Misfit {
    match error {
        StatusError::Malformed => Misfit::Malformed,
        StatusError::Refused(errno) => unopened(errno, root),
    }
}

/// Whether the segment was written since this machine booted, as far as boot ids show: a container
/// may have its own.
fn same_boot(root: &Path, header: &Header) -> bool {
    let Ok(text) = std::fs::read(root.join("sys/kernel/random/boot_id")) else { return true };
    let hex: String = header.boot_id.iter().map(|byte| format!("{byte:02x}")).collect();
    header.boot_id == [0; 16] || String::from_utf8_lossy(&text).trim().replace('-', "") == hex
}

/// Whether the sidecar sees only the processes of some pid namespace, not of the whole machine.
fn in_pid_namespace(root: &Path) -> bool {
    /// Inode of the initial one: `PROC_PID_INIT_INO` of the kernel's `include/linux/proc_ns.h`.
    const OF_THE_MACHINE: &str = "pid:[4026531836]";
    std::fs::read_link(root.join("self/ns/pid")).is_ok_and(|link| link != Path::new(OF_THE_MACHINE))
}

/// Whether `pid` is this sidecar or one of its ancestors.
fn ours(pid: i32, root: &Path) -> bool {
    // If we do not appear in that `/proc`, no process there is ours, whatever its number.
    if std::fs::read_link(root.join("self")).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return false;
    }
    let mut ancestor = i32::try_from(std::process::id()).unwrap_or(0);
    for _ in 0..MOST_ANCESTORS {
        if ancestor == pid {
            return true;
        }
        let status = TaskDir::open(&root.join(ancestor.to_string())).ok().and_then(|dir| dir.status());
        match status {
            Some(status) if status.ppid > 0 => ancestor = status.ppid,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod tests {
    use super::*;
    use shard_heartbeat::{Heartbeat, SegmentOptions};

    fn wanted(path: &Path) -> Wanted {
        Wanted {
            shard: "0".to_owned(),
            heartbeat: path.to_path_buf(),
            user: None,
            systemd_unit: None,
            apart: false,
            proc_root: "/proc".into(),
        }
    }

    #[test]
    fn the_sidecar_never_adopts_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.heartbeat");
        let _heartbeat = Heartbeat::create(&path, &SegmentOptions::new("0")).unwrap();
        let refusal = adopt(Reader::open(&path).unwrap(), &wanted(&path)).unwrap_err();
        assert!(refusal.to_string().contains("this sidecar itself"), "{refusal}");
    }

    #[test]
    fn a_segment_of_another_shard_is_refused_before_anybody_is_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.heartbeat");
        let _heartbeat = Heartbeat::create(&path, &SegmentOptions::new("1")).unwrap();
        let refusal = adopt(Reader::open(&path).unwrap(), &wanted(&path)).unwrap_err();
        assert!(
            refusal.to_string().contains("that of shard \"1\", and [target] shard is \"0\""),
            "{refusal}"
        );
    }

    #[test]
    fn a_copy_of_a_segment_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.heartbeat");
        let _heartbeat = Heartbeat::create(&path, &SegmentOptions::new("0")).unwrap();
        let copy = dir.path().join("copy.heartbeat");
        let mut bytes = std::fs::read(&path).unwrap();
        // It names a process that exists, runs as the same user and is not ours: a sleep.
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        bytes[shard_heartbeat::layout::H_PID..][..8].copy_from_slice(&u64::from(child.id()).to_le_bytes());
        std::fs::write(&copy, bytes).unwrap();
        let refusal = adopt(Reader::open(&copy).unwrap(), &wanted(&copy)).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(refusal.to_string().contains("does not map that file"), "{refusal}");
    }
}
