//! Incidents, as the sidecar recorded them.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Every incident in an evidence directory, oldest first.
pub fn all(directory: &Path) -> Vec<Value> {
    let Ok(entries) = fs::read_dir(directory.join("incidents")) else { return Vec::new() };
    let mut folders: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    folders.sort();
    folders
        .iter()
        .filter_map(|folder| fs::read(folder.join("incident.json")).ok())
        .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
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
