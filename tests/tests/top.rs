//! `top` in a terminal, with real sidecars.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::net::TcpListener;
use std::process::Command;

use rustix::process::Signal;
use shard_tests::pair::Pair;
use shard_tests::process::binary;
use shard_tests::puppet::order_unanswered;
use shard_tests::sidecar::Settings;
use shard_tests::terminal::Terminal;
use shard_tests::wait;

/// A target that is well, and its sidecar, which kills nobody.
fn pair() -> Pair {
    let mut pair = Pair::configure_with(&Settings { mode: "observe".to_owned(), ..Settings::default() });
    pair.start_target(Command::new(binary("puppet")));
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    pair.sidecar.wait_for("healthy");
    pair
}

fn url(pair: &Pair) -> String {
    format!("http://{}", pair.sidecar.http)
}

fn top(arguments: &[&str], colour: bool) -> Command {
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("top").args(arguments).env_remove("NO_COLOR");
    if !colour {
        command.env("NO_COLOR", "1");
    }
    command
}

/// Whether a colour was ever asked for.
fn has_colour(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    ["\x1b[38;", "\x1b[31", "\x1b[32", "\x1b[33", "\x1b[48;"].iter().any(|colour| text.contains(colour))
}

#[test]
fn one_shard_is_shown_through_a_fault_and_q_ends_it() {
    let pair = pair();
    let mut terminal = Terminal::start(top(&["--url", &url(&pair)], true), 30, 120);
    let screen = terminal.wait_for("● healthy");
    for word in ["shard puppet", "THREAD", "BEAT", "exec-s0", "(observe)", "q quit"] {
        assert!(screen.contains(word), "{word} is not in\n{screen}");
    }
    order_unanswered(pair.port, "lose");
    terminal.wait_for("✖ condemned");
    terminal
        .wait_until("the incident", |screen| screen.contains("INCIDENT") && screen.contains("thread_gone"));
    terminal.resize(12, 60);
    terminal.wait_until("the end of the smaller screen", |screen| {
        screen.lines().nth(11).is_some_and(|line| line.contains("q quit")) && screen.contains("✖ condemned")
    });
    assert!(has_colour(&terminal.bytes()));
    terminal.keys(b"q");
    assert!(terminal.ended().success());
    wait::until("a terminal as it was", || terminal.is_restored().then_some(()));
}

#[test]
fn many_are_listed_and_opened_and_a_file_that_changes_is_followed() {
    let pair = pair();
    // It accepts, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = silent.local_addr().unwrap().to_string();
    let file = pair.folder.path().join("shards.json");
    let list = |targets: &[&str]| {
        let new = file.with_extension("new");
        std::fs::write(&new, serde_json::json!([{ "targets": targets }]).to_string()).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    let sidecar = pair.sidecar.http.to_string();
    list(&[&sidecar, "127.0.0.1:1"]);
    let mut terminal = Terminal::start(top(&["--file-sd", file.to_str().unwrap()], false), 30, 120);
    terminal.wait_until("both", |screen| screen.contains("● healthy") && screen.contains("? unreachable"));
    // The one that is not reachable is the worse one, and comes first.
    let screen = terminal.screen();
    assert!(screen.find("? unreachable") < screen.find("● healthy"), "{screen}");
    terminal.keys(b"\x1b[B");
    terminal.keys(b"\r");
    terminal.wait_until("one shard", |screen| screen.contains("THREAD") && screen.contains("exec-s0"));
    terminal.keys(b"\x1b");
    terminal.wait_for("Enter open");
    list(&[&sidecar, &silent_url]);
    terminal.wait_until("another list", |screen| {
        screen.contains("no answer within")
            && !screen.contains("127.0.0.1:1:")
            && screen.contains("● healthy")
    });
    std::fs::write(&file, "half of").unwrap();
    terminal.wait_for("not a list of targets");
    assert!(terminal.screen().contains("● healthy"), "the old list is still shown");
    assert!(!has_colour(&terminal.bytes()), "NO_COLOR is set");
    terminal.keys(b"\x03");
    assert!(terminal.ended().success());
    wait::until("a terminal as it was", || terminal.is_restored().then_some(()));
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut terminal = Terminal::start(top(&["--url", "http://127.0.0.1:1"], false), 24, 80);
        terminal.wait_for("unreachable");
        assert!(!terminal.is_restored());
        terminal.signal(signal);
        assert!(terminal.ended().success(), "{signal:?}");
        wait::until("a terminal as it was", || terminal.is_restored().then_some(()));
    }
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let output = top(&[], false).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("shard-watchdog status") && output.stdout.is_empty(), "{said}");
    let mut terminal = Terminal::start(top(&["--file-sd", "/nowhere.json"], false), 24, 80);
    assert_eq!(terminal.ended().code(), Some(2));
    terminal.wait_for("/nowhere.json: No such file");
}
