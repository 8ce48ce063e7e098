//! Looks up the stacks of minidumps after the kill: one at a time, each in a process of its own
//! ([`child`]), which may fail, hang or be killed.
//!
//! A thread of its own waits for that process. Nobody waits for this thread, and an end of the
//! sidecar ends the process; the next sidecar does what was left undone.

pub mod child;
mod room;

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rustix::fs::MemfdFlags;

use crate::child_end;
use crate::clock;
use crate::event::{FoundStacks, NoStacks, StacksOutcome, Symbolized};
use crate::incident::id::IncidentId;
use crate::incident::journal::{Journal, MOST_LEFT};
use crate::judge::words::Rounded;
use crate::signals::name_of;

use child::{LONGEST_SAID, Said};

/// How long one process may take. It needs a second or two of CPU time, most of it to read debug
/// information; a busy machine gives a process of low priority a hundredth of a CPU.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);
/// How long the journal may take to open a dump: it may have to write it first.
const OPENED_WITHIN: Duration = Duration::from_secs(60);
/// How long a process that was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at the process. Nobody waits for it.
const LOOK: Duration = Duration::from_millis(20);
/// It needs little: whatever grows is in the process.
const STACK: usize = 128 << 10;
/// Of what a process that failed says, so much is told.
const LONGEST_WHY: usize = 300;

/// The handle to the thread, for the relay. The thread ends when this is dropped, unless it is at
/// work.
#[derive(Debug)]
pub struct Symbolizer {
    asks: SyncSender<Ask>,
}

/// Whose stacks are wanted.
#[derive(Debug)]
struct Ask {
    ticket: u64,
    incident: IncidentId,
}

impl Symbolizer {
    /// Starts the thread. `command` makes the command of a process: this program with `symbolizer`.
    /// It gets the dump as its standard input. What became of it is given to `deliver`, which must
    /// not wait.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        journal: Journal,
        time_limit: Duration,
        command: impl FnMut() -> Command + Send + 'static,
        deliver: impl FnMut(Symbolized) + Send + 'static,
    ) -> io::Result<Self> {
        let (asks, asked) = sync_channel(MOST_LEFT);
        std::thread::Builder::new()
            .name("stacks".to_owned())
            .stack_size(STACK)
            .spawn(move || run(&asked, &journal, time_limit, command, deliver))?;
        Ok(Self { asks })
    }

    /// Has the stacks of the minidump of this incident looked up. Never waits. Returns false if too
    /// many others wait.
    pub fn ask(&self, ticket: u64, incident: IncidentId) -> bool {
        self.asks.try_send(Ask { ticket, incident }).is_ok()
    }
}

fn run(
    asked: &Receiver<Ask>,
    journal: &Journal,
    time_limit: Duration,
    mut command: impl FnMut() -> Command,
    mut deliver: impl FnMut(Symbolized),
) {
    let mut dying = None;
    for Ask { ticket, incident } in asked {
        let dump = journal.dump(incident, OPENED_WITHIN).map_err(failed);
        let stacks = dump.and_then(|dump| look_up(dump, time_limit, command(), &mut dying));
        deliver(Symbolized { ticket, at: clock::now(), stacks });
    }
}

fn failed(why: String) -> NoStacks {
    NoStacks { outcome: StacksOutcome::Failed, why }
}

/// Runs one process. One that could not be ended is left in `dying`: there is never a second one.
fn look_up(
    dump: File,
    time_limit: Duration,
    mut command: Command,
    dying: &mut Option<Child>,
) -> Result<FoundStacks, NoStacks> {
    if let Some(child) = dying {
        if matches!(child.try_wait(), Ok(None)) {
            return Err(failed("the process for an earlier dump cannot be ended (state D)".to_owned()));
        }
        *dying = None;
    }
    let failed_by = |what: &str, error: io::Error| failed(format!("{what}: {error}"));
    let files = memory("shard-watchdog-stacks").and_then(|text| Ok((text, memory("shard-watchdog-said")?)));
    let (text, mut said) = files.map_err(|error| failed_by("no memory for them", error))?;
    let theirs = text.try_clone().and_then(|text| Ok((text, said.try_clone()?)));
    let (stdout, stderr) = theirs.map_err(|error| failed_by("no memory for them", error))?;
    command.stdin(dump).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().map_err(|error| failed_by("no process can be started", error))?;
    let Some(status) = child_end::within(&mut child, time_limit, LOOK) else {
        // It may have ended by itself.
        let _ = child.kill();
        if child_end::within(&mut child, GONE_WITHIN, LOOK).is_none() {
            *dying = Some(child);
        }
        let why = format!("they were not there within {}, and the process was ended", Rounded(time_limit));
        return Err(NoStacks { outcome: StacksOutcome::Late, why });
    };
    let said = read_said(&mut said).map_err(|error| failed_by("what it said cannot be read", error))?;
    if !status.success() {
        return Err(failed(why(status, &said)));
    }
    let said: Said = serde_json::from_slice(&said)
        .map_err(|error| failed(format!("what it said cannot be understood: {error}")))?;
    let Said { headline, tid, own_frames } = said;
    Ok(FoundStacks { text: Arc::new(text), headline, tid, own_frames })
}

/// A file in memory.
fn memory(name: &str) -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?))
}

fn read_said(said: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    said.rewind()?;
    said.take(LONGEST_SAID).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Why a process failed, by its last words. They may be those of a panic.
fn why(status: ExitStatus, said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = &words[..words.floor_char_boundary(LONGEST_WHY)];
    match status.signal() {
        Some(signal) if words.is_empty() => format!("the process for them was killed by {}", name_of(signal)),
        Some(signal) => format!("the process for them was killed by {}: {words}", name_of(signal)),
        None if words.is_empty() => format!("the process for them failed: {status}"),
        None => words.to_owned(),
    }
}

#[cfg(test)]
#[path = "symbolizer/tests.rs"]
mod tests;
