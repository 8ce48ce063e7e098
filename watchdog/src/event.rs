//! What happened, told once, by the watch loop to the slow side. The queue is bounded: what does
//! not fit is dropped and counted, and the loop goes on.

use std::sync::Arc;
use std::time::Duration;

use shard_judge::crash_loop::CrashLoops;
pub use shard_judge::target::FaultyThread;

use crate::clock::Monotonic;
use crate::pause::Pause;
use crate::probe::tracer::Tracer;
use crate::recorder::Excerpt;
use crate::snapshot::{Snapshot, TargetIdentity};
use crate::verdict::{ExcuseKind, Reason, Verdict, Withheld};

/// One thing that the watch loop saw or did.
#[derive(Clone, Debug)]
pub enum Event {
    /// The state of the watch, about four times a second and at every change of verdict.
    Snapshot(Box<Snapshot>),
    /// The verdict changed.
    Verdict {
        /// When.
        at: Monotonic,
        /// From what.
        from: Verdict,
        /// To what.
        to: Verdict,
        /// Why, as a sentence.
        why: String,
    },
    /// A target was found, checked and is watched from now on.
    Adopted {
        /// When.
        at: Monotonic,
        /// Which.
        target: TargetIdentity,
        /// It was restored from a checkpoint: its pid and thread ids are those of before, and it
        /// began anew.
        restored: bool,
    },
    /// A segment was found whose process may not be watched, or cannot.
    Refused {
        /// When.
        at: Monotonic,
        /// Why, as a sentence.
        why: String,
    },
    /// An incident began: the target is condemned, or ended by itself.
    IncidentOpened(Box<Opening>),
    /// What was seen before an incident and up to its verdict.
    Recorded {
        /// The incident's number.
        incident: u64,
        /// The recording, by reference.
        excerpt: Box<Excerpt>,
    },
    /// A chunk of what is seen is whole, and there is a long-term recording that wants it.
    Chunk {
        /// The chunk, by reference.
        excerpt: Box<Excerpt>,
        /// Looks in it.
        looks: u32,
        /// Looks before it whose chunks found no room in this queue.
        lost: u64,
    },
    /// A step of the incident that is open.
    IncidentStep {
        /// The incident's number within the life of this sidecar.
        incident: u64,
        /// When.
        at: Monotonic,
        /// What happened.
        step: Step,
    },
    /// What is remembered of deaths and of work in a crash loop has changed.
    CrashLoops {
        /// When.
        at: Monotonic,
        /// All that is remembered now.
        known: Box<CrashLoops>,
        /// What it was before.
        before: Box<CrashLoops>,
    },
    /// The second policy came to something that the live one need not have come to.
    Shadow {
        /// When.
        at: Monotonic,
        /// What the live policy thought then.
        live: Verdict,
        /// What.
        step: ShadowStep,
    },
    /// A person paused killing, or a pause of an earlier life of this sidecar goes on.
    Paused {
        /// When.
        at: Monotonic,
        /// The pause.
        pause: Arc<Pause>,
    },
    /// Killing is no longer paused.
    PauseOver {
        /// When.
        at: Monotonic,
        /// The pause.
        pause: Arc<Pause>,
        /// Who ended it; `None` if its time was over.
        by: Option<String>,
    },
    /// A watched thread changed excuse: it is excused now, or no longer is.
    Excuse {
        /// When.
        at: Monotonic,
        /// Which thread.
        thread: String,
        /// Why its time does not count; `None` when it counts again.
        kind: Option<ExcuseKind>,
    },
    /// An excuse has lasted as long as it may.
    ExcuseOver {
        /// When.
        at: Monotonic,
        /// Which thread.
        thread: String,
        /// The excuse.
        kind: ExcuseKind,
        /// How long it may excuse.
        cap: Duration,
    },
    /// A channel waits longer, or is deeper, than its rule allows.
    ChannelLate {
        /// When.
        at: Monotonic,
        /// Which channel.
        channel: String,
        /// What waits, as a sentence.
        why: String,
    },
    /// It keeps within its rule again.
    ChannelInTime {
        /// When.
        at: Monotonic,
        /// Which channel.
        channel: String,
        /// How long it did not.
        after: Duration,
        /// How deep it was at most.
        deepest: u64,
    },
    /// How late the loop was and how long threads went without progress, since the last of these.
    /// Sent in batches, with the snapshot: one at a time they would cost more than the watch
    /// itself.
    Timings(Box<Timings>),
}

/// Measurements of the loop, for histograms. Bounded: what does not fit is dropped and counted in
/// the snapshot.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// How much later than it had asked to the loop woke, for each look.
    pub late: Vec<Duration>,
    /// Time between two signs of progress of a thread at work, with its name.
    pub gaps: Vec<(Arc<str>, Duration)>,
}

/// What a policy that nobody acts upon would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShadowStep {
    /// It would have killed.
    WouldKill {
        /// What for.
        reason: Reason,
        /// The sentence that a person reads.
        why: String,
        /// The thread at fault, if one is.
        thread: Option<String>,
    },
    /// The same, had its budget not been spent.
    Withheld {
        /// The sentence that a person reads.
        why: String,
    },
    /// What it would have killed for is over, and nobody was killed: the kill would have been
    /// wrong, or early.
    Lifted {
        /// Why, as a sentence.
        why: String,
    },
}

/// How an incident began.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The incident's number within the life of this sidecar.
    pub incident: u64,
    /// When the verdict fell.
    pub at: Monotonic,
    /// What for.
    pub reason: Reason,
    /// The sentence that a person reads.
    pub why: String,
    /// Which process.
    pub target: TargetIdentity,
    /// The thread at fault, if one is.
    pub thread: Option<FaultyThread>,
    /// The last moment at which the thread (or else the process) was seen well.
    pub last_progress: Monotonic,
    /// When the cause became visible to this sidecar: the wake-up that brought it.
    pub seen: Monotonic,
    /// For stalls: the threshold that was passed.
    pub threshold: Option<Duration>,
    /// Every observation that the verdict rests on, one sentence each.
    pub observations: Vec<String>,
    /// What the process said in its segment before, if anything: a panic's reason, place and work.
    pub last_words: Option<String>,
    /// Who traced the thread at fault when the verdict fell.
    pub tracer: Option<Tracer>,
}

/// What happened next in an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A kill was due and was not carried out.
    Withheld(Withheld),
    /// A kill was due and was not carried out, because the process failed the checks before the
    /// signal.
    Unproven {
        /// Whether it is certain that it is not the target any more.
        by: Withheld,
        /// Which check failed, as a sentence.
        why: String,
    },
    /// A person asked for the kill of a process that stood condemned already.
    Requested {
        /// Why, and who.
        why: String,
    },
    /// A signal was sent.
    Signal {
        /// Its name, `SIGKILL`.
        signal: &'static str,
        /// What the kernel said, if it refused.
        error: Option<String>,
    },
    /// The process is dead.
    Exited {
        /// How it ended, where the kernel tells one who is not its parent: `exit code 12`,
        /// `killed by SIGKILL`.
        how: Option<String>,
        /// From the first signal to the end, if one was sent.
        after_signal: Option<Duration>,
    },
    /// How the dead process ended, learnt after the fact.
    ExitStatus {
        /// `exit code 12`, `killed by signal 9`.
        how: String,
    },
    /// It is not dead although SIGKILL was sent long enough ago.
    NotDead,
    /// This death was one too many with that work in flight: nothing is killed for it any more.
    CrashLoop {
        /// Its key.
        work_key: u64,
    },
    /// No new incarnation within `restart.within`.
    RestartOverdue,
    /// A new incarnation was seen.
    Restarted {
        /// Which.
        target: TargetIdentity,
        /// Since the death of the old one.
        after: Duration,
    },
    /// The new incarnation finished its first piece of work: the incident is over.
    Recovered {
        /// What it finished.
        work_key: Option<u64>,
    },
    /// The incident ends without recovery seen: a new incident replaced it, or the watch ended.
    Abandoned {
        /// Why.
        why: String,
    },
}
