//! What the command line promises to scripts: exit codes, and one paragraph that names the next
//! step.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that panics has failed, which is the point, and one that waits without end is ended by its runner"
)]

use std::path::Path;
use std::process::{Command, Output};

fn watchdog(arguments: &[&str], temporary: &Path) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_shard-watchdog"))
        .args(arguments)
        .env_clear()
        .env("TMPDIR", temporary)
        .current_dir(temporary)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn config(folder: &Path, text: &str) -> String {
    let path = folder.join("w.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_sums_up_a_good_config_and_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[[thread]]\nname = \"exec-s0\"\n\
                [judge.excuse]\ntraced = \"2h\"\n";
    let (code, out, err) = watchdog(&["check", "--config", &config(folder.path(), text)], folder.path());
    assert_eq!(code, Some(0), "{err}");
    insta::assert_snapshot!(out, @r"
    ok
      target   shard 0, the process that writes /h
      thread   1 × exec-s0: gone, or no progress for 5s → kill (warning at 2s)
      kill     observe: says what it would kill, and kills nothing
      evidence /var/lib/shard-watchdog/0, gathered for at most 250ms before the first signal
      http     127.0.0.1:9611
    note: /h is not there yet: names of threads and channels were not compared with the rules
    ");
}

#[test]
fn check_says_all_that_is_wrong_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), "[target]\nshard = 0\nheartbeat = \"/h\"\n[kil]\n");
    let (code, out, err) = watchdog(&["check", "--config", &path], folder.path());
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let lines: Vec<&str> = err.lines().map(|line| line.strip_prefix(path.as_str()).unwrap()).collect();
    assert!(lines[0].starts_with(":2: target.shard: found 0: allowed:"), "{err}");
    assert!(lines[1].starts_with(":4: kil: found kil: unknown key; did you mean \"kill\"?"), "{err}");
    assert_eq!(lines.len(), 2, "{err}");
}

#[test]
fn a_demo_that_cannot_start_says_why_leaves_nothing_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, why) in [
        (&["demo", "--executor", "/nowhere/shard-executor"][..], "/nowhere/shard-executor is not a file"),
        (&["demo", "--executor", "/bin/false"], "cannot measure how fast this machine is"),
        (&["demo", "--executor", "/bin/false", "--slow", "1"], "cannot generate blocks"),
        (
            &["demo", "--executor", "/bin/false", "--blocks", "/nowhere/blocks"],
            "/nowhere/blocks does not exist",
        ),
        (&["demo", "--executor", "/bin/false", "--keep", "/bin"], "/bin is not empty"),
    ] {
        let (code, _, err) = watchdog(arguments, folder.path());
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(why) && err.starts_with("shard-watchdog: not recovered: "), "{err}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{err}");
    }
}

#[test]
fn contradicting_flags_are_refused_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["supervise", "--backoff-initial", "1s", "--backoff-max", "1ms", "--", "true"];
    let (code, _, err) = watchdog(&arguments, folder.path());
    assert_eq!(code, Some(2));
    assert!(err.contains("--backoff-initial (1s) is longer than --backoff-max (1ms)"), "{err}");
}

#[test]
fn a_persons_commands_say_what_is_wrong_and_end_with_2_or_3() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (arguments, code, why) in [
        (&["pause", "--for", "10m"][..], 2, "--reason"),
        (&["kill"], 2, "--reason"),
        (&["resume", "--socket", "a", "--url", "http://127.0.0.1:1"], 2, "cannot be used with"),
        (&["resume", "--url", "9611"], 2, "http://HOST:PORT"),
        (&["resume", "--socket", "nobody.sock"], 3, "nobody.sock cannot be reached"),
        (&["kill", "--reason", "x", "--url", "http://127.0.0.1:1"], 3, "Is the sidecar running"),
        (&["resume", "--url", "http://127.0.0.1:1", "--token-file", "none"], 2, "http.token_file"),
    ] {
        let (found, _, err) = watchdog(arguments, at);
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(why), "{arguments:?}: {err}");
    }
    for command in ["pause", "resume", "kill"] {
        let (code, out, _) = watchdog(&[command, "--help"], at);
        assert!(code == Some(0) && out.contains("1 the sidecar refuses"), "{out}");
        assert!(out.contains("SHARD_WATCHDOG_SOCKET") && out.contains("SHARD_WATCHDOG_TOKEN_FILE"), "{out}");
    }
}
