//! Poison work: work that was in flight at more than one death of the target. Nothing more is
//! killed for it until a person clears it; all other work is judged as usual. And, whatever the
//! work, how many kills in a row have brought no finished piece of work.
//!
//! The state has a small fixed size, so that it can be copied into every chunk of a recording and
//! stored by the slow side.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Condemnation;

/// Number of deaths remembered; older ones are forgotten. Two of the same work among these suffice.
pub const DEATHS: usize = 16;
/// Number of keys for which nothing is killed. More than a few at a time indicate a broken process,
/// not poison work.
pub const KEYS: usize = 16;

/// A few keys, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Few<const N: usize> {
    keys: [u64; N],
    len: usize,
}

impl<const N: usize> Few<N> {
    const NONE: Self = Self { keys: [0; N], len: 0 };

    fn all(&self) -> &[u64] {
        self.keys.get(..self.len).unwrap_or_default()
    }

    /// Adds one. True if the oldest was dropped to make room.
    fn push(&mut self, key: u64) -> bool {
        let full = self.len == N;
        if full {
            self.keys.rotate_left(1);
            self.len = N.saturating_sub(1);
        }
        if let Some(place) = self.keys.get_mut(self.len) {
            *place = key;
            self.len += 1;
        }
        full
    }

    /// Removes those for which `gone` is true; returns how many.
    fn remove(&mut self, gone: impl Fn(u64) -> bool) -> usize {
        let before = *self;
        *self = Self::NONE;
        for key in before.all().iter().filter(|key| !gone(**key)) {
            self.push(*key);
        }
        before.len - self.len
    }
}

/// What the judge remembers of deaths and of the work in flight at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashLoops {
    deaths: Few<DEATHS>,
    keys: Few<KEYS>,
    dropped: u64,
    kills_without_progress: u32,
}

impl Default for CrashLoops {
    fn default() -> Self {
        Self::NONE
    }
}

impl CrashLoops {
    /// No deaths so far.
    pub const NONE: Self = Self { deaths: Few::NONE, keys: Few::NONE, dropped: 0, kills_without_progress: 0 };

    /// Restores earlier knowledge, given oldest first. If there are more than fit, the oldest are
    /// left out; 0 is not a key.
    pub fn remembered(deaths: &[u64], keys: &[u64]) -> Self {
        let mut loops = Self::NONE;
        for key in keys.iter().filter(|key| **key != 0) {
            loops.enter(*key);
        }
        for key in deaths.iter().filter(|key| **key != 0) {
            if !loops.contains(*key) {
                loops.deaths.push(*key);
            }
        }
        loops
    }

    /// The same, after so many kills without a finished piece of work.
    #[must_use]
    pub const fn after_kills(mut self, kills_without_progress: u32) -> Self {
        self.kills_without_progress = kills_without_progress;
        self
    }

    /// How many times in a row the target was killed for a finding of the judge, and finished no
    /// piece of work in between or since.
    pub const fn kills_without_progress(&self) -> u32 {
        self.kills_without_progress
    }

    /// The target was killed.
    pub(crate) const fn killed(&mut self) {
        self.kills_without_progress = self.kills_without_progress.saturating_add(1);
    }

    /// The target has finished a piece of work.
    pub(crate) const fn progressed(&mut self) {
        self.kills_without_progress = 0;
    }

    /// Keys for which nothing is killed, oldest first.
    pub fn keys(&self) -> &[u64] {
        self.keys.all()
    }

    /// Work in flight at the deaths that have not led to a crash loop, oldest first.
    pub fn deaths(&self) -> &[u64] {
        self.deaths.all()
    }

    /// How many keys were forgotten because there were too many.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether nothing is killed for `key`.
    pub fn contains(&self, key: u64) -> bool {
        self.keys().contains(&key)
    }

    /// At how many remembered deaths `key` was in flight, as long as it is not in a crash loop.
    pub fn deaths_of(&self, key: u64) -> usize {
        self.deaths().iter().filter(|death| **death == key).count()
    }

    /// The target died with `key` in flight. After `after` such deaths it is a crash loop; if that
    /// is zero, never. True if it has just become one.
    pub(crate) fn died(&mut self, key: u64, after: u32) -> bool {
        // Work without a key cannot be recognized at the next death.
        if key == 0 || after == 0 || self.contains(key) {
            return false;
        }
        self.deaths.push(key);
        if self.deaths_of(key) < after as usize {
            return false;
        }
        self.enter(key);
        true
    }

    /// Adds what is known of the work in flight to the verdict's observations.
    pub(crate) fn tell(&self, condemned: &mut Condemnation) {
        let Some(key) = condemned.work_key() else { return };
        let known = if self.contains(key) {
            format!("work {key} is in a crash loop: nothing is killed for it until a person clears it")
        } else {
            match self.deaths_of(key) {
                0 => return,
                1 => format!("work {key} was in flight at an earlier death too"),
                deaths => format!("work {key} was in flight at {deaths} earlier deaths too"),
            }
        };
        condemned.observations.push(known);
    }

    /// Moves work that was in flight at `after` or more remembered deaths into a crash loop.
    #[must_use]
    pub fn settled(mut self, after: u32) -> Self {
        if after == 0 {
            return Self::NONE.after_kills(self.kills_without_progress);
        }
        for key in self.deaths.keys {
            if key != 0 && self.deaths_of(key) >= after as usize {
                self.enter(key);
            }
        }
        self
    }

    fn enter(&mut self, key: u64) {
        if !self.contains(key) && self.keys.push(key) {
            self.dropped = self.dropped.saturating_add(1);
        }
        self.deaths.remove(|death| death == key);
    }

    /// A person clears `key`, or all work: its deaths so far are forgotten and it is judged as
    /// usual again. Kills without progress are forgotten too, unless `key` was in no crash loop.
    /// Returns how many keys were in a crash loop.
    pub fn clear(&mut self, key: Option<u64>) -> usize {
        if key.is_none_or(|key| self.contains(key)) {
            self.kills_without_progress = 0;
        }
        let meant = |of: u64| key.is_none_or(|key| key == of);
        self.deaths.remove(meant);
        self.keys.remove(meant)
    }
}

/// Why the verdict is `crash_loop` while the target does other work.
pub(crate) fn standing(keys: &[u64]) -> String {
    let all: Vec<String> = keys.iter().map(ToString::to_string).collect();
    format!(
        "the target died more than once with work {} in flight: nothing is killed for that until a person clears it",
        all.join(", ")
    )
}

/// Why the target is not killed although it is condemned.
pub(crate) fn sparing(key: u64, why: &str) -> String {
    format!("{why}; it is not killed, since work {key} was in flight at more than one death already")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_death_on_one_work_is_a_crash_loop_and_stays_one() {
        let mut loops = CrashLoops::NONE;
        assert!(!loops.died(7, 2) && !loops.died(8, 2));
        assert_eq!((loops.deaths_of(7), loops.contains(7)), (1, false));
        assert!(loops.died(7, 2));
        assert!(!loops.died(7, 2), "told once");
        assert_eq!((loops.keys(), loops.deaths()), (&[7][..], &[8][..]));
    }

    #[test]
    fn work_without_a_key_is_never_poison() {
        let mut loops = CrashLoops::NONE;
        assert!((0..9).all(|_| !loops.died(0, 2)));
        assert_eq!(loops, CrashLoops::NONE);
        assert_eq!(CrashLoops::remembered(&[0, 0], &[0]), CrashLoops::NONE);
    }

    #[test]
    fn deaths_that_are_long_ago_are_forgotten() {
        let mut loops = CrashLoops::NONE;
        loops.died(1, 2);
        assert!((2..=1 + DEATHS as u64).all(|other| !loops.died(other, 2)));
        assert!(!loops.died(1, 2), "sixteen deaths lie in between");
    }

    #[test]
    fn of_too_many_keys_the_oldest_go_and_are_counted() {
        let mut loops = CrashLoops::NONE;
        for key in 1..=KEYS as u64 + 2 {
            assert!(!loops.died(key, 2) && loops.died(key, 2));
        }
        assert_eq!((loops.keys().len(), loops.dropped()), (KEYS, 2));
        assert!(!loops.contains(2) && loops.contains(3));
    }

    #[test]
    fn what_is_cleared_begins_anew() {
        let mut loops = CrashLoops::remembered(&[7, 8], &[9, 10]);
        assert_eq!(loops.clear(Some(7)), 0);
        assert_eq!(loops.clear(Some(9)), 1);
        assert_eq!((loops.keys(), loops.deaths()), (&[10][..], &[8][..]));
        assert_eq!(loops.clear(None), 1);
        assert!(!loops.died(9, 2) && loops.died(9, 2));
    }

    #[test]
    fn switched_off_nothing_is_poison() {
        let mut loops = CrashLoops::NONE;
        assert!((0..9).all(|_| !loops.died(7, 0)));
        assert!(loops.died(7, 1), "and with one, each death is enough");
    }

    #[test]
    fn deaths_that_were_written_down_apart_are_put_together() {
        let loops = CrashLoops::remembered(&[3, 4, 3], &[5]);
        assert_eq!(loops.settled(2).keys(), [5, 3]);
        assert_eq!(loops.settled(2).deaths(), [4]);
        assert_eq!(loops.settled(3), loops);
        assert_eq!(loops.settled(0), CrashLoops::NONE);
    }

    #[test]
    fn kills_are_counted_until_work_is_finished_or_a_person_clears_everything() {
        let mut loops = CrashLoops::remembered(&[3], &[5]).after_kills(2);
        loops.killed();
        assert_eq!(loops.kills_without_progress(), 3);
        loops.clear(Some(6));
        assert_eq!((loops.kills_without_progress(), loops.settled(0).kills_without_progress()), (3, 3));
        loops.clear(Some(5));
        assert_eq!(loops.kills_without_progress(), 0);
        loops.killed();
        loops.clear(None);
        assert_eq!(loops, CrashLoops::NONE);
        loops.killed();
        loops.progressed();
        assert_eq!(loops.kills_without_progress(), 0);
    }

    #[test]
    fn what_is_remembered_comes_back_as_it_was() {
        let mut loops = CrashLoops::remembered(&[3, 4, 3], &[5]);
        assert_eq!((loops.deaths(), loops.keys()), (&[3, 4, 3][..], &[5][..]));
        assert!(loops.died(3, 2));
        assert_eq!(CrashLoops::remembered(loops.deaths(), loops.keys()), loops);
    }
}
