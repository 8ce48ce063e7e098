//! Copies the loop's state into a bounded queue. When it is full, the copy is dropped and counted;
//! the loop continues.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use crate::clock::Monotonic;
use crate::config::On;
use crate::event::{Event, Timings};
use crate::judge::Judge;
use crate::judge::channel::ChannelTrial;
use crate::judge::incarnation::Incarnation;
use crate::judge::policy::{ChannelLimits, Policy, Rule};
use crate::judge::section::Section;
use crate::judge::silence::Horizon;
use crate::judge::thread::ThreadTrial;
use crate::observation::Observation;
use crate::pause::Pause;
use crate::probe::ThreadEvents;
use crate::snapshot::{ChannelStatus, Deadline, ExcuseStatus, SilenceStatus, Snapshot, Spent, ThreadStatus};
use crate::verdict::{ExcuseKind, Health, Verdict};

use super::shadow::Shadow;

/// Four snapshots a second are as recent as a person or a scrape can use.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(250);
/// Measurements per batch; more than this in a quarter of a second are dropped and counted.
const BATCH: usize = 512;

/// The sending end of the queue, for the loop.
#[derive(Debug)]
pub struct Publisher {
    events: Sender<Event>,
    dropped: u64,
    last: Option<Monotonic>,
    hurry: bool,
    timings: Timings,
}

/// What a snapshot contains besides the judge's view.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Kills that the budget still allows.
    pub kills_left: u32,
    /// Time until it allows one more.
    pub next_kill_in: Option<Duration>,
    /// Whether so many kills have brought no progress that none follows.
    pub braked: bool,
    /// How ends of threads are noticed.
    pub events: ThreadEvents,
    /// The pause of killing.
    pub paused: Option<&'a Arc<Pause>>,
    /// The second policy.
    pub shadow: Option<&'a Shadow>,
    /// Whether the target was restored from a checkpoint.
    pub restored: bool,
}

impl Publisher {
    /// A publisher into `events`.
    pub fn new(events: Sender<Event>) -> Self {
        Self { events, dropped: 0, last: None, hurry: false, timings: Timings::default() }
    }

    /// Puts `event` into the queue, or drops and counts it.
    pub fn send(&mut self, event: Event) {
        self.offer(event);
    }

    /// The same; returns whether there was room.
    pub fn offer(&mut self, event: Event) -> bool {
        let sent = self.events.try_send(event).is_ok();
        if !sent {
            self.dropped = self.dropped.saturating_add(1);
        }
        sent
    }

    /// Makes the next snapshot go out at once: something changed.
    pub const fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Records how late an observation was.
    pub fn looked(&mut self, late_by: Duration) {
        if self.timings.late.len() < BATCH {
            self.timings.late.push(late_by);
        }
    }

    /// Records a gap between two signs of progress.
    pub fn gap(&mut self, thread: &Arc<str>, gap: Duration) {
        if self.timings.gaps.len() < BATCH {
            self.timings.gaps.push((Arc::clone(thread), gap));
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Sends a snapshot if one is due.
    pub fn snapshot(&mut self, judge: &Judge, policy: &Policy, seen: &Observation, standing: Standing<'_>) {
        let due = self.last.is_none_or(|last| seen.at.since(last) >= SNAPSHOT_EVERY);
        if !due && !std::mem::take(&mut self.hurry) {
            return;
        }
        self.hurry = false;
        self.last = Some(seen.at);
        let snapshot = Snapshot {
            at: seen.at,
            verdict: judge.verdict(),
            reason: judge.why().to_owned(),
            since: judge.since(),
            target: judge.incarnation().map(|incarnation| incarnation.identity()),
            first_finished: judge.incarnation().and_then(Incarnation::first_finished),
            threads: threads(judge, policy),
            channels: channels(judge, policy),
            kills_left: standing.kills_left,
            next_kill_in: standing.next_kill_in,
            excused: *judge.excused(),
            dropped: self.dropped,
            thread_events: standing.events.label(),
            held: judge.incarnation().is_some_and(Incarnation::is_held),
            crash_loop_keys: judge.crash_loops().keys().to_vec(),
            spared: judge.spares(),
            kills_without_progress: judge.crash_loops().kills_without_progress(),
            braked: standing.braked,
            restored: standing.restored,
            deadlines: deadlines(judge, policy),
            shadow: standing.shadow.map(Shadow::status),
            paused: standing.paused.cloned(),
        };
        self.send(Event::Snapshot(Box::new(snapshot)));
        let timings = std::mem::take(&mut self.timings);
        self.send(Event::Timings(Box::new(timings)));
    }
}

fn channels(judge: &Judge, policy: &Policy) -> Vec<ChannelStatus> {
    let Some(incarnation) = judge.incarnation() else { return Vec::new() };
    let status = |trial: &ChannelTrial| {
        let rule = trial.rule.and_then(|rule| policy.channels.get(rule));
        ChannelStatus {
            name: trial.name.to_string(),
            depth: trial.depth(),
            oldest_since: trial.oldest_since(),
            sent: trial.sent,
            received: trial.received,
            max_age: rule.and_then(|rule| rule.max_age),
            counted: rule.and_then(ChannelLimits::kills_after).map(|_| trial.counted()),
            late: trial.late_since.is_some(),
        }
    };
    incarnation.channels().iter().map(status).collect()
}

/// Clocks of the whole process that are running.
fn deadlines(judge: &Judge, policy: &Policy) -> Vec<Deadline> {
    let Some(incarnation) = judge.incarnation() else { return Vec::new() };
    let grace = (judge.verdict() == Verdict::Starting).then(|| incarnation.first_seen());
    let running = [
        ("startup_grace", grace, policy.startup_grace, false),
        ("stopped", incarnation.stopped_since(), policy.stopped_at_most, policy.stopped_kills),
        ("exiting", incarnation.exiting_since(), policy.exit_within, true),
    ];
    let running = running.into_iter();
    running
        .filter_map(|(what, since, at_most, kills)| Some(Deadline { what, since: since?, at_most, kills }))
        .collect()
}

/// What has excused a thread since its last progress, for how long, and the limit.
fn excuses(trial: &ThreadTrial, policy: &Policy) -> Vec<ExcuseStatus> {
    let status = |kind: &ExcuseKind| {
        let lasted = trial.excused.of(*kind);
        let cap = match kind {
            // The limit is the deadline of the whole process.
            ExcuseKind::Stopped => Some(policy.stopped_at_most),
            kind => policy.excuse_caps.of(*kind),
        };
        (!lasted.is_zero() || trial.excuse == Some(*kind)).then_some(ExcuseStatus {
            kind: *kind,
            lasted,
            cap,
        })
    };
    ExcuseKind::ALL.iter().filter_map(status).collect()
}

/// The sections that a rule has a threshold for. Most rules have none, and nothing is allocated.
fn sections(rule: &Rule) -> Vec<Section> {
    rule.sections.iter().map(|limits| limits.section).collect()
}

fn silence(trial: &ThreadTrial, horizon: &Horizon) -> Option<SilenceStatus> {
    let silence = trial.silence.as_deref()?;
    Some(SilenceStatus {
        counted: silence.counted(),
        idle_at_most: horizon.idle_at_most,
        silent_since: silence.silent_since(),
        kills: horizon.condemns(),
    })
}

fn threads(judge: &Judge, policy: &Policy) -> Vec<ThreadStatus> {
    let Some(incarnation) = judge.incarnation() else { return Vec::new() };
    let watched = |trial: &&ThreadTrial| {
        !trial.left
            && trial.rule.and_then(|rule| policy.rules.get(rule)).is_some_and(|rule| rule.on != On::Ignore)
    };
    let seen = incarnation.threads().iter().filter(watched).map(|trial| {
        let rule = trial.rule.and_then(|rule| policy.rules.get(rule));
        ThreadStatus {
            name: trial.name.to_string(),
            tid: Some(trial.tid).filter(|tid| *tid > 0),
            health: trial.health,
            unobserved: trial.unobserved,
            kind: (trial.health == Health::Stalled).then(|| trial.kind()),
            excuse: trial.excuse,
            excuses: excuses(trial, policy),
            excuse_over_cap: trial.over_cap,
            last_beat: Some(trial.last_beat),
            beats: trial.beats,
            work_key: trial.work.map(|(key, _)| key),
            attempt: trial.work.map(|(_, attempt)| attempt),
            section: trial.section(),
            sections: rule.map_or_else(Vec::new, sections),
            work_since: trial.work_since,
            counted: trial.counted(),
            stall_after: rule.map_or(Duration::ZERO, |rule| trial.stall_after(rule)),
            rule_stall_after: rule.map_or(Duration::ZERO, |rule| rule.stall_after),
            section_stall_after: rule.and_then(|rule| Some(trial.section_limits(rule)?.stall_after)),
            silence: rule.and_then(|rule| silence(trial, rule.silence.as_ref()?)),
            spent: trial.spent(),
        }
    });
    let starting = judge.verdict() == Verdict::Starting;
    let missing = incarnation.missing().iter().filter_map(|&index| {
        let rule = policy.rules.get(index)?;
        // A rule that had a thread before and has fewer now is shown by that thread.
        let found = incarnation.threads().iter().any(|trial| trial.rule == Some(index));
        (!found).then(|| ThreadStatus {
            name: rule.name.clone(),
            tid: None,
            health: if starting { Health::Starting } else { Health::Gone },
            unobserved: None,
            kind: None,
            excuse: None,
            excuses: Vec::new(),
            excuse_over_cap: false,
            last_beat: None,
            beats: 0,
            work_key: None,
            attempt: None,
            section: None,
            sections: sections(rule),
            work_since: None,
            counted: Duration::ZERO,
            stall_after: rule.stall_after,
            rule_stall_after: rule.stall_after,
            section_stall_after: None,
            silence: None,
            spent: Spent::default(),
        })
    });
    seen.chain(missing).collect()
}
