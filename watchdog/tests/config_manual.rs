//! The reference of the config, its page, and what the sidecar accepts are the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use shard_watchdog::config::reference::{self, Default, Key, Takes};
use shard_watchdog::config::{Config, read};

#[test]
fn the_page_is_what_the_reference_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
    let page = reference::page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/config.md is not what the reference says. Write it anew: UPDATE_DOCS=1 cargo test -p shard-watchdog --test \
         config_manual"
    );
}

fn parse(text: &str) -> Result<Config, String> {
    read::parse(text, Path::new("w.toml")).map_err(|problems| problems.to_string())
}

/// A file with these keys in it, in their tables.
fn file<'a>(keys: impl Iterator<Item = &'a Key>, value: impl Fn(&Key) -> &'static str) -> String {
    let mut tables: BTreeMap<usize, String> = BTreeMap::new();
    for key in keys {
        let table =
            reference::TABLES.iter().position(|table| table.keys.iter().any(|own| own.key == key.key));
        let text = tables
            .entry(table.unwrap())
            .or_insert_with(|| format!("{}\n", reference::TABLES[table.unwrap()].header));
        text.push_str(&format!("{} = {}\n", key.name(), value(key)));
    }
    tables.into_values().collect()
}

/// Those that cannot stand beside another one.
fn alternative(key: &Key) -> bool {
    ["target.pid_file", "target.command", "kill.signals"].contains(&key.key)
}

/// A user must exist on the machine.
fn example(key: &Key) -> &'static str {
    if key.key == "target.user" { "0" } else { key.example }
}

#[test]
fn every_example_is_accepted() {
    let together = file(reference::keys().filter(|key| !alternative(key)), example);
    parse(&together).unwrap_or_else(|problems| panic!("{problems}\n{together}"));
    for one in ["target.pid_file", "target.command"] {
        let instead = |key: &&Key| key.key == one || key.key == "target.shard";
        let text = file(reference::keys().filter(instead), example);
        parse(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    }
    let ladder = |key: &&Key| ["kill.signals", "target.shard", "target.heartbeat"].contains(&key.key);
    parse(&file(reference::keys().filter(ladder), example)).unwrap();
}

#[test]
fn the_defaults_are_those_that_are_in_force() {
    let required = |key: &&Key| key.default == Default::Required || key.key == "target.heartbeat";
    let config = parse(&file(reference::keys().filter(required), example)).unwrap();
    let settings = config.settings();
    let mut seen = BTreeSet::new();
    for setting in &settings {
        let key = reference::find(&setting.key).unwrap_or_else(|| panic!("{} is in no table", setting.key));
        match key.default {
            Default::Value(value) => assert_eq!(setting.value, value, "{}", setting.key),
            Default::None => panic!("{setting}: the reference says that nothing holds by default"),
            Default::Required | Default::Told(_) => {}
        }
        seen.insert(key.key);
    }
    let silent = ["thread.on_idle", "recorder.keep.days", "recorder.keep.bytes"];
    let missing: Vec<&str> = reference::keys()
        .filter(|key| matches!(key.default, Default::Value(_)) && !seen.contains(key.key))
        .map(|key| key.key)
        .filter(|key| !silent.contains(key))
        .collect();
    assert_eq!(missing, [""; 0], "their defaults are in force and not told");
}

#[test]
fn a_setting_reads_as_itself_again() {
    let keys = || reference::keys().filter(|key| !alternative(key) && !key.key.starts_with("shadow."));
    let config = parse(&file(keys(), example)).unwrap();
    let told: BTreeMap<String, String> =
        config.settings().into_iter().map(|setting| (setting.key, setting.value)).collect();
    for key in keys().filter(|key| !["thread.name", "channel.name", "target.user"].contains(&key.key)) {
        let setting =
            key.key.replace("thread.", "thread.\"exec-s*\".").replace("channel.", "channel.\"commands\".");
        let value = told.get(&setting).unwrap_or_else(|| panic!("{setting} is not told: {told:#?}"));
        // Its path is a secret, and an address gets the slash that it means.
        let expected = match key.key {
            "heartbeat_out.url" => "\"https://hc.example\"",
            "otlp.endpoint" => "\"http://127.0.0.1:4318/\"",
            _ => key.example,
        };
        assert_eq!(value, expected, "{setting}");
    }
}

/// What the reader says is allowed in a table, when it meets a key that is not.
fn allowed(table: &str) -> BTreeSet<String> {
    let text = format!("{table}\nzzzzzzzzzzzzzzzzzzzzzzzz = 1\n");
    let problems = parse(&text).unwrap_err();
    let told =
        problems.lines().find(|line| line.contains("zzzz")).unwrap_or_else(|| panic!("{table}: {problems}"));
    let (_, keys) = told.split_once("allowed here: ").unwrap_or_else(|| panic!("{told}"));
    keys.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_reference_has_every_key_that_the_reader_knows() {
    for table in reference::TABLES {
        let own: BTreeSet<String> =
            table.keys.iter().map(|key| key.name().split('.').next().unwrap().to_owned()).collect();
        let mut known = allowed(table.header);
        // A table of its own here.
        if table.path() == "judge" {
            known.remove("excuse");
        }
        assert_eq!(own, known, "{}", table.header);
    }
    let inner = [
        ("[kill.budget]", "kill.budget."),
        ("[evidence.keep]", "evidence.keep."),
        ("[recorder.keep]", "recorder.keep."),
        ("[judge.excuse.stopped]", "judge.excuse.stopped."),
    ];
    for (header, path) in inner {
        let own: BTreeSet<String> =
            reference::keys().filter_map(|key| Some(key.key.strip_prefix(path)?.to_owned())).collect();
        assert_eq!(own, allowed(header), "{header}");
    }
    let tables: BTreeSet<String> =
        reference::TABLES.iter().map(|table| table.path().split('.').next().unwrap().to_owned()).collect();
    assert_eq!(tables, allowed(""), "the file itself");
}

#[test]
fn the_file_to_start_from_is_a_config() {
    let text = reference::example(|_| true);
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(config.threads.len(), 1);
    assert!(config.otlp.is_none() && config.shadow.is_none(), "what is off by default is a comment");
    // Every comment that is a key is one when it is taken out of the comment.
    for key in reference::keys() {
        assert!(text.contains(&format!("{} = ", key.name())), "{}", key.key);
    }
    assert!(
        text.lines()
            .filter(|line| line.starts_with("# ") && !line.contains(" = "))
            .all(|line| line.chars().count() <= 100)
    );
}

#[test]
fn nothing_but_kill_by_makes_a_reload_fail() {
    let alone: Vec<&str> =
        reference::keys().filter(|key| key.takes_effect == Takes::StartAlone).map(|key| key.key).collect();
    assert_eq!(alone, ["kill.by"]);
}
