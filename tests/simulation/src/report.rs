//! The findings of a run, as text: the broken rules by name, each with the histories that broke it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use shard_watchdog::judge::Note;

use super::generator;
use super::history::Stage;
use super::invariants::Violation;
use super::plan::Nanos;
use super::shrink;

/// Histories listed for one rule. A single fault of the judge breaks it by the thousand.
const LISTED: usize = 100;
/// How many of these are printed in full and shortened. More of them seldom show more.
const IN_FULL: usize = 2;
/// Notes of the judge that are printed for one history: half from its beginning, half from its end.
const NOTES: usize = 40;

/// One history that broke a rule.
#[derive(Clone, Debug)]
pub struct Breach {
    /// Its number in the run.
    pub number: u64,
    /// Its seed.
    pub seed: u64,
    /// How it broke the rule.
    pub violation: Violation,
}

/// The histories that broke one rule.
#[derive(Clone, Debug, Default)]
pub struct Breaches {
    /// How many there are.
    pub times: u64,
    /// The first of them in the order of the run, up to the number listed.
    pub first: Vec<Breach>,
}

impl Breaches {
    /// Adds one.
    pub fn push(&mut self, breach: Breach) {
        self.add(Self { times: 1, first: vec![breach] });
    }

    /// Adds those from another part of the run.
    pub fn add(&mut self, other: Self) {
        self.times += other.times;
        self.first.extend(other.first);
        self.first.sort_by_key(|breach| breach.number);
        self.first.truncate(LISTED);
    }
}

/// Every broken rule with its histories, which were run on `stage`; empty if none was broken.
pub fn report(broken: &BTreeMap<&'static str, Breaches>, stage: &Stage) -> String {
    let mut text = String::new();
    for (rule, breaches) in broken {
        let Breaches { times, first } = breaches;
        let _ = writeln!(text, "{rule}: {times} histories\n");
        for (place, Breach { seed, violation, .. }) in first.iter().enumerate() {
            let _ = if place < IN_FULL {
                writeln!(text, "{}\n", in_full(stage, *seed))
            } else {
                writeln!(text, "seed {seed}: {violation}")
            };
        }
        let more = times - first.len() as u64;
        if more > 0 {
            let _ = writeln!(text, "and {more} more");
        }
        let _ = writeln!(text);
    }
    text
}

/// The history of `seed`, shortened, as a list of events.
pub fn in_full(stage: &Stage, seed: u64) -> String {
    let mut text = String::new();
    let Some((plan, violation)) = shrink::shrink(stage, &generator::plan(seed)) else {
        return format!("seed {seed} breaks no rule");
    };
    let _ = writeln!(text, "seed {seed} (simulate --histories 1 --seed {seed}), shrunk:");
    let _ = writeln!(text, "  {} watched, {:?}", plan.threads, plan.rules);
    let _ = writeln!(text, "  {:?}", plan.machine);
    for timed in &plan.events {
        let _ = writeln!(text, "  {timed}");
    }
    let mut notes = Vec::new();
    stage.live_telling(&plan, |at, note| notes.extend(line(at, note)));
    let _ = writeln!(text, "  what the judge noted:");
    let left_out = notes.len().saturating_sub(NOTES);
    for (place, note) in notes.iter().enumerate() {
        if left_out > 0 && place == NOTES / 2 {
            let _ = writeln!(text, "  {:>12}  {left_out} more notes", "");
        }
        if place < NOTES / 2 || place >= NOTES / 2 + left_out {
            let _ = writeln!(text, "  {note}");
        }
    }
    let _ = write!(text, "  ⇒ {violation}");
    text
}

fn line(at: Nanos, note: &Note) -> Option<String> {
    let at = format!("{:.3?}", Duration::from_nanos(at));
    let note = match note {
        Note::ProgressGap { .. } => return None,
        Note::Opened(condemned) => format!("condemned: {}", condemned.why),
        note => format!("{note:?}"),
    };
    Some(format!("{at:>12}  {note}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breach(number: u64) -> Breach {
        Breach {
            number,
            seed: number,
            violation: Violation { at: 0, rule: "a rule", what: "what".to_owned() },
        }
    }

    #[test]
    fn every_history_is_listed_under_its_rule_and_what_is_left_out_is_counted() {
        let mut breaches = Breaches::default();
        for number in (0..103).rev() {
            breaches.push(breach(number));
        }
        let report = report(
            &BTreeMap::from([("a rule", breaches), ("other", Breaches::default())]),
            &Stage::default(),
        );
        assert!(report.starts_with("a rule: 103 histories\n"), "{report}");
        for number in 0..100 {
            assert!(report.contains(&format!("seed {number}")), "{number}: {report}");
        }
        assert!(!report.contains("seed 100") && report.contains("\nand 3 more\n"), "{report}");
        assert!(report.contains("other: 0 histories"), "{report}");
    }
}
