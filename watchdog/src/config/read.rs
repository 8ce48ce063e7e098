//! Reads a config file and reports all of its problems at once.

use std::io::{self, Read};
use std::path::Path;

use toml::de::DeTable;

use super::problem::{Problem, Problems};
use super::section::{Complaints, Section};
use super::{Config, sections};

/// A sidecar's config is a page or two; a megabyte is the wrong file.
const LONGEST: u64 = 1 << 20;

/// Reads and checks `path`.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_for(path, None)
}

/// The same for the shard of that name, whatever the file says: many shards may share one file.
pub fn load_for(path: &Path, shard: Option<&str>) -> Result<Config, Problems> {
    parse_for(&read(path)?, path, shard)
}

/// The same with what `input` holds, called `path` in every message.
///
/// # Errors
/// All problems, or that it cannot be read, is too long, or is no text.
pub fn load_from(input: impl Read, path: &Path, shard: Option<&str>) -> Result<Config, Problems> {
    let unreadable = |error| Problems::whole(path, format!("the config cannot be read: {error}"));
    parse_for(&text(input, path, unreadable)?, path, shard)
}

fn read(path: &Path) -> Result<String, Problems> {
    let cannot = |error: io::Error| {
        let next = match error.kind() {
            io::ErrorKind::NotFound => "write one, or give its path with --config",
            io::ErrorKind::PermissionDenied => "let the user of the sidecar read it",
            _ => "give the path of a config file with --config",
        };
        Problems::whole(path, format!("the config file cannot be read: {error}; {next}"))
    };
    // Checked before opening: opening a pipe waits for a writer, and what can be read only once
    // cannot be reloaded.
    let kind = std::fs::metadata(path).map_err(cannot)?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() { "a folder" } else { "not a regular file" };
        let next = "give the path of a config file with --config";
        return Err(Problems::whole(path, format!("the config file cannot be read: it is {what}; {next}")));
    }
    let file = std::fs::File::open(path).map_err(cannot)?;
    text(file, path, cannot)
}

fn text(input: impl Read, path: &Path, cannot: impl Fn(io::Error) -> Problems) -> Result<String, Problems> {
    let mut bytes = Vec::new();
    input.take(LONGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > LONGEST {
        let what = "the file is longer than 1 MiB, which no config of the sidecar is";
        return Err(Problems::whole(path, what));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Problems::whole(path, format!("the file is not UTF-8 text (byte {at}), so it is not TOML"))
    })
}

/// The same for uses that need only the rules, such as a replay: for no particular shard.
pub fn load_rules(path: &Path) -> Result<Config, Problems> {
    load_for(path, Some("0"))
}

/// Checks `text`, which was read from `path`.
pub fn parse(text: &str, path: &Path) -> Result<Config, Problems> {
    parse_for(text, path, None)
}

fn parse_for(text: &str, path: &Path, shard: Option<&str>) -> Result<Config, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut complaints = Complaints::new(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        complaints.add_at(at, "", format!("not TOML: {}", error.message()));
    }
    if !complaints.is_empty() {
        // The contents of a broken table are unknown, so they are checked only once it parses.
        return Err(Problems { file: path.to_path_buf(), list: complaints.into_list() });
    }
    let span = table.span();
    let config = sections::config(Section::new("", span, table.into_inner()), shard, &mut complaints);
    let list: Vec<Problem> = complaints.into_list();
    match config {
        Some(config) if list.is_empty() => Ok(config),
        _ => Err(Problems { file: path.to_path_buf(), list }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KillBy, KillMode, MOST_WARM_UP, On, written_sections};
    use crate::verdict::{ExcuseKind, StallKind};
    use std::time::Duration;

    fn check(text: &str) -> Result<Config, String> {
        parse(text, Path::new("w.toml")).map_err(|problems| problems.to_string())
    }

    const CONTRACT: &str = r#"
[target]
shard = "0"
heartbeat = "/run/shard/0.heartbeat"

[[thread]]
name = "exec-s*"
count = 1
stall_after = "5s"
warn_after = "2s"
on = "kill"

[[channel]]
name = "commands"
max_age = "3s"
max_depth = 1000
consumer = "exec-s*"
on = "report"

[judge]
startup_grace = "30s"
[judge.excuse]
starved = "10m"
stolen = "10m"
throttled = "10m"
traced = "1h"
stopped = { at_most = "60s", then = "kill" }

[restart]
within = "30s"

[kill]
mode = "observe"
signals = [["SIGKILL", "0s"]]
budget = { kills = 3, per = "10m" }

[evidence]
directory = "/var/lib/shard-watchdog/0"
time_limit = "250ms"
keep = { incidents = 50, bytes = "256MiB" }

[http]
listen = "127.0.0.1:9611"
public = "0.0.0.0:9612"
socket = "/run/shard/0.watchdog.sock"
hosts = ["shard-0.shards.svc", "*.example"]

[otlp]
endpoint = "http://127.0.0.1:4318"
protocol = "http/protobuf"
interval = "10s"
"#;

    #[test]
    fn the_documented_config_loads() {
        let config = check(CONTRACT).unwrap();
        assert_eq!(config.target.shard, "0");
        assert_eq!(config.threads[0].stall_after, Duration::from_secs(5));
        assert_eq!(config.kill.mode, KillMode::Observe);
        assert_eq!(config.judge.stopped_then, On::Kill);
        assert_eq!(config.evidence.keep_bytes, 256 << 20);
        assert_eq!(config.http.hosts.len(), 2);
    }

    #[test]
    fn the_shortest_config_has_the_documented_defaults() {
        let config =
            check("[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[[thread]]\nname = \"exec-s0\"\n").unwrap();
        assert_eq!(config.kill.mode, KillMode::Observe);
        assert_eq!(config.threads[0].warn_after, Duration::from_secs(2));
        assert_eq!(config.judge.startup_grace, Duration::from_secs(30));
        assert_eq!(config.http.listen, Some("127.0.0.1:9611".parse().unwrap()));
    }

    #[test]
    fn who_starts_the_sidecar_may_name_the_shard_and_is_heard_before_the_file() {
        let path = Path::new("w.toml");
        let nameless = "[target]\nheartbeat = \"/h\"\n[[thread]]\nname = \"exec-s*\"\n";
        let told = check(nameless).unwrap_err();
        assert!(told.contains("w.toml:1: target.shard: is missing") && told.contains("--shard"), "{told}");
        let config = parse_for(nameless, path, Some("7")).unwrap();
        assert_eq!(config.target.shard, "7");
        assert!(config.evidence.directory.ends_with("7"), "{:?}", config.evidence.directory);
        let named = nameless.replace("heartbeat", "shard = \"0\"\nheartbeat");
        assert_eq!(parse_for(&named, path, Some("7")).unwrap().target.shard, "7");
        let wrong = nameless.replace("heartbeat", "shard = \"\"\nheartbeat");
        assert!(
            parse_for(&wrong, path, Some("7")).is_err(),
            "what is wrong in the file is told all the same"
        );
    }

    #[test]
    fn a_kill_is_a_signal_or_an_exit_code_and_not_both() {
        let with =
            |kill: &str| check(&format!("[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[kill]\n{kill}\n"));
        assert_eq!(with("mode = \"enforce\"").unwrap().kill.by, KillBy::Signal);
        assert_eq!(with("by = \"exit-code\"").unwrap().kill.by, KillBy::ExitCode);
        let told = with("by = \"exit\"").unwrap_err();
        assert!(
            told.contains("w.toml:5: kill.by: found \"exit\": allowed: \"signal\" or \"exit-code\""),
            "{told}"
        );
        let both = "signals = [[\"SIGKILL\", \"0s\"]]\nby = \"exit-code\"";
        assert!(with(both).unwrap_err().contains("no signal is sent where kill.by is \"exit-code\""));
    }

    #[test]
    fn the_user_of_the_target_is_known_by_name_or_by_number() {
        let with =
            |user: &str| check(&format!("[target]\nshard = \"0\"\nheartbeat = \"/h\"\nuser = {user}\n"));
        let uid = |user| with(user).unwrap().target.user.map(|user| user.uid);
        assert_eq!((uid("61001"), uid("\"root\"")), (Some(61_001), Some(0)));
        for bad in ["-1", "1.5", "4294967296", "\"no-such-user-here\""] {
            let told = with(bad).unwrap_err();
            assert!(told.starts_with(&format!("w.toml:4: target.user: found {bad}: ")), "{told}");
        }
        assert!(with("\"no-such-user-here\"").unwrap_err().contains("no user of this machine"));
    }

    #[test]
    fn every_excuse_has_a_cap_of_its_own() {
        let text = "[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[[thread]]\nname = \"exec-s0\"\n[judge.excuse]\n\
                    starved = \"1s\"\nthrottled = \"2s\"\nmemory_throttled = \"3s\"\ntraced = \"4s\"\nfrozen = \"5s\"\n\
                    core_dumping = \"6s\"\nstolen = \"7s\"\n";
        let caps = check(text).unwrap().policy(false).excuse_caps;
        let kinds = [
            ExcuseKind::Starved,
            ExcuseKind::Throttled,
            ExcuseKind::MemoryThrottled,
            ExcuseKind::Traced,
            ExcuseKind::Frozen,
            ExcuseKind::CoreDumping,
            ExcuseKind::Stolen,
        ];
        let seconds = kinds.map(|kind| caps.of(kind).map(|cap| cap.as_secs()));
        assert_eq!(seconds, [1, 2, 3, 4, 5, 6, 7].map(Some));
        let shortest = "[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[[thread]]\nname = \"exec-s0\"\n";
        let caps = check(shortest).unwrap().policy(false).excuse_caps;
        assert_eq!(caps.of(ExcuseKind::MemoryThrottled), Some(Duration::from_secs(600)));
        let misspelt = text.replace("memory_throttled", "memory_trottled");
        assert!(check(&misspelt).unwrap_err().contains("did you mean \"memory_throttled\"?"));
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_line() {
        let text = r#"[target]
shard = ""
hartbeat = "/run/0.heartbeat"
[[thread]]
name = "a-name-that-is-too-long"
stall_after = 5
warn_after = "10s"
on = "murder"
[kill]
mode = "enforc"
signals = [["SIGKILL", "5s"], ["SIGTERM", "0s"]]
budget = { kills = 0, per = "10m" }
[http]
listen = "0.0.0.0:9611"
[shadwo]
"#;
        insta::assert_snapshot!(check(text).unwrap_err(), @r#"
        w.toml:1: target: names no process; give one of heartbeat, pid_file, command or systemd_unit
        w.toml:2: target.shard: found "": allowed: 1 to 32 bytes without control characters; it goes on every metric and log line
        w.toml:3: target.hartbeat: found hartbeat: unknown key; did you mean "heartbeat"?
        w.toml:5: thread.name: found "a-name-that-is-too-long": can never match: thread names end after 15 bytes; shorten it, or end it with *
        w.toml:6: thread.stall_after: found 5: allowed: a duration in double quotes, such as "5s" or "1m 30s" (units: ns us ms s m h d), longer than zero
        w.toml:7: thread.warn_after: found "10s": must not be longer than stall_after (5s)
        w.toml:8: thread.on: found "murder": allowed: "kill", "report" or "ignore", or a table by kind of stall, such as { io_wait = "report" }
        w.toml:10: kill.mode: found "enforc": allowed: "observe" or "enforce"
        w.toml:11: kill.signals: found [["SIGKILL", "5s"], ["SIGTERM", "0s"]]: the times must not go down, and the last signal must be SIGKILL, which alone cannot be ignored
        w.toml:12: kill.budget.kills: found 0: allowed: a whole number from 1 to 4294967295
        w.toml:14: http.listen: found "0.0.0.0:9611": allowed: a loopback address and port; use http.public for others
        w.toml:15: shadwo: found shadwo: unknown key; did you mean "shadow"?
        "#);
    }

    #[test]
    fn a_warm_up_lies_between_the_threshold_and_ten_minutes() {
        let rule = |warm_up: &str| {
            let thread = format!("[[thread]]\nname = \"exec-s*\"\nwarm_up = \"{warm_up}\"\n");
            check(&format!("[target]\nshard = \"0\"\nheartbeat = \"/h\"\n{thread}"))
        };
        let threads = |text| rule(text).unwrap().threads;
        assert_eq!(threads("30s")[0].warm_up, Some(Duration::from_secs(30)));
        assert_eq!(threads("10m")[0].warm_up, Some(MOST_WARM_UP));
        for wrong in ["5s", "1s", "10m 1s"] {
            assert_eq!(
                rule(wrong).unwrap_err().trim_end(),
                format!(
                    "w.toml:6: thread.warm_up: found {wrong:?}: must be longer than stall_after (5s) and at most 10m"
                )
            );
        }
    }

    /// A config with these lines in its only `[[thread]]`; the first of them is line 6.
    fn with_thread(lines: &str) -> Result<Config, String> {
        let head = "[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[[thread]]\nname = \"exec-s*\"\n";
        check(&format!("{head}{lines}\n"))
    }

    #[test]
    fn sections_have_thresholds_of_their_own() {
        let config = with_thread("sections = { reading = \"2s\", executing = \"1m\" }").unwrap();
        let written = written_sections(&config.threads[0].sections, crate::config::units::written);
        assert_eq!(written, ["executing 1m", "reading 2s"]);
        let policy = config.policy(false);
        let warnings: Vec<u64> =
            policy.rules[0].sections.iter().map(|limits| limits.warn_after.as_secs()).collect();
        assert_eq!(warnings, [24, 0], "two fifths, as for the rule: 24 s and 800 ms");
        insta::assert_snapshot!(
            with_thread("sections = { Reading = \"2s\", executing = 5, committing = \"0s\" }").unwrap_err(),
            @r#"
        w.toml:6: thread.sections.Reading: found Reading: a section is named by 1 to 12 characters of a-z, 0-9, "_", "-" and "."
        w.toml:6: thread.sections.executing: found 5: allowed: a duration in double quotes, such as "5s" or "1m 30s" (units: ns us ms s m h d), longer than zero
        w.toml:6: thread.sections.committing: found "0s": allowed: a duration in double quotes, such as "5s" or "1m 30s" (units: ns us ms s m h d), longer than zero
        "#
        );
        let many: Vec<String> = (0..17).map(|n| format!("s{n} = \"2s\"")).collect();
        let told = with_thread(&format!("sections = {{ {} }}", many.join(", "))).unwrap_err();
        assert!(told.contains("thread.sections: 17 sections; allowed: 16 at most"), "{told}");
    }

    #[test]
    fn what_follows_a_stall_may_depend_on_its_kind() {
        let rule = |lines| with_thread(lines).unwrap().policy(false).rules.remove(0);
        let by_kind = rule("on = { io_wait = \"report\", deadlock = \"kill\" }");
        assert_eq!(by_kind.on, On::Kill, "a lost thread");
        assert_eq!(by_kind.on_stall(StallKind::IoWait), On::Report);
        assert_eq!(by_kind.on_stall(StallKind::Deadlock), On::Kill);
        assert_eq!(by_kind.on_stall(StallKind::Unknown), On::Kill, "what the table does not name");
        let plain = rule("on = \"report\"");
        assert_eq!((plain.on, plain.on_stall(StallKind::Deadlock)), (On::Report, On::Report));
        insta::assert_snapshot!(
            with_thread("on = { io_wait = \"ignore\", disk = \"report\" }").unwrap_err(),
            @r#"
        w.toml:6: thread.on.io_wait: found "ignore": allowed: "kill" or "report"
        w.toml:6: thread.on.disk: found disk: unknown key; allowed here: deadlock, livelock, io_wait, blocked, unknown
        "#
        );
        insta::assert_snapshot!(
            with_thread("on = {}").unwrap_err(),
            @"w.toml:6: thread.on: found {}: names no kind of stall; allowed here: deadlock, livelock, io_wait, blocked, unknown"
        );
    }

    #[test]
    fn what_a_shadow_may_not_say_is_told_with_its_own_keys() {
        let text = r#"[target]
shard = "0"
heartbeat = "/h"
[[shadow.thread]]
name = "exec-s*"
stall_after = "1s"
warn_after = "2s"
[[shadow.thread]]
name = "exec-s*"
[[shadow.channel]]
name = "commands"
on = "kill"
[shadow.kill]
mode = "enforce"
[shadow.restart]
within = "1s"
"#;
        insta::assert_snapshot!(check(text).unwrap_err(), @r#"
        w.toml:7: shadow.thread.warn_after: found "2s": must not be longer than stall_after (1s)
        w.toml:8: shadow.thread.name: "exec-s*" stands twice; the first rule wins
        w.toml:10: shadow.channel: on = "kill" needs consumer and max_age: only a consumer that does not receive can be at fault
        w.toml:14: shadow.kill.mode: found "enforce": a shadow never sends a signal: budget alone may stand here
        w.toml:15: shadow.restart: found restart: unknown key; allowed here: thread, channel, judge, kill
        "#);
        let empty = check("[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[shadow]\n").unwrap_err();
        assert!(empty.starts_with("w.toml:4: shadow: says nothing"), "{empty}");
    }

    #[test]
    fn a_recorder_has_defaults_and_a_least_size() {
        let start = "[target]\nshard = \"0\"\nheartbeat = \"/h\"\n";
        let plain = check(&format!("{start}[evidence]\ndirectory = \"/e\"\n[recorder]\n")).unwrap();
        let recorder = plain.recorder.unwrap();
        assert_eq!((recorder.directory.to_str(), recorder.keep_days), (Some("/e/recordings"), 7));
        assert!(check(start).unwrap().recorder.is_none(), "off unless asked for");
        let small = check(&format!("{start}[recorder]\nkeep = {{ bytes = \"1MiB\" }}\n")).unwrap_err();
        assert!(
            small.starts_with("w.toml:5: recorder.keep.bytes: found \"1MiB\": allowed: at least 16MiB"),
            "{small}"
        );
    }

    #[test]
    fn hosts_and_endpoints_are_told_what_they_may_be() {
        let text = r#"
[target]
shard = "0"
heartbeat = "/h"
[http]
hosts = ["shard-0", "*"]
[otlp]
endpoint = "http://host:99999"
protocol = "http/json"
"#;
        insta::assert_snapshot!(check(text).unwrap_err(), @r#"
        w.toml:6: http.hosts: found ["shard-0", "*"]: allowed: a list of hosts, each a name such as "shard-0.shards.svc", "*.example" for all names below example, or an address; without scheme, port and path
        w.toml:8: otlp.endpoint: found "http://host:99999": allowed: an address such as "http://127.0.0.1:4318"
        w.toml:9: otlp.protocol: found "http/json": allowed: "http/protobuf" or "grpc"
        "#);
    }

    #[test]
    fn broken_toml_is_told_with_its_line() {
        let error = check("[target\nshard = \"0\"\n").unwrap_err();
        assert!(error.starts_with("w.toml:1: not TOML"), "{error}");
    }

    #[test]
    fn a_missing_file_names_itself_and_the_next_step() {
        let error = load(Path::new("/nowhere/w.toml")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/w.toml") && error.contains("--config"), "{error}");
    }

    #[test]
    fn what_is_no_file_of_text_is_refused_with_the_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("w.toml");
        let why = |path: &Path| load(path).unwrap_err().to_string();
        assert!(why(folder.path()).contains("it is a folder"));
        assert!(why(Path::new("/dev/zero")).contains("not a regular file"));
        std::fs::write(&file, b"[target]\n\xff").unwrap();
        assert!(why(&file).contains("UTF-8 text (byte 9)"));
        std::fs::write(&file, vec![b' '; 1 + (1 << 20)]).unwrap();
        assert!(why(&file).contains("longer than 1 MiB"));
    }

    #[test]
    fn contradictions_are_told() {
        let text = r#"
[target]
shard = "0"
heartbeat = "/h"
pid_file = "/p"
[[thread]]
name = "a*"
count = 0
[[thread]]
name = "a*"
[[channel]]
name = "commands"
on = "kill"
[[channel]]
name = "commands"
[evidence]
time_limit = "11s"
directory = ""
[http]
public = "0.0.0.0:9611"
socket = "/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/s"
"#;
        insta::assert_snapshot!(check(text).unwrap_err(), @r#"
        w.toml:5: target.heartbeat, pid_file, command: found "/p": name one of them, not several
        w.toml:8: thread.count: found 0: allowed: a whole number from 1 to 4294967295
        w.toml:9: thread.name: "a*" stands twice; the first rule wins
        w.toml:11: channel: on = "kill" needs consumer and max_age: only a consumer that does not receive can be at fault
        w.toml:14: channel.name: "commands" stands twice; one rule a channel
        w.toml:17: evidence.time_limit: found "11s": allowed: a duration in double quotes, such as "5s" or "1m 30s" (units: ns us ms s m h d), at most 10s since a kill waits for it; "0s" gathers none
        w.toml:18: evidence.directory: found "": allowed: a path in double quotes
        w.toml:19: http.public: cannot have the port of http.listen (127.0.0.1:9611): the two are different listeners
        w.toml:21: http.socket: found "/0123456789/0123456789/0123456789/0123456789/0123456789/012…: is longer than the 107 bytes that the path of a unix socket may have
        "#);
    }

    proptest::proptest! {
        #[test]
        fn no_slip_in_a_good_file_makes_it_panic(at in 0..CONTRACT.len(), cut in 0..40_usize, slip in ".{0,8}") {
            let mut text = CONTRACT.to_owned();
            text.replace_range(at..(at + cut).min(CONTRACT.len()), &slip);
            let _ = check(&text);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\[[a-z]{0,8}\\]\n|[a-z_]{1,8} = [\"0-9a-z\\[\\]{}, ]{0,12}\n|.{0,20}\n){0,12}") {
            let _ = check(&text);
        }
    }
}
