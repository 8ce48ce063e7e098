//! Judges the recording of an incident again: the same policy must reach the same decision, bit for
//! bit.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::process::binary;
use crate::{incident, wait};

/// Incidents already proved: scenarios read the same one many times.
static PROVED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Judges the recording of `incident` with its sidecar's config, and compares.
#[track_caller]
pub fn prove(config: &Path, evidence: &Path, incident: &Value) {
    let id = incident["id"].as_str().expect("an id");
    if !PROVED.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned()) {
        return;
    }
    let recording = evidence.join("incidents").join(id).join("recording");
    wait::until("the recording of an incident", || recording.is_file().then_some(()));
    let answer = again(&recording, config);
    if answer["reloads"] != 0 {
        // The decision may rest on a config that no longer exists.
        return;
    }
    assert_eq!(answer["problems"], Value::Array(Vec::new()), "a recording is whole");
    let condemned = |one: &&Value| one["what"] == "condemned";
    let decision = answer["decisions"].as_array().into_iter().flatten().rfind(condemned);
    let decision = decision.unwrap_or_else(|| panic!("replay condemns nobody: {answer:#}"));
    let told = (&decision["reason"], &decision["why"], decision["monotonic_ns"].as_u64());
    let live = (&incident["reason"], &incident["why"], incident::step_at(incident, "seen"));
    assert_eq!(told, live, "replay decides otherwise than the sidecar did: {answer:#}");
    assert_eq!(decision["thread"], incident["thread"]["name"], "{answer:#}");
}

/// The JSON output of `replay`.
#[track_caller]
pub fn again(recording: &Path, config: &Path) -> Value {
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("replay").arg(recording).arg("--config").arg(config).arg("--json");
    let output = command.output().expect("replay starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 5)), "{}: {said}", output.status);
    serde_json::from_slice(&output.stdout).expect("JSON from replay")
}
