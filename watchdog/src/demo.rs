//! The main job on one machine, for eyes: a coordinator, shards and their sidecars, one fault, and
//! the timeline from the fault to the next verified block.
//!
//! # Duties
//! Everything that it starts is a real process of the kind that runs in production, under the real
//! supervisor; the timeline is put together from what those processes say, not from what the demo
//! hopes. It leaves nothing behind.
//!
//! # Prohibitions
//! It never waits without end, and it never signals by number: what it started it ends through
//! pidfds, and the supervisors end what they started.

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

/// All of it on a usual machine, the clearing up excepted. This and all times below are longer by
/// as much as this machine is slower than that; one that needs longer still is not one to judge
/// anything by.
const OVERALL: Duration = Duration::from_secs(50);
/// From arming a fault to its firing: the next block or the one after, so seconds mean that it
/// never will.
const FIRES_WITHIN: Duration = Duration::from_secs(10);
/// Blocks to see verified before the fault: one could be luck, and the first ones pay for opening
/// connections.
const BLOCKS_BEFORE: u64 = 3;
/// How often what only files and ports tell is looked at, while lines arrive by themselves.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a held demo waits for a line before it looks again; nothing depends on it.
const HOLD_LOOK: Duration = Duration::from_secs(1);

/// What goes wrong in the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The executor thread panics, and nothing ends its process.
    Panic,
    /// It returns without a word.
    Exit,
    /// It burns CPU and gets nowhere.
    Spin,
    /// It waits for a lock for ever.
    Deadlock,
    /// The main thread of the process ends.
    LeaderExit,
}

impl Fault {
    /// Its name in the orders of the executor.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Exit => "exit",
            Self::Spin => "spin",
            Self::Deadlock => "deadlock",
            Self::LeaderExit => "leader-exit",
        }
    }

    /// What the last line calls the moment of the fault.
    const fn moment(self) -> &'static str {
        match self {
            Self::Panic | Self::Exit => "thread gone",
            Self::Spin | Self::Deadlock => "thread stuck",
            Self::LeaderExit => "main thread gone",
        }
    }
}

/// What to show.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many shards.
    pub shards: u16,
    /// What goes wrong.
    pub fault: Fault,
    /// The blocks to execute, if they are given.
    pub blocks: Option<PathBuf>,
    /// Where everything is kept; `None`: nothing is.
    pub keep: Option<PathBuf>,
    /// Whether it goes on after the recovery until it is told to stop.
    pub hold: bool,
    /// `shard-executor`, if it is not beside this program.
    pub executor: Option<PathBuf>,
    /// How many times slower than a usual machine this one is, 1 to [`SLOWEST`]; `None`: it is
    /// measured.
    pub slow: Option<u32>,
}

/// Why there was no recovery to show: a sentence with the next step.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Not even started.
    #[error("{0}")]
    Prepare(String),
    /// Told to stop.
    #[error("stopped by a signal; everything that was started is being ended")]
    Interrupted,
    /// Something of the cluster ended or never came.
    #[error("{what}{tail}")]
    Failed {
        /// What.
        what: String,
        /// The last that those concerned said.
        tail: Tail,
    },
}

/// Last lines of a process.
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

/// Shows it; `Ok` if it recovered. Call it from the main thread, as [`crate::supervise::run`].
pub fn run(settings: &Settings) -> Result<(), DemoError> {
    let (sender, heard) = channel();
    // Before the first thread, so that none of them is the one that a signal ends.
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

/// How slow this machine is, and a line on that.
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

/// One line on how far it is.
fn say(what: fmt::Arguments<'_>) {
    out(&format!("demo: {what}"));
}

fn out(line: &str) {
    // Whoever reads this may have gone; the clearing up must still happen.
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
    /// From nothing to the timeline. Returns the last line.
    fn play(&mut self, fault: Fault, kept: bool) -> Result<String, DemoError> {
        self.wait("every sidecar to find its target healthy", self.until, |demo| demo.cluster.unhealthy())?;
        say(format_args!("every sidecar says healthy; kill.mode is enforce"));
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

    /// Lets it run until somebody says stop, and keeps nothing of what is said meanwhile.
    fn hold(&mut self, last: &str, root: &Path) -> Result<(), DemoError> {
        out(last);
        self.cluster.addresses().iter().for_each(|line| out(line));
        say(format_args!(
            "it goes on until Ctrl-C; {} names every /metrics",
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

    /// Listens until `missing` says that nothing is.
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

    /// Takes in all that is said until then.
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
                format!("{} does not come up; give it what it asks for, and try again", self.story.name(who));
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

/// A path for a sentence or a config, where only text will do.
fn text(path: &Path) -> Result<&str, DemoError> {
    path.to_str().ok_or_else(|| {
        DemoError::Prepare(format!(
            "{} is not UTF-8, which a config file must be; use another folder",
            path.display()
        ))
    })
}
