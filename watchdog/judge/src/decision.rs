//! What the judge answers: the decision, what is worth telling, and why a process stands condemned.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::clock::Monotonic;
use crate::target::{FaultyThread, TargetIdentity};
use crate::verdict::{ExcuseKind, Reason, Verdict};

/// What one observation came to. Details are in [`crate::Judge::notes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict now.
    pub verdict: Verdict,
    /// Whether the target stands condemned and is alive, so that the ladder must act.
    pub condemned: bool,
    /// Whether the stalled thread that it is condemned for is excused at this look: a kill that was
    /// withheld until now must not go out while a person sits on it with a debugger, or while it
    /// could not run.
    pub held: bool,
    /// Whether it is condemned for work that is in a crash loop: no kill goes out for that.
    pub spared: bool,
    /// The next moment at which the verdict could change without an event.
    pub look_at: Monotonic,
    /// How late this look came.
    pub late_by: Duration,
}

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The verdict changed from this one.
    Verdict {
        /// The earlier verdict.
        from: Verdict,
    },
    /// The target was condemned, or ended by itself.
    Opened(Box<Condemnation>),
    /// A condemnation that nobody acted on was taken back: the thread makes progress again.
    Lifted {
        /// Why, as a sentence.
        why: String,
    },
    /// The process of an incident is dead.
    Exited,
    /// That was one death too many with this work in flight: nothing is killed for it any more.
    CrashLoop {
        /// Its key.
        work_key: u64,
    },
    /// No new incarnation in time.
    RestartOverdue,
    /// A new incarnation after an incident.
    Restarted {
        /// Which.
        target: TargetIdentity,
        /// Since the death of the old one.
        after: Duration,
    },
    /// It finished its first work.
    Recovered {
        /// What it finished, if it said so.
        work_key: Option<u64>,
    },
    /// A thread's excuse changed.
    Excuse {
        /// Which thread.
        thread: Arc<str>,
        /// The excuse now.
        kind: Option<ExcuseKind>,
    },
    /// An excuse has lasted as long as it may. Nobody is killed for it; a person should look.
    ExcuseOver {
        /// Which thread.
        thread: Arc<str>,
        /// The excuse.
        kind: ExcuseKind,
        /// How long it may excuse.
        cap: Duration,
    },
    /// A channel began to wait longer, or became deeper, than its rule allows.
    ChannelLate {
        /// Which channel.
        channel: Arc<str>,
        /// What it waits for, as a sentence.
        why: String,
    },
    /// It keeps within its rule again.
    ChannelInTime {
        /// Which channel.
        channel: Arc<str>,
        /// How long it did not.
        after: Duration,
        /// How deep it was at most.
        deepest: u64,
    },
    /// Progress after this much time at work without any.
    ProgressGap {
        /// Which thread.
        thread: Arc<str>,
        /// How long.
        gap: Duration,
    },
}

/// Why a process stands condemned: all that its incident must be able to say.
#[derive(Clone, Debug)]
pub struct Condemnation {
    /// The class.
    pub reason: Reason,
    /// The sentence.
    pub why: String,
    /// Which process.
    pub target: TargetIdentity,
    /// When the verdict fell.
    pub at: Monotonic,
    /// When the thread, or else the process, was last seen well.
    pub last_progress: Monotonic,
    /// The thread at fault.
    pub thread: Option<FaultyThread>,
    /// Slot and generation of that thread, to find its trace context.
    pub slot: Option<(u32, u64)>,
    /// Slot and generation of the channel that nobody receives from, if that is why.
    pub channel: Option<(u32, u64)>,
    /// The threshold that was passed, for a verdict that rests on time.
    pub threshold: Option<Duration>,
    /// What the verdict rests on, one sentence each.
    pub observations: Vec<String>,
}

impl Condemnation {
    /// The work that was in flight, if it was stated.
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
