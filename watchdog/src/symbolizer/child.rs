//! The process that looks up the stacks of one dump. The dump is its standard input, the text of
//! the stacks its standard output, and what the sidecar makes of them its standard error.
//!
//! A dump is untrusted, and so is whatever this process makes of it: it limits itself before it
//! reads anything, and the sidecar believes only what is bounded.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};

use crate::dump;
use crate::stacks::{LARGEST_TEXT, Places, Stacks};

use super::room;

/// The most bytes that the sidecar reads of what is said: a headline and three names of functions,
/// of 400 bytes each, have about 3 KiB.
pub const LONGEST_SAID: u64 = 16 << 10;
/// So many functions are told of.
const MOST_OWN: usize = 3;
/// A tenth of the weight of a process of usual priority. With the least there is, a busy machine
/// would leave it less than a second of CPU time in two minutes.
const NICE: i32 = 10;
/// The CPU time that it may take, seconds. The debug build of the executor takes half of one.
const CPU_SECONDS: u64 = 60;
/// Before anything else of its cgroup, the kernel kills this when memory is short.
const KILL_FIRST: &str = "1000";

/// What the sidecar is told besides the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Where the thread in question stands, in one line.
    pub headline: String,
    /// Its thread id.
    pub tid: i32,
    /// The functions of the program's own code in which it stands, the innermost first.
    pub own_frames: Vec<String>,
}

/// Looks up the stacks of the dump on standard input.
///
/// # Errors
/// Why there are none, as a clause.
pub fn run(places: &Places) -> Result<(), String> {
    limit_itself()?;
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(dump::LARGEST).read_to_end(&mut bytes);
    read.map_err(|error| format!("the minidump cannot be read: {error}"))?;
    let stacks = Stacks::of(&bytes, places).map_err(|error| format!("the minidump: {error}"))?;
    let said = said(&stacks).ok_or("the minidump is about no thread")?;
    let said = serde_json::to_vec(&said).map_err(|error| error.to_string())?;
    let text = stacks.to_text();
    let written = io::stdout().lock().write_all(text.as_bytes());
    written
        .and_then(|()| io::stdout().lock().flush())
        .and_then(|()| io::stderr().lock().write_all(&said))
        .map_err(|error| format!("they cannot be handed over: {error}"))
}

fn said(stacks: &Stacks) -> Option<Said> {
    let thread = stacks.in_question()?;
    let tid = i32::try_from(thread.tid).ok()?;
    Some(Said { headline: stacks.headline()?, tid, own_frames: thread.own_functions(MOST_OWN) })
}

/// Sees to it that nothing in the dump can do harm: this process ends with its sidecar, yields to
/// everything else, and is bounded in time, in memory and in what it writes.
fn limit_itself() -> Result<(), String> {
    let wrong = |error: Errno| format!("the process for them cannot limit itself: {error}");
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(wrong)?;
    // Where a filter of system calls forbids it, the process runs at the priority of its sidecar.
    let _ = rustix::process::setpriority_process(None, NICE);
    // Not without /proc, and then the kernel chooses for itself.
    let _ = std::fs::write("/proc/self/oom_score_adj", KILL_FIRST);
    let memory = room::for_stacks(Path::new("/proc/self"), Path::new("/proc/meminfo"));
    if memory < room::LEAST {
        return Err(format!(
            "there is memory for {} MiB, and it takes {} at least; `incidents symbolize` looks them up elsewhere",
            memory >> 20,
            room::LEAST >> 20
        ));
    }
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    let limits = [
        (Resource::Core, 0),
        (Resource::Cpu, CPU_SECONDS),
        (Resource::Fsize, LARGEST_TEXT),
        // Not RLIMIT_AS: files that are mapped to unwind through them take address space and no
        // memory of their own.
        (Resource::Data, memory),
    ];
    limits
        .into_iter()
        .try_for_each(|(what, most)| rustix::process::setrlimit(what, limit(most)))
        .map_err(wrong)
}
