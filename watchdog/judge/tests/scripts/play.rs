//! Plays a history, and tells what came otherwise than expected, in place.

use std::fmt::Write as _;

use super::expect::{Mismatch, Subject, Wanted};
use super::script::{self, Line, Step};
use super::stage::Stage;
use super::words::written;

/// A line that came otherwise than expected, or that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its number; lines count from 1.
    pub line: usize,
    /// What came instead, one sentence each.
    pub told: Vec<String>,
    /// What the judge says at this moment; empty for a line that cannot be read.
    pub state: Vec<String>,
    /// Words of the line, and what to write in their place so that it holds.
    pub instead: Vec<(String, String)>,
}

/// Plays `text` to its end, or to the first line after which nothing makes sense.
pub fn play(text: &str) -> Vec<Failure> {
    let lines = match script::read(text) {
        Ok(lines) => lines,
        Err(errors) => {
            let failure = |error: script::Unreadable| Failure {
                line: error.number,
                told: vec![error.why],
                state: Vec::new(),
                instead: Vec::new(),
            };
            return errors.into_iter().map(failure).collect();
        }
    };
    let mut play = Play { stage: Stage::new(), failures: Vec::new() };
    // The failure is among the others already.
    let _ = play.all(&lines);
    play.failures
}

struct Play {
    stage: Stage,
    failures: Vec<Failure>,
}

/// Whatever follows makes no sense.
struct Over;

impl Play {
    fn all(&mut self, lines: &[Line]) -> Result<(), Over> {
        lines.iter().try_for_each(|line| self.line(line))
    }

    fn line(&mut self, line: &Line) -> Result<(), Over> {
        match &line.step {
            Step::Change(changes) => {
                let done = changes.iter().try_for_each(|change| change(&mut self.stage));
                done.map_err(|why| self.fail(line.number, vec![why], Vec::new()))
            }
            Step::Advance { time, every, until } => {
                let condemned = self.condemned();
                // A condemnation that nobody expects ends the step, so that it shows when it came.
                let done = |stage: &Stage| match until.as_slice() {
                    [] => !condemned && stage.decision.is_some_and(|decision| decision.condemned),
                    until => mismatches(until, stage).is_ok_and(|wrong| wrong.is_empty()),
                };
                self.stage.advance(*time, *every, done);
                self.passed(line.number, until, condemned)
            }
            Step::Away { time, until } => {
                let condemned = self.condemned();
                self.stage.pass(*time);
                self.stage.took = *time;
                self.passed(line.number, until, condemned)
            }
            Step::Expect { subject, wanted } => {
                let wrong = wanted.iter().map(|wanted| wanted.check(subject, &self.stage)).collect();
                self.expected(line.number, wrong)
            }
            Step::ExpectNotes(expected) => {
                self.notes(line.number, expected);
                Ok(())
            }
            Step::Repeat { times, steps } => (0..*times).try_for_each(|_| {
                let before = self.failures.len();
                self.all(steps)?;
                // Once is enough.
                if self.failures.len() > before { Err(Over) } else { Ok(()) }
            }),
        }
    }

    fn condemned(&self) -> bool {
        self.stage.decision.is_some_and(|decision| decision.condemned)
    }

    /// After a step in which time passed: `until` must hold, and without one nobody may have been
    /// condemned.
    fn passed(&mut self, line: usize, until: &[Wanted], condemned: bool) -> Result<(), Over> {
        let told = if until.is_empty() {
            if condemned || !self.condemned() {
                return Ok(());
            }
            let reason = self.stage.scene.reason().map_or("", |reason| reason.label());
            vec![format!("condemned ({reason}), and the line does not say `until condemned`")]
        } else {
            match mismatches(until, &self.stage) {
                Ok(wrong) if wrong.is_empty() => return Ok(()),
                Ok(wrong) => wrong.into_iter().map(|wrong| format!("in vain: {}", wrong.told)).collect(),
                Err(why) => vec![why],
            }
        };
        Err(self.fail(line, told, Vec::new()))
    }

    fn expected(&mut self, line: usize, wrong: Result<Vec<Option<Mismatch>>, String>) -> Result<(), Over> {
        let wrong: Vec<Mismatch> = match wrong {
            Ok(wrong) => wrong.into_iter().flatten().collect(),
            Err(why) => return Err(self.fail(line, vec![why], Vec::new())),
        };
        if !wrong.is_empty() {
            let told = wrong.iter().map(|wrong| wrong.told.clone()).collect();
            let instead = wrong.into_iter().map(|wrong| (wrong.raw, wrong.instead)).collect();
            // What follows may well hold.
            let Over = self.fail(line, told, instead);
        }
        Ok(())
    }

    fn notes(&mut self, line: usize, expected: &[String]) {
        let came = self.stage.take_notes();
        if came == expected {
            return;
        }
        let list = |notes: &[String]| if notes.is_empty() { "nothing".to_owned() } else { notes.join(" ") };
        let (expected, came) = (list(expected), list(&came));
        let told = vec![format!("notes: expected {expected}"), format!("notes: came {came}")];
        let instead = vec![(format!("notes {expected}"), format!("notes {came}"))];
        let Over = self.fail(line, told, instead);
    }

    fn fail(&mut self, line: usize, told: Vec<String>, instead: Vec<(String, String)>) -> Over {
        self.failures.push(Failure { line, told, state: state(&self.stage), instead });
        Over
    }
}

fn mismatches(wanted: &[Wanted], stage: &Stage) -> Result<Vec<Mismatch>, String> {
    let checked = wanted.iter().map(|wanted| wanted.check(&Subject::Whole, stage));
    Ok(checked.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// What the judge says now, for whoever has to find out why.
fn state(stage: &Stage) -> Vec<String> {
    let Some(decision) = stage.decision else { return Vec::new() };
    let judge = &stage.scene.judge;
    let mut lines = vec![format!("at {}: {}, \"{}\"", written(stage.time()), decision.verdict, judge.why())];
    if decision.condemned {
        let reason = stage.scene.reason().map_or("", |reason| reason.label());
        let with = |is: bool, word: &'static str| if is { word } else { "" };
        let (held, spared) = (with(decision.held, ", held"), with(decision.spared, ", spared"));
        lines.push(format!("condemned for {reason}{held}{spared}"));
    }
    let Some(current) = judge.incarnation() else { return lines };
    for trial in current.threads() {
        let mut line =
            format!("thread {}: {}, counted {}", trial.name, trial.health, written(trial.counted()));
        if let Some(excuse) = trial.excuse {
            let _ = write!(line, ", excused as {excuse}");
        }
        if let Some((key, _)) = trial.work {
            let _ = write!(line, ", at work on {key}");
        }
        lines.push(line);
    }
    for trial in current.channels() {
        let counted = written(trial.counted());
        lines.push(format!("channel {}: {} waiting, counted {counted}", trial.name, trial.depth()));
    }
    lines
}

/// The failures of one file as a person reads them: each line in its place, after those before it.
pub fn report(path: &str, text: &str, failures: &[Failure]) -> String {
    let mut report = String::new();
    for failure in failures {
        let _ = writeln!(report, "\n{path}:{}", failure.line);
        let lines = (1..).zip(text.lines());
        for (number, line) in lines.filter(|(number, _)| (failure.line - 2..=failure.line).contains(number)) {
            let mark = if number == failure.line { '>' } else { ' ' };
            let _ = writeln!(report, "{mark} {number:3} | {line}");
        }
        for told in &failure.told {
            let _ = writeln!(report, "      | {told}");
        }
        for line in &failure.state {
            let _ = writeln!(report, "        {line}");
        }
    }
    report
}

/// The same history with what came in place of what was expected. Lines that no other value makes
/// right are left as they are.
pub fn rewritten(text: &str, failures: &[Failure]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for failure in failures {
        let Some(line) = failure.line.checked_sub(1).and_then(|index| lines.get_mut(index)) else { continue };
        for (raw, instead) in &failure.instead {
            *line = replaced(line, raw, instead);
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// `line` with `instead` for the first `raw` that is no part of a longer word.
fn replaced(line: &str, raw: &str, instead: &str) -> String {
    let ends = |text: &str, at: usize| text[at..].starts_with(char::is_whitespace) || at == text.len();
    let begins = |at: usize| line[..at].ends_with(char::is_whitespace) || at == 0;
    let place = line.match_indices(raw).find(|(at, _)| begins(*at) && ends(line, at + raw.len()));
    match place {
        Some((at, _)) => format!("{}{instead}{}", &line[..at], &line[at + raw.len()..]),
        None => line.to_owned(),
    }
}

#[test]
fn no_part_of_a_longer_word_is_replaced() {
    let line = "expect verdict=condemned condemned # condemned";
    let expected = "expect verdict=condemned condemned=no # condemned";
    assert_eq!(replaced(line, "condemned", "condemned=no"), expected);
    assert_eq!(replaced(line, "healthy", "late"), line);
}
