//! `docs/openapi.json` is what the sidecar's types say, it has the paths of its router, and a real
//! sidecar answers as it says, whatever it is asked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use shard_tests::pair::Pair;
use shard_tests::process::{Process, binary};
use shard_tests::puppet::order_unanswered;
use shard_tests::sidecar::Settings;
use shard_tests::{api, skip, wait};
use shard_watchdog::http::openapi::{TEXT, document};

const TOKEN: &str = "schemathesis-0123456789";

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

/// The program and its libraries; `None` where `tests/tools` has not put them.
fn schemathesis(test: &str) -> Option<PathBuf> {
    let folder = root().join("target/tools/schemathesis");
    if folder.join("version").is_file() {
        return Some(folder.canonicalize().unwrap());
    }
    let why = "there is no target/tools/schemathesis; `bash tests/tools` puts it there";
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs it: {why}");
    skip::note(test, why);
    None
}

/// Has all operations that `which` selects asked by schemathesis, which must find nothing wrong.
#[track_caller]
fn asked(tool: &Path, pair: &Pair, which: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command.env("PYTHONPATH", tool).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder.path());
    command.arg(tool.join("bin/schemathesis"));
    command.arg("--config-file").arg(root().join("tests/schemathesis.toml"));
    command.arg("run").arg(format!("http://{}/openapi.json", pair.sidecar.http)).args(which);
    let mut process = Process::start("schemathesis", command);
    // The number of requests is limited; each is answered in milliseconds.
    let ended = wait::within(Duration::from_secs(600), "schemathesis", || process.ended());
    let said = wait::until("all that it says", || process.all_lines()).join("\n");
    assert!(ended.success(), "{said}");
    // Not a run that tested nothing.
    assert!(said.contains("not_a_server_error") || said.contains("No issues found"), "{said}");
}

#[test]
fn a_sidecar_answers_as_the_document_says_whatever_it_is_asked() {
    let Some(tool) = schemathesis("a_sidecar_answers_as_the_document_says_whatever_it_is_asked") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let append = format!("token_file = {token:?}\n");
    let mut pair =
        Pair::configure_with(&Settings { mode: "observe".to_owned(), append, ..Settings::default() });
    pair.start_target(Command::new(binary("puppet")));
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    pair.sidecar.wait_for("healthy");
    assert_eq!(api::get(pair.sidecar.http, "/openapi.json").unwrap().body, TEXT);

    // An incident to be listed, of a process that nobody kills.
    order_unanswered(pair.port, "lose");
    wait::until("an incident", || pair.sidecar.told_incidents().pop());
    let bearer = format!("Authorization: Bearer {TOKEN}");
    asked(&tool, &pair, &["--header", &bearer, "--exclude-path", "/api/v1/kill"]);
    asked(&tool, &pair, &["--include-method", "POST"]);
    // The last one: it ends the target, and then there is none.
    asked(&tool, &pair, &["--header", &bearer, "--include-path", "/api/v1/kill"]);
    assert!(pair.running.iter_mut().last().unwrap().is_running(), "the sidecar");
}
