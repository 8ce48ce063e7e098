//! One channel on trial: how long its oldest message has waited, and whether its consumers could
//! have received it.
//!
//! A rule that reports checks age and depth, whatever the reason. A rule that kills counts only
//! time in which messages waited, none was received, and every consumer was idle or stalled
//! although it could have run. A consumer that is at work is busy, not deaf: the clock pauses, and
//! that thread's own rule judges it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use alloc::sync::Arc;
use core::time::Duration;

use crate::clock::Monotonic;
use crate::observation::{ChannelObservation, Presence, TaskObservation};
use crate::verdict::Health;
use crate::words::Rounded;

use super::Look;
use super::channel_age::ChannelAge;
use super::policy::ChannelLimits;
use super::stall_clock::StallClock;
use super::thread::ThreadTrial;

/// At most this many consumers of one channel are judged. With more threads of that name there is
/// no kill, since it cannot be shown that all of them are deaf.
const MOST_CONSUMERS: usize = 64;

/// What the judge remembers of one channel.
#[derive(Clone, Debug)]
pub struct ChannelTrial {
    /// Slot and generation.
    pub key: (u32, u64),
    /// Index of its rule; `None` if no rule applies.
    pub rule: Option<usize>,
    /// Name published in the segment.
    pub name: Arc<str>,
    /// Messages ever sent, as of the last observation.
    pub sent: u64,
    /// Messages ever received, as of the last observation.
    pub received: u64,
    /// Messages sent between the last two observations.
    grown: u64,
    /// Since when it has exceeded its rule; `None` while it is within it.
    pub late_since: Option<Monotonic>,
    age: ChannelAge,
    /// Whether messages waited at the last observation; only then may the time since count.
    waited: bool,
    deepest: u64,
    /// Time counted against each consumer since the last message was received.
    consumers: Vec<Consumer>,
}

#[derive(Clone, Debug)]
struct Consumer {
    key: (u32, u64),
    clock: StallClock,
}

/// A thread that should receive, in its state after the last observation.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The trial of that thread.
    pub trial: &'a ThreadTrial,
    /// The kernel's view of it, if the probe read it.
    pub task: Option<TaskObservation>,
    /// Whether the thread exists.
    pub presence: Presence,
}

impl Candidate<'_> {
    fn is_gone(&self) -> bool {
        self.presence == Presence::Gone || self.trial.health == Health::Gone
    }
}

/// The result of one observation of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelLook {
    /// It exceeds its rule as of this observation; the reason.
    pub late: Option<String>,
    /// It is back within its rule: how long it exceeded it, and its greatest depth meanwhile.
    pub in_time: Option<(Duration, u64)>,
    /// No message was received for as long as its rule allows: the consumer that has been silent
    /// longest, and whether any consumer is gone.
    pub deaf: Option<((u32, u64), bool)>,
}

impl ChannelTrial {
    /// Opens the trial of a channel seen for the first time.
    pub fn new(seen: &ChannelObservation, rule: Option<usize>) -> Self {
        Self {
            key: (seen.slot, seen.generation),
            rule,
            name: Arc::clone(&seen.name),
            sent: seen.sent,
            received: seen.received,
            grown: 0,
            late_since: None,
            age: ChannelAge::default(),
            waited: false,
            deepest: 0,
            consumers: Vec::new(),
        }
    }

    /// Messages waiting. The difference is briefly negative if the receiver counts before the
    /// sender; that is reported as zero.
    pub fn depth(&self) -> u64 {
        self.sent.wrapping_sub(self.received).cast_signed().max(0).cast_unsigned()
    }

    /// Messages sent between the last two observations.
    pub const fn grown(&self) -> u64 {
        self.grown
    }

    /// Since when the oldest waiting message has waited, according to the sidecar's own samples.
    pub fn oldest_since(&self) -> Option<Monotonic> {
        self.age.oldest_since()
    }

    /// Time in which every consumer could have received a waiting message and none did.
    pub fn counted(&self) -> Duration {
        self.consumers.iter().map(|consumer| consumer.clock.counted()).min().unwrap_or_default()
    }

    /// Sets its rule after a policy change. Counted time is retained.
    pub const fn set_rule(&mut self, rule: Option<usize>) {
        self.rule = rule;
    }

    /// Processes one observation. `readable`: whether the segment could be read; if not, the
    /// numbers are stale and no time counts.
    pub fn look<'a>(
        &mut self,
        seen: &ChannelObservation,
        rule: Option<&ChannelLimits>,
        look: Look,
        readable: bool,
        candidates: impl Iterator<Item = Candidate<'a>>,
    ) -> ChannelLook {
        let received = seen.received != self.received;
        let grown = seen.sent.wrapping_sub(self.sent).cast_signed().max(0).cast_unsigned();
        self.grown = if readable { grown } else { 0 };
        (self.sent, self.received) = (seen.sent, seen.received);
        if readable {
            self.age.observe(look.at, seen.sent, seen.received);
        }
        let waits = self.depth() > 0;
        let mut brought = ChannelLook::default();
        self.keep_within(rule, look, &mut brought);
        if !waits || received {
            self.consumers.clear();
        } else if self.waited
            && readable
            && let Some((max_age, glob)) = rule.and_then(ChannelLimits::kills_after)
        {
            let consumers = candidates.filter(|c| !c.trial.left && glob.is_match(&*c.trial.name));
            self.count(consumers, look, max_age, &mut brought);
        } else {
            self.pause();
        }
        self.waited = waits;
        brought
    }

    /// Checks the limits on age and depth that are reported.
    fn keep_within(&mut self, rule: Option<&ChannelLimits>, look: Look, brought: &mut ChannelLook) {
        let depth = self.depth();
        let age = self.oldest_since().map(|since| look.at.since(since));
        let too_old = rule.and_then(|rule| rule.max_age).zip(age).filter(|(limit, age)| age >= limit);
        let too_deep = rule.and_then(|rule| rule.max_depth).filter(|limit| depth >= *limit);
        let why = match (too_old, too_deep) {
            (Some((limit, age)), _) => Some(format!(
                "the oldest of {depth} messages has waited {}, longer than {}",
                Rounded(age),
                Rounded(limit)
            )),
            (None, Some(limit)) => Some(format!("{depth} messages wait, {limit} are too many")),
            (None, None) => None,
        };
        match (why, self.late_since) {
            (Some(why), None) => {
                self.late_since = Some(look.at);
                self.deepest = depth;
                brought.late = Some(why);
            }
            (Some(_), Some(_)) => self.deepest = self.deepest.max(depth),
            (None, Some(since)) => {
                self.late_since = None;
                brought.in_time = Some((look.at.since(since), self.deepest));
            }
            (None, None) => {}
        }
    }

    /// Messages wait and none was received since the last observation: counts that time if every
    /// consumer stands still.
    fn count<'a>(
        &mut self,
        consumers: impl Iterator<Item = Candidate<'a>>,
        look: Look,
        max_age: Duration,
        brought: &mut ChannelLook,
    ) {
        let mut here = Vec::new();
        for consumer in consumers {
            let trial = consumer.trial;
            let still = trial.last_beat != look.at
                && matches!(trial.health, Health::Idle | Health::Stalled | Health::Gone);
            // A consumer that makes progress or is at work may still receive: no time counts now.
            if !consumer.is_gone() && !still || here.len() == MOST_CONSUMERS {
                self.pause();
                return;
            }
            here.push(consumer);
        }
        self.consumers.retain(|known| here.iter().any(|consumer| consumer.trial.key == known.key));
        let before = self.counted();
        for consumer in &here {
            let key = consumer.trial.key;
            let known = self.consumers.iter().position(|known| known.key == key);
            let place = known.unwrap_or(self.consumers.len());
            if known.is_none() {
                self.consumers.push(Consumer { key, clock: StallClock::default() });
            }
            let Some(known) = self.consumers.get_mut(place) else { continue };
            known.clock.with_steal(look.steal);
            if consumer.is_gone() {
                known.clock.advance_gone(look.elapsed, look.late);
            } else {
                known.clock.advance(look.elapsed, consumer.task, look.late);
            }
        }
        // The verdict is given only when this interval counted. Otherwise it could fall while a
        // consumer is stopped or after the watchdog was late. Nor is one given while the hypervisor
        // may have had some of that time.
        let counts = self.counted() > before || self.consumers.iter().any(|known| known.clock.confirms());
        if counts && self.is_settled() && self.counted() >= max_age {
            let silent = here.iter().min_by_key(|consumer| consumer.trial.last_beat);
            let any_gone = here.iter().any(Candidate::is_gone);
            brought.deaf = silent.map(|consumer| (consumer.trial.key, any_gone));
        }
    }

    /// No time since the last observation counts, for any consumer. CPU time used in it does not
    /// count later either: it was used at work, where no message could be received.
    fn pause(&mut self) {
        for consumer in &mut self.consumers {
            consumer.clock.pause();
        }
    }

    /// How much longer this may last before its rule condemns; `None` if no clock runs.
    pub fn runs_against(&self, rule: &ChannelLimits) -> Option<Duration> {
        let (max_age, _) = rule.kills_after().filter(|_| self.waited)?;
        Some(max_age.saturating_sub(self.counted()))
    }

    /// Whether what the hypervisor took of the counted time is known.
    fn is_settled(&self) -> bool {
        self.consumers.iter().all(|consumer| consumer.clock.is_settled())
    }

    /// Whether its limit may be reached within `soon`, or was, and the verdict depends on what the
    /// hypervisor took.
    pub fn wants_steal(&self, rule: &ChannelLimits, soon: Duration) -> bool {
        !self.is_settled() && self.runs_against(rule).is_some_and(|left| left <= soon)
    }

    /// When its oldest message will be too old if none is received; `None` if the rule sets no
    /// limit or the channel is already reported.
    pub fn late_at(&self, rule: &ChannelLimits) -> Option<Monotonic> {
        let limit = rule.max_age.filter(|_| self.late_since.is_none())?;
        Some(self.oldest_since()?.plus(limit))
    }
}
