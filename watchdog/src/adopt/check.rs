//! Whether a segment's owner may be watched. The segment names its own victim, so it is believed only where the
//! kernel says the same: the process maps this very file, runs under the file owner's uid, stands in the configured
//! unit, and is neither this sidecar nor one of its ancestors.

use std::path::Path;

use shard_heartbeat::{FileId, Header, Reader};

use crate::act::pidfd::{HandleError, TargetHandle};
use crate::probe::Adopted;
use crate::probe::task::TaskDir;
use crate::snapshot::TargetIdentity;

use super::Wanted;

/// More lines of `maps` or `cgroup` than this are not read: a hostile process may map millions of pages apart.
const MAPS_LIMIT: u64 = 64 << 20;
/// A chain of parents longer than this is a race or a lie.
const MOST_ANCESTORS: usize = 128;

/// Why a segment's owner is not watched.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The machine was booted since.
    #[error("the heartbeat segment was written before this machine was booted")]
    OtherBoot,
    /// Nobody fits.
    #[error("no running process is the owner of the heartbeat segment: it names pid {pid}, {why}")]
    NoOwner {
        /// The pid in the segment.
        pid: u32,
        /// What is wrong with the process of that number.
        why: Misfit,
    },
    /// It cannot be signalled without doubt.
    #[error(transparent)]
    Handle(#[from] HandleError),
}

/// Why one process is not the owner of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// There is none.
    #[error("and no such process runs")]
    Absent,
    /// It cannot be read.
    #[error(
        "which cannot be inspected: permission denied on its /proc files; run the sidecar as the target's user"
    )]
    Unreadable,
    /// It is us or an ancestor of ours.
    #[error("which is this sidecar itself or one of its ancestors")]
    Ourselves,
    /// Another number in its own namespace.
    #[error("which has another number in its own pid namespace")]
    OtherNumber,
    /// It does not map the file.
    #[error("which does not map that file")]
    NotMapped,
    /// Another user.
    #[error("which runs under another user than the owner of the file")]
    OtherUser,
    /// Another unit.
    #[error("which does not stand in the configured systemd unit")]
    OtherUnit,
    /// It ended, or began later than the segment says.
    #[error("which started at another time")]
    OtherStart,
}

/// Finds and checks the owner of `reader`'s segment.
pub fn adopt(reader: Reader, wanted: &Wanted) -> Result<Adopted, Refusal> {
    let root = &wanted.proc_root;
    if !same_boot(root, reader.header()) {
        return Err(Refusal::OtherBoot);
    }
    let pid = reader.header().pid;
    let direct = i32::try_from(pid).ok().map_or(Err(Misfit::Absent), |pid| fits(pid, &reader, wanted));
    let owner = match direct {
        Ok(owner) => owner,
        Err(why) => search(&reader, wanted).ok_or(Refusal::NoOwner { pid, why })?,
    };
    let identity = TargetIdentity {
        pid: owner.pid,
        start_time: owner.start_time,
        incarnation: reader.header().incarnation,
    };
    let handle = TargetHandle::open(root, identity)?;
    let proc_dir = root.join(owner.pid.to_string());
    let leader = proc_dir.join("task").join(owner.pid.to_string());
    let leader = TaskDir::open(&leader).map_err(|_| HandleError::Ended(owner.pid))?;
    let start_time_offset =
        owner.start_time.cast_signed().wrapping_sub(reader.header().start_time.cast_signed());
    Ok(Adopted {
        handle,
        segment: Some(reader),
        proc_dir,
        leader,
        other_pid_namespace: owner.other_pid_namespace,
        start_time_offset,
    })
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    pid: i32,
    start_time: u64,
    other_pid_namespace: bool,
}

/// Tries every process, for a target whose pid namespace is another one.
fn search(reader: &Reader, wanted: &Wanted) -> Option<Owner> {
    let entries = std::fs::read_dir(&wanted.proc_root).ok()?;
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .find_map(|pid| fits(pid, reader, wanted).ok())
}

/// Whether process `pid` is the owner; cheap questions first.
fn fits(pid: i32, reader: &Reader, wanted: &Wanted) -> Result<Owner, Misfit> {
    let header = reader.header();
    let dir = TaskDir::open(&wanted.proc_root.join(pid.to_string())).map_err(|_| Misfit::Absent)?;
    let stat = dir.stat().map_err(|_| Misfit::Unreadable)?.ok_or(Misfit::Absent)?;
    let status = dir.status().ok_or(Misfit::Unreadable)?;
    let namespaces = status.nspid.as_deref().unwrap_or_default();
    let innermost = namespaces.last().copied().unwrap_or(pid);
    if u32::try_from(innermost).ok() != Some(header.pid) {
        return Err(Misfit::OtherNumber);
    }
    if status.ruid != reader.owner_uid() && status.euid != reader.owner_uid() {
        return Err(Misfit::OtherUser);
    }
    if ours(pid, &wanted.proc_root) {
        return Err(Misfit::Ourselves);
    }
    if let Some(unit) = &wanted.systemd_unit
        && !in_unit(&dir, unit)
    {
        return Err(Misfit::OtherUnit);
    }
    maps(&dir, reader.file_id(), reader.path())?;
    let other_pid_namespace = namespaces.len() > 1;
    // In the same pid namespace the clocks of both are the same unless there is a time namespace, and a process that
    // maps the file but started at another time is a child that inherited it.
    let same_clock = same_time_namespace(pid, &wanted.proc_root);
    if same_clock && stat.start_time != header.start_time {
        return Err(Misfit::OtherStart);
    }
    Ok(Owner { pid, start_time: stat.start_time, other_pid_namespace })
}

fn same_boot(root: &Path, header: &Header) -> bool {
    let Ok(text) = std::fs::read_to_string(root.join("sys/kernel/random/boot_id")) else { return true };
    let hex: String = header.boot_id.iter().map(|byte| format!("{byte:02x}")).collect();
    header.boot_id == [0; 16] || text.trim().replace('-', "") == hex
}

fn same_time_namespace(pid: i32, root: &Path) -> bool {
    let of = |who: &str| std::fs::read_link(root.join(who).join("ns/time")).ok();
    match (of(&pid.to_string()), of("self")) {
        (Some(theirs), Some(ours)) => theirs == ours,
        // Unreadable for another user: then the stricter check stands.
        _ => true,
    }
}

fn ours(pid: i32, root: &Path) -> bool {
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

fn in_unit(dir: &TaskDir, unit: &str) -> bool {
    let Ok(lines) = dir.lines("cgroup", MAPS_LIMIT) else { return false };
    lines.into_iter().any(|line| {
        let path = line.splitn(3, ':').nth(2).unwrap_or_default();
        path.split('/').any(|part| part == unit)
    })
}

/// Whether the process maps the file: the same inode on the same device. File systems that show another device in
/// `maps` than in `stat` (btrfs, overlay) are told by inode and path.
fn maps(dir: &TaskDir, file: FileId, path: &Path) -> Result<(), Misfit> {
    let device = format!("{:02x}:{:02x}", file.dev_major, file.dev_minor);
    let inode = file.inode.to_string();
    let full = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let lines = dir.lines("maps", MAPS_LIMIT).map_err(|_| Misfit::Unreadable)?;
    for line in lines {
        let mut fields = line.split_ascii_whitespace();
        let (found_device, found_inode) = (fields.nth(3), fields.next());
        if found_inode != Some(inode.as_str()) {
            continue;
        }
        if found_device == Some(device.as_str()) || line.ends_with(&*full.to_string_lossy()) {
            return Ok(());
        }
    }
    Err(Misfit::NotMapped)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod tests {
    use super::*;
    use shard_heartbeat::{Heartbeat, SegmentOptions};

    fn wanted(path: &Path) -> Wanted {
        Wanted { heartbeat: path.to_path_buf(), systemd_unit: None, proc_root: "/proc".into() }
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
    fn a_copy_of_a_segment_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.heartbeat");
        let _heartbeat = Heartbeat::create(&path, &SegmentOptions::new("0")).unwrap();
        let copy = dir.path().join("copy.heartbeat");
        let mut bytes = std::fs::read(&path).unwrap();
        // It names a process that exists, runs as the same user and is none of ours: a sleep.
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        bytes[shard_heartbeat::layout::H_PID..][..8].copy_from_slice(&u64::from(child.id()).to_le_bytes());
        std::fs::write(&copy, bytes).unwrap();
        let refusal = adopt(Reader::open(&copy).unwrap(), &wanted(&copy)).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(refusal.to_string().contains("does not map that file"), "{refusal}");
    }
}
