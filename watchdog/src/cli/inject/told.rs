//! The final output: the timeline and its outcome.

use std::fmt::Write as _;

use serde_json::json;
use shard_watchdog::demo::report;

use super::fault::Fault;
use super::follow::{Follow, Moment, Outcome};

const GREEN: &str = "\x1b[1;32m";
const RED: &str = "\x1b[1;31m";
const OFF: &str = "\x1b[0m";

/// Excuses shorter than this, in seconds, occur on any busy machine; only the JSON has them.
const LEAST_TOLD: f64 = 0.05;

/// Everything that the output reports.
#[derive(Debug)]
pub(super) struct Story {
    fault: String,
    /// The process that was broken.
    pid: Option<i32>,
    /// Each with its milliseconds since the fault.
    moments: Vec<(f64, Moment)>,
    excused: Vec<(String, f64)>,
    killed: bool,
    /// The outcome in one sentence.
    ends: String,
    recovered: bool,
    /// What is left of the fault.
    not_undone: Option<String>,
}

impl Story {
    pub(super) fn of(
        fault: &dyn Fault,
        follow: &Follow,
        outcome: &Outcome,
        undone: Result<(), String>,
    ) -> Self {
        let mut moments = follow.moments();
        let name = fault.name();
        // A fault that reports late had struck by the first observation, because the shard was
        // healthy before.
        let first = moments
            .iter()
            .find(|moment| moment.step == "condemned" || fault.is_told_late())
            .map(|moment| moment.at);
        let struck = fault.struck_at().map(|at| first.map_or(at, |first| at.min(first)));
        let from = struck.or_else(|| moments.first().map(|moment| moment.at)).unwrap_or_default();
        let mut add = |at: Option<u64>, step, detail: &str| {
            if let Some(at) = at {
                let place = moments.partition_point(|moment| moment.at < at);
                moments.insert(place, Moment { at, step, detail: detail.to_owned() });
            }
        };
        add(struck, "fault", &name);
        if struck.is_some() && undone.is_ok() && !follow.ended() {
            add(fault.undone_at(), "undone", "");
        }
        let moments: Vec<(f64, Moment)> =
            moments.into_iter().map(|moment| (report::milliseconds(from, moment.at), moment)).collect();
        let last = |step| moments.iter().rev().find(|(_, moment)| moment.step == step).map(|(ms, _)| *ms);
        let killed = follow.killed();
        let falsely = killed && fault.must_not_kill();
        let mode = follow.mode();
        let (recovered, ends) = match outcome {
            _ if falsely => (false, format!("killed, and {name} is nothing to kill for")),
            Outcome::Restarted => (
                true,
                match last("ready").or_else(|| last("restarted")) {
                    Some(ms) => format!("{name} → ready in {ms:.0} ms"),
                    None => format!("{name} → restarted"),
                },
            ),
            Outcome::Healthy if follow.condemned() => {
                (true, format!("healthy again by itself; condemned, and not killed ({mode})"))
            }
            Outcome::Healthy => (true, "healthy again, and nobody was killed".to_owned()),
            Outcome::Interrupted => (false, "stopped by a signal".to_owned()),
            Outcome::Late(why) => (false, why.clone()),
        };
        Self {
            fault: name,
            pid: fault.pid(),
            excused: follow.excused(),
            killed,
            recovered: recovered && undone.is_ok(),
            ends,
            not_undone: undone.err(),
            moments,
        }
    }

    pub(super) const fn recovered(&self) -> bool {
        self.recovered
    }

    /// The output for a person.
    pub(super) fn text(&self, colour: bool) -> String {
        let mut text = format!("\n{}\n", report::HEADER);
        // Writing to a String cannot fail.
        for (ms, Moment { step, detail, .. }) in &self.moments {
            let _ = writeln!(text, "{}", report::line(*ms, step, detail));
        }
        text.push('\n');
        for (kind, seconds) in self.excused.iter().filter(|(_, seconds)| *seconds >= LEAST_TOLD) {
            let _ = writeln!(text, "excused: {kind} {seconds:.1} s");
        }
        let (word, paint) = if self.recovered { ("recovered", GREEN) } else { ("not recovered", RED) };
        let (on, off) = if colour { (paint, OFF) } else { ("", "") };
        let _ = writeln!(text, "{on}{word}{off}: {}", self.ends);
        if let Some(left) = &self.not_undone {
            let _ = writeln!(text, "{on}not undone{off}: {left}");
        }
        text
    }

    /// The output for a script: one line of JSON.
    pub(super) fn json(&self) -> String {
        let timeline: Vec<_> = self
            .moments
            .iter()
            .map(|(ms, moment)| {
                let ms = (ms * 1e3).round() / 1e3;
                json!({ "since_fault_ms": ms, "step": moment.step, "detail": moment.detail })
            })
            .collect();
        let excused: serde_json::Map<_, _> =
            self.excused.iter().map(|(kind, seconds)| (kind.clone(), json!(seconds))).collect();
        let told = json!({
            "fault": self.fault,
            "pid": self.pid,
            "recovered": self.recovered,
            "why": self.ends,
            "killed": self.killed,
            "undone": self.not_undone.is_none(),
            "not_undone": self.not_undone,
            "excused_seconds": excused,
            "timeline": timeline,
        });
        format!("{told}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(recovered: bool) -> Story {
        let moment = |ms, step, detail: &str| (ms, Moment { at: 0, step, detail: detail.to_owned() });
        Story {
            fault: "hang at x".to_owned(),
            pid: Some(7),
            moments: vec![moment(0.0, "fault", "hang at x"), moment(1000.5, "condemned", "exec-s0 stalled")],
            excused: vec![("starved".to_owned(), 0.004), ("stopped".to_owned(), 2.04)],
            killed: false,
            ends: "healthy again, and nobody was killed".to_owned(),
            recovered,
            not_undone: (!recovered).then(|| "it is stopped still".to_owned()),
        }
    }

    #[test]
    fn a_person_reads_a_timeline_and_what_it_comes_to() {
        insta::assert_snapshot!(story(true).text(false), @r"

              ms since the fault
              0.00  fault       hang at x
           1000.50  condemned   exec-s0 stalled

        excused: stopped 2.0 s
        recovered: healthy again, and nobody was killed
        ");
        let text = story(false).text(true);
        assert!(text.contains("\x1b[1;31mnot recovered\x1b[0m: "), "{text}");
        assert!(text.ends_with("not undone\x1b[0m: it is stopped still\n"), "{text}");
    }

    #[test]
    fn a_script_reads_one_line() {
        let told = story(true).json();
        assert_eq!(told.lines().count(), 1, "{told}");
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["timeline"][1]["since_fault_ms"], 1000.5);
        assert_eq!(told["excused_seconds"]["stopped"], 2.04);
        assert!(told["not_undone"].is_null() && told["recovered"] == true);
    }
}
