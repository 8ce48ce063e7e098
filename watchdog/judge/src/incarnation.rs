//! One process on trial, from its first observation to its end.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

mod cause;
mod channels;
mod choice;
mod schedule;
mod silence;
mod standing;
mod tally;

use core::time::Duration;

use crate::clock::Monotonic;
use crate::crash_loop::CrashLoops;
use crate::observation::{
    Observation, ProcessObservation, Survivors, TaskState, ThreadObservation, ThrottleObservation,
};
use crate::policy::On;
use crate::target::TargetIdentity;
use crate::verdict::{ExcuseKind, Reason, Verdict};

use super::channel::ChannelTrial;
use super::decision::{Condemnation, Note};
use super::excuse::{Caps, Kept};
use super::finding::{Finding, Why};
use super::look::Look;
use super::policy::Policy;
use super::steal::Thief;
use super::thread::{ThreadLook, ThreadTrial};
use crate::observation::Declared;
use channels::Deaf;
use choice::{Found, Key, Suspect};
use schedule::LOOK_ENDING;
use silence::Evident;
use tally::Tally;

/// A process that is runnable but given no CPU counts as throttled, not merely as starved by busy
/// neighbours, for this long after its cgroups were last seen to throttle it. The longest period
/// that the kernel allows is 1 s, and the counters change once in each.
const THROTTLED_FOR: Duration = Duration::from_secs(2);

/// From so much counted time before a threshold on, what the hypervisor took is read at each
/// observation, so that the verdict need not wait for it: two observations, and the two longest
/// ticks by which CPU time may grow at once.
fn read_ahead(policy: &Policy) -> Duration {
    policy.look_every() * 2 + Duration::from_millis(20)
}

/// What the judge remembers of one process.
#[derive(Debug)]
pub struct Incarnation {
    identity: TargetIdentity,
    first_seen: Monotonic,
    last_seen: Monotonic,
    threads: Vec<ThreadTrial>,
    /// Sums of the last observation.
    tally: Tally,
    /// Number of observations so far.
    looks: u64,
    missing: Vec<usize>,
    channels: Vec<ChannelTrial>,
    unpublished: Vec<usize>,
    /// What the last observation showed of work that is there.
    evident: Evident,
    exiting_since: Option<Monotonic>,
    ends_on_purpose: bool,
    /// Whether the kernel is writing its core.
    core_dumping: bool,
    stopped_since: Option<Monotonic>,
    unsettled: bool,
    alone_since: Option<Monotonic>,
    /// The throttling counters of its cgroups when last read; `throttled_at` is when they last
    /// grew.
    throttle: Option<ThrottleObservation>,
    throttled_at: Option<Monotonic>,
    /// What the hypervisor has taken of the CPUs.
    thief: Thief,
    /// Whether the next observation should read what the hypervisor took.
    wants_steal: bool,
    condemned: Option<Condemnation>,
    /// Why a person asked for its kill.
    requested: Option<String>,
}

/// What a process is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    /// The rules.
    pub policy: &'a Policy,
    /// Work for which nothing is killed.
    pub crash_loops: &'a CrashLoops,
}

/// What observations have brought, besides the verdict.
#[derive(Debug)]
pub struct Report {
    /// Time excused so far, in the order of [`ExcuseKind::ALL`], summed over threads.
    pub excused: [Duration; ExcuseKind::ALL.len()],
    /// Events of the last observation.
    pub notes: Vec<Note>,
}

impl Incarnation {
    /// Opens the trial.
    pub fn new(policy: &Policy, identity: TargetIdentity, at: Monotonic) -> Self {
        Self {
            identity,
            first_seen: at,
            last_seen: at,
            threads: Vec::new(),
            tally: Tally::new(),
            looks: 0,
            missing: (0..policy.rules.len()).collect(),
            channels: Vec::new(),
            unpublished: Vec::new(),
            evident: Evident::default(),
            exiting_since: None,
            ends_on_purpose: false,
            core_dumping: false,
            stopped_since: None,
            unsettled: false,
            alone_since: None,
            throttle: None,
            throttled_at: None,
            thief: Thief::default(),
            wants_steal: false,
            condemned: None,
            requested: None,
        }
    }

    /// Which process.
    pub const fn identity(&self) -> TargetIdentity {
        self.identity
    }

    /// A person asks for its kill. Only the first request counts; true if this is it.
    pub fn request(&mut self, why: &str) -> bool {
        let first = self.requested.is_none();
        if first {
            self.requested = Some(why.to_owned());
        }
        first
    }

    /// Whether a person has asked for its kill.
    pub const fn is_requested(&self) -> bool {
        self.requested.is_some()
    }

    /// Whether it is condemned for a stalled or silent thread that is excused now, or whose stall
    /// is of a kind now that its rule only reports; or for anything while its core is being
    /// written. A kill that a person asked for is never held.
    pub fn is_held(&self) -> bool {
        if self.is_requested() {
            return false;
        }
        if self.core_dumping && self.condemned.is_some() {
            return true;
        }
        let Some(condemned) = &self.condemned else { return false };
        let Some(trial) = condemned.slot.and_then(|slot| self.trial(slot)) else { return false };
        match condemned.reason {
            Reason::Stalled => trial.excuse.is_some() || trial.is_only_reported(),
            Reason::Silent => trial.silence.as_ref().is_none_or(|silence| silence.is_excused()),
            _ => false,
        }
    }

    /// The work in a crash loop for which it is condemned, if it is: nothing is killed for that
    /// work, and everything else about the process is judged as usual.
    pub fn spared_for(&self, crash_loops: &CrashLoops) -> Option<u64> {
        self.condemned.as_ref()?.work_key().filter(|key| crash_loops.contains(*key))
    }

    /// Why it is condemned, if it is.
    pub const fn condemned(&self) -> Option<&Condemnation> {
        self.condemned.as_ref()
    }

    /// When it was first observed; `startup_grace` counts from then.
    pub const fn first_seen(&self) -> Monotonic {
        self.first_seen
    }

    /// Since when it has been stopped by a signal; `None` if it is not.
    pub const fn stopped_since(&self) -> Option<Monotonic> {
        self.stopped_since
    }

    /// Since when it has been ending; `None` if it is not.
    pub const fn exiting_since(&self) -> Option<Monotonic> {
        self.exiting_since
    }

    /// Its threads, in slot order.
    pub fn threads(&self) -> &[ThreadTrial] {
        &self.threads
    }

    /// Its channels, in slot order.
    pub fn channels(&self) -> &[ChannelTrial] {
        &self.channels
    }

    /// Whether the next observation should read what the hypervisor took: a verdict may depend on
    /// it.
    pub const fn wants_steal(&self) -> bool {
        self.wants_steal
    }

    /// Indices of the rules matched by too few threads.
    pub fn missing(&self) -> &[usize] {
        &self.missing
    }

    /// Whether any rule watches less than it should: too few threads match it, or no channel is
    /// published under its name.
    pub fn has_unmatched_rules(&self) -> bool {
        !self.missing.is_empty() || !self.unpublished.is_empty()
    }

    /// Applies another policy.
    pub fn rules_changed(&mut self, policy: &Policy) {
        for trial in &mut self.threads {
            trial.rule = policy.rule_for(&trial.name);
        }
        for trial in &mut self.channels {
            trial.set_rule(policy.channel_for(&trial.name));
        }
    }

    /// Whether it announced its end beforehand, and was not condemned.
    pub fn exit_was_orderly(&self, declared: Declared) -> bool {
        self.condemned.is_none() && (self.ends_on_purpose || declared.says_it_ends())
    }

    /// The first work finished by any watched thread; the inner value is its key, where known.
    pub fn first_finished(&self) -> Option<Option<u64>> {
        self.threads.iter().filter(|t| t.rule.is_some()).find_map(|t| t.finished)
    }

    /// Records what its threads were working on when it ended.
    pub fn last_words(&mut self, seen: &[ThreadObservation]) {
        for trial in &mut self.threads {
            if let Some(thread) = seen.iter().find(|thread| (thread.slot, thread.generation) == trial.key) {
                trial.last_words(thread);
            }
        }
    }

    /// Processes one observation of the process and all its threads.
    pub fn observe(
        &mut self,
        basis: Basis<'_>,
        seen: &Observation,
        process: &ProcessObservation,
        look: Look,
        report: &mut Report,
    ) -> Finding {
        let policy = basis.policy;
        let throttled = self.is_throttled(process.throttle, look.at);
        let kept = Kept::of(self.tally.remarkable(&self.threads).iter().filter_map(|trial| trial.kept));
        let untold = !process.segment_readable || process.core_dumping || self.exiting_since.is_some();
        let steal = self.thief.look(seen.stolen_ns, look.at);
        let look = Look { throttled, kept, steal, core_dumping: process.core_dumping, untold, ..look };
        let suspects = self.look_at_threads(basis, seen, look, report);
        self.count_missing(policy);
        let deaf = self.look_at_channels(policy, seen, look, process.segment_readable, &mut report.notes);
        self.look_at_process(process, look);
        let silent = self.look_at_silence(policy, seen, process, look, &mut report.notes);
        let standing = self.already_condemned(policy, process, &mut report.notes);
        let spared = process.signalled.is_none() && self.spared_for(basis.crash_loops).is_some();
        if let Some(finding) = standing
            && !spared
        {
            return finding;
        }
        let found = self.found(basis, process, look.at, spared, (suspects, deaf, silent));
        self.unsettled = found.is_unsettled();
        let condemnation = found.choose().and_then(|ground| self.condemnation(policy, ground, look.at));
        if let Some(condemnation) = condemnation {
            report.notes.push(Note::Opened(Box::new(condemnation.clone())));
            self.condemned = Some(condemnation);
        }
        if let Some(condemned) = &self.condemned {
            return Finding { verdict: Verdict::Condemned, why: Why::Changed(condemned.why.clone()) };
        }
        if !look.late {
            self.last_seen = look.at;
        }
        self.standing(policy, process, look.at)
    }

    /// What this observation has found against the process.
    fn found(
        &self,
        basis: Basis<'_>,
        process: &ProcessObservation,
        at: Monotonic,
        spared: bool,
        (suspects, deaf, silent): (Suspects, Option<Deaf>, Option<Key>),
    ) -> Found {
        let Basis { policy, crash_loops } = basis;
        let deaf = deaf.filter(|deaf| !deaf.lost || process.survivors == Survivors::Some);
        let works_on_spared = |key: Key| {
            self.trial(key).and_then(|trial| trial.work).is_some_and(|(key, _)| crash_loops.contains(key))
        };
        Found {
            requested: self.is_requested(),
            core_dumping: process.core_dumping,
            ending: self.exiting_since.map(|since| at.since(since) >= policy.exit_within),
            spared,
            readable: process.segment_readable,
            // A lone survivor that has not begun to end by then goes on.
            goes_on: process.survivors == Survivors::Some
                || self.alone_since.is_some_and(|since| at.since(since) >= LOOK_ENDING),
            gone: suspects.gone,
            leader_gone: matches!(process.leader, Some(TaskState::Zombie | TaskState::Dead)),
            stopped: policy.stopped_kills
                && self.stopped_since.is_some_and(|since| at.since(since) >= policy.stopped_at_most),
            stalled: suspects.stalled,
            deaf: deaf.map(|deaf| Suspect { at_fault: deaf, spared: works_on_spared(deaf.consumer) }),
            silent,
        }
    }

    fn look_at_threads(
        &mut self,
        basis: Basis<'_>,
        seen: &Observation,
        look: Look,
        report: &mut Report,
    ) -> Suspects {
        let Basis { policy, crash_loops } = basis;
        let mut suspects = Suspects::default();
        self.looks += 1;
        self.wants_steal = false;
        let soon = read_ahead(policy);
        self.tally.begin(policy);
        for (guess, thread) in seen.threads.iter().enumerate() {
            let key = (thread.slot, thread.generation);
            // Trials and observations are in the same order unless a slot was used again.
            let guessed = self.threads.get(guess).is_some_and(|trial| trial.key == key).then_some(guess);
            let known = guessed.or_else(|| self.threads.iter().position(|trial| trial.key == key));
            let (index, look) = match known {
                Some(index) => (index, look),
                None => {
                    self.threads.push(ThreadTrial::new(thread, policy.rule_for(&thread.name), look.at));
                    // Its time begins here, so none of it was missed.
                    let now =
                        Look { elapsed: Duration::ZERO, late: false, suspended: Duration::ZERO, ..look };
                    (self.threads.len() - 1, now)
                }
            };
            let Some(trial) = self.threads.get_mut(index) else { continue };
            let rule = trial.rule.and_then(|rule| policy.rules.get(rule));
            trial.seen_at_look = self.looks;
            let brought = trial.look(thread, rule, &policy.excuse_caps, look);
            self.wants_steal |= rule.is_some_and(|rule| trial.wants_steal(rule, soon));
            self.tally.add(trial, policy, self.identity.pid);
            note(trial, guess, brought, &policy.excuse_caps, report);
            let gone = brought.gone && rule.is_some_and(|rule| rule.on == On::Kill);
            let stalled = brought.stalled && rule.is_some_and(|rule| trial.kills_by(rule));
            if gone || stalled {
                let spared = trial.work.is_some_and(|(key, _)| crash_loops.contains(key));
                let found = Some(Suspect { at_fault: key, spared });
                let of = [(gone, &mut suspects.gone), (stalled, &mut suspects.stalled)];
                for (is, first) in of {
                    if is && first.is_none_or(|first| first.spared && !spared) {
                        *first = found;
                    }
                }
            }
        }
        // A reused slot belongs to another thread, so the trial of the earlier one is over. Only a
        // slot whose thread left is ever reused, and an unreadable segment still reports every
        // known slot.
        if self.threads.len() != seen.threads.len() {
            self.threads.retain(|trial| trial.seen_at_look == self.looks);
        }
        suspects
    }

    fn count_missing(&mut self, policy: &Policy) {
        self.missing.clear();
        for (index, rule) in policy.rules.iter().enumerate() {
            if rule.on == On::Ignore {
                continue;
            }
            if self.tally.here(index) < rule.count {
                self.missing.push(index);
            }
        }
    }

    /// Whether its cgroups throttle it. Their counters cover all CPUs together and lag, so only the
    /// fact that they grow is used.
    fn is_throttled(&mut self, now: Option<ThrottleObservation>, at: Monotonic) -> bool {
        if let (Some(now), Some(before)) = (now, self.throttle)
            && now != before
        {
            self.throttled_at = Some(at);
        }
        self.throttle = now.or(self.throttle);
        self.throttled_at.is_some_and(|since| at.since(since) <= THROTTLED_FOR)
    }

    fn look_at_process(&mut self, process: &ProcessObservation, look: Look) {
        self.core_dumping = process.core_dumping;
        if look.core_dumping && !look.late {
            // A process whose core is being written cannot proceed with its exit.
            self.exiting_since = self.exiting_since.map(|since| since.plus(look.elapsed));
        }
        if look.late {
            // The process was not watched meanwhile, so that time must not bring a deadline nearer.
            for since in [&mut self.exiting_since, &mut self.stopped_since].into_iter().flatten() {
                *since = since.plus(look.elapsed);
            }
        }
        if process.declared == Declared::Running && core::mem::take(&mut self.ends_on_purpose) {
            // Set again below if the kernel reports that it is ending.
            self.exiting_since = None;
        }
        // The probe does not check for survivors if no thread is lost and the kernel does not
        // report the main thread as ending. If the process was taken to be ending, that was a
        // mistake and is undone here.
        let goes_on = match process.survivors {
            Survivors::Some => true,
            Survivors::NotAsked => process.leader.is_some(),
            _ => false,
        };
        if process.declared.says_it_ends() {
            self.ends_on_purpose = true;
            self.exiting_since.get_or_insert(look.at);
        } else if process.survivors == Survivors::None {
            self.exiting_since.get_or_insert(look.at);
        } else if !self.ends_on_purpose && goes_on {
            self.exiting_since = None;
        }
        match process.survivors {
            Survivors::Alone => {
                self.alone_since.get_or_insert(look.at);
            }
            _ => self.alone_since = None,
        }
        if process.leader == Some(TaskState::Stopped) {
            self.stopped_since.get_or_insert(look.at);
        } else if process.leader.is_some() {
            self.stopped_since = None;
        }
    }
}

/// The first threads of one observation that would condemn the process.
#[derive(Clone, Copy, Debug, Default)]
struct Suspects {
    gone: Option<Suspect<Key>>,
    stalled: Option<Suspect<Key>>,
}

/// Adds what the observation of a thread, the one of this index in it, has brought.
fn note(trial: &ThreadTrial, index: usize, brought: ThreadLook, caps: &Caps, report: &mut Report) {
    let Report { excused, notes } = report;
    if let Some((kind, lost)) = brought.excused
        && let Some(sum) = excused.get_mut(kind as usize)
    {
        *sum = sum.saturating_add(lost);
    }
    if brought.excuse_changed {
        notes.push(Note::Excuse { thread: trial.name.clone(), kind: trial.excuse });
    }
    if let Some(kind) = brought.excuse_over
        && trial.rule.is_some()
    {
        let cap = caps.of(kind).unwrap_or_default();
        notes.push(Note::ExcuseOver { thread: trial.name.clone(), kind, cap });
    }
    if let Some(gap) = brought.gap {
        notes.push(Note::ProgressGap { thread: index, gap });
    }
}
