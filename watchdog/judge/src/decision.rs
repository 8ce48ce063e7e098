//! The judge's output: the decision, notes of what changed, and why a process is condemned.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::clock::Monotonic;
use crate::target::{FaultyThread, TargetIdentity};
use crate::verdict::{ExcuseKind, Reason, Verdict};

/// The result of one observation. Details are in [`crate::Judge::notes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The current verdict.
    pub verdict: Verdict,
    /// Whether the target is condemned and alive, so that the ladder must act.
    pub condemned: bool,
    /// Whether the stalled thread that it is condemned for is excused at this observation, or
    /// stands still in a way that its rule only reports. A kill that was withheld until now must
    /// not be sent while a debugger holds that thread or while it cannot run.
    pub held: bool,
    /// Whether it is condemned for work in a crash loop, for which no kill is sent.
    pub spared: bool,
    /// The next moment at which the verdict could change without an event.
    pub look_at: Monotonic,
    /// How late this observation came.
    pub late_by: Duration,
}

/// One event to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The verdict changed from this one.
    Verdict {
        /// The earlier verdict.
        from: Verdict,
    },
    /// An incident was opened: the target was condemned, or ended by itself.
    Opened(Box<Condemnation>),
    /// A condemnation that was not acted on was lifted because its reason has gone.
    Lifted {
        /// Why, as a sentence.
        why: String,
    },
    /// The process of an incident is dead.
    Exited,
    /// The target died once too often with this work in flight: nothing more is killed for it.
    CrashLoop {
        /// The key of that work.
        work_key: u64,
    },
    /// No new incarnation appeared in time.
    RestartOverdue,
    /// A new incarnation appeared after an incident.
    Restarted {
        /// The new incarnation.
        target: TargetIdentity,
        /// Time since the death of the old one.
        after: Duration,
    },
    /// The new incarnation finished its first work.
    Recovered {
        /// Key of that work, if known.
        work_key: Option<u64>,
    },
    /// A thread's excuse changed.
    Excuse {
        /// Which thread.
        thread: Arc<str>,
        /// The excuse now.
        kind: Option<ExcuseKind>,
    },
    /// An excuse has reached its cap. Nothing is killed for it; a person should look.
    ExcuseOver {
        /// Which thread.
        thread: Arc<str>,
        /// The excuse.
        kind: ExcuseKind,
        /// The longest that it may excuse.
        cap: Duration,
    },
    /// A channel's oldest message waits longer, or more messages wait, than its rule allows.
    ChannelLate {
        /// Which channel.
        channel: Arc<str>,
        /// Which limit it exceeds, as a sentence.
        why: String,
    },
    /// A channel is within its rule again.
    ChannelInTime {
        /// Which channel.
        channel: Arc<str>,
        /// How long it exceeded its rule.
        after: Duration,
        /// The greatest depth meanwhile.
        deepest: u64,
    },
    /// Threads have begun no work for as long as their rule allows, although there was some. One
    /// note for all that share the evidence.
    Silent {
        /// Which threads: the names of the first few.
        threads: String,
        /// What showed that there was work, as part of a sentence.
        evidence: String,
        /// Countable time in which there was work.
        after: Duration,
    },
    /// Silent threads whose silence was noted began work.
    WorksAgain {
        /// Which threads: the names of the first few.
        threads: String,
        /// How long the first of them was silent beyond its horizon.
        after: Duration,
    },
    /// A thread made progress after a gap at work without any.
    ProgressGap {
        /// Which thread: its index in the observation. Not its name: there may be one such note for
        /// each of a thousand threads at each observation.
        thread: usize,
        /// Length of the gap.
        gap: Duration,
    },
}

/// Why a process is condemned: everything that its incident must report.
#[derive(Clone, Debug)]
pub struct Condemnation {
    /// The class of the fault.
    pub reason: Reason,
    /// The reason as a sentence.
    pub why: String,
    /// The condemned process.
    pub target: TargetIdentity,
    /// When the verdict was given.
    pub at: Monotonic,
    /// When the thread (or, without one, the process) was last seen well.
    pub last_progress: Monotonic,
    /// The thread at fault, if there is one.
    pub thread: Option<FaultyThread>,
    /// Slot and generation of that thread, to find its trace context.
    pub slot: Option<(u32, u64)>,
    /// Slot and generation of the channel from which no message is received, if that is the reason.
    pub channel: Option<(u32, u64)>,
    /// The threshold that was exceeded, for a verdict based on time.
    pub threshold: Option<Duration>,
    /// The evidence for the verdict, one sentence each.
    pub observations: Vec<String>,
}

impl Condemnation {
    /// Key of the work in flight, if the target published one.
    pub fn work_key(&self) -> Option<u64> {
        self.thread.as_ref()?.work_key.filter(|key| *key != 0)
    }
}

impl PartialEq for Condemnation {
    fn eq(&self, other: &Self) -> bool {
        (self.reason, self.target, self.at, &self.why) == (other.reason, other.target, other.at, &other.why)
    }
}

impl Eq for Condemnation {}
