//! `docs/openapi.json` is what the sidecar's types say, and has the paths of its router.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shard_watchdog::http::openapi::document;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_document_is_what_the_types_say() {
    let path = root().join("docs/openapi.json");
    let text = document::text().unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == text,
        "docs/openapi.json is not what the types say. Write it anew: UPDATE_DOCS=1 cargo nextest run --workspace --test openapi"
    );
}

/// Every operation of the document: `GET /livez`.
fn described() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(&document::text().unwrap()).unwrap();
    let mut found = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            found.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    found
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let source = std::fs::read_to_string(root().join("watchdog/src/http.rs")).unwrap();
    let mut routes = BTreeSet::new();
    for route in source.split(".route(\"").skip(1) {
        let (path, rest) = route.split_once("\", ").unwrap();
        let method = rest.split_once('(').map(|(method, _)| method.to_uppercase());
        // The one place that refuses all orders at the public address.
        if path != "/api/v1/{order}" {
            routes.insert(format!("{} {path}", method.unwrap()));
        }
    }
    assert!(routes.len() > 15 && routes.contains("POST /api/v1/kill"), "{routes:?}");
    assert_eq!(routes, described());
}

/// Every string under this key.
fn under<'a>(value: &'a Value, key: &str, into: &mut Vec<&'a str>) {
    match value {
        Value::Object(all) => {
            for (name, inner) in all {
                into.extend(inner.as_str().filter(|_| name == key));
                under(inner, key, into);
            }
        }
        Value::Array(all) => all.iter().for_each(|inner| under(inner, key, into)),
        _ => {}
    }
}

#[test]
fn all_that_it_refers_to_is_in_it() {
    let document: Value = serde_json::from_str(&document::text().unwrap()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let mut references = Vec::new();
    under(&document, "$ref", &mut references);
    assert!(references.len() > 30, "{references:?}");
    for reference in references {
        let place = reference.strip_prefix('#').expect("no other document");
        assert!(document.pointer(place).is_some(), "{reference}");
    }
    let mut ids = Vec::new();
    under(&document, "operationId", &mut ids);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), described().len(), "{ids:?}");
    let incident = &document["components"]["schemas"]["Incident"];
    let own: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("docs/incident.schema.json")).unwrap())
            .unwrap();
    assert_eq!(incident["required"], own["required"]);
}
