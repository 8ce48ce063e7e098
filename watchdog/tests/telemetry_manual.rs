//! The documented, declared and sent telemetry is the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use shard_watchdog::telemetry::catalogue::story::{ATTRIBUTES, EVENTS, SPANS};
use shard_watchdog::telemetry::manual;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_documentation_is_what_the_catalogue_says() {
    let path = root().join("docs/telemetry.md");
    let page = manual::page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/telemetry.md is not what the catalogue says. Write it anew: UPDATE_DOCS=1 cargo test -p shard-watchdog --test \
         telemetry_manual"
    );
}

/// Every source file of the sidecar, as text.
fn sources() -> Vec<String> {
    let mut texts = Vec::new();
    let mut folders = vec![root().join("watchdog/src"), root().join("watchdog/telemetry/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

/// The text between `before` and the next quote, for every occurrence of `before`.
fn quoted(texts: &[String], before: &str) -> BTreeSet<String> {
    let after = |text: &String| {
        text.split(before)
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
            .collect::<Vec<_>>()
    };
    texts.iter().flat_map(after).collect()
}

#[test]
fn every_event_in_the_log_is_declared_and_every_declared_one_is_logged() {
    let logged = quoted(&sources(), "event = \"");
    let declared: BTreeSet<_> = EVENTS.iter().map(|event| event.name.to_owned()).collect();
    assert_eq!(logged, declared);
}

#[test]
fn every_attribute_of_a_span_is_declared_once() {
    let keys: Vec<_> = ATTRIBUTES.iter().map(|attribute| attribute.key).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    for span in SPANS {
        for key in span.attributes {
            assert!(keys.contains(key), "{key} of {} is not declared", span.name);
        }
    }
    let spans = std::fs::read_to_string(root().join("watchdog/src/incident/spans.rs")).unwrap();
    for key in quoted(&[spans], "KeyValue::new(\"") {
        assert!(keys.contains(&key.as_str()), "{key} is told and not declared");
    }
}
