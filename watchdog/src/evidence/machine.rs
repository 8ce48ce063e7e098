//! The machine: whether there was pressure, and whether the kernel itself has seen hung tasks.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;

use serde::{Deserialize, Serialize};

use super::file::read;

/// The files below `/proc` that are kept as they are.
const FILES: [&str; 5] =
    ["loadavg", "pressure/cpu", "pressure/io", "pressure/memory", "sys/kernel/hung_task_detect_count"];

/// What the machine reports of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineEvidence {
    /// The line of all CPUs in `stat`: time since boot in hundredths of a second, as user, nice,
    /// system, idle, iowait, irq, softirq, steal, guest, guest_nice (proc_stat(5)).
    pub cpu: Option<String>,
    /// Other files below `/proc`, as they are; those that this kernel does not have are absent.
    pub files: BTreeMap<String, String>,
}

impl MachineEvidence {
    /// Reads it.
    pub(super) fn read() -> Self {
        let Ok(proc) = File::open("/proc") else { return Self::default() };
        let text = |name: &str| {
            let text = read(proc.as_fd(), name).ok()?;
            Some(String::from_utf8_lossy(&text).trim_end().to_owned())
        };
        let cpu = text("stat").and_then(|stat| stat.lines().next().map(str::to_owned));
        let files = FILES.iter().filter_map(|name| Some(((*name).to_owned(), text(name)?)));
        Self { cpu, files: files.collect() }
    }
}
