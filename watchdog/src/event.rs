//! What happened, sent once by the watch loop to the slow side. The queue is bounded: what does not
//! fit is dropped and counted, and the loop continues.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use shard_judge::crash_loop::CrashLoops;
pub use shard_judge::target::FaultyThread;

use crate::clock::Monotonic;
use crate::evidence::gatherer::{Dump, Gathered};
use crate::pause::Pause;
use crate::probe::tracer::Tracer;
use crate::recorder::Excerpt;
use crate::snapshot::{Snapshot, TargetIdentity};
use crate::verdict::{ExcuseKind, NearMissOutcome, Reason, Verdict, Withheld};

/// One thing that the watch loop observed or did.
#[derive(Clone, Debug)]
pub enum Event {
    /// The state of the watch, about four times a second and at every change of verdict.
    Snapshot(Box<Snapshot>),
    /// The verdict changed.
    Verdict {
        /// When it changed.
        at: Monotonic,
        /// The verdict before.
        from: Verdict,
        /// The verdict from now on.
        to: Verdict,
        /// Why, as a sentence.
        why: String,
        /// Whether a rule watches less than it should, with a verdict that says so.
        unmatched: bool,
    },
    /// A target was found and checked, and is watched from now on.
    Adopted {
        /// When it was adopted.
        at: Monotonic,
        /// The process that was adopted.
        target: TargetIdentity,
        /// Whether it was restored from a checkpoint: its pid and thread ids are the former ones,
        /// but its start time is new.
        restored: bool,
    },
    /// A segment was found whose process may not or cannot be watched.
    Refused {
        /// When it was refused.
        at: Monotonic,
        /// Why, as a sentence.
        why: String,
    },
    /// An incident began: the target is condemned, or ended by itself.
    IncidentOpened(Box<Opening>),
    /// What was recorded before an incident, up to its verdict.
    Recorded {
        /// Number of the incident.
        incident: u64,
        /// The recording, by reference.
        excerpt: Box<Excerpt>,
    },
    /// Evidence was gathered from the process of an incident.
    Gathered(Gathered),
    /// A minidump of the process of an incident was taken, or not.
    Dumped {
        /// Number of the incident.
        incident: u64,
        /// When that was known.
        at: Monotonic,
        /// The dump, or why there is none.
        dump: Result<Dump, String>,
    },
    /// The stacks of a dump were looked up, or not.
    Symbolized(Box<Symbolized>),
    /// A thread at work has made no progress for `warn_after`.
    Late(Box<LateThread>),
    /// That is over.
    LateOver {
        /// Number of the near miss within the life of this sidecar.
        number: u64,
        /// How it ended.
        outcome: NearMissOutcome,
        /// Time from its last sign of progress to the next one, or to the end.
        lasted: Duration,
        /// Number of the incident that it became.
        incident: Option<u64>,
        /// Whether the evidence was complete before the thread went on.
        evidence_holds: bool,
    },
    /// A chunk of observations is complete, for the long-term recording.
    Chunk {
        /// The chunk, by reference.
        excerpt: Box<Excerpt>,
        /// Observations in it.
        looks: u32,
        /// Observations just before it whose chunks did not fit in this queue.
        lost: u64,
    },
    /// A step of the incident that is open.
    IncidentStep {
        /// Number of the incident within the life of this sidecar.
        incident: u64,
        /// When it happened.
        at: Monotonic,
        /// What happened.
        step: Step,
    },
    /// The remembered deaths, or the work in a crash loop, changed.
    CrashLoops {
        /// When they changed.
        at: Monotonic,
        /// All that is remembered now.
        known: Box<CrashLoops>,
        /// What was remembered before.
        before: Box<CrashLoops>,
    },
    /// The second policy reached a conclusion that the live one need not share.
    Shadow {
        /// When it did.
        at: Monotonic,
        /// The live policy's verdict at that time.
        live: Verdict,
        /// What it concluded.
        step: ShadowStep,
    },
    /// A person paused killing, or a pause from an earlier life of this sidecar continues.
    Paused {
        /// When the pause began.
        at: Monotonic,
        /// The pause.
        pause: Arc<Pause>,
    },
    /// Killing is no longer paused.
    PauseOver {
        /// When killing was resumed.
        at: Monotonic,
        /// The pause.
        pause: Arc<Pause>,
        /// Who ended it; `None` if it expired.
        by: Option<String>,
    },
    /// A watched thread became excused, changed its excuse, or is no longer excused.
    Excuse {
        /// When that changed.
        at: Monotonic,
        /// Name of the thread.
        thread: String,
        /// Why its time does not count; `None` when it counts again.
        kind: Option<ExcuseKind>,
    },
    /// An excuse has reached its maximum duration.
    ExcuseOver {
        /// When it did.
        at: Monotonic,
        /// Name of the thread.
        thread: String,
        /// The excuse.
        kind: ExcuseKind,
        /// The maximum duration of the excuse.
        cap: Duration,
    },
    /// Messages in a channel wait longer, or there are more of them, than its rule allows.
    ChannelLate {
        /// When that was observed.
        at: Monotonic,
        /// Name of the channel.
        channel: String,
        /// What waits, as a sentence.
        why: String,
    },
    /// A channel is within its rule again.
    ChannelInTime {
        /// When that was observed.
        at: Monotonic,
        /// Name of the channel.
        channel: String,
        /// How long it violated the rule.
        after: Duration,
        /// Its greatest depth in that time.
        deepest: u64,
    },
    /// Threads have begun no work for as long as their rule allows, although there was some.
    Silent {
        /// When that was observed.
        at: Monotonic,
        /// Which threads: the names of the first few.
        threads: String,
        /// What showed that there was work, as part of a sentence.
        evidence: String,
        /// Countable time in which there was work.
        after: Duration,
    },
    /// Silent threads began work.
    WorksAgain {
        /// When that was observed.
        at: Monotonic,
        /// Which threads: the names of the first few.
        threads: String,
        /// How long the first of them was silent beyond its horizon.
        after: Duration,
    },
    /// How late the loop was, and how long threads went without progress, since the last event of
    /// this kind. Sent in batches with the snapshot: one at a time they would cost more than the
    /// watch itself.
    Timings(Box<Timings>),
}

/// What became of the stacks of a dump.
#[derive(Clone, Debug)]
pub struct Symbolized {
    /// The number under which they were asked for.
    pub ticket: u64,
    /// When that was known.
    pub at: Monotonic,
    /// The stacks.
    pub stacks: Result<FoundStacks, NoStacks>,
}

/// The stacks of a dump. All of it is untrusted: it comes from the target.
#[derive(Clone, Debug)]
pub struct FoundStacks {
    /// The text for a person, from its beginning.
    pub text: Arc<File>,
    /// Where the thread stood that the dump is about, in one line.
    pub headline: String,
    /// Its thread id.
    pub tid: i32,
    /// The functions of the program's own code in which it stood, the innermost first, as they are
    /// called whenever the program is built.
    pub own_frames: Vec<String>,
}

/// Why a dump has no stacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoStacks {
    /// What to count.
    pub outcome: StacksOutcome,
    /// The reason as a clause.
    pub why: String,
}

/// What became of the stacks of a dump, in a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StacksOutcome {
    /// They were found.
    Written,
    /// It took too long, and was ended.
    Late,
    /// It failed.
    Failed,
    /// Too many others waited.
    Dropped,
}

impl StacksOutcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Written, Self::Late, Self::Failed, Self::Dropped];

    /// The word in the metric.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// A thread that is late.
#[derive(Clone, Debug)]
pub struct LateThread {
    /// Number of the near miss within the life of this sidecar.
    pub number: u64,
    /// When it was found late.
    pub at: Monotonic,
    /// The thread and its work.
    pub thread: FaultyThread,
    /// Countable time without progress so far.
    pub counted: Duration,
    /// The threshold at which it is stalled.
    pub stall_after: Duration,
}

/// Measurements of the loop, for histograms. Bounded: what does not fit is dropped and counted in
/// the snapshot.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// For each observation, how late the loop woke.
    pub late: Vec<Duration>,
    /// Name of a busy thread, and the time between two signs of its progress.
    pub gaps: Vec<(Arc<str>, Duration)>,
}

/// What a policy that is not acted upon would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShadowStep {
    /// It would have killed.
    WouldKill {
        /// The reason for the kill.
        reason: Reason,
        /// An explanation for people, as a sentence.
        why: String,
        /// Name of the thread at fault, if any.
        thread: Option<String>,
    },
    /// It would have killed, had its budget not been spent.
    Withheld {
        /// An explanation for people, as a sentence.
        why: String,
    },
    /// The cause for which it would have killed is over, and nothing was killed: the kill would
    /// have been wrong, or early.
    Lifted {
        /// Why, as a sentence.
        why: String,
    },
}

/// How an incident began.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Number of the incident within the life of this sidecar.
    pub incident: u64,
    /// When the verdict was reached.
    pub at: Monotonic,
    /// The reason of the verdict.
    pub reason: Reason,
    /// An explanation for people, as a sentence.
    pub why: String,
    /// The process concerned.
    pub target: TargetIdentity,
    /// The thread at fault, if any.
    pub thread: Option<FaultyThread>,
    /// When the thread (or else the process) was last observed to be healthy.
    pub last_progress: Monotonic,
    /// When this sidecar could first see the cause: the wake-up that revealed it.
    pub seen: Monotonic,
    /// For stalls: the threshold that was exceeded.
    pub threshold: Option<Duration>,
    /// Every observation that the verdict rests on, one sentence each.
    pub observations: Vec<String>,
    /// What the process last reported in its segment, if anything: a panic's reason, place, work.
    pub last_words: Option<String>,
    /// Who traced the thread at fault at the time of the verdict.
    pub tracer: Option<Tracer>,
}

/// What happened next in an incident.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A kill was due and was not carried out.
    Withheld(Withheld),
    /// A kill was due and was not carried out, because the process failed the checks before the
    /// signal.
    Unproven {
        /// Whether it is certain that this is no longer the target.
        by: Withheld,
        /// Which check failed, as a sentence.
        why: String,
    },
    /// A person requested the kill of a process that was already condemned.
    Requested {
        /// Why it was requested, and by whom.
        why: String,
    },
    /// Evidence was gathered.
    Evidence {
        /// How long that took, milliseconds.
        took_ms: f64,
        /// Threads among it.
        threads: usize,
        /// What the thread at fault was doing, as a clause, if the kernel told.
        guess: Option<String>,
    },
    /// The time limit for evidence was reached, or none could be gathered, and the kill goes ahead.
    NoEvidence {
        /// Why, as a clause.
        why: String,
    },
    /// A minidump was taken.
    Dump {
        /// Threads in it.
        threads: u32,
        /// Its size.
        bytes: u64,
        /// How long the process stood still for it, at most.
        stood_still: Duration,
    },
    /// No minidump was taken, although one was wanted.
    NoDump {
        /// Why, as a sentence.
        why: String,
    },
    /// The stacks of the minidump were looked up.
    Stacks {
        /// Where the thread at fault stood, in one line.
        headline: String,
    },
    /// They were not, although there is a minidump.
    NoStacks {
        /// Why, as a clause.
        why: String,
    },
    /// A signal was sent.
    Signal {
        /// Name of the signal, such as `SIGKILL`.
        signal: &'static str,
        /// The kernel's error, if it refused.
        error: Option<String>,
    },
    /// The process is dead.
    Exited {
        /// How it ended, if the kernel tells this to a process that is not its parent:
        /// `exit code 12`, `killed by SIGKILL`.
        how: Option<String>,
        /// Time from the first signal to the end, if one was sent.
        after_signal: Option<Duration>,
    },
    /// How the dead process ended, learnt later.
    ExitStatus {
        /// `exit code 12`, `killed by SIGKILL`.
        how: String,
    },
    /// The process is not dead, although SIGKILL was sent long enough ago.
    NotDead,
    /// This death was one too many with that work in flight: no more kills for it.
    CrashLoop {
        /// Key of the work.
        work_key: u64,
    },
    /// No new incarnation appeared within `restart.within`.
    RestartOverdue,
    /// A new incarnation appeared.
    Restarted {
        /// The new process.
        target: TargetIdentity,
        /// Time since the death of the old one.
        after: Duration,
    },
    /// The new incarnation finished its first piece of work: the incident is over.
    Recovered {
        /// Key of the finished work.
        work_key: Option<u64>,
    },
    /// The incident ends without observed recovery: a new one replaced it, or the watch ended.
    Abandoned {
        /// Why.
        why: String,
    },
}
