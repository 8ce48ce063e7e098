//! Incidents, as the sidecar recorded them.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

/// The schema as it stands in the repository, which is what people validate by.
static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema = include_str!("../../docs/incident.schema.json");
    let schema = serde_json::from_str(schema).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a schema")
});

/// What the schema has against a document; nothing for a valid one.
pub fn errors(document: &Value) -> Vec<String> {
    SCHEMA.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Fails unless a document is valid by the schema.
#[track_caller]
pub fn assert_valid(document: &Value) {
    let errors = errors(document);
    assert!(errors.is_empty(), "not as docs/incident.schema.json says: {errors:#?}\n{document:#}");
}

/// Every incident in an evidence directory, oldest first, each proved valid by the schema.
#[track_caller]
pub fn all(directory: &Path) -> Vec<Value> {
    let Ok(entries) = fs::read_dir(directory.join("incidents")) else { return Vec::new() };
    let mut folders: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    folders.sort();
    folders
        .iter()
        .filter_map(|folder| fs::read(folder.join("incident.json")).ok())
        .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
        .inspect(assert_valid)
        .collect()
}

/// The newest incident. Reading it costs less than reading all, for a benchmark that must not
/// disturb what it measures.
pub fn newest(directory: &Path) -> Option<Value> {
    let folders = fs::read_dir(directory.join("incidents")).ok()?;
    let newest = folders.filter_map(Result::ok).map(|entry| entry.path()).max()?;
    serde_json::from_slice(&fs::read(newest.join("incident.json")).ok()?).ok()
}

/// When a step of an incident happened, `CLOCK_MONOTONIC` nanoseconds.
pub fn step_at(incident: &Value, step: &str) -> Option<u64> {
    incident["timeline"].as_array()?.iter().find(|entry| entry["step"] == step)?["monotonic_ns"].as_u64()
}
