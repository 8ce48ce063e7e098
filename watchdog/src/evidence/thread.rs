//! One thread.

use std::io::Cursor;
use std::os::fd::{AsFd, BorrowedFd};

use procfs::process::{Schedstat, Stat, Status, Syscall};
use procfs::{FromBufRead, FromRead};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use syscalls::Sysno;

use super::file::{Unread, read};

/// Lines of a kernel stack beyond these are dropped.
const MOST_FRAMES: usize = 64;
/// A tick of `stat` in seconds: `USER_HZ` is 100 on every architecture that this runs on.
const TICK_SECONDS: f64 = 0.01;

/// One thread, as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ThreadEvidence {
    /// Its thread id.
    pub tid: i32,
    /// Its name; the kernel keeps 15 bytes of it.
    pub name: Option<String>,
    /// The name under which it is registered in the segment, for a watched thread.
    pub watched_as: Option<String>,
    /// The scheduler state: `running`, `sleeping`, `disk_sleep`, `stopped`, `traced`, `zombie`,
    /// `dead`, `idle`, or the kernel's letter.
    pub state: Option<String>,
    /// The function of the kernel in which it waits.
    pub wchan: Option<String>,
    /// The system call in which it is; null while it runs, and where that may not be read.
    pub syscall: Option<SyscallEvidence>,
    /// CPU time in user mode, seconds.
    pub user_seconds: Option<f64>,
    /// CPU time in the kernel, seconds.
    pub system_seconds: Option<f64>,
    /// CPU time by the scheduler's own clock, seconds.
    pub cpu_seconds: Option<f64>,
    /// Time for which it was runnable and waited for a CPU, seconds.
    pub run_delay_seconds: Option<f64>,
    /// How often it gave up its CPU to wait.
    pub voluntary_switches: Option<u64>,
    /// How often its CPU was taken from it.
    pub involuntary_switches: Option<u64>,
    /// Page faults for which a disk was read.
    pub major_faults: Option<u64>,
    /// The CPU on which it ran last.
    pub processor: Option<i32>,
    /// Scheduling policy: `other`, `fifo`, `rr`, `batch`, `idle`, `deadline`, or its number.
    pub policy: Option<String>,
    /// Its stack in the kernel, the innermost function first; empty where that may not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_stack: Vec<String>,
}

/// A system call in which a thread is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SyscallEvidence {
    /// Its number on this architecture; negative if the thread waits in the kernel outside of a
    /// system call, such as in a page fault.
    pub number: i64,
    /// Its name, if it is known.
    pub name: Option<String>,
    /// Its six arguments as they stand in registers, hexadecimal; not all of them need have a
    /// meaning.
    pub arguments: Vec<String>,
    /// The stack pointer, hexadecimal.
    pub stack_pointer: String,
    /// The address to which it returns, hexadecimal.
    pub program_counter: String,
}

impl ThreadEvidence {
    /// Reads what can be read of the thread `tid`; `None` if it has ended.
    pub(super) fn read(
        process: BorrowedFd<'_>,
        tid: i32,
        watched_as: Option<String>,
        unread: &mut Unread,
    ) -> Option<Self> {
        let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let task = rustix::fs::openat(process, format!("task/{tid}"), folder, Mode::empty())
            .map_err(|error| unread.note("task", error))
            .ok()?;
        let task = task.as_fd();
        let mut thread = Self { tid, watched_as, ..Self::default() };
        // First what changes fastest.
        thread.syscall = unread.text(task, "syscall").and_then(|text| syscall(&text));
        thread.wchan = unread.text(task, "wchan").and_then(|text| wchan(&text));
        let stat = unread.text(task, "stat")?;
        if let Ok(stat) = Stat::from_read(Cursor::new(stat)) {
            thread.state = Some(state(stat.state));
            thread.user_seconds = Some(ticks(stat.utime));
            thread.system_seconds = Some(ticks(stat.stime));
            thread.major_faults = Some(stat.majflt);
            thread.processor = stat.processor;
            thread.policy = stat.policy.map(policy);
            thread.name = Some(printable(&stat.comm));
        }
        if let Some(sched) = unread.text(task, "schedstat").and_then(|text| Schedstat::from_read(&*text).ok())
        {
            thread.cpu_seconds = Some(nanos(sched.sum_exec_runtime));
            thread.run_delay_seconds = Some(nanos(sched.run_delay));
        }
        if let Some(status) =
            unread.text(task, "status").and_then(|text| Status::from_buf_read(Cursor::new(text)).ok())
        {
            thread.voluntary_switches = status.voluntary_ctxt_switches;
            thread.involuntary_switches = status.nonvoluntary_ctxt_switches;
        }
        match read(task, "stack") {
            Ok(text) => thread.kernel_stack = frames(&text),
            Err(error) => unread.note("stack", error),
        }
        Some(thread)
    }

    /// What a person calls it.
    pub fn label(&self) -> String {
        let name = self.watched_as.as_ref().or(self.name.as_ref());
        name.map_or_else(|| format!("thread {}", self.tid), Clone::clone)
    }
}

fn syscall(text: &[u8]) -> Option<SyscallEvidence> {
    let Ok(Syscall::Blocked { syscall_number, argument_registers, stack_pointer, program_counter }) =
        Syscall::from_read(text)
    else {
        return None;
    };
    let name = usize::try_from(syscall_number).ok().and_then(Sysno::new);
    Some(SyscallEvidence {
        number: syscall_number,
        name: name.map(|name| name.name().to_owned()),
        arguments: argument_registers.iter().map(|value| hex(*value)).collect(),
        stack_pointer: hex(stack_pointer),
        program_counter: hex(program_counter),
    })
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

/// `0` stands for none, and for what may not be read.
fn wchan(text: &[u8]) -> Option<String> {
    let name = printable(&String::from_utf8_lossy(text));
    (!name.is_empty() && name != "0").then_some(name)
}

fn state(letter: char) -> String {
    let word = match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk_sleep",
        'T' => "stopped",
        't' => "traced",
        'Z' => "zombie",
        'X' | 'x' => "dead",
        'I' => "idle",
        other => return other.escape_default().to_string(),
    };
    word.to_owned()
}

/// By `uapi/linux/sched.h`.
fn policy(number: u32) -> String {
    let word = match number {
        0 => "other",
        1 => "fifo",
        2 => "rr",
        3 => "batch",
        5 => "idle",
        6 => "deadline",
        7 => "ext",
        other => return other.to_string(),
    };
    word.to_owned()
}

/// Each line is `[<0>] function+0x12/0x34`; the address in front is always zero nowadays.
fn frames(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().take(MOST_FRAMES);
    lines.map(|line| printable(line.split_once("] ").map_or(line, |(_, function)| function))).collect()
}

/// The target chooses the names of its threads.
pub(super) fn printable(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[expect(clippy::cast_precision_loss, reason = "CPU seconds of any thread fit a float")]
fn ticks(ticks: u64) -> f64 {
    ticks as f64 * TICK_SECONDS
}

#[expect(clippy::cast_precision_loss, reason = "CPU seconds of any thread fit a float")]
fn nanos(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_call_has_its_name_and_arguments() {
        let text = format!("{} 0x7f00 0x80 0x2 0x0 0x0 0xffffffff 0x7ffe 0x55d0\n", Sysno::futex as usize);
        let call = syscall(text.as_bytes()).unwrap();
        assert_eq!(call.name.as_deref(), Some("futex"));
        assert_eq!(call.arguments, ["0x7f00", "0x80", "0x2", "0x0", "0x0", "0xffffffff"]);
        assert_eq!((call.stack_pointer.as_str(), call.program_counter.as_str()), ("0x7ffe", "0x55d0"));
    }

    #[test]
    fn outside_of_a_system_call_there_is_no_name() {
        let call = syscall(b"-1 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffe 0x55d0\n").unwrap();
        assert_eq!((call.number, call.name), (-1, None));
        assert_eq!(syscall(b"running\n"), None);
        assert_eq!(syscall(b"0 torn"), None);
    }

    #[test]
    fn a_kernel_stack_is_its_functions() {
        let text = b"[<0>] futex_wait_queue+0x60/0x90\n[<0>] do_futex+0x105/0x260\n";
        assert_eq!(frames(text), ["futex_wait_queue+0x60/0x90", "do_futex+0x105/0x260"]);
    }

    #[test]
    fn names_are_safe_for_a_terminal() {
        assert_eq!(printable("exec\u{1b}[31m\n"), "exec?[31m");
        assert_eq!(wchan(b"0"), None);
        assert_eq!(wchan(b"futex_wait_queue"), Some("futex_wait_queue".to_owned()));
    }
}
