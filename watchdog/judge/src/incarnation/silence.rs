//! The silence horizon in one process: which evidence concerns which thread, and what silent
//! threads mean for the process as a whole.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::clock::Monotonic;
use crate::observation::{Declared, Observation, Presence, ProcessObservation, TaskState};
use crate::policy::{On, Policy, Rule};
use crate::silence::{Horizon, Silence, Source};
use crate::thread::ThreadTrial;
use crate::verdict::{Health, Reason, Verdict};
use crate::words::{self, Rounded};
use crate::{Condemnation, Finding, Look, Note, Why};

use super::Incarnation;
use super::choice::Key;
use super::schedule::SOONEST;

/// At most this many threads are listed in one sentence.
const MOST_NAMED: usize = 4;

/// What one observation shows of work that is there. The allocations are reused.
#[derive(Debug, Default)]
pub(super) struct Evident {
    /// Witnesses that advanced: index of the rule of threads, index of the channel.
    witnesses: Vec<(usize, usize)>,
    /// Channels with a rule of their own that advanced: index of that rule, index of the channel.
    fed: Vec<(usize, usize)>,
    /// How often threads of each rule began work, by index of the rule.
    begun: Vec<u64>,
    /// Rules of which no channel is published that could be a witness, by index.
    unwitnessed: Vec<usize>,
    /// Number of silent threads.
    silent: u32,
}

/// The horizon of a rule that watches.
fn horizon(rule: &Rule) -> Option<&Horizon> {
    rule.silence.as_ref().filter(|_| rule.on != On::Ignore)
}

fn horizon_of<'a>(policy: &'a Policy, trial: &ThreadTrial) -> Option<&'a Horizon> {
    horizon(policy.rules.get(trial.rule?)?)
}

impl Incarnation {
    /// Processes one observation of the silence of every thread that has a horizon, after the
    /// threads and channels themselves. Returns the first thread whose silence condemns.
    pub(super) fn look_at_silence(
        &mut self,
        policy: &Policy,
        seen: &Observation,
        process: &ProcessObservation,
        look: Look,
        notes: &mut Vec<Note>,
    ) -> Option<Key> {
        if policy.rules.iter().all(|rule| horizon(rule).is_none()) {
            self.evident = Evident::default();
            return None;
        }
        // A process that is not up yet, or is ending, gives its threads no work.
        let up = process.declared == Declared::Running && self.exiting_since.is_none();
        self.gather(policy);
        let Self { threads, channels, evident, .. } = self;
        let (mut became, mut first) = (Vec::new(), None);
        let mut ended: Vec<(Arc<str>, core::time::Duration)> = Vec::new();
        evident.silent = 0;
        for (guess, trial) in threads.iter_mut().enumerate() {
            let Some((index, horizon)) = trial.rule.zip(horizon_of(policy, trial)) else {
                trial.silence = None;
                continue;
            };
            let key = trial.key;
            let observed = seen.threads.get(guess).filter(|thread| (thread.slot, thread.generation) == key);
            let observed = observed.or_else(|| seen.threads.iter().find(|t| (t.slot, t.generation) == key));
            let gone = trial.health == Health::Gone
                || observed.is_none_or(|thread| thread.presence == Presence::Gone);
            let moved = trial.last_beat == look.at || trial.activity() & 1 == 1;
            let silence = trial.silence.get_or_insert_default();
            if !up || gone || trial.left || moved {
                let after = silence.end(look.at).filter(|_| up && moved);
                ended.extend(after.map(|after| (Arc::clone(&trial.name), after)));
                continue;
            }
            let task = observed.and_then(|thread| thread.task);
            let asleep = task.is_some_and(|task| task.state == TaskState::Sleeping);
            // Its work may have to come through a thread that gets no CPU or no memory.
            let waits = asleep && look.kept.others(None).is_some();
            let brought = if !process.segment_readable || look.core_dumping || waits {
                silence.pause();
                Default::default()
            } else {
                silence.look(horizon, look, task)
            };
            if process.segment_readable {
                evident.tell(silence, policy, (index, horizon), &trial.name, channels, look.at);
            }
            if silence.silent_since().is_some() {
                evident.silent += 1;
                if trial.health == Health::Idle {
                    trial.health = Health::Late;
                }
            }
            if brought.became {
                became.push(guess);
            }
            if brought.holds && horizon.condemns() && first.is_none() {
                first = Some(key);
            }
        }
        self.note_silence(&became, notes);
        if let Some((_, after)) = ended.first() {
            let threads: Vec<_> = ended.iter().map(|(name, _)| Arc::clone(name)).collect();
            notes.push(Note::WorksAgain { threads: listed(&threads), after: *after });
        }
        first
    }

    /// Collects what this observation shows.
    fn gather(&mut self, policy: &Policy) {
        let Self { threads, channels, evident, .. } = self;
        evident.witnesses.clear();
        evident.fed.clear();
        evident.begun.clear();
        evident.begun.resize(policy.rules.len(), 0);
        evident.unwitnessed.clear();
        for (index, rule) in policy.rules.iter().enumerate() {
            let none = horizon(rule).is_some_and(|horizon| {
                !horizon.witnesses.is_empty() && !channels.iter().any(|c| horizon.is_witness(&c.name))
            });
            evident.unwitnessed.extend(none.then_some(index));
        }
        for (place, channel) in channels.iter().enumerate().filter(|(_, channel)| channel.grown() > 0) {
            evident.fed.extend(channel.rule.map(|rule| (rule, place)));
            let rules = policy.rules.iter().enumerate();
            let witnessed = rules
                .filter(|(_, rule)| horizon(rule).is_some_and(|horizon| horizon.is_witness(&channel.name)));
            evident.witnesses.extend(witnessed.map(|(rule, _)| (rule, place)));
        }
        for trial in threads.iter() {
            if let Some(begun) = trial.rule.and_then(|rule| evident.begun.get_mut(rule)) {
                *begun = begun.saturating_add(trial.begun());
            }
        }
    }

    /// One note for all that became silent with the same evidence; none where a channel among it is
    /// reported as late already.
    fn note_silence(&mut self, became: &[usize], notes: &mut Vec<Note>) {
        let mut left: Vec<usize> = became.to_vec();
        while let Some(first) = left.first().copied() {
            let Some(mine) = self.threads.get(first).and_then(|trial| trial.silence.clone()) else { return };
            let same = |place: &usize| {
                let silence = self.threads.get(*place).and_then(|trial| trial.silence.as_deref());
                silence.is_some_and(|silence| silence.has_evidence_of(&mine))
            };
            let (group, others): (Vec<usize>, Vec<usize>) = left.iter().partition(|place| same(place));
            left = others;
            if self.is_told_by_a_channel(&mine) {
                continue;
            }
            let mut names = Vec::new();
            for place in group {
                let Some(trial) = self.threads.get_mut(place) else { continue };
                names.push(Arc::clone(&trial.name));
                if let Some(silence) = trial.silence.as_deref_mut() {
                    silence.tell();
                }
            }
            let (threads, evidence) = (listed(&names), mine.told_evidence());
            notes.push(Note::Silent { threads, evidence, after: mine.counted() });
        }
    }

    /// Whether a channel that the evidence names is reported as late.
    fn is_told_by_a_channel(&self, silence: &Silence) -> bool {
        let named = |name: &str| {
            let source = |source: &Source| matches!(source, Source::Channel(known) if **known == *name);
            silence.evidence().iter().any(|known| source(&known.source))
        };
        self.channels.iter().any(|channel| channel.late_since.is_some() && named(&channel.name))
    }

    /// Number of threads that are silent now.
    pub const fn silent(&self) -> u32 {
        self.evident.silent
    }

    /// The idle threads of which the kernel must be asked: their silence clocks run.
    pub fn asks_about(&self) -> impl Iterator<Item = (u32, u64)> {
        let open = |trial: &&ThreadTrial| trial.silence.as_ref().is_some_and(|silence| silence.asks());
        self.threads.iter().filter(open).map(|trial| trial.key)
    }

    /// The finding for silent threads: all those that share the evidence of the first.
    pub(super) fn silent_threads(&self, policy: &Policy) -> Option<Finding> {
        let silent = || {
            self.threads.iter().filter_map(|trial| {
                let silence = trial.silence.as_deref()?;
                silence.silent_since()?;
                Some((trial, silence))
            })
        };
        let (first, mine) = silent().next()?;
        let horizon = Rounded(horizon_of(policy, first)?.idle_at_most);
        let same = silent().filter(|(_, silence)| silence.has_evidence_of(mine));
        let names: Vec<_> = same.map(|(trial, _)| Arc::clone(&trial.name)).collect();
        let (who, evidence) = (listed(&names), mine.told_evidence());
        let has = if names.len() == 1 { "has" } else { "have" };
        let why =
            format!("{who} {has} begun no work for {horizon} in which there was some, while {evidence}");
        Some(Finding { verdict: Verdict::Degraded, why: Why::Changed(why) })
    }

    /// The finding for rules of which no witness is published: their horizon is never reached.
    pub(super) fn no_witness(&self, policy: &Policy, at: Monotonic) -> Option<Finding> {
        let rule = policy.rules.get(*self.evident.unwitnessed.first()?)?;
        let globs = rule.silence.iter().flat_map(|horizon| &horizon.witnesses);
        let names: Vec<&str> = globs.map(|glob| glob.glob().glob()).collect();
        let grace_over = at.since(self.first_seen) >= policy.startup_grace;
        let verdict = if grace_over { Verdict::Degraded } else { Verdict::Starting };
        let why = format!(
            "no channel is published that could be a witness for {} (idle_witness): {}",
            rule.name,
            names.join(", ")
        );
        Some(Finding { verdict, why: Why::Changed(why) })
    }

    /// The condemnation for a thread that begins no work.
    pub(super) fn silence(&self, policy: &Policy, key: Key, at: Monotonic) -> Option<Condemnation> {
        let trial = self.trial(key)?;
        let (horizon, silence) = (horizon_of(policy, trial)?, trial.silence.as_deref()?);
        let (name, tid, limit) = (&trial.name, trial.tid, Rounded(horizon.idle_at_most));
        let (counted, idle) = (Rounded(silence.counted()), Rounded(at.since(trial.last_beat)));
        let evidence = silence.told_evidence();
        let began = if trial.activity() == 0 { "it has never begun any work" } else { "it worked before" };
        let mut observations = vec![
            format!("thread {name} (tid {tid}) is idle and has begun no work for {idle}; {began}"),
            format!("for {counted} of that time there was work and it could have run; the limit is {limit}"),
            format!("meanwhile {evidence}"),
        ];
        if let Some((earlier, last)) = silence.samples() {
            observations.push(words::between(earlier, last));
        }
        Some(Condemnation {
            reason: Reason::Silent,
            why: format!(
                "thread {name} has begun no work for {counted} in which it could have, while {evidence}"
            ),
            target: self.identity,
            at,
            // Until then it had nothing to begin.
            last_progress: silence.since().unwrap_or(trial.last_beat),
            thread: Some(trial.faulty()),
            slot: Some(trial.key),
            channel: None,
            threshold: Some(horizon.idle_at_most),
            observations,
        })
    }

    /// Whether a condemnation for the silence of this thread no longer holds: it began work, or its
    /// rule no longer condemns for it.
    pub(super) fn is_no_longer_silent(&self, policy: &Policy, trial: Option<&ThreadTrial>) -> bool {
        !trial.is_some_and(|trial| {
            horizon_of(policy, trial).is_some_and(Horizon::condemns)
                && trial.silence.as_ref().is_some_and(|silence| silence.silent_since().is_some())
        })
    }

    /// The next moment at which silence could change the verdict, if it is before `next`.
    pub(super) fn silence_look_at(&self, policy: &Policy, at: Monotonic, mut next: Monotonic) -> Monotonic {
        for trial in &self.threads {
            let Some(silence) = trial.silence.as_deref().filter(|silence| silence.asks()) else {
                continue;
            };
            if let Some(left) = horizon_of(policy, trial).and_then(|horizon| silence.runs_against(horizon)) {
                next = next.min(at.plus(left.max(SOONEST)));
            }
        }
        next
    }
}

impl Evident {
    /// Adds to one thread's silence what concerns it.
    fn tell(
        &self,
        silence: &mut Silence,
        policy: &Policy,
        (index, horizon): (usize, &Horizon),
        name: &str,
        channels: &[crate::channel::ChannelTrial],
        at: Monotonic,
    ) {
        let mut add = |place: usize| {
            if let Some(channel) = channels.get(place) {
                let source = Source::Channel(Arc::clone(&channel.name));
                silence.there_was_work(horizon, source, channel.grown(), at);
            }
        };
        if !horizon.witnesses.is_empty() {
            self.witnesses.iter().filter(|(rule, _)| *rule == index).for_each(|(_, place)| add(*place));
            return;
        }
        let feeds = |rule: usize| {
            let consumer = policy.channels.get(rule).and_then(|rule| rule.consumer.as_ref());
            consumer.is_some_and(|glob| glob.is_match(name))
        };
        self.fed.iter().filter(|(rule, _)| feeds(*rule)).for_each(|(_, place)| add(*place));
        // It began none itself, or its silence would be over.
        if let Some(begun) = self.begun.get(index).copied().filter(|begun| *begun > 0) {
            silence.there_was_work(horizon, Source::Peers, begun, at);
        }
    }
}

/// Names as part of a sentence, the first few of them.
fn listed(names: &[Arc<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(MOST_NAMED).map(|name| &**name).collect();
    let more = names.len().saturating_sub(MOST_NAMED);
    let list = shown.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}
