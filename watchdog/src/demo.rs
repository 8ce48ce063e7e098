//! A demonstration on one machine: a coordinator, shards and their sidecars, one fault, and the
//! timeline from the fault to the next verified block.
//!
//! # Duties
//! Everything that it starts is a real process of the kind that runs in production, under the real
//! supervisor. The timeline is built from what those processes report, not from what the demo
//! expects. It leaves nothing behind.
//!
//! # Prohibitions
//! It never waits without a limit, and it never signals by number: it ends its own children through
//! pidfds, and the supervisors end theirs.

mod cluster;
mod config;
mod find;
mod order;
mod pace;
pub(crate) mod process;
pub(crate) mod report;
mod story;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::supervise::DEFAULT_SETTLED_AFTER;

use cluster::Cluster;
use pace::Pace;
use process::Heard;
use story::Story;

pub use pace::SLOWEST;

/// Time limit of the whole demo on a usual machine, without the clean-up. This and all times below
/// grow by the factor by which this machine is slower. A machine that needs still longer is unfit
/// for any judgement.
const OVERALL: Duration = Duration::from_secs(50);
/// From arming a fault to its firing: it fires in the next block or the one after, so if it takes
/// seconds, it never will.
const FIRES_WITHIN: Duration = Duration::from_secs(10);
/// Verified blocks required before the fault: one could be luck, and the first ones include the
/// time for opening connections.
const BLOCKS_BEFORE: u64 = 3;
/// Interval for polling files and ports; lines of output arrive by themselves.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a held demo waits for a line before it polls again; nothing depends on it.
const HOLD_LOOK: Duration = Duration::from_secs(1);

/// The fault that the demo injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The executor thread panics, and nothing ends its process.
    Panic,
    /// The executor thread returns without a message.
    Exit,
    /// The executor thread burns CPU without progress.
    Spin,
    /// The executor thread waits for a lock for ever.
    Deadlock,
    /// The main thread of the process ends.
    LeaderExit,
}

impl Fault {
    /// The name of the fault in the executor's orders.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Exit => "exit",
            Self::Spin => "spin",
            Self::Deadlock => "deadlock",
            Self::LeaderExit => "leader-exit",
        }
    }

    /// The name of the moment of the fault in the last line.
    const fn moment(self) -> &'static str {
        match self {
            Self::Panic | Self::Exit => "thread gone",
            Self::Spin | Self::Deadlock => "thread stuck",
            Self::LeaderExit => "main thread gone",
        }
    }
}

/// What to demonstrate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of shards.
    pub shards: u16,
    /// The fault to inject.
    pub fault: Fault,
    /// The blocks to execute, if given.
    pub blocks: Option<PathBuf>,
    /// The folder that retains everything; `None`: nothing is retained.
    pub keep: Option<PathBuf>,
    /// Whether to go on after the recovery until a signal stops the demo.
    pub hold: bool,
    /// `shard-executor`, if it is not in the folder of this program.
    pub executor: Option<PathBuf>,
    /// By what factor this machine is slower than a usual one, 1 to [`SLOWEST`]; `None`: measure
    /// it.
    pub slow: Option<u32>,
}

/// Why there was no recovery to show: a sentence with the next step.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The demo could not start.
    #[error("{0}")]
    Prepare(String),
    /// A signal stopped the demo.
    #[error("stopped by a signal; everything that was started is being ended")]
    Interrupted,
    /// A process of the cluster ended or never came up.
    #[error("{what}{tail}")]
    Failed {
        /// What failed.
        what: String,
        /// The last lines of the processes concerned.
        tail: Tail,
    },
}

/// The last lines of a process.
#[derive(Clone, Debug, Default)]
pub struct Tail(Vec<String>);

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() {
            f.write_str("; its last lines:")?;
        }
        self.0.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// Runs the demo; `Ok` if it recovered. Call it from the main thread, as [`crate::supervise::run`].
pub fn run(settings: &Settings) -> Result<(), DemoError> {
    let (sender, heard) = channel();
    // Before the first thread starts, so that a signal ends none of them.
    process::listen_for_stop(sender.clone())
        .map_err(|error| DemoError::Prepare(format!("cannot listen for signals: {error}")))?;
    let executor = find::executor(settings.executor.as_deref())?;
    let root = process::Folder::make(settings.keep.as_deref())?;
    let found = find::blocks(settings.blocks.as_deref())?;
    let pace = pace(settings.slow, &executor, root.path())?;
    let until = Instant::now() + pace.of(OVERALL);
    let blocks = match found {
        Some(found) => found,
        None => find::generate(&executor, root.path(), until)?,
    };
    say(format_args!("blocks: {} ({})", blocks.path.display(), blocks.origin));
    let shards = settings.shards;
    say(format_args!(
        "starting {shards} shards and a coordinator, each with its supervisor and its sidecar, in {}",
        root.path().display()
    ));
    let cluster = Cluster::start(shards, &executor, &blocks.path, root.path(), pace, &sender)?;
    let mut demo = Demo { heard, story: Story::new(shards), cluster, until, pace };
    let mut outcome = demo.play(settings.fault, settings.keep.is_some());
    if settings.hold {
        outcome = outcome.and_then(|last| demo.hold(&last, root.path()).map(|()| "stopped".to_owned()));
    }
    say(format_args!("ending everything that was started"));
    let Demo { cluster, heard, .. } = demo;
    drop(heard);
    cluster.end();
    drop(root);
    outcome.map(|last| out(&last))
}

/// How slow this machine is, and a line that reports it.
fn pace(slow: Option<u32>, executor: &Path, root: &Path) -> Result<Pace, DemoError> {
    let (pace, how) = match slow {
        Some(factor) => (Pace::given(factor), "as given".to_owned()),
        None => {
            let (pace, took) = Pace::measure(executor, root)?;
            (pace, format!("a known piece of work took {} ms", took.as_millis()))
        }
    };
    match pace.factor() {
        1 => say(format_args!("machine: no slower than usual ({how})")),
        factor => say(format_args!(
            "machine: {factor} times slower than usual ({how}); deadlines, thresholds and limits are {factor} times as long"
        )),
    }
    Ok(pace)
}

/// Prints one line on the progress.
fn say(what: fmt::Arguments<'_>) {
    out(&format!("demo: {what}"));
}

fn out(line: &str) {
    // The reader may have closed its end; the clean-up must still happen.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

struct Demo {
    heard: Receiver<Heard>,
    story: Story,
    cluster: Cluster,
    until: Instant,
    pace: Pace,
}

impl Demo {
    /// Runs from the start to the timeline. Returns the last line.
    fn play(&mut self, fault: Fault, kept: bool) -> Result<String, DemoError> {
        self.wait("every sidecar to find its target healthy", self.until, |demo| demo.cluster.unhealthy())?;
        say(format_args!("every sidecar reports healthy; kill.mode is enforce"));
        let settled = Instant::now() + DEFAULT_SETTLED_AFTER;
        self.wait("the first blocks to be verified", self.until, |demo| {
            let verified = demo.story.verified();
            let young = Instant::now() < settled;
            (verified < BLOCKS_BEFORE || young).then(|| format!("{verified} blocks so far"))
        })?;
        let target = 0;
        let name = fault.name();
        say(format_args!(
            "{} blocks verified; arming {name} in shard {target}, in the middle of a block",
            self.story.verified()
        ));
        self.story.arm(target, crate::clock::now());
        order::arm(self.cluster.faults(target), fault, self.pace)
            .map_err(|what| self.failed(what, usize::from(target)))?;
        let fires = self.until.min(Instant::now() + self.pace.of(FIRES_WITHIN));
        self.wait("the fault to fire", fires, |demo| demo.story.fault().is_none().then(String::new))?;
        self.wait("the block to be verified after all", self.until, |demo| demo.story.missing())?;
        let evidence = self.cluster.evidence(target).to_path_buf();
        let mut incident = None;
        self.wait("the sidecar's record of the recovery", self.until, |demo| {
            let found = report::incident(&evidence, demo.story.fault().map_or(0, |fault| fault.at));
            let missing = report::unfinished(found.as_ref());
            incident = found;
            missing
        })?;
        let incident = incident.unwrap_or_default();
        report::timeline(&self.story, &incident).iter().for_each(|line| out(line));
        report::record(&incident, kept).iter().for_each(|line| out(line));
        let took = self.story.fault_to_verified_ms();
        Ok(format!("recovered: {} → next verified block in {took:.0} ms", fault.moment()))
    }

    /// Continues until a signal stops it, and drops the output that arrives meanwhile.
    fn hold(&mut self, last: &str, root: &Path) -> Result<(), DemoError> {
        out(last);
        self.cluster.addresses().iter().for_each(|line| out(line));
        say(format_args!(
            "it continues until Ctrl-C; {} lists every /metrics",
            root.join(cluster::TARGETS).display()
        ));
        loop {
            match self.heard.recv_timeout(HOLD_LOOK) {
                Ok(Heard::Stop) => return Ok(()),
                Ok(Heard::Closed { who }) => {
                    return Err(self.failed(format!("the supervisor of {} ended", self.story.name(who)), who));
                }
                Ok(Heard::Line { .. }) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Handles output until `missing` returns `None`.
    fn wait(
        &mut self,
        what: &str,
        until: Instant,
        mut missing: impl FnMut(&Self) -> Option<String>,
    ) -> Result<(), DemoError> {
        loop {
            let Some(lacks) = missing(self) else { return Ok(()) };
            if Instant::now() >= until {
                let lacks = if lacks.is_empty() { lacks } else { format!(" ({lacks})") };
                let who = self.story.target();
                return Err(self.failed(format!("gave up waiting for {what}{lacks}"), who));
            }
            self.listen(until.min(Instant::now() + LOOK_EVERY))?;
        }
    }

    /// Handles all output until then.
    fn listen(&mut self, until: Instant) -> Result<(), DemoError> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.heard.recv_timeout(left) {
                Ok(Heard::Line { who, line }) => self.story.hear(who, line),
                Ok(Heard::Closed { who }) => {
                    let what = format!("the supervisor of {} ended", self.story.name(who));
                    return Err(self.failed(what, who));
                }
                Ok(Heard::Stop) => return Err(DemoError::Interrupted),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
            if left.is_zero() {
                break;
            }
        }
        if let Some(who) = self.story.failing() {
            let what =
                format!("{} does not start; fix what it complains about and try again", self.story.name(who));
            return Err(self.failed(what, who));
        }
        match self.story.wrong() {
            None => Ok(()),
            Some(what) => Err(self.failed(what, usize::from(self.cluster.shards()))),
        }
    }

    fn failed(&self, what: String, who: usize) -> DemoError {
        DemoError::Failed { what, tail: Tail(self.story.tail(who)) }
    }
}

/// A path for a sentence or a config, which must be text.
fn text(path: &Path) -> Result<&str, DemoError> {
    path.to_str().ok_or_else(|| {
        DemoError::Prepare(format!(
            "{} is not UTF-8, which a config file must be; use another folder",
            path.display()
        ))
    })
}
