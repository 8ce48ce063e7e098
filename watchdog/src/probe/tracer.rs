//! Who traces a thread: `TracerPid` of its `status`, and the tracer's name. By ADR 030 it decides
//! nothing, but it is reported in an incident, since a tracer may have caused the verdict about a
//! thread. Two short files of `/proc`, which take no lock of the target's memory, read once per
//! incident.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// At most this many bytes of `status` are read: the line is among the first ten, of which the
/// longest is a name of 64 bytes.
const LONGEST: u64 = 4_096;

/// The process that traces a thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tracer {
    /// Its pid, as the sidecar sees it.
    pub pid: i32,
    /// Its name, if the kernel tells it, without characters that are unsafe for a terminal.
    pub name: Option<String>,
}

impl Tracer {
    /// The tracer of the task whose folder is `task`, such as `/proc/PID/task/TID`; `proc` is where
    /// all processes are. `None` if nobody traces it, or the kernel does not tell.
    pub fn of(task: &Path, proc: &Path) -> Option<Self> {
        let status = read(&task.join("status"))?;
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"TracerPid:"))?;
        let pid: i32 = std::str::from_utf8(line).ok()?.trim().parse().ok()?;
        // Zero means nobody, or a process in a pid namespace that is not visible from here.
        if pid <= 0 {
            return None;
        }
        let name = read(&proc.join(pid.to_string()).join("comm"));
        Some(Self { pid, name: name.map(|name| clean(&name)) })
    }
}

impl std::fmt::Display for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "process {} ({name})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The tracer chose its name itself.
fn clean(name: &[u8]) -> String {
    String::from_utf8_lossy(name).trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tracer found if the task's `status` is this and process 77 has that name.
    fn found(status: &[u8], comm: Option<&[u8]>) -> Option<Tracer> {
        let proc = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &[u8]| {
            let path = proc.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("7/task/8/status", status);
        if let Some(name) = comm {
            write("77/comm", name);
        }
        Tracer::of(&proc.path().join("7/task/8"), proc.path())
    }

    #[test]
    fn a_tracer_has_a_pid_and_a_name() {
        let status = b"Name:\texec-s0\nPid:\t8\nPPid:\t1\nTracerPid:\t77\nUid:\t0\n";
        let tracer = found(status, Some(b"strace\n")).expect("a tracer");
        assert_eq!(tracer, Tracer { pid: 77, name: Some("strace".to_owned()) });
        assert_eq!(tracer.to_string(), "process 77 (strace)");
        assert_eq!(found(status, None).map(|tracer| tracer.to_string()), Some("process 77".to_owned()));
    }

    #[test]
    fn nobody_is_no_tracer_and_neither_is_garbage() {
        for status in
            [&b"TracerPid:\t0\n"[..], b"TracerPid:\t-3\n", b"TracerPid:\tx\n", b"", b"Name:\t\xff\n"]
        {
            assert_eq!(found(status, Some(b"strace\n")), None, "{status:?}");
        }
        assert_eq!(Tracer::of(Path::new("/nowhere"), Path::new("/nowhere")), None);
    }

    #[test]
    fn names_that_are_not_text_are_told_all_the_same() {
        let status = b"Name:\t\xff\xfe\nTracerPid:\t77\n";
        let tracer = found(status, Some(b"a\x1b[31m\xff\n")).expect("a tracer");
        assert_eq!(tracer.name.as_deref(), Some("a?[31m\u{fffd}"));
    }
}
