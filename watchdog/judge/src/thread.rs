//! One thread on trial: idle, working, late, stalled, excused or gone.

use alloc::boxed::Box;
use alloc::string::ToString as _;

use alloc::sync::Arc;
use core::time::Duration;

use crate::clock::Monotonic;
use crate::observation::{Claim, Presence, TaskState, ThreadObservation, WorkerObservation};
use crate::section::Section;
use crate::target::FaultyThread;
use crate::verdict::{ExcuseKind, Health, Unobserved};

use super::Look;
use super::excuse::{Caps, Excused, Kept};
use super::policy::Rule;
use super::silence::Silence;
use super::stall_clock::{Interval, StallClock};
use super::workers::Workers;
use kind::Reported;
use ledger::Ledger;

mod kind;
mod ledger;
mod threshold;

pub use kind::KIND_SETTLES;
pub use ledger::Spent;

/// A thread that dropped its slot without leaving is about to end: it counts as gone when it ends,
/// or after this time. Unwinding and the exit of a thread take microseconds; a thread that lives on
/// without its slot is as lost as one that ended.
const DROPPED_FOR: Duration = Duration::from_millis(100);

/// A thread about which the kernel reports nothing for this long is out of sight. A thread that
/// ends can make one observation fail, and the probe retries once a second what it could not open:
/// two such retries have failed by then.
const UNREADABLE_FOR: Duration = Duration::from_secs(3);

/// Changes of work, without being observed idle, after which the first piece of work counts as
/// finished. Work nested three deep would look the same, but does not occur.
const MOVED_ON: u32 = 2;

/// What the judge remembers of one thread.
///
/// Most threads are idle or make progress at most observations. What is needed only for one that
/// stands still is boxed, so that observing a thousand of the others touches a fifth of the memory.
#[derive(Clone, Debug)]
pub struct ThreadTrial {
    /// Slot and generation: a reused slot is another thread.
    pub key: (u32, u64),
    /// Index of its rule; `None` if no rule applies.
    pub rule: Option<usize>,
    /// Registered name.
    pub name: Arc<str>,
    /// Thread id as the sidecar sees it.
    pub tid: i32,
    /// The judge's view of its health.
    pub health: Health,
    /// When it was last seen to beat.
    pub last_beat: Monotonic,
    /// Number of beats observed.
    pub beats: u64,
    /// Since when it has worked on `work`.
    pub work_since: Option<Monotonic>,
    /// Key and attempt of its work.
    pub work: Option<(u64, u64)>,
    /// Why its time does not count at present.
    pub excuse: Option<ExcuseKind>,
    /// The stall clock of this thread alone.
    pub clock: Box<StallClock>,
    /// How much of that time counts, given its workers.
    pub workers: Box<Workers>,
    /// Time excused since the last progress.
    pub excused: Box<Excused>,
    /// Whether it has been observed to stand still since its last progress. If not, the three
    /// fields above are in their initial state.
    stood_still: bool,
    /// Time of the latest intervals that neither counted nor was excused.
    unnamed: Duration,
    /// Whether its excuse has reached its cap.
    pub over_cap: bool,
    /// The first piece of work that it was observed to finish; the inner value is its key, where
    /// known.
    pub finished: Option<Option<u64>>,
    activity: u64,
    progress: u64,
    /// Changes of its work since it was last observed idle.
    other_work: u32,
    dropped_since: Option<Monotonic>,
    /// The shortest deadline that its owner has set for this work since its last progress. Not the
    /// current one: a deadline that comes and goes would condemn it anew each time.
    deadline: Option<Duration>,
    /// The word of the section that it was in at its last sign of life.
    section: u64,
    /// Whether the kind of its standstill is one that its rule only reports.
    reported: Reported,
    advanced: bool,
    /// Number of the observation of its process at which it was last seen.
    pub seen_at_look: u64,
    /// Whether it left the watch by its own `leave()`.
    pub left: bool,
    /// What keeps it, or a worker in one of its lanes, from running, if other threads of its
    /// process may wait for it meanwhile: lack of CPU or of memory.
    pub kept: Option<ExcuseKind>,
    /// Why it is out of sight, if it is.
    pub unobserved: Option<Unobserved>,
    /// Whether one of its workers had no descriptors when they were last checked.
    workers_unopened: bool,
    /// Since when the kernel has reported nothing about it.
    unread_since: Option<Monotonic>,
    /// Whether the kernel has ever confirmed that it exists.
    met: bool,
    /// Pieces of work that it began between the last two observations.
    begun: u64,
    /// How long it has begun no work while there was some, if its rule asks for that.
    pub silence: Option<Box<Silence>>,
    ledger: Ledger,
}

/// The result of one observation of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadLook {
    /// It ended, or was dropped, without leaving.
    pub gone: bool,
    /// It has stood still for longer than `stall_after`.
    pub stalled: bool,
    /// Time excused since the last observation, including earlier time whose excuse was not clear
    /// then.
    pub excused: Option<(ExcuseKind, Duration)>,
    /// Its excuse differs from that at the last observation.
    pub excuse_changed: bool,
    /// The excuse that reached its cap with this observation.
    pub excuse_over: Option<ExcuseKind>,
    /// It beat after this much time at work without a beat.
    pub gap: Option<Duration>,
}

impl ThreadTrial {
    /// Opens the trial of a thread seen for the first time.
    pub fn new(seen: &ThreadObservation, rule: Option<usize>, at: Monotonic) -> Self {
        Self {
            key: (seen.slot, seen.generation),
            rule,
            name: Arc::clone(&seen.name),
            tid: seen.tid,
            health: if seen.working() { Health::Working } else { Health::Idle },
            last_beat: at,
            beats: 0,
            work_since: seen.working().then_some(at),
            work: seen.working().then_some((seen.work_key, seen.attempt)),
            excuse: None,
            clock: Box::default(),
            workers: Box::default(),
            excused: Box::default(),
            stood_still: false,
            unnamed: Duration::ZERO,
            over_cap: false,
            finished: None,
            activity: seen.activity,
            progress: seen.progress,
            other_work: 0,
            dropped_since: None,
            deadline: deadline(seen),
            section: seen.section,
            reported: Reported::default(),
            advanced: true,
            seen_at_look: 0,
            left: false,
            kept: None,
            unobserved: None,
            workers_unopened: false,
            unread_since: None,
            met: false,
            begun: 0,
            silence: None,
            ledger: Ledger::default(),
        }
    }

    /// Processes one observation. The first one, right after [`ThreadTrial::new`], covers no time.
    pub fn look(
        &mut self,
        seen: &ThreadObservation,
        rule: Option<&Rule>,
        caps: &Caps,
        look: Look,
    ) -> ThreadLook {
        self.unobserved = self.out_of_sight(seen, look);
        self.begun = 0;
        let kept = core::mem::take(&mut self.kept);
        let mut brought = ThreadLook::default();
        if seen.claim != Claim::Dropped {
            // Words that were garbage for a moment may have shown it as dropped: its time starts
            // over.
            self.dropped_since = None;
        }
        if seen.claim == Claim::Left {
            self.left = true;
            self.unobserved = None;
            self.health = Health::Idle;
            self.set_excuse(None, &mut brought);
            return brought;
        }
        // They may have shown it as left, too. It was not watched then, so its time starts over.
        let back = core::mem::take(&mut self.left);
        let dropped = seen.claim == Claim::Dropped && {
            let since = match self.dropped_since {
                // It was not watched, or the core dump blocks it: it had no chance to end.
                Some(since) if look.late || look.core_dumping => since.plus(look.elapsed),
                // Time before it was first seen dropped never counts.
                since => since.unwrap_or(look.at),
            };
            self.dropped_since = Some(since);
            look.at.since(since) >= DROPPED_FOR
        };
        if seen.presence == Presence::Gone || dropped {
            self.last_words(seen);
            self.unobserved = None;
            self.health = Health::Gone;
            // Nothing holds it any more: a kill that waited for its excuse to end need not wait any
            // longer.
            self.set_excuse(None, &mut brought);
            brought.gone = true;
            return brought;
        }
        if back || self.moves(seen) {
            let seen_for = if back { Duration::ZERO } else { look.elapsed };
            self.ledger.moved(seen_for, seen.working(), self.stood_still.then(|| self.counted()));
            self.beat(seen, look.at, &mut brought);
            return brought;
        }
        // No thread can run while the core is written: one that is idle then could not begin work
        // either.
        if !seen.working() && !look.core_dumping {
            self.health = Health::Idle;
            self.ledger.idle(look.elapsed);
            self.set_excuse(None, &mut brought);
            return brought;
        }
        self.kept = kept;
        self.stand_still(seen, rule, caps, look, &mut brought);
        // Of a suspend, nothing is in `elapsed`.
        let excused = brought.excused.map(|(kind, lost)| (kind, lost.saturating_sub(look.suspended)));
        self.ledger.stood(look.elapsed, excused, rule.map_or(Duration::MAX, |rule| self.warn_after(rule)));
        brought
    }

    /// Why it is out of sight. Workers are checked only while it stands still; the result holds
    /// until the next check, or else the verdict would change with each step that it makes.
    fn out_of_sight(&mut self, seen: &ThreadObservation, look: Look) -> Option<Unobserved> {
        if !seen.workers.is_empty() {
            self.workers_unopened = seen.workers.iter().any(|worker| worker.presence == Presence::Unopened);
        }
        let unreadable = self.is_unreadable(seen, look);
        if seen.presence == Presence::Unopened || self.workers_unopened {
            return Some(Unobserved::NoDescriptors);
        }
        unreadable.then_some(Unobserved::Unreadable)
    }

    /// Whether the kernel has reported nothing about it for longer than chance explains: not
    /// whether it exists or, while it stands still at work, not what it does. No time counts
    /// against it then, so it would pass for healthy for ever.
    fn is_unreadable(&mut self, seen: &ThreadObservation, look: Look) -> bool {
        let moved = self.moves(seen);
        let hidden = |worker: &WorkerObservation| {
            worker.task.is_none() && matches!(worker.presence, Presence::Present | Presence::Unknown)
        };
        let silent = seen.working() && !moved && (seen.task.is_none() || seen.workers.iter().any(hidden));
        self.met |= seen.presence == Presence::Present;
        if look.untold || !(seen.presence == Presence::Unknown || silent) {
            self.unread_since = None;
            return false;
        }
        let since = self.unread_since.get_or_insert(look.at);
        if look.late {
            // It was not observed meanwhile.
            *since = since.plus(look.elapsed);
        }
        // A thread never confirmed to exist is not known to be well: no observation of it has ever
        // succeeded, so there is no failure to wait out.
        !self.met || look.at.since(*since) >= UNREADABLE_FOR
    }

    /// Whether its owner has shown a sign of life since the last observation. A change of its
    /// section is one by itself: entering a section takes two stores, and a thread that loses its
    /// CPU between them must not have the time of the section before counted against the new one.
    const fn moves(&self, seen: &ThreadObservation) -> bool {
        seen.activity != self.activity || seen.progress != self.progress || seen.section != self.section
    }

    /// The section of its work that it is in, if it names one.
    pub const fn section(&self) -> Option<Section> {
        if self.work.is_some() { Section::from_word(self.section) } else { None }
    }

    /// The word that changes with each beginning and end of work; odd: at work.
    pub const fn activity(&self) -> u64 {
        self.activity
    }

    /// Pieces of work that it began between the last two observations.
    pub const fn begun(&self) -> u64 {
        self.begun
    }

    /// Time counted against it since its last progress.
    pub const fn counted(&self) -> Duration {
        // What is boxed is in no cache while the thread makes progress.
        if self.stood_still { self.workers.counted() } else { Duration::ZERO }
    }

    /// Records what it was working on when it ended, which may be newer than the last observation.
    pub fn last_words(&mut self, seen: &ThreadObservation) {
        if seen.activity != self.activity {
            self.work = seen.working().then_some((seen.work_key, seen.attempt));
            self.activity = seen.activity;
        }
        self.section = seen.section;
    }

    /// Whether the last interval counted, so that the threshold is nearer now.
    pub const fn advanced(&self) -> bool {
        self.advanced
    }

    fn beat(&mut self, seen: &ThreadObservation, at: Monotonic, brought: &mut ThreadLook) {
        let was_working = self.activity & 1 == 1;
        if was_working {
            brought.gap = Some(at.since(self.last_beat));
        }
        let changes = seen.activity.wrapping_sub(self.activity);
        // Each piece of work makes the word odd once.
        self.begun = (changes / 2).saturating_add(changes & seen.activity & 1);
        if self.finished.is_none() {
            let other_work = !seen.working() || self.work.map(|(key, _)| key) != Some(seen.work_key);
            // Two changes from idle: a piece of work began and ended between two observations.
            // Another key without a pause may be work begun inside other work. Only idleness proves
            // an end, or as many changes as a further end and beginning take. A thread never
            // observed idle has moved on for good with its second other work: work is not nested
            // that deep.
            self.other_work =
                if was_working && seen.working() { self.other_work + u32::from(other_work) } else { 0 };
            let moved_on = other_work && (changes >= 4 || self.other_work >= MOVED_ON);
            let ended = if was_working { !seen.working() || moved_on } else { changes >= 2 };
            if ended {
                self.finished = Some(self.work.map(|(key, _)| key));
            }
        }
        let steps = changes.wrapping_add(seen.progress.wrapping_sub(self.progress));
        self.beats = self.beats.saturating_add(steps.max(1));
        let work = seen.working().then_some((seen.work_key, seen.attempt));
        if work != self.work || seen.activity != self.activity {
            self.work_since = work.map(|_| at);
        }
        self.work = work;
        self.activity = seen.activity;
        self.progress = seen.progress;
        self.section = seen.section;
        self.last_beat = at;
        self.deadline = deadline(seen);
        if core::mem::take(&mut self.stood_still) {
            self.clock.reset();
            self.workers.reset();
            self.excused.reset();
            self.reported = Reported::default();
        }
        self.unnamed = Duration::ZERO;
        self.advanced = true;
        self.health = if seen.working() { Health::Working } else { Health::Idle };
        self.set_excuse(None, brought);
    }

    fn stand_still(
        &mut self,
        seen: &ThreadObservation,
        rule: Option<&Rule>,
        caps: &Caps,
        look: Look,
        brought: &mut ThreadLook,
    ) {
        self.stood_still = true;
        self.deadline = self.deadline.into_iter().chain(deadline(seen)).min();
        // A thread that sleeps while another thread of its process is kept from running may be
        // waiting for it: a message through a thread held by a quota takes until the next period,
        // and a thread without memory may hold a lock. Neither of the two is at fault. While the
        // core is written, all threads wait for that and for nothing else.
        let asleep = seen.task.is_some_and(|task| task.state == TaskState::Sleeping);
        let waits = look.kept.others(self.kept).filter(|_| asleep && !look.core_dumping);
        // While the core is written, nothing that the kernel reports about its threads is
        // meaningful.
        let task = seen.task.filter(|_| !look.core_dumping && waits.is_none());
        self.clock.with_steal(look.steal);
        let interval = match (seen.task, waits) {
            (Some(task), Some(_)) if !look.core_dumping => {
                self.clock.advance_waiting(look.elapsed, task, look.late)
            }
            _ => self.clock.advance(look.elapsed, task, look.late),
        };
        // The probe reads the workers only when it can read the thread itself.
        let workers = seen.task.is_some().then_some(&*seen.workers);
        let interval = self.workers.advance(&self.clock, interval, workers, look.elapsed, look.late);
        self.kept = interval.excuse.filter(|kind| Kept::of(core::iter::once(*kind)) != Kept::default());
        let interval = Interval { excuse: interval.excuse.or(waits), ..interval };
        // The thread's own counters show how long, its cgroup's counters show why.
        let excuse = match interval.excuse {
            _ if !look.suspended.is_zero() => Some(ExcuseKind::Suspended),
            None if look.core_dumping => Some(ExcuseKind::CoreDumping),
            Some(ExcuseKind::Starved) if look.throttled => Some(ExcuseKind::Throttled),
            // The thread's own CPU time shows how long, the CPU's counter shows why.
            Some(ExcuseKind::Starved) if look.steal.is_large() => Some(ExcuseKind::Stolen),
            None if self.clock.is_robbed() => Some(ExcuseKind::Stolen),
            excuse => excuse,
        };
        let interval = Interval { excuse, ..interval };
        self.advanced = !interval.counted.is_zero() || look.elapsed.is_zero();
        let lost = look.elapsed.saturating_sub(interval.counted).saturating_add(look.suspended);
        let late_named = self.clock.named_late().min(self.unnamed);
        let taken_off = self.clock.taken_off();
        self.unnamed = match interval.excuse {
            Some(_) => Duration::ZERO,
            None => self.unnamed.saturating_add(lost).saturating_add(taken_off),
        };
        self.excused.stands(look.elapsed.saturating_add(look.suspended));
        // What holds a thread is certain. What it lacks is read from counters that lag: earlier
        // time may turn out to have been lost as well, and may have been called lost before.
        let lacks = interval.excuse.is_some_and(|kind| Kept::of(core::iter::once(kind)).starved > 0);
        let lost = if lacks {
            let earlier = taken_off.saturating_add(late_named);
            lost.saturating_add(earlier).min(self.excused.most(self.counted()))
        } else {
            lost
        };
        brought.excused = interval.excuse.map(|kind| (kind, lost));
        brought.excuse_over = interval.excuse.filter(|kind| self.excused.add(*kind, lost, caps));
        self.set_excuse(interval.excuse, brought);
        self.over_cap = interval.excuse.is_some_and(|kind| self.excused.over(kind, caps));
        let Some(rule) = rule else { return };
        let watched = self.excuse.is_none() && !look.late;
        self.note_kind(rule, if watched { look.elapsed } else { Duration::ZERO });
        let counted = self.counted();
        // A verdict is given only in time that counts. If a reload moved the threshold below the
        // counted time, that must not condemn a thread while it is stopped, or after the watchdog
        // was late, or while the kernel reports nothing because the process has begun to end.
        let now = self.excuse.is_none() && seen.task.is_some()
            || !interval.counted.is_zero()
            || self.excuse == Some(ExcuseKind::Stolen) && self.clock.confirms();
        // The verdict also states how the thread stands still, which takes more than one sample.
        let now = now && self.clock.samples().is_some();
        // Nor is one given while the hypervisor may have had some of that time.
        let now = now && self.is_settled();
        self.health = if counted >= self.stall_after(rule) && now {
            brought.stalled = true;
            Health::Stalled
        } else if self.excuse.is_some() {
            Health::Excused
        } else if counted >= self.warn_after(rule) {
            Health::Late
        } else {
            Health::Working
        };
    }

    /// Whether what the hypervisor took of its counted time is known.
    fn is_settled(&self) -> bool {
        self.clock.is_settled() && self.workers.are_settled()
    }

    /// Whether its threshold may be reached within `soon`, or was, and the verdict depends on what
    /// the hypervisor took.
    pub fn wants_steal(&self, rule: &Rule, soon: Duration) -> bool {
        self.stood_still
            && self.clock.steal().is_known()
            && self.runs_against(rule).is_some_and(|left| left <= soon)
    }

    fn set_excuse(&mut self, excuse: Option<ExcuseKind>, brought: &mut ThreadLook) {
        brought.excuse_changed = self.excuse != excuse;
        self.excuse = excuse;
        self.over_cap &= excuse.is_some();
    }

    /// The facts about this thread for an incident.
    pub fn faulty(&self) -> FaultyThread {
        FaultyThread {
            name: self.name.to_string(),
            tid: self.tid,
            kind: (self.health == Health::Stalled).then(|| self.kind()),
            work_key: self.work.map(|(key, _)| key),
            attempt: self.work.map(|(_, attempt)| attempt),
            section: self.section().map(|section| section.to_string()),
            trace_id: None,
            span_id: None,
        }
    }

    /// How long until counted time alone makes it stalled; `None` if no clock runs.
    pub fn runs_against(&self, rule: &Rule) -> Option<Duration> {
        if self.activity & 1 == 0 || self.left || self.health == Health::Gone {
            return None;
        }
        Some(self.stall_after(rule).saturating_sub(self.counted()))
    }
}

/// The deadline that the owner of a slot has set for its work, if any.
fn deadline(seen: &ThreadObservation) -> Option<Duration> {
    (seen.working() && seen.deadline_ns != 0).then(|| Duration::from_nanos(seen.deadline_ns))
}
