//! The channels of one process: what their trials mean for the process as a whole.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use crate::clock::Monotonic;
use crate::observation::Observation;
use crate::policy::On;
use crate::verdict::{Reason, Verdict};
use crate::words::Rounded;

use super::super::channel::{Candidate, ChannelTrial};
use super::super::policy::Policy;
use super::super::thread::ThreadTrial;
use super::super::{Condemnation, Finding, Look, Note, Why};
use super::schedule::SOONEST;
use super::{Incarnation, read_ahead};

/// A channel from which no message is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deaf {
    /// Index of its trial.
    pub(super) channel: usize,
    /// The consumer that has been silent longest.
    pub(super) consumer: (u32, u64),
    /// Whether a consumer has ended. Then the process must be known to go on without it.
    pub(super) lost: bool,
}

impl Incarnation {
    /// Processes one observation of every channel; returns the first that would condemn the
    /// process.
    pub(super) fn look_at_channels(
        &mut self,
        policy: &Policy,
        seen: &Observation,
        look: Look,
        readable: bool,
        notes: &mut Vec<Note>,
    ) -> Option<Deaf> {
        let mut channels = core::mem::take(&mut self.channels);
        // A reused slot is another channel, and a channel that is no longer published keeps nobody
        // waiting.
        let same = channels.len() == seen.channels.len()
            && channels.iter().zip(&seen.channels).all(|(trial, c)| trial.key == (c.slot, c.generation));
        if !same {
            channels.retain(|trial| seen.channels.iter().any(|c| (c.slot, c.generation) == trial.key));
        }
        let mut deaf = None;
        for (guess, channel) in seen.channels.iter().enumerate() {
            let key = (channel.slot, channel.generation);
            let guessed = channels.get(guess).is_some_and(|trial| trial.key == key).then_some(guess);
            let place = guessed.or_else(|| channels.iter().position(|trial| trial.key == key));
            let place = place.unwrap_or_else(|| {
                channels.push(ChannelTrial::new(channel, policy.channel_for(&channel.name)));
                channels.len() - 1
            });
            let Some(trial) = channels.get_mut(place) else { continue };
            let rule = trial.rule.and_then(|rule| policy.channels.get(rule));
            let threads = self.threads.iter().filter_map(|thread| {
                let observed = seen.threads.iter().find(|t| (t.slot, t.generation) == thread.key)?;
                Some(Candidate { trial: thread, task: observed.task, presence: observed.presence })
            });
            let brought = trial.look(channel, rule, look, readable, threads);
            self.wants_steal |= rule.is_some_and(|rule| trial.wants_steal(rule, read_ahead(policy)));
            if let Some(why) = brought.late {
                notes.push(Note::ChannelLate { channel: trial.name.clone(), why });
            }
            if let Some((after, deepest)) = brought.in_time {
                notes.push(Note::ChannelInTime { channel: trial.name.clone(), after, deepest });
            }
            if let Some((consumer, lost)) = brought.deaf
                && deaf.is_none()
            {
                deaf = Some(Deaf { channel: place, consumer, lost });
            }
        }
        self.channels = channels;
        self.unpublished.clear();
        let published = |rule: usize| self.channels.iter().any(|trial| trial.rule == Some(rule));
        let rules = policy.channels.iter().enumerate();
        let missing = rules.filter(|(rule, limits)| limits.on != On::Ignore && !published(*rule));
        self.unpublished.extend(missing.map(|(rule, _)| rule));
        deaf
    }

    /// The condemnation for a channel from which no message is received.
    pub(super) fn deaf(&self, policy: &Policy, deaf: Deaf, at: Monotonic) -> Option<Condemnation> {
        let channel = self.channels.get(deaf.channel)?;
        let (max_age, glob) = policy.channels.get(channel.rule?)?.kills_after()?;
        let (name, depth, counted) = (&channel.name, channel.depth(), Rounded(channel.counted()));
        let consumer = self.threads.iter().find(|thread| thread.key == deaf.consumer)?;
        let since = channel.oldest_since().unwrap_or(at);
        let mut observations = vec![
            format!(
                "channel {name}: {} messages sent, {} received, {depth} wait; the oldest for {}",
                channel.sent,
                channel.received,
                Rounded(at.since(since))
            ),
            format!(
                "none was received in {counted} in which every consumer could have done so; the limit is {}",
                Rounded(max_age)
            ),
        ];
        let consumers = self.threads.iter().filter(|thread| !thread.left && glob.is_match(&*thread.name));
        observations.extend(consumers.map(|thread| {
            format!(
                "consumer {} (tid {}) is {} and has made no progress for {}",
                thread.name,
                thread.tid,
                thread.health,
                Rounded(at.since(thread.last_beat))
            )
        }));
        Some(Condemnation {
            reason: Reason::ChannelLag,
            why: format!(
                "{depth} messages wait in channel {name} and {} has received none for {counted} in which it could have",
                consumer.name
            ),
            target: self.identity,
            at,
            last_progress: since,
            thread: Some(ThreadTrial::faulty(consumer)),
            slot: Some(consumer.key),
            channel: Some(channel.key),
            threshold: Some(max_age),
            observations,
        })
    }

    /// Whether a condemnation for this channel no longer holds: a message was received, the channel
    /// drained, or the rule has gone.
    pub(super) fn hears_again(&self, policy: &Policy, channel: Option<(u32, u64)>) -> bool {
        let trial = self.channels.iter().find(|trial| Some(trial.key) == channel);
        !trial.is_some_and(|trial| {
            let rule = trial.rule.and_then(|rule| policy.channels.get(rule));
            // A received message, or a drained channel, resets the counted time.
            !trial.counted().is_zero() && rule.is_some_and(|rule| rule.kills_after().is_some())
        })
    }

    /// The finding for rules whose channel is not published.
    pub(super) fn unpublished_channels(&self, policy: &Policy, at: Monotonic) -> Option<Finding> {
        let names: Vec<&str> = self
            .unpublished
            .iter()
            .filter_map(|rule| Some(policy.channels.get(*rule)?.name.as_str()))
            .collect();
        if names.is_empty() {
            return None;
        }
        let grace_over = at.since(self.first_seen) >= policy.startup_grace;
        let verdict = if grace_over { Verdict::Degraded } else { Verdict::Starting };
        let why = format!("no channel is published under these names: {}", names.join(", "));
        Some(Finding { verdict, why: Why::Changed(why) })
    }

    /// The finding for a channel that exceeds its rule.
    pub(super) fn late_channels(&self, policy: &Policy, at: Monotonic) -> Option<Finding> {
        let trial = self.channels.iter().find(|trial| trial.late_since.is_some())?;
        let rule = policy.channels.get(trial.rule?)?;
        let (name, depth) = (&trial.name, trial.depth());
        let age = trial.oldest_since().map(|since| at.since(since)).unwrap_or_default();
        let limit = match (rule.max_age, rule.max_depth) {
            (Some(limit), _) if age >= limit => {
                format!("the oldest for {}, longer than {}", Rounded(age), Rounded(limit))
            }
            (_, Some(limit)) => format!("{limit} are too many"),
            (_, None) => return None,
        };
        let why = format!("{depth} messages wait in channel {name}, {limit}");
        Some(Finding { verdict: Verdict::Degraded, why: Why::Changed(why) })
    }

    /// The next moment at which a channel could change the verdict, if it is before `next`.
    pub(super) fn channels_look_at(&self, policy: &Policy, at: Monotonic, mut next: Monotonic) -> Monotonic {
        for trial in &self.channels {
            let Some(rule) = trial.rule.and_then(|rule| policy.channels.get(rule)) else { continue };
            if let Some(left) = trial.runs_against(rule).filter(|left| !left.is_zero()) {
                next = next.min(at.plus(left.max(SOONEST)));
            }
            if let Some(late_at) = trial.late_at(rule).filter(|late_at| *late_at > at) {
                next = next.min(late_at);
            }
        }
        next
    }
}
