//! Near misses: a thread at work that has made no progress for `warn_after`. Evidence of that one
//! thread is gathered at once, without stopping it, and reported together with how it ended.
//! Nothing is decided by it.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::event::{Event, LateThread};
use crate::evidence::Subject;
use crate::evidence::gatherer::{Purpose, Request};
use crate::judge::incarnation::Incarnation;
use crate::judge::thread::ThreadTrial;
use crate::snapshot::TargetIdentity;
use crate::verdict::{Health, NearMissOutcome, Verdict};

use super::Watch;

/// Near misses of so many threads are followed at once. If more are late, they share a cause.
const MOST_OPEN: usize = 16;
/// At most one near miss of a thread in this time: one that comes each second is one.
const ONE_EACH: Duration = Duration::from_secs(60);
/// Threads that are remembered for that.
const MOST_REMEMBERED: usize = 64;
/// For `evidence.near_misses_per_day`.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Reading one thread takes a tenth of a millisecond; whatever takes longer hangs.
const READ_WITHIN: Duration = Duration::from_millis(250);

/// The near misses that are not over, and how many more there may be.
#[derive(Debug, Default)]
pub(super) struct NearMisses {
    /// The number of the last one within the life of this sidecar.
    last: u64,
    open: Vec<Open>,
    /// The near miss whose evidence is being gathered.
    asked: Option<u64>,
    /// When each thread last had one.
    recent: Vec<((u32, u64), Monotonic)>,
    /// Since when the day counts, and the near misses in it.
    day: Option<(Monotonic, u32)>,
}

#[derive(Debug)]
struct Open {
    number: u64,
    /// The process: another one may use the same slot.
    target: TargetIdentity,
    thread: (u32, u64),
    beats: u64,
    last_beat: Monotonic,
    /// Whether the evidence was complete before the thread went on.
    holds: bool,
}

impl Open {
    /// The thread, if it and its process are still there.
    fn trial<'a>(&self, current: Option<&'a Incarnation>) -> Option<&'a ThreadTrial> {
        let threads = current.filter(|current| current.identity() == self.target)?.threads();
        let stands = |trial: &&ThreadTrial| !trial.left && trial.health != Health::Gone;
        threads.iter().find(|trial| trial.key == self.thread).filter(stands)
    }
}

impl NearMisses {
    /// Whether this thread may have one now.
    fn allows(&mut self, thread: (u32, u64), at: Monotonic, per_day: u32) -> bool {
        self.recent.retain(|(_, before)| at.since(*before) < ONE_EACH);
        let (since, count) = self.day.filter(|(since, _)| at.since(*since) < DAY).unwrap_or((at, 0));
        let known = self.recent.iter().any(|(known, _)| *known == thread);
        let full = self.open.len() >= MOST_OPEN || self.recent.len() >= MOST_REMEMBERED;
        if known || full || count >= per_day {
            return false;
        }
        self.recent.push((thread, at));
        self.day = Some((since, count + 1));
        true
    }
}

impl Watch {
    /// Opens and closes near misses by what this observation showed. To be called once an incident
    /// that it opened was reported.
    pub(super) fn near_misses(&mut self, at: Monotonic) {
        self.settle_near_misses();
        let limit = self.config.evidence.near_misses_per_day;
        // A late thread makes the verdict degraded. Otherwise there is no need to look at all
        // threads.
        if limit == 0 || self.judge.verdict() != Verdict::Degraded {
            return;
        }
        let Some(current) = self.judge.incarnation() else { return };
        let late = |trial: &&ThreadTrial| trial.health == Health::Late && trial.activity() & 1 == 1;
        for trial in current.threads().iter().filter(late) {
            let open = self.near.open.iter().any(|open| open.thread == trial.key);
            if open || !self.near.allows(trial.key, at, limit) {
                continue;
            }
            self.near.last += 1;
            let number = self.near.last;
            let stall_after =
                trial.rule.and_then(|rule| self.policy.rules.get(rule)).map(|rule| trial.stall_after(rule));
            self.publisher.send(Event::Late(Box::new(LateThread {
                number,
                at,
                thread: trial.faulty(),
                counted: trial.counted(),
                stall_after: stall_after.unwrap_or_default(),
            })));
            self.near.open.push(Open {
                number,
                target: current.identity(),
                thread: trial.key,
                beats: trial.beats,
                last_beat: trial.last_beat,
                holds: false,
            });
            let Some(handle) = self.probe.handle() else { continue };
            let (target, process) = (handle.identity(), handle.shared_process());
            let watched = vec![(trial.tid, Arc::clone(&trial.name))];
            let subject = Subject { at_fault: Some(trial.tid), watched, others: false };
            let deadline = at.plus(READ_WITHIN);
            let purpose = Purpose::NearMiss(number);
            let request = Request { purpose, target, process, subject, deadline, dump: false };
            // If the thread that gathers is at work, this near miss has no evidence.
            if self.gathering.ask_for_near_miss(request) {
                self.near.asked = Some(number);
            }
        }
    }

    /// Tells how near misses ended.
    fn settle_near_misses(&mut self) {
        if self.near.open.is_empty() {
            return;
        }
        let current = self.judge.incarnation();
        if let Some(number) = self.near.asked.take_if(|_| self.gathering.is_quiet())
            && let Some(open) = self.near.open.iter_mut().find(|open| open.number == number)
        {
            open.holds = open.trial(current).is_some_and(|trial| trial.beats == open.beats);
        }
        let condemned = current.and_then(Incarnation::condemned).and_then(|condemned| condemned.slot);
        let now = crate::clock::now();
        let mut over = Vec::new();
        self.near.open.retain(|open| {
            let (outcome, end) = match open.trial(current) {
                None => (NearMissOutcome::Ended, now),
                Some(trial) if trial.beats != open.beats => (NearMissOutcome::Recovered, trial.last_beat),
                Some(_) if condemned == Some(open.thread) => (NearMissOutcome::Condemned, now),
                Some(_) => return true,
            };
            let incident = (outcome == NearMissOutcome::Condemned).then(|| self.story.number()).flatten();
            over.push(Event::LateOver {
                number: open.number,
                outcome,
                lasted: end.since(open.last_beat),
                incident,
                evidence_holds: open.holds,
            });
            false
        });
        over.into_iter().for_each(|event| self.publisher.send(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::testing;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_thread_has_one_a_minute_and_the_day_its_number() {
        let mut near = NearMisses::default();
        let at = |seconds: u64| Monotonic(seconds * SECOND);
        assert!(near.allows((0, 1), at(0), 3));
        assert!(!near.allows((0, 1), at(59), 3), "the same thread");
        assert!(near.allows((0, 2), at(59), 3), "another thread in that slot");
        assert!(near.allows((0, 1), at(60), 3));
        assert!(!near.allows((5, 1), at(10_000), 3), "the day has had its three");
        assert!(near.allows((5, 1), at(86_400), 3), "the next day");
    }

    #[test]
    fn no_more_are_open_or_remembered_than_there_is_room_for() {
        let mut near = NearMisses::default();
        let taken = (0..1_000).filter(|slot| near.allows((*slot, 1), Monotonic(0), u32::MAX)).count();
        assert_eq!(taken, MOST_REMEMBERED);
        near.recent.clear();
        for number in 0..MOST_OPEN as u64 {
            let target = TargetIdentity { pid: 1, start_time: 2, incarnation: 3 };
            let (beats, last_beat) = (0, Monotonic(0));
            near.open.push(Open { number, target, thread: (0, number), beats, last_beat, holds: false });
        }
        assert!(!near.allows((7, 7), Monotonic(0), u32::MAX));
    }

    #[test]
    fn a_thread_of_the_next_process_ends_no_near_miss_of_this_one() {
        let policy = testing::policy(vec![testing::rule("exec", ONE_EACH, ONE_EACH)]);
        let threads = || vec![testing::thread(0, "exec")];
        let mut scene = testing::Scene::begin(policy, Duration::from_millis(10), threads(), Vec::new());
        let current = scene.judge.incarnation().unwrap();
        let (target, thread, last_beat) = (current.identity(), current.threads()[0].key, scene.now.at);
        let open = Open { number: 1, target, thread, beats: 0, last_beat, holds: false };
        assert!(open.trial(Some(current)).is_some());
        scene.start(threads());
        let next = scene.judge.incarnation().unwrap();
        assert_eq!(next.threads()[0].key, thread, "the same slot");
        assert!(open.trial(Some(next)).is_none() && open.trial(None).is_none());
    }
}
