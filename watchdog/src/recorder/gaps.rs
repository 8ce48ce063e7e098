//! How long threads in a recording went without progress while they were at work and could have
//! run.
//!
//! The time is the judge's own: the stall clock of a judge without rules, read just before each
//! beat. So a gap is what a threshold would have been compared with, excluding all excused time.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::config::{MOST_SECTIONS, MOST_WARM_UP};
use crate::judge::policy::Policy;
use crate::judge::section::Section;
use crate::judge::{Judge, OBSERVER_LATE};
use crate::observation::Observation;
use crate::snapshot::TargetIdentity;
use crate::verdict::Health;

/// Buckets per octave of microseconds: a quantile is at most 1/16 too long.
const STEPS: u32 = 16;
/// Every octave of a 64-bit number.
const BUCKETS: usize = 64 * STEPS as usize;

/// The gaps of all threads of one name.
#[derive(Clone, Debug)]
pub struct ThreadGaps {
    /// How many ended in progress, including idleness.
    pub gaps: u64,
    /// The longest of these.
    pub longest: Duration,
    /// When that one ended.
    pub longest_at: Monotonic,
    /// The longest time without progress that did not end in progress, because the recording ended
    /// or the process was lost.
    pub unfinished: Option<Duration>,
    buckets: Vec<u64>,
}

impl Default for ThreadGaps {
    fn default() -> Self {
        Self {
            gaps: 0,
            longest: Duration::ZERO,
            longest_at: Monotonic::default(),
            unfinished: None,
            buckets: vec![0; BUCKETS],
        }
    }
}

impl ThreadGaps {
    /// Adds one gap, which ended at `at`.
    pub fn add(&mut self, gap: Duration, at: Monotonic) {
        self.gaps = self.gaps.saturating_add(1);
        if gap > self.longest {
            (self.longest, self.longest_at) = (gap, at);
        }
        if let Some(bucket) = self.buckets.get_mut(bucket_of(gap)) {
            *bucket = bucket.saturating_add(1);
        }
    }

    /// Adds the gaps of another thread, or of another recording from the same boot of the machine.
    pub fn join(&mut self, other: &Self) {
        self.gaps = self.gaps.saturating_add(other.gaps);
        if other.longest > self.longest {
            (self.longest, self.longest_at) = (other.longest, other.longest_at);
        }
        self.unfinished = self.unfinished.max(other.unfinished);
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// The time that this share of the gaps, in hundredths, does not exceed; at most 1/16 too long.
    pub fn quantile(&self, hundredths: u64) -> Duration {
        let wanted = self.gaps.saturating_mul(hundredths).div_ceil(100).max(1);
        let mut sum = 0_u64;
        for (bucket, count) in self.buckets.iter().enumerate() {
            sum = sum.saturating_add(*count);
            if sum >= wanted {
                return end_of(bucket).min(self.longest);
            }
        }
        self.longest
    }

    fn stood_still(&mut self, time: Duration) {
        self.unfinished = self.unfinished.max(Some(time).filter(|time| !time.is_zero()));
    }
}

fn bucket_of(gap: Duration) -> usize {
    let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX).max(1);
    let octave = micros.ilog2();
    // The four bits below the highest one.
    let step = if octave >= 4 { micros >> (octave - 4) } else { micros << (4 - octave) } & 15;
    (octave * STEPS) as usize + usize::try_from(step).unwrap_or(0)
}

/// The first time beyond a bucket.
fn end_of(bucket: usize) -> Duration {
    let (octave, step) = (bucket / STEPS as usize, (bucket % STEPS as usize) as u128);
    let micros = ((16 + step + 1) << octave).div_ceil(16);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// The gaps of one name: those of the first piece of work after a start apart, since what a thread
/// does for the first time is slow for reasons of its own.
#[derive(Clone, Debug, Default)]
pub struct NamedGaps {
    /// Gaps of the first piece of work that a thread did, while it had done it for less than
    /// [`MOST_WARM_UP`].
    pub first: ThreadGaps,
    /// All later gaps.
    pub later: ThreadGaps,
    /// Those among both that began in a section of work, by section: the first
    /// [`MOST_SECTIONS`] that were seen.
    pub sections: Vec<(Section, SectionGaps)>,
}

/// The gaps of one name in one section of its work.
#[derive(Clone, Debug, Default)]
pub struct SectionGaps {
    /// As in [`NamedGaps`].
    pub first: ThreadGaps,
    /// As in [`NamedGaps`].
    pub later: ThreadGaps,
}

impl NamedGaps {
    /// Adds the gaps of another thread, or of another recording from the same boot of the machine.
    pub fn join(&mut self, other: &Self) {
        self.first.join(&other.first);
        self.later.join(&other.later);
        for (section, gaps) in &other.sections {
            if let Some(mine) = self.section(*section) {
                mine.first.join(&gaps.first);
                mine.later.join(&gaps.later);
            }
        }
    }

    /// The gaps of that section; `None` if there are too many others.
    fn section(&mut self, section: Section) -> Option<&mut SectionGaps> {
        let known = self.sections.iter().position(|(known, _)| *known == section);
        let place = known.or_else(|| (self.sections.len() < MOST_SECTIONS).then_some(self.sections.len()))?;
        if place == self.sections.len() {
            self.sections.push((section, SectionGaps::default()));
        }
        self.sections.get_mut(place).map(|(_, gaps)| gaps)
    }

    /// Adds one gap, which ended at `at`, to the sums that it belongs to.
    fn add(&mut self, last: &Last, gap: Duration, at: Monotonic) {
        self.of(last.first).add(gap, at);
        if let Some(gaps) = last.section.and_then(|section| self.section(section)) {
            if last.first { &mut gaps.first } else { &mut gaps.later }.add(gap, at);
        }
    }

    const fn of(&mut self, first: bool) -> &mut ThreadGaps {
        if first { &mut self.first } else { &mut self.later }
    }
}

/// What is remembered of one thread between observations.
#[derive(Clone, Copy, Debug)]
struct Last {
    key: (u32, u64),
    name: usize,
    working: bool,
    /// It did its first piece of work.
    first: bool,
    /// The section of its work that it was in.
    section: Option<Section>,
    gone: bool,
    counted: Duration,
}

/// Collects gaps from successive observations.
#[derive(Debug)]
pub struct Gaps {
    policy: Policy,
    judge: Judge,
    target: Option<TargetIdentity>,
    previous: Monotonic,
    last: Vec<Last>,
    now: Vec<Last>,
    names: Vec<(Arc<str>, NamedGaps)>,
    void: u64,
}

impl Gaps {
    /// A collector for a recording by a sidecar that `began` then. The thresholds in `policy` do
    /// not affect gaps; it determines how often observations are due, and so which of them came too
    /// late to show anything.
    pub fn new(policy: Policy, began: Monotonic) -> Self {
        Self {
            policy,
            judge: Judge::new(began),
            target: None,
            previous: began,
            last: Vec::new(),
            now: Vec::new(),
            names: Vec::new(),
            void: 0,
        }
    }

    /// Adds one observation.
    pub fn look(&mut self, seen: &Observation) {
        let decision = self.judge.observe(&self.policy, seen);
        let target = seen.process.as_ref().filter(|process| !process.exited).map(|process| process.identity);
        if target != self.target {
            self.target = target;
            self.lose();
        }
        // Too late: what happened meanwhile was not observed.
        let late = decision.late_by > OBSERVER_LATE;
        let since = seen.at.since(self.previous);
        self.previous = seen.at;
        let Some(incarnation) = self.judge.incarnation() else { return };
        self.now.clear();
        for (guess, trial) in incarnation.threads().iter().enumerate() {
            let same = |last: &&Last| last.key == trial.key;
            let before = self.last.get(guess).filter(same).or_else(|| self.last.iter().find(same)).copied();
            let name = before
                .map(|before| before.name)
                .or_else(|| self.names.iter().position(|(n, _)| *n == trial.name));
            let name = name.unwrap_or_else(|| {
                self.names.push((Arc::clone(&trial.name), NamedGaps::default()));
                self.names.len() - 1
            });
            if let Some(before) = before
                && before.working
                && trial.last_beat == seen.at
            {
                if late {
                    self.void = self.void.saturating_add(1);
                } else if let Some((_, gaps)) = self.names.get_mut(name) {
                    // It beat at some moment since that observation: counted until now, since too
                    // long is better than too short.
                    gaps.add(&before, before.counted.saturating_add(since), seen.at);
                }
            }
            self.now.push(Last {
                key: trial.key,
                name,
                working: trial.work.is_some() && !trial.left,
                first: trial.warms_up(MOST_WARM_UP),
                section: trial.section(),
                gone: trial.health == Health::Gone,
                counted: trial.counted(),
            });
        }
        std::mem::swap(&mut self.last, &mut self.now);
    }

    /// Gaps of unknown length, because the sidecar was late or observations are missing.
    pub const fn void(&self) -> u64 {
        self.void
    }

    /// Every name seen, in order of appearance, with its gaps.
    pub fn finish(mut self) -> Vec<(Arc<str>, NamedGaps)> {
        self.lose();
        self.names
    }

    /// The process changed or is gone: threads without progress then never resumed.
    fn lose(&mut self) {
        for last in self.last.drain(..).filter(|last| last.working && !last.gone) {
            if let Some((_, gaps)) = self.names.get_mut(last.name) {
                gaps.of(last.first).stood_still(last.counted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_behind_what_falls_into_it_and_not_far_behind() {
        for micros in [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 100, 999, 48_000, 1_000_000, 1 << 40] {
            let gap = Duration::from_micros(micros);
            let end = end_of(bucket_of(gap));
            assert!(end > gap, "{micros}: {end:?}");
            assert!(end <= gap * 17 / 16 + Duration::from_micros(1), "{micros}: {end:?}");
        }
        assert!(bucket_of(Duration::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_are_those_of_the_gaps_that_were_added() {
        let mut gaps = ThreadGaps::default();
        assert_eq!(gaps.quantile(50), Duration::ZERO);
        for millis in 1..=200 {
            gaps.add(Duration::from_millis(millis), Monotonic(millis));
        }
        let (median, p99) = (gaps.quantile(50).as_millis(), gaps.quantile(99).as_millis());
        assert!((100..=107).contains(&median) && (198..=200).contains(&p99), "{median} {p99}");
        assert_eq!((gaps.longest_at, gaps.quantile(100)), (Monotonic(200), Duration::from_millis(200)));
        let mut both = ThreadGaps::default();
        both.add(Duration::from_secs(1), Monotonic(7));
        both.join(&gaps);
        assert_eq!((both.gaps, both.longest, both.longest_at), (201, Duration::from_secs(1), Monotonic(7)));
    }
}
