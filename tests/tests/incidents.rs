//! After the fact a person learns what was killed and why: from the sidecar, and from what it has
//! left on disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::process::Command;

use serde_json::Value;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::process::binary;
use shard_tests::{api, wait};

fn incidents(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary("shard-watchdog")).arg("incidents").args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn an_incident_is_listed_shown_and_exported_by_the_sidecar_and_from_its_folder() {
    let cluster = Cluster::start(&Plan::default());
    let sidecar = &cluster.shards[0].sidecar;
    let url = format!("http://{}", sidecar.http);
    let folder = sidecar.evidence.display().to_string();
    let (code, said) = incidents(&["list", "--directory", &folder]);
    assert!(code == Some(2) && said.contains("when it has something to keep"), "{said}");
    let (code, said) = incidents(&["list", "--url", &url]);
    assert!(code == Some(0) && said.starts_with("no incidents at http://"), "{said}");
    let (code, said) = incidents(&["show", "latest", "--url", &url]);
    assert!(code == Some(4) && said.contains("there is no incident"), "{said}");

    cluster.inject(0, &["hook off", "arm panic after 3"]);
    let incident = sidecar.incident("recovered");
    let id = incident["id"].as_str().unwrap();
    // The recording follows its incident to the disk.
    let path = sidecar.evidence.join("incidents").join(id).join("recording");
    let recording = wait::until("the recording of the incident", || std::fs::read(&path).ok());

    for source in [["--url", &url], ["--directory", &folder]] {
        let (code, said) = incidents(&[&["list"], &source[..]].concat());
        assert!(code == Some(0) && said.contains("thread_gone") && said.contains(id), "{said}");
        let (code, said) = incidents(&[&["list", "--json"], &source[..]].concat());
        let list: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((code, &list["incidents"][0]["fingerprint"]), (Some(0), &"thread_gone/exec-s0".into()));
        for which in ["latest", id] {
            let (code, said) = incidents(&[&["show", which], &source[..]].concat());
            assert!(
                code == Some(0) && said.contains("thread  exec-s0") && said.contains("recovered"),
                "{said}"
            );
        }
        let (_, said) = incidents(&[&["show", id, "--json"], &source[..]].concat());
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), incident);
        let out = tempfile::tempdir().unwrap();
        let into = out.path().to_str().unwrap();
        let (code, said) = incidents(&[&["export", id, "--out", into], &source[..]].concat());
        assert_eq!(code, Some(0), "{said}");
        // A program that everybody has must be able to unpack it.
        let unpacked = Command::new("tar").args(["-xf", said.trim(), "-C", into]).status().unwrap();
        assert!(unpacked.success());
        let unpacked = out.path().join(id);
        assert_eq!(std::fs::read(unpacked.join("recording")).unwrap(), recording);
        let document = std::fs::read(unpacked.join("incident.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&document).unwrap(), incident);
        let (code, said) = incidents(&[&["show", "20261122T221503500Z-7f3a"], &source[..]].concat());
        assert!(code == Some(4) && said.contains("has no incident"), "{said}");
    }
    for file in ["incident.json", "..%2F..%2Fdeaths.json", "other"] {
        let answer = api::get(sidecar.http, &format!("/api/v1/incidents/{id}/{file}"));
        assert_eq!(answer.map(|answer| answer.code), Some(404), "{file}");
    }
    let (code, said) = incidents(&["list", "--directory", "/nowhere"]);
    assert!(code == Some(2) && said.contains("/nowhere: cannot be read"), "{said}");
    let (code, said) = incidents(&["list", "--url", "http://127.0.0.1:1"]);
    assert!(code == Some(3) && said.contains("--directory"), "{said}");
}
