//! Sections of a piece of work, each with a threshold of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::policy::SectionLimits;
use shard_judge::section::Section;
use shard_judge::testing::Scene;
use shard_judge::testing::at_work::{self, STALL_AFTER, WARN_AFTER};

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);
/// The time between two observations at the shortest threshold here.
const TWO_LOOKS: Duration = Duration::from_millis(100);

fn section(name: &str) -> Section {
    Section::parse(name).unwrap()
}

/// A thread at work on a lock, with a short and a long section in its rule.
fn begin(deadline: Duration) -> Scene {
    let mut history = at_work::begin(deadline.as_nanos().try_into().unwrap());
    let limits = |name, time| SectionLimits::new(section(name), time, (STALL_AFTER, WARN_AFTER));
    history.policy.rules[0].sections = vec![limits("reading", SHORT), limits("committing", LONG)];
    history
}

/// The same, after it has entered that section.
fn enters(name: &str, deadline: Duration) -> Scene {
    let mut history = begin(deadline);
    history.thread().section = section(name).word();
    history.progress();
    history
}

#[test]
fn each_section_has_the_threshold_that_its_rule_gives_it() {
    for (name, threshold) in [("reading", SHORT), ("committing", LONG), ("other", STALL_AFTER)] {
        let mut history = enters(name, Duration::ZERO);
        let took = history.run_as_asked(2 * LONG).unwrap();
        assert!(took >= threshold && took <= threshold + TWO_LOOKS, "{name}: {took:?}");
        let condemned = history.condemned().unwrap();
        assert_eq!(condemned.threshold, Some(threshold));
        assert_eq!(condemned.thread.as_ref().unwrap().section.as_deref(), Some(name));
    }
}

#[test]
fn a_deadline_only_shortens_and_a_first_piece_only_lengthens() {
    let second = Duration::from_secs(1);
    for (name, deadline, warm_up, threshold) in [
        ("committing", 10 * second, Duration::ZERO, 10 * second),
        ("reading", 10 * second, Duration::ZERO, SHORT),
        ("reading", Duration::ZERO, 10 * second, 10 * second),
        ("committing", Duration::ZERO, 10 * second, LONG),
        ("reading", 5 * second, 10 * second, 5 * second),
    ] {
        let mut history = enters(name, deadline);
        history.policy.rules[0].warm_up = warm_up;
        let took = history.run_as_asked(2 * LONG).unwrap();
        assert!(took >= threshold && took <= threshold + TWO_LOOKS, "{name}: {took:?}");
    }
}

#[test]
fn the_warning_is_the_same_share_of_each_threshold() {
    let limits = |time| SectionLimits::new(section("reading"), time, (STALL_AFTER, WARN_AFTER)).warn_after;
    assert_eq!(limits(Duration::from_secs(10)), Duration::from_secs(4));
    assert_eq!(limits(Duration::from_millis(10)), Duration::from_millis(4));
    assert_eq!(limits(Duration::MAX), Duration::MAX, "as long as nobody waits");
    let nothing = SectionLimits::new(section("reading"), SHORT, (Duration::ZERO, Duration::ZERO));
    assert_eq!(nothing.warn_after, SHORT, "of a rule without a threshold, its own");
}

#[test]
fn a_short_section_makes_the_judge_look_more_often() {
    let mut history = begin(Duration::ZERO);
    history.policy.rules[0].sections.clear();
    let without = history.policy.look_every();
    let history = begin(Duration::ZERO);
    assert!(history.policy.look_every() < without);
    assert!(history.policy.look_at_rest() < 4 * without);
}

#[test]
fn a_word_that_changes_all_the_time_never_condemns_and_one_that_stays_does() {
    let mut history = begin(Duration::ZERO);
    let words = [0, section("reading").word(), section("committing").word(), u64::MAX];
    for look in 0..3_000 {
        history.thread().section = words[look % words.len()];
        assert!(!history.pass(history.every).condemned, "look {look}");
    }
    assert!(history.run(2 * LONG).condemned);
    let opened = history.notes.iter().filter(|note| matches!(note, shard_judge::Note::Opened(_))).count();
    assert_eq!(opened, 1);
}

#[test]
fn names_and_words_belong_together() {
    for name in ["a", "reading", "state_root-2", "............", "0"] {
        assert_eq!(Section::from_word(section(name).word()).unwrap().to_string(), name);
    }
    assert_eq!(format!("{:?}", section("reading")), "Section(reading)", "a failed test names it");
    for name in ["", "Reading", "a b", "thirteen-char", "é"] {
        assert_eq!(Section::parse(name), None, "{name}");
    }
    for word in [0, 40, 40 * 40 + 1, 40_u64.pow(12), u64::MAX] {
        assert_eq!(Section::from_word(word), None, "{word}");
    }
}
