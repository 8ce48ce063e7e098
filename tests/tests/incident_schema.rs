//! `docs/incident.schema.json` is what the sidecar's types say, and it holds something.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::Path;

use serde_json::{Value, json};
use shard_tests::incident;
use shard_watchdog::incident::{Incident, schema};

/// A document of an early version, in which fields of today are missing.
const EARLY: &str = include_str!("../../watchdog/tests/documents/early-incident.json");

#[test]
fn the_schema_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/incident.schema.json");
    let schema = schema::document().unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == schema,
        "docs/incident.schema.json is not what the types say. Write it anew: UPDATE_DOCS=1 cargo nextest run --workspace --test \
         incident_schema"
    );
}

/// Each part of the schema that has fields, by its path.
fn objects(schema: &Value, path: &str, into: &mut Vec<(String, Value)>) {
    if schema["properties"].is_object() {
        into.push((path.to_owned(), schema["properties"].clone()));
    }
    for (key, inner) in schema.as_object().into_iter().flatten() {
        objects(inner, &format!("{path}/{key}"), into);
    }
}

#[test]
fn every_field_is_explained() {
    let schema: Value = serde_json::from_str(&schema::document().unwrap()).unwrap();
    let mut all = Vec::new();
    objects(&schema, "", &mut all);
    assert!(all.len() >= 7, "the document, target, thread, tracer, entry, durations, trace: {all:#?}");
    for (path, fields) in all {
        for (name, field) in fields.as_object().unwrap() {
            let told = field["description"].as_str().unwrap_or_default();
            assert!(told.len() > 8, "{path}/{name} has no description: {field}");
            let unit = [("_us", "Microseconds"), ("_ms", "Milliseconds")];
            let unit = unit.into_iter().find(|(end, _)| name.ends_with(end));
            assert!(unit.is_none_or(|(_, unit)| told.starts_with(unit)), "{path}/{name}: {told}");
        }
    }
}

/// That document as this version writes it.
fn of_today() -> Value {
    serde_json::to_value(serde_json::from_str::<Incident>(EARLY).unwrap()).unwrap()
}

#[test]
fn a_document_of_an_early_version_is_read_and_written_as_one_of_today() {
    let early: Value = serde_json::from_str(EARLY).unwrap();
    let today = of_today();
    incident::assert_valid(&today);
    for missing in ["boot", "last_words", "tracer", "trace"] {
        assert!(early.get(missing).is_none() && today.get(missing) == Some(&Value::Null), "{missing}");
    }
    assert!(!incident::errors(&early).is_empty(), "today's documents have all fields");
}

#[test]
fn the_schema_refuses_what_no_sidecar_writes() {
    let good = of_today();
    for (place, bad) in [
        ("/status", json!("closed")),
        ("/reason", json!("bored")),
        ("/opened_at", json!("2026-11-30T18:00:00Z")),
        ("/id", json!("../../etc")),
        ("/boot", json!("not a boot")),
        ("/target/pid", json!("10")),
        ("/timeline/0/step", json!("dreamt")),
        ("/timeline/0/monotonic_ns", json!(-1)),
        ("/durations/signal_to_dead_us", json!(0.5)),
        ("/observations", json!("one")),
    ] {
        let mut document = good.clone();
        *document.pointer_mut(place).unwrap() = bad;
        assert!(!incident::errors(&document).is_empty(), "{place}: {document:#}");
    }
    for field in good.as_object().unwrap().keys() {
        let mut document = good.clone();
        document.as_object_mut().unwrap().remove(field);
        assert!(!incident::errors(&document).is_empty(), "without {field}");
    }
}
