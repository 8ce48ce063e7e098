//! What a target writes about itself is shown to people and machines: in metrics, JSON, logs and on
//! a terminal. No name that it chooses breaks any of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use shard_tests::process::{Process, binary};
use shard_tests::puppet::{self, DOUBLE};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, prometheus, wait};

/// Names of at most 15 bytes, as a segment stores them: each would end a label, a line or a string,
/// or make a terminal or a page do something.
const NAMES: [&[u8]; 6] = [
    b"a\"} 1\nup{x=\"",
    b"\x1b[2J\x1b]0;x\x07",
    b"\xe2\x80\xaegpj.exe",
    b"<img src=x>",
    b"\\\"\\n\xff\xfe\0x",
    b"\r\nlevel=error",
];

/// Writes `name` wherever the segment says [`DOUBLE`], as a writer might that follows no rules.
fn rename(segment: &Path, name: &[u8]) {
    let file = std::fs::File::options().read(true).write(true).open(segment).unwrap();
    let bytes = std::fs::read(segment).unwrap();
    let field = |name: &[u8]| {
        let mut field = [0; 16];
        field[0] = u8::try_from(name.len()).unwrap();
        field[1..=name.len()].copy_from_slice(name);
        field
    };
    let (before, after) = (field(DOUBLE.as_bytes()), field(name));
    let places: Vec<_> =
        (0..bytes.len() - 16).step_by(8).filter(|at| bytes[*at..*at + 16] == before).collect();
    assert_eq!(places.len(), 2, "a thread and a channel");
    for at in places {
        file.write_all_at(&after, at as u64).unwrap();
    }
}

fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c))
}

/// Whether Prometheus can read the page.
fn promtool(test: &str, page: &str) {
    let tool = Path::new("/usr/bin/promtool");
    if !tool.is_file() {
        prometheus::skip(test, "promtool is not installed (apt-get install prometheus)");
        return;
    }
    let mut command = Command::new(tool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It also has opinions on names, and reports those with another code.
    assert_ne!(output.status.code(), Some(1), "{said}\n{page}");
}

#[test]
fn no_name_that_a_target_chooses_breaks_metrics_json_logs_or_a_terminal() {
    let test = "no_name_that_a_target_chooses_breaks_metrics_json_logs_or_a_terminal";
    for name in NAMES {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { thread: Some("*".to_owned()), ..Settings::default() };
        let sidecar = Sidecar::configure(folder.path(), "puppet", "*", &settings);
        let port = api::free_address();
        let mut command = Command::new(binary("puppet"));
        command.arg("target").arg(&sidecar.heartbeat).arg(port.to_string());
        let _target = Process::start("puppet", command);
        wait::until("the puppet's port", || std::net::TcpStream::connect(port).ok());
        puppet::order(port, "double registered");
        rename(&sidecar.heartbeat, name);
        let mut command = Command::new(binary("shard-watchdog"));
        command.arg("run").arg("--config").arg(&sidecar.config);
        let watchdog = Process::start("sidecar", command);
        let status = sidecar.wait_for("healthy");
        let shown = |status: &serde_json::Value| -> Vec<String> {
            let threads = status["threads"].as_array().unwrap();
            threads.iter().map(|thread| thread["name"].as_str().unwrap().to_owned()).collect()
        };
        let names = shown(&status);
        assert_eq!(names.len(), 2, "{status:#}");
        assert!(names.iter().all(|name| is_harmless(name)), "{names:?}");

        // The thread is lost, so that its name appears everywhere an incident is reported.
        puppet::order_unanswered(port, "undouble");
        let incident = wait::until("an incident", || sidecar.incidents().into_iter().next());
        let lost = incident["thread"]["name"].as_str().unwrap();
        assert!(is_harmless(lost) && names.iter().any(|name| name == lost), "{incident:#}");
        let page = wait::until("the metrics", || api::get(sidecar.http, "/metrics")).body;
        promtool(test, &page);
        for arguments in [&["status"][..], &["status", "--explain"], &["status", "--json"]] {
            let mut command = Command::new(binary("shard-watchdog"));
            let url = format!("http://{}", sidecar.http);
            let output = command.args(arguments).args(["--url", &url]).output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(told.lines().all(is_harmless), "{arguments:?}: {told:?}");
        }
        let lines = watchdog.lines();
        assert!(lines.iter().all(|line| is_harmless(line)), "{lines:#?}");
        let forged = lines.iter().find(|line| line.starts_with("level=error"));
        assert_eq!(forged, None, "a line of its own");
    }
}
