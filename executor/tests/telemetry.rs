//! The documented, declared and exported telemetry must be the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::collections::BTreeSet;
use std::path::Path;

use shard_executor::telemetry::catalogue::story::{ATTRIBUTES, SPANS};
use shard_executor::telemetry::manual;

#[test]
fn the_documentation_is_what_the_catalogue_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry-executor.md");
    let page = manual::page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/telemetry-executor.md is not what the catalogue says. Write it anew: UPDATE_DOCS=1 cargo test -p shard-executor --test \
         telemetry"
    );
}

#[test]
fn every_attribute_of_a_span_is_declared_once() {
    let keys: BTreeSet<_> = ATTRIBUTES.iter().map(|attribute| attribute.key).collect();
    assert_eq!(keys.len(), ATTRIBUTES.len());
    let used: BTreeSet<_> = SPANS.iter().flat_map(|span| span.attributes).copied().collect();
    assert_eq!(used, keys);
}
