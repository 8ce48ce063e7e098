//! `replay` and `suggest` as scripts and people call them: exit codes, and what they print.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and one that waits without end is ended by its runner"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use shard_watchdog::act::budget::Past;
use shard_watchdog::clock::{Monotonic, WallAnchor};
use shard_watchdog::judge::section::Section;
use shard_watchdog::judge::testing;
use shard_watchdog::observation::{Observation, TaskObservation, TaskState, ThreadObservation, WaitChannel};
use shard_watchdog::recorder::{Recorder, file};
use shard_watchdog::snapshot::TargetIdentity;

const MILLI: u64 = 1_000_000;
/// The time between two observations, as with a threshold of 5 s.
const LOOK: u64 = 40 * MILLI;
const BEGAN: u64 = 77_000 * MILLI;

/// A shard whose thread `exec-s0` is at work, observed every 40 ms.
struct Shard {
    recorder: Recorder,
    seen: Observation,
}

impl Shard {
    fn new() -> Self {
        let process = testing::process(TargetIdentity { pid: 4_711, start_time: 1, incarnation: 1 });
        let thread = ThreadObservation {
            tid: 4_712,
            activity: 1,
            progress: 1,
            work_key: 19_000_000,
            attempt: 1,
            ..testing::thread(0, "exec-s0")
        };
        let (at, threads) = (Monotonic(BEGAN), vec![thread]);
        let seen = Observation { at, process: Some(process), threads, ..Observation::default() };
        Self { recorder: Recorder::new(Monotonic(BEGAN), Past::default(), false), seen }
    }

    /// `count` observations, at each of which the thread has made progress.
    fn progress(mut self, count: u64) -> Self {
        for _ in 0..count {
            self.seen.threads[0].progress += 1;
            self.seen.threads[0].task = None;
            self.look();
        }
        self
    }

    /// It enters a section of its work, and is observed.
    fn enters(mut self, section: &str) -> Self {
        self.seen.threads[0].section = Section::parse(section).unwrap().word();
        self.progress(1)
    }

    /// It goes on to another piece of work, and is observed.
    fn other_work(mut self) -> Self {
        let thread = &mut self.seen.threads[0];
        (thread.activity, thread.section) = (thread.activity + 2, 0);
        self.progress(1)
    }

    /// `count` observations, at each of which it is in this state without progress.
    fn still(mut self, count: u64, state: TaskState) -> Self {
        for _ in 0..count {
            let wait = Some(WaitChannel::Futex);
            let task = TaskObservation { state, cpu_ns: Some(5), run_delay_ns: Some(7), wait };
            self.seen.threads[0].task = Some(task);
            self.look();
        }
        self
    }

    fn look(&mut self) {
        self.seen.at.0 += LOOK;
        self.recorder.look(&self.seen);
    }

    fn bytes(mut self) -> Vec<u8> {
        file::write(&self.recorder.excerpt(self.seen.at), "0", &WallAnchor::now())
    }

    fn into_file(self, folder: &Path) -> PathBuf {
        let path = folder.join("recording");
        std::fs::write(&path, self.bytes()).unwrap();
        path
    }
}

fn config(folder: &Path, stall_after: &str) -> PathBuf {
    let path = folder.join(format!("{stall_after}.toml"));
    let text = format!(
        "[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[[thread]]\nname = \"exec-s*\"\nstall_after = \"{stall_after}\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn watchdog(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_shard-watchdog")).args(arguments).env_clear().output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn replay(recording: &Path, config: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let mut arguments = vec!["replay", recording.to_str().unwrap(), "--config", config.to_str().unwrap()];
    arguments.extend(more);
    watchdog(&arguments)
}

/// The text without the times of day, which differ from run to run.
fn without_times(text: &str) -> String {
    let time = regex::Regex::new(r"\d{4}-\d\d-\d\dT[0-9:.]+Z").unwrap();
    time.replace_all(text, "TIME").into_owned()
}

/// A second of progress, then six on a lock.
fn stalled() -> Shard {
    Shard::new().progress(25).still(150, TaskState::Sleeping)
}

#[test]
fn a_trace_shows_each_thread_without_gaps_and_marks_verdicts_and_signals() {
    let folder = tempfile::tempdir().unwrap();
    let recording = stalled().into_file(folder.path());
    let out = folder.path().join("trace.json");
    let config = config(folder.path(), "5s");
    let (code, _, err) = replay(&recording, &config, &["--perfetto", out.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(5), ""));
    let trace: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |kind: &str| events.iter().filter(|event| event["ph"] == kind).collect::<Vec<_>>();
    let names = |events: &[&Value]| events.iter().map(|event| event["name"].to_string()).collect::<Vec<_>>();

    let slices = of("X");
    assert_eq!(names(&slices), ["\"working\"", "\"late\"", "\"stalled\""]);
    let mut at = 0.0;
    for slice in &slices {
        assert_eq!((slice["ts"].as_f64(), &slice["tid"]), (Some(at), &4_712.into()), "{slice}");
        assert_eq!(slice["args"]["work"], 19_000_000);
        at += slice["dur"].as_f64().unwrap();
    }
    // 175 observations, 40 ms apart.
    assert!((at - 174.0 * 40_000.0).abs() < 0.01, "{at}");
    let marks = of("i");
    let expected =
        ["\"verdict: healthy\"", "\"verdict: degraded\"", "\"verdict: condemned\"", "\"kill withheld\""];
    assert_eq!(names(&marks), expected);
    assert!(marks[2]["args"]["why"].as_str().unwrap().contains("deadlock"), "{:#}", marks[2]);
    assert_eq!(
        of("M").iter().map(|event| &event["args"]["name"]).collect::<Vec<_>>(),
        ["shard 0", "exec-s0"]
    );

    let itself = recording.to_str().unwrap();
    let before = std::fs::read(&recording).unwrap();
    let (code, _, err) = replay(&recording, &config, &["--perfetto", itself]);
    assert!(code == Some(2) && err.contains("is the recording itself"), "{err}");
    assert_eq!(std::fs::read(&recording).unwrap(), before, "nothing is lost");
    let (code, _, err) = replay(&recording, &config, &["--perfetto", "/nowhere/trace.json"]);
    assert!(code == Some(2) && err.contains("/nowhere/trace.json: cannot be written"), "{err}");
}

#[test]
fn a_config_that_would_have_killed_ends_with_5_and_says_when_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let recording = stalled().into_file(folder.path());
    let (code, out, err) = replay(&recording, &config(folder.path(), "5s"), &[]);
    assert_eq!((code, err.as_str()), (Some(5), ""), "{out}");
    insta::assert_snapshot!(without_times(&out), @r"
    shard 0: 175 observations from TIME to TIME, recorded by shard-watchdog 0.1.0
      TIME  verdict     healthy: every watched thread is idle or makes progress
      TIME  verdict     degraded: thread exec-s0 is late
      TIME  condemned   stalled: thread exec-s0 made no progress on work 19000000 (attempt 1) for 5 s in which it could have: deadlock
      TIME  verdict     condemned: thread exec-s0 made no progress on work 19000000 (attempt 1) for 5 s in which it could have: deadlock
      TIME  withheld    a kill is due and withheld: observe
    it would have killed
    ");
    let (code, out, _) = replay(&recording, &config(folder.path(), "5s"), &["--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(5));
    assert_eq!((&told["would_kill"], &told["looks"]), (&Value::Bool(true), &Value::from(175)));
}

#[test]
fn a_config_that_would_have_waited_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let recording = stalled().into_file(folder.path());
    let (code, out, err) = replay(&recording, &config(folder.path(), "7s"), &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    insta::assert_snapshot!(without_times(&out), @r"
    shard 0: 175 observations from TIME to TIME, recorded by shard-watchdog 0.1.0
      TIME  verdict     healthy: every watched thread is idle or makes progress
      TIME  verdict     degraded: thread exec-s0 is late
    it would not have killed
    ");
}

#[test]
fn a_pause_and_a_persons_kill_are_replayed_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let enforce = folder.path().join("enforce.toml");
    let text = std::fs::read_to_string(config(folder.path(), "1s")).unwrap();
    std::fs::write(&enforce, format!("{text}[kill]\nmode = \"enforce\"\n")).unwrap();

    let mut shard = Shard::new().progress(25);
    shard.recorder.paused(shard.seen.at.plus(Duration::from_secs(60)), shard.seen.at);
    // Longer than a chunk, so that a later one has to record it itself.
    let mut shard = shard.still(150, TaskState::Sleeping);
    shard.recorder.resumed(shard.seen.at);
    let path = shard.still(2, TaskState::Sleeping).into_file(folder.path());
    let (code, out, err) = replay(&path, &enforce, &[]);
    assert_eq!((code, err.as_str()), (Some(5), ""), "{out}");
    let told: Vec<&str> = out.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let after =
        |what: &str| told.iter().position(|word| *word == what).unwrap_or_else(|| panic!("{what}: {out}"));
    assert!(after("paused") < after("condemned") && after("withheld") < after("resumed"), "{out}");
    assert!(after("resumed") < after("signal"), "{out}");
    assert!(out.contains("withheld: paused"), "{out}");

    let mut shard = Shard::new().progress(25);
    shard.recorder.requested("uid 0 asked for the kill: wrong answers", shard.seen.at);
    let path = shard.progress(2).into_file(folder.path());
    let (code, out, err) = replay(&path, &config(folder.path(), "5s"), &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "no kill of the config: {out}");
    assert!(out.contains("requested: uid 0 asked for the kill: wrong answers"), "{out}");
    assert!(out.contains("SIGKILL"), "in observe mode too: {out}");
}

#[test]
fn what_cannot_be_replayed_ends_with_2_and_says_which_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let recording = stalled().into_file(folder.path());
    let good = config(folder.path(), "5s");
    let bad = config(folder.path(), "5 seconds");
    let nothing = folder.path().join("nothing");
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    for (recording, config, why) in [
        (&nothing, &good, "nothing: cannot be read: No such file"),
        (&empty, &good, "empty: is not a recording"),
        (&recording, &nothing, "nothing: the config file cannot be read"),
        (&recording, &bad, "thread.stall_after: found \"5 seconds\""),
    ] {
        let (code, out, err) = replay(recording, config, &[]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains(why), "{why}: {err}");
    }
}

#[test]
fn what_was_cut_off_is_replayed_up_to_there_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let whole = stalled().bytes();
    let cut = folder.path().join("cut");
    std::fs::write(&cut, &whole[..whole.len() - 20]).unwrap();
    let (code, out, err) = replay(&cut, &config(folder.path(), "1s"), &[]);
    assert_eq!(code, Some(5), "{err}");
    assert!(err.contains("it was cut off") && out.contains("condemned"), "{err}{out}");
}

#[test]
fn suggest_prints_a_config_with_the_gaps_that_it_rests_on() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Shard::new()
        .progress(25)
        .still(5, TaskState::Sleeping)
        .progress(25)
        .still(100, TaskState::Stopped)
        .progress(25)
        .still(50, TaskState::Sleeping)
        .into_file(folder.path());
    let (code, out, err) = watchdog(&["suggest", recording.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    insta::assert_snapshot!(without_times(&out), @r#"
    # shard 0: 9s recorded, 230 looks, from TIME to TIME
    # TOO SHORT to rest a kill on: 9s were recorded. These thresholds fit that time and no other; record a day with its busiest hour ([recorder] in the config) and ask again.
    # A gap is time at work without progress in which the thread could have run; a load that was not recorded may have
    # longer ones. If long gaps become rare no faster than 1/t², a threshold of m times the longest is passed about once
    # in m² recordings like this.

    # exec-s0: 74 gaps; median 41 ms, p99 240 ms, longest 240 ms at TIME
    # One stood still for 2 s when its process or the recording ended: that is no gap, and not in the figures.
    # Room for 12.5 times the longest gap, 10 were asked for: few gaps were seen.
    [[thread]]
    name = "exec-s0"
    warn_after = "1s"
    stall_after = "3s"
    "#);
    // Pasted into a config, the output is valid, and the recorded process would have lived under
    // it.
    let new = folder.path().join("new.toml");
    std::fs::write(&new, format!("[target]\nshard = \"0\"\nheartbeat = \"/h\"\n{out}")).unwrap();
    let (code, _, err) = watchdog(&["check", "--config", new.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    let (code, out, _) = replay(&recording, &new, &[]);
    assert_eq!(code, Some(0), "{out}");
}

/// A recording of work with a quick section and a slow one.
fn sectioned() -> Shard {
    let shard = Shard::new().progress(5).other_work().enters("reading").progress(20);
    let shard = shard.still(5, TaskState::Sleeping).progress(5);
    shard.enters("committing").still(50, TaskState::Sleeping).progress(20)
}

#[test]
fn suggest_proposes_sections_that_need_less_than_the_rule() {
    let folder = tempfile::tempdir().unwrap();
    let recording = sectioned().into_file(folder.path());
    let (code, out, err) = watchdog(&["suggest", recording.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let lines: Vec<&str> = out.lines().filter(|line| line.contains("section")).collect();
    assert_eq!(
        lines,
        [
            "# In its section committing: 20 gaps; longest 2.04 s. In the first piece of work: 0; longest 0 s.",
            "# In its section reading: 26 gaps; longest 240 ms. In the first piece of work: 0; longest 0 s.",
            "sections = { \"reading\" = \"3s\" }",
        ],
        "{out}"
    );
    let new = folder.path().join("new.toml");
    std::fs::write(&new, format!("[target]\nshard = \"0\"\nheartbeat = \"/h\"\n{out}")).unwrap();
    let (code, told, err) = watchdog(&["check", "--config", new.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(told.contains("in its section: reading 3s"), "{told}");
    let (code, out, _) = replay(&recording, &new, &[]);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn a_recording_is_judged_by_the_sections_and_kinds_of_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let recording = sectioned().into_file(folder.path());
    let config = |rule: &str| {
        let text =
            format!("[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[[thread]]\nname = \"exec-s*\"\n{rule}\n");
        let path = folder.path().join("sections.toml");
        std::fs::write(&path, text).unwrap();
        path
    };
    let (code, out, _) = replay(&recording, &config("sections = { committing = \"1s\" }"), &[]);
    assert_eq!(code, Some(5), "{out}");
    assert!(out.contains("in its section committing"), "{out}");
    let (code, out, _) = replay(&recording, &config("sections = { reading = \"1s\" }"), &[]);
    assert_eq!(code, Some(0), "{out}");
    let reports = "sections = { committing = \"1s\" }\non = { unknown = \"report\", blocked = \"report\", deadlock = \"report\" }";
    let (code, out, _) = replay(&recording, &config(reports), &[]);
    assert_eq!(code, Some(0), "{out}");
    let suggested =
        watchdog(&["suggest", recording.to_str().unwrap(), "--config", config(reports).to_str().unwrap()]).1;
    assert!(
        suggested.contains("on = { deadlock = \"report\", blocked = \"report\", unknown = \"report\" }"),
        "{suggested}"
    );
}

#[test]
fn suggest_goes_by_the_rules_of_a_config_where_one_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Shard::new().progress(100).into_file(folder.path());
    let config = config(folder.path(), "5s");
    let arguments = ["suggest", recording.to_str().unwrap(), "--config", config.to_str().unwrap(), "--json"];
    let (code, out, _) = watchdog(&arguments);
    let told: Value = serde_json::from_str(&out).unwrap();
    let rule = &told["threads"][0];
    assert_eq!((code, &rule["name"], &rule["members"][0]), (Some(0), &"exec-s*".into(), &"exec-s0".into()));
    assert_eq!((&rule["gaps"], &rule["longest_seconds"]), (&99.into(), &0.04.into()));
    assert_eq!((&rule["stall_after"], &rule["warn_after"]), (&"500ms".into(), &"200ms".into()));
    assert!(told["caution"][0].as_str().unwrap().starts_with("TOO SHORT"), "{told:#}");
}

#[test]
fn suggest_refuses_what_is_no_recording_with_2() {
    let (code, out, err) = watchdog(&["suggest", "/dev/null"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("not a regular file"), "{err}");
    assert_eq!(watchdog(&["suggest"]).0, Some(2));
}

#[test]
fn a_wrong_call_of_status_is_no_verdict() {
    for arguments in [&["status", "--url", "9611"][..], &["status", "--colour"], &["status", "now"]] {
        let (code, out, err) = watchdog(arguments);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{err}");
        assert!(err.contains("Usage") || err.contains("http://HOST:PORT"), "{err}");
    }
    let (code, out, _) = watchdog(&["status", "--help"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("64 the command line is wrong"), "{out}");
    assert_eq!(watchdog(&["replay"]).0, Some(2), "every other command says it as ever");
}
