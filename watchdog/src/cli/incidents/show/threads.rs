//! What each thread was doing before the first signal, in the report of an incident.

use std::fmt::Write as _;

use shard_watchdog::evidence::Evidence;
use shard_watchdog::evidence::process::MemoryEvidence;
use shard_watchdog::evidence::thread::ThreadEvidence;
use shard_watchdog::incident::Incident;

use super::super::super::status::table::{columns, plain};

/// Rows of the table; whoever wants more reads the file.
const MOST_ROWS: usize = 24;
/// Functions of a kernel stack that are shown.
const MOST_FRAMES: usize = 12;

/// The part of the report; empty if nothing was gathered, which the timeline explains.
pub(super) fn told(incident: &Incident, evidence: Option<&Evidence>) -> String {
    let Some(evidence) = evidence else { return String::new() };
    let mut text = String::from("\nthreads before the first signal\n");
    let at_fault = incident.thread.as_ref().map(|thread| thread.tid);
    if let Some(guess) = at_fault.and_then(|tid| evidence.guess(tid)) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}", plain(&guess));
    }
    text.push_str(&columns(
        ["THREAD", "TID", "STATE", "IN", "WAITS IN", "CPU", "RUN DELAY", "SWITCHES"],
        evidence.threads.iter().take(MOST_ROWS).map(row),
    ));
    let more = evidence.threads.len().saturating_sub(MOST_ROWS) as u64 + evidence.threads_left_out;
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
    let stack = at_fault.and_then(|tid| evidence.thread(tid)).map(|thread| &thread.kernel_stack);
    if let Some(stack) = stack.filter(|stack| !stack.is_empty()) {
        text.push_str("\nits stack in the kernel\n");
        stack.iter().take(MOST_FRAMES).for_each(|frame| {
            let _ = writeln!(text, "  {}", plain(frame));
        });
    }
    text.push_str(&process(evidence));
    for missing in &evidence.missing {
        let _ = writeln!(text, "  not read: {}", plain(missing));
    }
    text
}

fn row(thread: &ThreadEvidence) -> [String; 8] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let seconds = |seconds: Option<f64>| or_dash(seconds.map(|seconds| format!("{seconds:.3} s")));
    let call = thread.syscall.as_ref().filter(|call| call.number >= 0);
    let call = call.map(|call| call.name.clone().unwrap_or_else(|| format!("system call {}", call.number)));
    let switches = thread.voluntary_switches.zip(thread.involuntary_switches);
    [
        plain(&thread.label()),
        thread.tid.to_string(),
        or_dash(thread.state.as_deref().map(plain)),
        or_dash(call.as_deref().map(plain)),
        or_dash(thread.wchan.as_deref().map(plain)),
        seconds(thread.cpu_seconds),
        seconds(thread.run_delay_seconds),
        or_dash(switches.map(|(given, taken)| format!("{given} + {taken}"))),
    ]
}

fn process(evidence: &Evidence) -> String {
    let mut text = String::from("\nprocess\n");
    let process = &evidence.process;
    let MemoryEvidence { resident_bytes, anonymous_bytes, swap_bytes, .. } = process.memory;
    let mib = |bytes: Option<u64>| bytes.map(|bytes| format!("{} MiB", bytes >> 20));
    let limit = process.limits.get("open_files").and_then(|limit| limit.soft);
    let files = process.open_files.map(|files| match limit {
        Some(limit) => format!("{files} of {limit}"),
        None => files.to_string(),
    });
    let rows = [
        ("threads", process.threads.map(|threads| threads.to_string())),
        ("memory in RAM", mib(resident_bytes)),
        ("of it anonymous", mib(anonymous_bytes)),
        ("in swap", mib(swap_bytes)),
        ("open files", files),
        ("CPU pressure", evidence.machine.files.get("pressure/cpu").and_then(|text| pressure(text))),
        ("I/O pressure", evidence.machine.files.get("pressure/io").and_then(|text| pressure(text))),
        ("memory pressure", evidence.machine.files.get("pressure/memory").and_then(|text| pressure(text))),
    ];
    for (name, value) in rows.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let _ = writeln!(text, "  {name:<16}{}", plain(&value));
    }
    text
}

/// The first line of a file of pressure, in words.
fn pressure(text: &str) -> Option<String> {
    let share = text.lines().next()?.strip_prefix("some avg10=")?.split(' ').next()?;
    Some(format!("{share} % of the last 10 s on this machine"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shard_watchdog::evidence::thread::SyscallEvidence;

    #[test]
    fn a_row_has_a_dash_for_what_is_not_known() {
        let row = row(&ThreadEvidence { tid: 7, ..ThreadEvidence::default() });
        assert_eq!(row, ["thread 7", "7", "-", "-", "-", "-", "-", "-"]);
    }

    #[test]
    fn a_row_has_what_the_kernel_told() {
        let thread = ThreadEvidence {
            tid: 7,
            watched_as: Some("exec-s0\u{1b}[2J".to_owned()),
            state: Some("sleeping".to_owned()),
            wchan: Some("futex_wait_queue".to_owned()),
            syscall: Some(SyscallEvidence { name: Some("futex".to_owned()), ..SyscallEvidence::default() }),
            cpu_seconds: Some(1.25),
            run_delay_seconds: Some(0.5),
            voluntary_switches: Some(3),
            involuntary_switches: Some(4),
            ..ThreadEvidence::default()
        };
        let row = row(&thread);
        assert!(!row[0].contains('\u{1b}'), "{row:?}");
        assert_eq!(row[1..], ["7", "sleeping", "futex", "futex_wait_queue", "1.250 s", "0.500 s", "3 + 4"]);
    }

    #[test]
    fn pressure_is_told_in_words() {
        let text = "some avg10=12.50 avg60=2.02 avg300=3.37 total=27562801\nfull avg10=0.00";
        assert_eq!(pressure(text).unwrap(), "12.50 % of the last 10 s on this machine");
        assert_eq!(pressure("nonsense"), None);
    }
}
