//! The timeline for a person, from the output of the processes and the sidecar's own record of the
//! incident.

use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) use super::story::milliseconds;
use super::story::{Moment, Story};

/// The parts of an `incident.json` that are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Incident {
    folder: PathBuf,
    status: String,
    why: String,
    steps: Vec<(String, Moment)>,
}

/// The incident that was opened after the fault, if there is one yet.
pub(super) fn incident(evidence: &Path, fault: u64) -> Option<Incident> {
    let folders = std::fs::read_dir(evidence.join("incidents")).ok()?;
    let all = folders.flatten().filter_map(|entry| read(&entry.path()));
    all.filter(|incident| incident.verdict_at().is_some_and(|at| at >= fault))
        .min_by_key(Incident::verdict_at)
}

fn read(folder: &Path) -> Option<Incident> {
    // The file is replaced as a whole at each step, so what can be read is complete.
    let text = std::fs::read_to_string(folder.join("incident.json")).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    let word =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let steps = value.get("timeline").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let steps = steps.iter().filter_map(|step| {
        let at = step.get("monotonic_ns").and_then(Value::as_u64)?;
        Some((word(step, "step"), Moment { at, what: word(step, "detail") }))
    });
    Some(Incident {
        folder: folder.to_path_buf(),
        status: word(&value, "status"),
        why: word(&value, "why"),
        steps: steps.collect(),
    })
}

impl Incident {
    fn verdict_at(&self) -> Option<u64> {
        self.steps.iter().find(|(step, _)| step == "verdict").map(|(_, moment)| moment.at)
    }
}

/// Why the record is not complete yet.
pub(super) fn unfinished(incident: Option<&Incident>) -> Option<String> {
    match incident {
        None => Some("there is no incident".to_owned()),
        Some(incident) if incident.status == "recovered" => None,
        Some(incident) => Some(format!("the incident is {}", incident.status)),
    }
}

/// One line for each moment, in order, in milliseconds from the fault.
pub(super) fn timeline(story: &Story, incident: &Incident) -> Vec<String> {
    let Some(fault) = story.fault() else { return Vec::new() };
    let said = story.moments().into_iter().map(|(name, moment)| (name.to_owned(), moment));
    let mut moments: Vec<(String, Moment)> = said.collect();
    for (step, moment) in &incident.steps {
        let name = match step.as_str() {
            // Before the fault, or at the same moment as the verdict: the record has them for those
            // who need them.
            "last_progress" | "seen" | "exit_status" => continue,
            "exited" => "dead",
            "restarted" => "watched",
            other => other,
        };
        moments.push((name.to_owned(), moment.clone()));
    }
    moments.sort_by_key(|(_, moment)| moment.at);
    let mut lines = vec![String::new(), HEADER.to_owned()];
    lines.extend(
        moments.iter().map(|(name, moment)| line(milliseconds(fault.at, moment.at), name, &moment.what)),
    );
    lines
}

/// The heading of a timeline.
pub(crate) const HEADER: &str = "      ms since the fault";

/// One line of a timeline.
pub(crate) fn line(ms: f64, name: &str, what: &str) -> String {
    format!("{ms:>10.2}  {name:<11} {what}").trim_end().to_owned()
}

/// What the sidecar recorded, and where.
pub(super) fn record(incident: &Incident, kept: bool) -> Vec<String> {
    let place = if kept {
        format!("evidence: {}", incident.folder.display())
    } else {
        "evidence: deleted with this demo; --keep DIR retains it".to_owned()
    };
    vec![String::new(), format!("why: {}", incident.why), place, String::new()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Monotonic;

    #[test]
    fn the_record_of_the_fault_is_found_among_others() {
        let evidence = tempfile::tempdir().unwrap();
        for (name, at) in [("a", 50), ("b", 300), ("c", 900)] {
            let folder = evidence.path().join("incidents").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            let json = format!(
                r#"{{"status":"recovered","why":"{name}","timeline":[{{"step":"verdict","monotonic_ns":{at},"detail":null}}]}}"#
            );
            std::fs::write(folder.join("incident.json"), json).unwrap();
        }
        std::fs::write(evidence.path().join("incidents").join("stray"), "x").unwrap();
        let found = incident(evidence.path(), 200).unwrap();
        assert_eq!(found.why, "b");
        assert_eq!(unfinished(Some(&found)), None);
        assert!(incident(evidence.path(), 1000).is_none());
    }

    #[test]
    fn the_timeline_is_in_order_and_counts_from_the_fault() {
        let mut story = Story::new(1);
        story.arm(0, Monotonic(0));
        story.hear(0, "fault exit fired at_monotonic_ns=1000000".to_owned());
        story.hear(0, "supervise: CMD pid 9 started at_monotonic_ns=4000000".to_owned());
        let step = |name: &str, at| (name.to_owned(), Moment { at, what: "SIGKILL".to_owned() });
        let steps = vec![step("signal", 2_000_000), step("last_progress", 5)];
        let incident = Incident { steps, ..Incident::default() };
        insta::assert_snapshot!(timeline(&story, &incident).join("\n"), @r"

              ms since the fault
              0.00  fault       exit fired in shard 0
              1.00  signal      SIGKILL
              3.00  supervisor  pid 9 started
        ");
    }
}
