//! What the watch loop knows at one moment, copied for those who display it. Plain data, bounded by
//! the segment's slot counts; names are already decoded, times still monotonic.

use std::sync::Arc;
use std::time::Duration;

pub use shard_judge::target::TargetIdentity;
pub use shard_judge::thread::Spent;

use crate::clock::Monotonic;
use crate::judge::section::Section;
use crate::pause::Pause;
use crate::verdict::{ExcuseKind, Health, Reason, StallKind, Unobserved, Verdict};

/// The state of the watch at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Monotonic,
    /// The verdict on the target.
    pub verdict: Verdict,
    /// Why, as a sentence for people.
    pub reason: String,
    /// Since when the verdict has applied.
    pub since: Monotonic,
    /// The watched target. `None` between incarnations.
    pub target: Option<TargetIdentity>,
    /// Key of the first piece of work that this sidecar saw the target finish: `None` if it has
    /// finished none, `Some(None)` if that had no key.
    pub first_finished: Option<Option<u64>>,
    /// Watched threads, in slot order, then rules whose thread was never seen.
    pub threads: Vec<ThreadStatus>,
    /// Channels that the target publishes.
    pub channels: Vec<ChannelStatus>,
    /// Kills that the budget still allows.
    pub kills_left: u32,
    /// Time until the budget allows one more; `None` if it is full.
    pub next_kill_in: Option<Duration>,
    /// Seconds excused so far in the life of this sidecar, by kind, in the order of
    /// [`ExcuseKind::ALL`].
    pub excused: [Duration; ExcuseKind::ALL.len()],
    /// Copies for the slow side that were dropped because its queue was full.
    pub dropped: u64,
    /// Whether thread ends arrive as events (`pidfd`) or are polled (`poll`).
    pub thread_events: &'static str,
    /// Whether the thread for which the target is condemned is excused now, so that a withheld kill
    /// waits.
    pub held: bool,
    /// Keys of work for which nothing is killed, oldest first.
    pub crash_loop_keys: Vec<u64>,
    /// Whether the target is condemned for such work, so that no kill is sent.
    pub spared: bool,
    /// How many kills in a row have brought no finished piece of work.
    pub kills_without_progress: u32,
    /// Whether those are so many that nothing more is killed.
    pub braked: bool,
    /// Whether the target was restored from a checkpoint.
    pub restored: bool,
    /// Clocks of the whole process that are running.
    pub deadlines: Vec<Deadline>,
    /// The verdict of the second policy, if there is one.
    pub shadow: Option<ShadowStatus>,
    /// The pause of killing, while there is one.
    pub paused: Option<Arc<Pause>>,
}

/// A clock of the whole process, and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// `startup_grace`, `stopped` or `exiting`.
    pub what: &'static str,
    /// Since when it has been running.
    pub since: Monotonic,
    /// Its limit.
    pub at_most: Duration,
    /// Whether the process is condemned at the limit.
    pub kills: bool,
}

/// The state of a policy that is judged but never acted upon.
#[derive(Clone, Debug)]
pub struct ShadowStatus {
    /// Its verdict.
    pub verdict: Verdict,
    /// Why, as a sentence.
    pub reason: String,
    /// Since when the verdict has applied.
    pub since: Monotonic,
    /// Kills that it would have carried out since the sidecar started.
    pub kills: u64,
    /// The last of them: when and why.
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
    /// Its health, as judged.
    pub health: Health,
    /// Why it cannot be observed, if so: its health is then the last known one.
    pub unobserved: Option<Unobserved>,
    /// The kind of stall, if it is stalled.
    pub kind: Option<StallKind>,
    /// Whether its excuse has reached its maximum duration.
    pub excuse_over_cap: bool,
    /// Why its time does not count, if it is excused.
    pub excuse: Option<ExcuseKind>,
    /// Every excuse that it has had since its last progress.
    pub excuses: Vec<ExcuseStatus>,
    /// When this sidecar last saw it make progress or change its activity.
    pub last_beat: Option<Monotonic>,
    /// Changes of progress or activity seen so far: the number of its beats.
    pub beats: u64,
    /// Key of its work.
    pub work_key: Option<u64>,
    /// Number of the attempt at that work.
    pub attempt: Option<u64>,
    /// The section of that work that it is in, if it names one.
    pub section: Option<Section>,
    /// The sections that its rule has a threshold for.
    pub sections: Vec<Section>,
    /// When this sidecar first saw it do that work.
    pub work_since: Option<Monotonic>,
    /// Time counted against it so far.
    pub counted: Duration,
    /// The threshold for `counted` that is in force: that of its section or rule, less if its work
    /// has a deadline of its own, more for a first piece of work. Zero if no rule applies to it.
    pub stall_after: Duration,
    /// The threshold of its rule.
    pub rule_stall_after: Duration,
    /// The threshold of its section, if its rule has one for it.
    pub section_stall_after: Option<Duration>,
    /// Its silence, if its rule has a horizon.
    pub silence: Option<SilenceStatus>,
    /// Where its time has gone since it came under watch.
    pub spent: Spent,
}

/// How long a thread has begun no work although there was some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceStatus {
    /// Such time so far.
    pub counted: Duration,
    /// Its limit.
    pub idle_at_most: Duration,
    /// Since when it has been beyond it.
    pub silent_since: Option<Monotonic>,
    /// Whether it condemns.
    pub kills: bool,
}

/// The duration of one excuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExcuseStatus {
    /// The kind of excuse.
    pub kind: ExcuseKind,
    /// Its total duration since the last progress.
    pub lasted: Duration,
    /// Its maximum duration, if it is limited.
    pub cap: Option<Duration>,
}

/// One published channel.
#[derive(Clone, Debug)]
pub struct ChannelStatus {
    /// Name of the channel.
    pub name: String,
    /// Messages sent but not received.
    pub depth: u64,
    /// Since when the oldest waiting message has waited, by this sidecar's own samples.
    pub oldest_since: Option<Monotonic>,
    /// Messages ever sent.
    pub sent: u64,
    /// Messages ever received.
    pub received: u64,
    /// The longest time that a message may wait, if a rule limits it.
    pub max_age: Option<Duration>,
    /// Time in which every consumer could have received and none did, where a rule may kill for it.
    pub counted: Option<Duration>,
    /// Whether it violates its rule.
    pub late: bool,
}
