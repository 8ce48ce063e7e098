//! The process as a whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Cursor;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use procfs::FromBufRead;
use procfs::process::{LimitValue, Limits, Status};
use rustix::fs::{Dir, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::probe::cgroup;

use super::file::{Unread, read};
use super::thread::printable;

/// Where the kernel does not tell how many files are open, no more than these are counted.
const MOST_FILES: usize = 65_536;
/// What `status` calls KiB.
const KIB: u64 = 1_024;
/// The files of a unified cgroup that tell whether the process was held back, and by what
/// (Documentation/admin-guide/cgroup-v2). Never `memory.stat`, for which the kernel sums up all
/// CPUs.
const CGROUP_FILES: [&str; 14] = [
    "cgroup.events",
    "cpu.max",
    "cpu.stat",
    "cpu.pressure",
    "io.pressure",
    "memory.pressure",
    "memory.current",
    "memory.high",
    "memory.max",
    "memory.swap.current",
    "memory.events",
    "memory.events.local",
    "pids.current",
    "pids.max",
];

/// A process, as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEvidence {
    /// The name of its main thread.
    pub name: Option<String>,
    /// How many threads it has.
    pub threads: Option<u64>,
    /// How many files it has open.
    pub open_files: Option<u64>,
    /// Its memory.
    pub memory: MemoryEvidence,
    /// How likely it is that the kernel kills it when memory runs out: 0 to 2000, the most likely
    /// last.
    pub oom_score: Option<u64>,
    /// Its resource limits.
    pub limits: BTreeMap<String, LimitEvidence>,
    /// The lines of its `cgroup` file.
    pub cgroups: Vec<String>,
    /// Files of its unified cgroup, as they are.
    pub cgroup_files: BTreeMap<String, String>,
}

/// Memory of a process, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEvidence {
    /// In RAM now.
    pub resident_bytes: Option<u64>,
    /// The most that was ever in RAM.
    pub peak_resident_bytes: Option<u64>,
    /// Part of what is in RAM that belongs to no file: heap and stacks.
    pub anonymous_bytes: Option<u64>,
    /// In swap.
    pub swap_bytes: Option<u64>,
    /// Address space.
    pub virtual_bytes: Option<u64>,
    /// Locked in RAM.
    pub locked_bytes: Option<u64>,
}

/// A resource limit; null means that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitEvidence {
    /// The limit in force.
    pub soft: Option<u64>,
    /// Up to which the process may raise it.
    pub hard: Option<u64>,
}

impl ProcessEvidence {
    /// Reads all but its cgroups.
    pub(super) fn read(process: BorrowedFd<'_>, unread: &mut Unread) -> Self {
        let mut evidence = Self::default();
        if let Some(status) =
            unread.text(process, "status").and_then(|text| Status::from_buf_read(Cursor::new(text)).ok())
        {
            let bytes = |kib: Option<u64>| kib.map(|kib| kib.saturating_mul(KIB));
            evidence.name = Some(printable(&status.name));
            evidence.threads = Some(status.threads);
            evidence.memory = MemoryEvidence {
                resident_bytes: bytes(status.vmrss),
                peak_resident_bytes: bytes(status.vmhwm),
                anonymous_bytes: bytes(status.rssanon),
                swap_bytes: bytes(status.vmswap),
                virtual_bytes: bytes(status.vmsize),
                locked_bytes: bytes(status.vmlck),
            };
        }
        if let Some(limits) =
            unread.text(process, "limits").and_then(|text| Limits::from_buf_read(Cursor::new(text)).ok())
        {
            evidence.limits = told(&limits);
        }
        let score = unread.text(process, "oom_score");
        evidence.oom_score = score.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok());
        evidence.open_files = open_files(process, unread);
        evidence
    }

    /// Reads its cgroups.
    pub(super) fn read_cgroups(&mut self, process: BorrowedFd<'_>, unread: &mut Unread) {
        let text = unread.text(process, "cgroup").unwrap_or_default();
        self.cgroups = String::from_utf8_lossy(&text).lines().map(printable).collect();
        // The path is that of the process for as long as the descriptor is open.
        let own = PathBuf::from(format!("/proc/self/fd/{}", process.as_raw_fd()));
        let Some(folder) = cgroup::unified(&own, Path::new("/proc/self")) else { return };
        let Ok(folder) = File::open(folder) else { return };
        let file = |name: &&str| {
            let text = read(folder.as_fd(), name).ok()?;
            Some(((*name).to_owned(), String::from_utf8_lossy(&text).trim_end().to_owned()))
        };
        self.cgroup_files = CGROUP_FILES.iter().filter_map(file).collect();
    }
}

/// How many files it has open. Since Linux 6.2, that is the size of the folder `fd`.
fn open_files(process: BorrowedFd<'_>, unread: &mut Unread) -> Option<u64> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let files = match rustix::fs::openat(process, "fd", folder, Mode::empty()) {
        Ok(files) => files,
        Err(error) => {
            unread.note("fd", error);
            return None;
        }
    };
    let told = rustix::fs::fstat(&files).ok().and_then(|stat| u64::try_from(stat.st_size).ok());
    if let Some(told) = told.filter(|told| *told > 0) {
        return Some(told);
    }
    let entries = Dir::new(files).ok()?.take(MOST_FILES).map_while(Result::ok);
    Some(entries.filter(|entry| entry.file_name().to_bytes().first() != Some(&b'.')).count() as u64)
}

fn told(limits: &Limits) -> BTreeMap<String, LimitEvidence> {
    let value = |value: LimitValue| match value {
        LimitValue::Unlimited => None,
        LimitValue::Value(value) => Some(value),
    };
    let all = [
        ("open_files", limits.max_open_files),
        ("processes", limits.max_processes),
        ("address_space_bytes", limits.max_address_space),
        ("data_bytes", limits.max_data_size),
        ("stack_bytes", limits.max_stack_size),
        ("core_bytes", limits.max_core_file_size),
        ("locked_bytes", limits.max_locked_memory),
        ("cpu_seconds", limits.max_cpu_time),
        ("realtime_priority", limits.max_realtime_priority),
    ];
    let told = all.into_iter().map(|(name, limit)| {
        let limit = LimitEvidence { soft: value(limit.soft_limit), hard: value(limit.hard_limit) };
        (name.to_owned(), limit)
    });
    told.collect()
}
