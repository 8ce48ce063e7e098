//! The results of a run: a table for people, JSON, JUnit XML and Markdown.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};

use super::left_out::{LEFT_OUT, NOT_BUILT};
use super::{Ended, LeftOut, Part, Row, Verdict};
use crate::machine;

/// All rows that have ended.
#[derive(Debug)]
pub struct Report {
    /// The rows, in order.
    pub rows: Vec<Ended>,
    /// How long the whole run took.
    pub took: Duration,
}

/// One line of the table, with the result of a row.
struct Line {
    row: String,
    what: &'static str,
    seen: String,
    times: String,
    came: &'static str,
}

/// The recorded times in their order, with their names in the table.
const TIMES: [(&str, &str); 9] = [
    ("verdict_ms", "verdict"),
    ("dead_ms", "dead"),
    ("running_ms", "running"),
    ("adopted_ms", "adopted"),
    ("answer_ms", "answer"),
    ("verified_ms", "verified"),
    ("healthy_ms", "healthy"),
    ("held_ms", "held"),
    ("took_ms", "took"),
];

impl Report {
    /// How many rows ended in that way.
    fn count(&self, which: impl Fn(&Verdict) -> bool) -> usize {
        self.rows.iter().filter(|row| which(&row.verdict)).count()
    }

    /// How many rows failed.
    pub fn failed(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    /// The summary sentence.
    pub fn sum(&self) -> String {
        let passed = self.count(|verdict| *verdict == Verdict::Passed);
        let skipped = self.count(|verdict| matches!(verdict, Verdict::Skipped(_)));
        format!(
            "{passed} passed, {} failed, {skipped} skipped on this machine, {} not built yet, in {:.0} s",
            self.failed(),
            NOT_BUILT.len(),
            self.took.as_secs_f64()
        )
    }

    /// The table for a terminal or a log.
    pub fn table(&self) -> String {
        let mut text = format!("{:<18} {:<52} {:<44} times, ms\n", "row", "what happens", "seen");
        for part in [Part::Seen, Part::Spared, Part::Watchdog] {
            let rows: Vec<_> = self.rows.iter().filter(|ended| ended.row.part == part).collect();
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(text, "-- {}", part.name());
            for ended in rows {
                let Line { row, what, seen, times, came } = line(ended);
                let _ =
                    writeln!(text, "{row:<18} {:<52} {:<44} {times}  {came}", cut(what, 52), cut(&seen, 44));
                if let Verdict::Failed(why) | Verdict::Skipped(why) = &ended.verdict {
                    let first = why.lines().next().unwrap_or_default();
                    let _ = writeln!(text, "{:<18} {first}", "");
                }
                if let Some(kept) = &ended.kept {
                    let _ = writeln!(text, "{:<18} evidence: {}", "", kept.display());
                }
            }
        }
        text.push_str("-- not built yet\n");
        for LeftOut { number, what, why } in NOT_BUILT {
            let _ = writeln!(text, "{number:<18} {:<52} {why}", cut(what, 52));
        }
        text
    }

    /// The same table as a Markdown page.
    pub fn markdown(&self) -> String {
        let mut text = format!("# Fault matrix\n\n{}.\n", self.sum());
        for part in [Part::Seen, Part::Spared, Part::Watchdog] {
            let rows: Vec<_> = self.rows.iter().filter(|ended| ended.row.part == part).collect();
            if rows.is_empty() {
                continue;
            }
            let _ = write!(text, "\n## {}\n\n{HEAD}", part.name());
            for ended in rows {
                let Line { row, what, seen, times, came } = line(ended);
                let fault = ended.row.fault;
                let cells = [&row, what, fault, &seen, &times, came].map(|cell| cell.replace('|', "\\|"));
                let _ = writeln!(text, "| {} |", cells.join(" | "));
            }
        }
        text.push_str("\n## Not built yet\n\n| row | what happens | why |\n| --- | --- | --- |\n");
        for LeftOut { number, what, why } in NOT_BUILT {
            let _ = writeln!(text, "| {number} | {what} | {why} |");
        }
        text
    }

    /// The same results for scripts.
    pub fn json(&self) -> Value {
        let row = |ended: &Ended| {
            let (result, why) = match &ended.verdict {
                Verdict::Passed => ("passed", None),
                Verdict::Failed(why) => ("failed", Some(why)),
                Verdict::Skipped(why) => ("skipped", Some(why)),
            };
            json!({
                "row": ended.row.number,
                "case": ended.row.case,
                "part": ended.row.part.name(),
                "what": ended.row.what,
                "fault": ended.row.fault,
                "result": result,
                "why": why,
                "seen": ended.told["seen"],
                "times": ended.told["times"],
                "facts": ended.told["facts"],
                "took_s": ended.took.as_secs_f64(),
                "evidence": ended.kept.as_ref().map(|kept| kept.display().to_string()),
            })
        };
        let left_out = |all: &[LeftOut]| {
            let one = |one: &LeftOut| json!({ "row": one.number, "what": one.what, "why": one.why });
            all.iter().map(one).collect::<Vec<_>>()
        };
        json!({
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "not_built": left_out(NOT_BUILT),
            "left_out": left_out(LEFT_OUT),
            "passed": self.count(|verdict| *verdict == Verdict::Passed),
            "failed": self.failed(),
            "skipped": self.count(|verdict| matches!(verdict, Verdict::Skipped(_))),
            "took_s": self.took.as_secs_f64(),
            "machine": machine::describe(),
        })
    }

    /// The same results for tools that show test results.
    ///
    /// # Errors
    /// If it cannot be serialized as XML.
    pub fn junit(&self) -> Result<String, quick_junit::SerializeError> {
        let mut report = quick_junit::Report::new("fault matrix");
        report.set_time(self.took);
        for part in [Part::Seen, Part::Spared, Part::Watchdog] {
            let mut suite = TestSuite::new(part.name());
            suite.add_test_cases(self.rows.iter().filter(|ended| ended.row.part == part).map(case));
            if !suite.test_cases.is_empty() {
                report.add_test_suite(suite);
            }
        }
        let mut suite = TestSuite::new("not built yet");
        suite.add_test_cases(NOT_BUILT.iter().map(|one| {
            let mut status = TestCaseStatus::skipped();
            status.set_message(one.why);
            TestCase::new(format!("row {}: {}", one.number, one.what), status)
        }));
        report.add_test_suite(suite);
        report.to_string()
    }

    /// Writes all three files into `out`.
    ///
    /// # Errors
    /// Which file could not be written, and why.
    pub fn write(&self, out: &Path) -> Result<(), String> {
        let junit = self.junit().map_err(|error| error.to_string())?;
        let files = [
            ("matrix.json", format!("{:#}\n", self.json())),
            ("matrix.md", self.markdown()),
            ("junit.xml", junit),
        ];
        for (name, text) in files {
            let path = out.join(name);
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

const HEAD: &str = "\
| row | what happens | how it is made | seen | times, ms | |
| --- | --- | --- | --- | --- | --- |
";

fn case(ended: &Ended) -> TestCase {
    let status = match &ended.verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Failed(why) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(why.lines().next().unwrap_or_default()).set_description(why.as_str());
            status
        }
        Verdict::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why.as_str());
            status
        }
    };
    let mut case = TestCase::new(format!("row {}: {}", ended.row.id(), ended.row.what), status);
    case.set_classname("faults.matrix").set_time(ended.took);
    case.set_system_out(format!("{}: {}", seen(ended), times(ended)));
    case
}

fn line(ended: &Ended) -> Line {
    let came = match ended.verdict {
        Verdict::Passed => "pass",
        Verdict::Failed(_) => "FAIL",
        Verdict::Skipped(_) => "skipped",
    };
    Line { row: ended.row.id(), what: ended.row.what, seen: seen(ended), times: times(ended), came }
}

fn seen(ended: &Ended) -> String {
    ended.told["seen"].as_str().unwrap_or_default().to_owned()
}

fn times(ended: &Ended) -> String {
    let one = |(key, name): &(&str, &str)| {
        let time = ended.told["times"][*key].as_f64()?;
        Some(if time < 10.0 { format!("{name} {time:.1}") } else { format!("{name} {time:.0}") })
    };
    TIMES.iter().filter_map(one).collect::<Vec<_>>().join(", ")
}

/// Cuts `text` to the width of a column.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// The rows that exist, and those left out, for `--list`.
pub fn list(rows: &[Row]) -> String {
    let mut text = String::new();
    for part in [Part::Seen, Part::Spared, Part::Watchdog] {
        let _ = writeln!(text, "-- {}", part.name());
        for row in rows.iter().filter(|row| row.part == part) {
            let _ = writeln!(text, "{:<18} {} [{}]", row.id(), row.what, row.fault);
        }
    }
    for (title, all) in [("not built yet", NOT_BUILT), ("left out", LEFT_OUT)] {
        let _ = writeln!(text, "-- {title}");
        for LeftOut { number, what, why } in all {
            let _ = writeln!(text, "{number:<18} {what} [{why}]");
        }
    }
    text
}
