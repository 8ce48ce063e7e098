//! What the watch loop knows at one moment, copied out for those who show it. Plain data, bounded
//! by the segment's slot counts; names are already decoded, times still monotonic.

use std::sync::Arc;
use std::time::Duration;

pub use shard_judge::target::TargetIdentity;

use crate::clock::Monotonic;
use crate::pause::Pause;
use crate::verdict::{ExcuseKind, Health, Reason, StallKind, Unobserved, Verdict};

/// The state of the watch at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Monotonic,
    /// The verdict on the target.
    pub verdict: Verdict,
    /// Why, as a sentence for a person.
    pub reason: String,
    /// Since when the verdict has stood.
    pub since: Monotonic,
    /// The target, if one is watched. `None` between incarnations.
    pub target: Option<TargetIdentity>,
    /// Watched threads, in slot order, then rules whose thread was never seen.
    pub threads: Vec<ThreadStatus>,
    /// Channels that the target publishes.
    pub channels: Vec<ChannelStatus>,
    /// Kills that the budget still allows.
    pub kills_left: u32,
    /// Seconds excused so far in the life of this sidecar, by kind, in the order of
    /// [`ExcuseKind::ALL`].
    pub excused: [Duration; ExcuseKind::ALL.len()],
    /// Copies for the slow side that were dropped because its queue was full.
    pub dropped: u64,
    /// Whether thread ends arrive as events (`pidfd`) or are polled (`poll`).
    pub thread_events: &'static str,
    /// Whether the thread that it is condemned for is excused now, so that a kill that was withheld
    /// waits.
    pub held: bool,
    /// Work that nothing is killed for, oldest first.
    pub crash_loop_keys: Vec<u64>,
    /// Whether it is condemned for such work, so that no kill goes out.
    pub spared: bool,
    /// Whether the target was restored from a checkpoint.
    pub restored: bool,
    /// Clocks of the whole process that run now.
    pub deadlines: Vec<Deadline>,
    /// What the second policy thinks, if there is one.
    pub shadow: Option<ShadowStatus>,
    /// The pause of killing, while there is one.
    pub paused: Option<Arc<Pause>>,
}

/// A clock of the whole process, and what it runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// `startup_grace`, `stopped` or `exiting`.
    pub what: &'static str,
    /// Since when it runs.
    pub since: Monotonic,
    /// How long it may.
    pub at_most: Duration,
    /// Whether the process is condemned then.
    pub kills: bool,
}

/// What a policy thinks that is judged and never acted upon.
#[derive(Clone, Debug)]
pub struct ShadowStatus {
    /// Its verdict.
    pub verdict: Verdict,
    /// Why, as a sentence.
    pub reason: String,
    /// Since when.
    pub since: Monotonic,
    /// Kills that it would have carried out since the sidecar began.
    pub kills: u64,
    /// The last of them: when, and why.
    pub last: Option<(Monotonic, Reason, String)>,
    /// Kills that its own budget still allows.
    pub kills_left: u32,
}

/// One watched thread.
#[derive(Clone, Debug)]
pub struct ThreadStatus {
    /// The registered name, or the glob of the rule if no thread ever matched it.
    pub name: String,
    /// Thread id as this sidecar sees it.
    pub tid: Option<i32>,
    /// What the judge thinks of it.
    pub health: Health,
    /// Why it is out of sight, if it is: its health is what it was last known to be.
    pub unobserved: Option<Unobserved>,
    /// How it stands still, if it is stalled.
    pub kind: Option<StallKind>,
    /// Whether its excuse has lasted as long as it may.
    pub excuse_over_cap: bool,
    /// Why its time does not count, if it is excused.
    pub excuse: Option<ExcuseKind>,
    /// Every excuse that it has had since its last progress.
    pub excuses: Vec<ExcuseStatus>,
    /// When this sidecar last saw it make progress or change its activity.
    pub last_beat: Option<Monotonic>,
    /// Changes of progress or activity seen so far: the sum of all its beats.
    pub beats: u64,
    /// What it works on.
    pub work_key: Option<u64>,
    /// Which attempt at it.
    pub attempt: Option<u64>,
    /// When this sidecar first saw it work on that.
    pub work_since: Option<Monotonic>,
    /// Time counted against it so far.
    pub counted: Duration,
    /// The threshold that `counted` runs against; `None` if the rule does not kill or report
    /// stalls.
    pub stall_after: Duration,
}

/// How long one excuse has held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExcuseStatus {
    /// Which.
    pub kind: ExcuseKind,
    /// For so long since the last progress, all of its times together.
    pub lasted: Duration,
    /// How long it may, if there is a limit.
    pub cap: Option<Duration>,
}

/// One published channel.
#[derive(Clone, Debug)]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// Messages sent and not received.
    pub depth: u64,
    /// Since when the oldest waiting message has waited, by this sidecar's own samples.
    pub oldest_since: Option<Monotonic>,
    /// Messages ever sent.
    pub sent: u64,
    /// Messages ever received.
    pub received: u64,
    /// The longest that a message may wait by its rule, if there is one.
    pub max_age: Option<Duration>,
    /// Time in which every consumer could have received and none did, where a rule may kill for it.
    pub counted: Option<Duration>,
    /// Whether it is beyond its rule.
    pub late: bool,
}
