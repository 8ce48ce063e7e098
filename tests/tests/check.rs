//! `shard-watchdog check` as a person or a program uses it: several files, standard input, JSON by
//! its schema, and what it finds on a machine where the target runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use shard_tests::checked::{self, Checked};
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::terminal::Terminal;
use shard_tests::{api, skip, wait};
use shard_watchdog::preflight::document;

const THEIRS: u32 = 61_001;

fn is_root(name: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip::note(name, "needs root, to check as another user");
    }
    root
}

/// A good config of a shard that does not run.
fn good(folder: &Path, shard: &str) -> PathBuf {
    Sidecar::configure(folder, shard, "exec-s0", &Settings::default()).config
}

fn bad(folder: &Path) -> PathBuf {
    let path = folder.join("bad.toml");
    fs::write(&path, "[target]\nshard = 0\nheartbeat = \"/h\"\n[kil]\n").unwrap();
    path
}

fn check(folder: &Path, files: &[&Path], more: &[&str]) -> Checked {
    let mut command = checked::command();
    command.arg("--config").args(files).args(more);
    checked::run(folder, command)
}

fn check_stdin(folder: &Path, text: &Path, arguments: &[&str]) -> Checked {
    let mut command = checked::command();
    command.args(arguments).stdin(File::open(text).unwrap());
    checked::run(folder, command)
}

#[test]
fn one_bad_file_of_three_decides_and_the_others_are_told_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (a, b, c) = (good(at, "a"), bad(at), good(at, "c"));
    let Checked { code, out, err } = check(at, &[&a, &b, &c], &[]);
    assert_eq!(code, Some(2), "{out}{err}");
    for good in [&a, &c] {
        assert!(out.contains(&format!("{}: ok\n  target   shard ", good.display())), "{out}");
    }
    assert!(out.ends_with("2 of 3 files can be used\n"), "{out}");
    let lines: Vec<&str> =
        err.lines().map(|line| line.strip_prefix(b.to_str().unwrap()).expect("of the bad file")).collect();
    assert!(lines[0].starts_with(":2: target.shard: found 0: allowed: "), "{err}");
    assert!(lines[1].starts_with(":4: kil: found kil: unknown key; did you mean \"kill\"?"), "{err}");
    assert_eq!(lines.len(), 2, "{err}");
    // As flags of their own, and with a file that is not there.
    let mut command = checked::command();
    command.arg("--config").arg(&a).args(["--config", "/nowhere/w.toml"]);
    let Checked { code, err, .. } = checked::run(at, command);
    assert_eq!(code, Some(2));
    assert!(err.starts_with("/nowhere/w.toml: the config file cannot be read: "), "{err}");
    assert_eq!(check(at, &[&a, &c], &[]).code, Some(0));
}

#[test]
fn standard_input_is_a_file_that_can_be_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (good, bad) = (good(at, "0"), bad(at));
    let Checked { code, out, err } = check_stdin(at, &good, &["--config", "-"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("ok\n  target   shard 0, "), "{out}");
    let Checked { code, err, .. } = check_stdin(at, &bad, &["--config", "-"]);
    assert_eq!(code, Some(2));
    assert!(err.starts_with("-:2: target.shard: found 0: "), "{err}");
    let told = check_stdin(at, &bad, &["--json", "--config", good.to_str().unwrap(), "-"]).json();
    assert_eq!((&told["files"][0]["ok"], &told["files"][1]["ok"]), (&json!(true), &json!(false)));
    assert_eq!(told["files"][1]["file"], "-");
    for arguments in [&["--config", "-", "-"][..], &["--config", "-", "--config", "-", "--json"]] {
        let Checked { code, out, err } = check_stdin(at, &good, arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""));
        assert!(err.contains("standard input can be read once, and is named twice"), "{err}");
    }
    // Neither text nor short.
    let odd = at.join("odd");
    for (bytes, why) in
        [(b"[target]\n\xff".to_vec(), "UTF-8 text (byte 9)"), (vec![b' '; 1 + (1 << 20)], "1 MiB")]
    {
        fs::write(&odd, bytes).unwrap();
        let Checked { code, err, .. } = check_stdin(at, &odd, &["--config", "-"]);
        assert!(code == Some(2) && err.starts_with("-: the file is ") && err.contains(why), "{err}");
    }
}

#[test]
fn the_same_file_by_two_names_is_checked_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (config, link) = (good(at, "0"), at.join("link.toml"));
    symlink(&config, &link).unwrap();
    let Checked { code, out, err } = check(at, &[&config, &config, &link], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "it does not collide with itself");
    assert_eq!(out.matches("ok\n").count(), 1, "{out}");
    for again in [&config, &link] {
        assert!(
            out.contains(&format!("note: {} is this file again: checked once", again.display())),
            "{out}"
        );
    }
    let told = check(at, &[&link, &config], &["--json"]).json();
    assert_eq!(told["files"].as_array().unwrap().len(), 1);
    assert_eq!(told["files"][0]["file"], json!(link));
}

#[test]
fn what_two_sidecars_cannot_share_is_told_of_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let a = good(at, "a");
    let b = at.join("b.toml");
    let text = fs::read_to_string(&a).unwrap().replace("a.heartbeat", "b.heartbeat");
    fs::write(&b, text).unwrap();
    let Checked { code, err, .. } = check(at, &[&a, &b], &[]);
    assert_eq!(code, Some(0));
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 2, "{err}");
    for (line, key) in lines.iter().zip(["evidence.directory", "http.listen"]) {
        assert!(line.starts_with(&format!("{}: warning: {key}: {} has ", b.display(), a.display())), "{err}");
    }
}

#[test]
fn the_schema_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/check.schema.json");
    let schema = document::schema().unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &schema).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == schema,
        "docs/check.schema.json is not what the types say. Write it anew: UPDATE_DOCS=1 cargo nextest run --workspace --test check"
    );
    let schema: Value = serde_json::from_str(&schema).unwrap();
    for part in [&schema, &schema["$defs"]["File"], &schema["$defs"]["Wrong"], &schema["$defs"]["Warning"]] {
        for (name, field) in part["properties"].as_object().unwrap() {
            assert!(field["description"].as_str().is_some_and(|told| told.len() > 8), "{name}: {field}");
        }
    }
}

#[test]
fn json_says_all_of_good_and_bad_files_and_is_as_the_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (good, bad) = (good(at, "0"), bad(at));
    let told = check(at, &[&good], &["--json"]).json();
    assert_eq!((&told["ok"], &told["version"]), (&json!(true), &json!(env!("CARGO_PKG_VERSION"))));
    let file = &told["files"][0];
    assert_eq!((&file["shard"], &file["problems"], &file["warnings"]), (&json!("0"), &json!([]), &json!([])));
    assert!(file["notes"][0].as_str().unwrap().contains("is not there yet"), "{told:#}");
    let told = check(at, &[&good, &bad, Path::new("/nowhere")], &["--json"]).json();
    assert_eq!(
        told["files"][1]["problems"][1],
        json!({
            "line": 4, "key": "kil", "found": "kil", "message": "unknown key; did you mean \"kill\"?",
        })
    );
    assert_eq!(told["files"][2]["shard"], Value::Null);
    for (place, wrong) in [
        ("/ok", json!("yes")),
        ("/files/0/shard", json!(0)),
        ("/files/1/problems/0/line", json!("2")),
        ("/files/1/problems/0/message", Value::Null),
        (
            "/files/0/warnings",
            json!([{ "topic": "weather", "line": 1, "key": null, "found": null, "message": "" }]),
        ),
    ] {
        let mut other = told.clone();
        *other.pointer_mut(place).unwrap() = wrong;
        assert!(!checked::errors(&other).is_empty(), "{place}");
    }
}

#[test]
fn a_terminal_is_shown_no_colours_and_can_be_typed_into() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (good, bad) = (good(at, "0"), bad(at));
    for no_colour in [true, false] {
        let mut command = checked::command();
        command.arg("--config").args([&good, &bad]);
        if no_colour {
            command.env("NO_COLOR", "1");
        }
        let terminal = Terminal::start(command, 40, 200);
        terminal.wait_for("1 of 2 files can be used");
        assert!(!terminal.bytes().contains(&b'\x1b'), "{}", terminal.screen());
    }
    let mut command = checked::command();
    command.args(["--config", "-"]);
    let mut terminal = Terminal::start(command, 40, 200);
    terminal.wait_for("Ctrl-D ends it");
    terminal.keys(b"[kil]\r\x04");
    terminal.wait_for("-:1: target");
}

/// A running shard of `user`, or of this one, and the config of its sidecar, whose rules are
/// `rules` and whose other lines are in `settings`.
fn with_target(folder: &Path, user: Option<u32>, settings: &Settings) -> (Sidecar, Process) {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let run = folder.join("run");
    fs::create_dir(&run).unwrap();
    let mut sidecar = Sidecar::configure(folder, "0", "exec-s0", settings);
    let heartbeat = run.join("0.heartbeat");
    let text = fs::read_to_string(&sidecar.config).unwrap();
    let text = text.replace(&format!("{:?}", sidecar.heartbeat), &format!("{heartbeat:?}"));
    fs::write(&sidecar.config, text).unwrap();
    sidecar.heartbeat = heartbeat;
    let mut command = Command::new(binary("shard-executor"));
    command.args(["shard", "--id", "0", "--listen", &api::free_address().to_string()]);
    command.arg("--heartbeat").arg(&sidecar.heartbeat);
    if let Some(user) = user {
        chown(&run, Some(user), Some(user)).unwrap();
        command.uid(user).gid(user);
    }
    let target = Process::start("target", command);
    let plain = folder.join("plain.toml");
    let text = format!("[target]\nshard = \"0\"\nheartbeat = {:?}\n", sidecar.heartbeat);
    fs::write(&plain, text).unwrap();
    // Until it has registered its threads and says that it runs.
    wait::until("a target that is up", || {
        check(folder, &[&plain], &[]).out.lines().all(|line| !line.starts_with("note: ")).then_some(())
    });
    (sidecar, target)
}

/// Rules with names that a shard does not have.
fn other_names() -> Settings {
    let settings = Settings {
        thread: Some("exek-s*".to_owned()),
        judge: "startup_grace = \"100ms\"".to_owned(),
        ..Settings::default()
    };
    settings.channel_rule("comands", "max_age = \"3s\"\nconsumer = \"nobody\"", "report")
}

#[test]
fn names_that_a_running_target_does_not_have_are_told_with_those_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let (sidecar, mut target) = with_target(folder.path(), None, &other_names());
    let Checked { code, err, .. } = check(folder.path(), &[&sidecar.config], &[]);
    assert_eq!(code, Some(0), "a target may change: {err}");
    let told = |begins: &str| {
        let line =
            err.lines().find(|line| line.contains(begins)).unwrap_or_else(|| panic!("{begins}: {err}"));
        assert!(line.starts_with(&format!("{}:", sidecar.config.display())), "{line}");
        line.to_owned()
    };
    let thread = told(":5: warning: thread.name: found \"exek-s*\": no registered thread matches it");
    assert!(thread.contains("Registered are ") && thread.contains("exec-s0"), "{thread}");
    assert!(thread.ends_with("Did you mean \"exec-s0\"?"), "{thread}");
    let channel = told("warning: channel.name: found \"comands\": no channel of that name is published");
    assert!(channel.ends_with("Did you mean \"commands\"?"), "{channel}");
    told("warning: channel.consumer: found \"nobody\": no registered thread matches it");
    assert_eq!(err.lines().count(), 3, "{err}");
    let json = check(folder.path(), &[&sidecar.config], &["--json"]).json();
    let topics: Vec<&Value> =
        json["files"][0]["warnings"].as_array().unwrap().iter().map(|warning| &warning["topic"]).collect();
    assert_eq!(topics, ["threads", "channels", "channels"]);
    assert_eq!(json["files"][0]["warnings"][0]["line"], 5);

    // What a process that has ended left behind says the same; and that it has ended is a note.
    target.signal(rustix::process::Signal::KILL);
    target.wait("its end");
    let Checked { out, err, .. } = check(folder.path(), &[&sidecar.config], &[]);
    assert_eq!(err.lines().count(), 3, "{err}");
    assert!(out.contains("note: no process writes the segment now"), "{out}");
}

#[test]
fn names_that_it_has_are_no_reason_for_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::default().thread_rule("*-s0", "1s");
    let settings = settings.channel_rule("commands", "max_age = \"3s\"\nconsumer = \"exec-s0\"", "kill");
    let (sidecar, _target) = with_target(folder.path(), None, &settings);
    let Checked { code, out, err } = check(folder.path(), &[&sidecar.config], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(!out.contains("note: "), "{out}");
    // A shard of another name is another shard, whatever its threads are called.
    sidecar.watch_shard("1");
    let Checked { code, out, err } = check(folder.path(), &[&sidecar.config], &[]);
    assert_eq!(code, Some(0));
    assert!(err.contains("the heartbeat segment is that of shard \"0\""), "{err}");
    assert!(out.contains("note: ") && out.contains("it is the segment of another shard"), "{out}");
}

/// The log lines of this event, as JSON.
fn logged(process: &Process, event: &str) -> Vec<Value> {
    let lines = process.lines();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event).collect()
}

#[test]
fn run_warns_once_of_what_check_says_and_of_unmatched_rules_where_it_may_kill() {
    for (mode, level) in [("enforce", "warn"), ("observe", "info")] {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { mode: mode.to_owned(), ..other_names() };
        let (sidecar, _target) = with_target(folder.path(), None, &settings);
        let mut command = Command::new(binary("shard-watchdog"));
        command.args(["run", "--config"]).arg(&sidecar.config);
        let run = Process::start("run", command);
        let checks =
            wait::until("three warnings", || Some(logged(&run, "check")).filter(|told| told.len() >= 3));
        let keys: Vec<&Value> = checks.iter().map(|line| &line["key"]).collect();
        assert_eq!(keys, ["thread.name", "channel.name", "channel.consumer"]);
        assert!(checks.iter().all(|line| line["level"] == "warn"), "{checks:#?}");
        assert_eq!((&checks[0]["topic"], &checks[0]["line"]), (&json!("threads"), &json!(5)), "{checks:#?}");
        let degraded = wait::until("the verdict", || {
            logged(&run, "verdict").into_iter().find(|line| line["to"] == "degraded")
        });
        assert_eq!(degraded["level"], level, "{degraded}");

        // A reload tells what is new.
        let text = fs::read_to_string(&sidecar.config).unwrap();
        fs::write(&sidecar.config, format!("{text}[[thread]]\nname = \"new-*\"\n")).unwrap();
        run.signal(rustix::process::Signal::HUP);
        let checks = wait::until("one more", || Some(logged(&run, "check")).filter(|told| told.len() > 3));
        assert_eq!(checks.len(), 4, "{checks:#?}");
        assert!(checks[3].to_string().contains("new-*"), "{checks:#?}");
    }
}

#[test]
fn a_folder_that_this_user_may_not_write_is_told_with_the_user() {
    if !is_root("a_folder_that_this_user_may_not_write") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let settings = Settings { append: "[recorder]\n".to_owned(), ..Settings::default() };
    let sidecar = Sidecar::configure(folder.path(), "0", "exec-s0", &settings);
    let check = |uid: u32| {
        let mut command = checked::command();
        command.arg("--config").arg(&sidecar.config).uid(uid).gid(uid);
        checked::run(folder.path(), command)
    };
    assert_eq!(check(0).err, "");
    let Checked { code, err, .. } = check(THEIRS);
    assert_eq!(code, Some(0), "whoever checks need not be the sidecar's user: {err}");
    let place = folder.path().display();
    for (line, key) in err.lines().zip(["evidence.directory", "recorder.directory"]) {
        let told = format!(
            "warning: {key}: user 61001, who runs this, may not make it in {place} (Permission denied"
        );
        assert!(line.contains(&told), "{err}");
    }
    assert_eq!(err.lines().count(), 2, "{err}");
    fs::create_dir(&sidecar.evidence).unwrap();
    let err = check(THEIRS).err;
    assert!(
        err.contains("evidence.directory: user 61001, who runs this, may not write there (Perm"),
        "{err}"
    );
    chown(&sidecar.evidence, Some(THEIRS), Some(THEIRS)).unwrap();
    assert_eq!(check(THEIRS).err, "");
}

#[test]
fn what_this_user_may_not_do_to_the_target_is_told() {
    if !is_root("what_this_user_may_not_do_to_the_target") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (sidecar, _target) = with_target(folder.path(), Some(THEIRS), &Settings::default());
    assert_eq!(check(folder.path(), &[&sidecar.config], &[]).err, "", "root may do all of it");
    let mut without = Command::new("setpriv");
    without.args(["--bounding-set", "-kill", "--inh-caps", "-kill"]).arg(binary("shard-watchdog"));
    without.args(["check", "--config"]).arg(&sidecar.config);
    let Checked { code, err, .. } = checked::run(folder.path(), without);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains(": warning: kill.mode: user 0 may not signal process "), "{err}");
    assert!(err.contains("no kill would reach it") && err.contains("CAP_KILL"), "{err}");
    // Another user does not even read the segment.
    let mut other = checked::command();
    other.arg("--config").arg(&sidecar.config).uid(THEIRS + 1).gid(THEIRS + 1);
    let Checked { code, err, .. } = checked::run(folder.path(), other);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains(": warning: target.heartbeat: ") && err.contains("ermission denied"), "{err}");
}
