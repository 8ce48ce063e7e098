use std::path::Path;

use shard_heartbeat::{Heartbeat, SegmentOptions};

use super::*;
use crate::config::read::parse;

/// What is said of these rules, where a segment registers `threads` and publishes `channels`.
fn said(rules: &str, threads: &[&str], channels: &[&str]) -> Vec<String> {
    let text = format!("[target]\nshard = \"0\"\nheartbeat = \"/h\"\n{rules}\n");
    let config = parse(&text, Path::new("w.toml")).unwrap();
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let registered = Registered { threads: own(threads), channels: own(channels) };
    let mut report = Report::default();
    super::rules(&config.threads, &config.channels, "", &registered, &mut report);
    let told = |remark: &Remark| format!("{}: {remark}", remark.line.unwrap_or_default());
    report.warnings.iter().map(told).collect()
}

const THREADS: &[&str] = &["exec-s0", "net-s0", "send-s0"];

#[test]
fn a_rule_that_matches_nothing_is_told_with_what_there_is_and_what_was_meant() {
    insta::assert_snapshot!(said("[[thread]]\nname = \"exek-s*\"", THREADS, &[]).join("\n"), @r#"5: thread.name: found "exek-s*": no registered thread matches it, so it watches nothing, and after judge.startup_grace the verdict is degraded. Registered are exec-s0, net-s0, send-s0. Did you mean "exec-s0"?"#);
    insta::assert_snapshot!(said("[[thread]]\nname = \"worker\"\non = \"ignore\"", THREADS, &[]).join("\n"), @r#"5: thread.name: found "worker": no registered thread matches it, so it watches nothing. Registered are exec-s0, net-s0, send-s0"#);
    insta::assert_snapshot!(said("[[thread]]\nname = \"exec-s1\"", &[], &[]).join("\n"), @r#"5: thread.name: found "exec-s1": no registered thread matches it, so it watches nothing, and after judge.startup_grace the verdict is degraded. No thread is registered"#);
    assert_eq!(said("[[thread]]\nname = \"*-s0\"\ncount = 3", THREADS, &[]), [""; 0]);
}

#[test]
fn threads_of_one_name_count_each_and_belong_to_the_first_rule() {
    let twice = &["exec", "exec"];
    assert_eq!(said("[[thread]]\nname = \"exec\"\ncount = 2", twice, &[]), [""; 0]);
    insta::assert_snapshot!(said("[[thread]]\nname = \"exec\"\ncount = 3", twice, &[]).join("\n"), @r#"5: thread.name: found "exec": count is 3, and 2 of the registered threads belong to it, and after judge.startup_grace the verdict is degraded. Registered is exec"#);
    insta::assert_snapshot!(
        said("[[thread]]\nname = \"e*\"\n[[thread]]\nname = \"exec\"", twice, &[]).join("\n"),
        @r#"7: thread.name: found "exec": every registered thread that matches it belongs to a rule above it, and the first one wins: it watches nothing, and after judge.startup_grace the verdict is degraded. Move it up, or remove it"#
    );
}

#[test]
fn channels_and_those_who_should_receive_are_told_too() {
    let rules = "[[channel]]\nname = \"comands\"\nmax_age = \"3s\"\nconsumer = \"exec_s*\"\non = \"kill\"\n\
                 [[thread]]\nname = \"exec-s0\"\nidle_at_most = \"1m\"\nidle_witness = [\"blok*\"]\n";
    insta::assert_snapshot!(said(rules, THREADS, &["blocks", "commands"]).join("\n"), @r#"
    10: thread.idle_witness: found "blok*": no published channel matches it, so it never shows that there is work. Published are blocks, commands. Did you mean "blocks"?
    5: channel.name: found "comands": no channel of that name is published, so nothing is watched there, and after judge.startup_grace the verdict is degraded. Published are blocks, commands. Did you mean "commands"?
    5: channel.consumer: found "exec_s*": no registered thread matches it, so nobody is known to receive from comands, and a channel without a consumer never leads to a kill. Registered are exec-s0, net-s0, send-s0. Did you mean "exec-s0"?
    "#);
    let ignored = "[[channel]]\nname = \"other\"\non = \"ignore\"";
    assert_eq!(said(ignored, THREADS, &[]), [""; 0]);
}

#[test]
fn only_so_many_names_are_shown() {
    let many: Vec<String> = (10..40).map(|n| format!("exec-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let told = said("[[thread]]\nname = \"x\"", &many, &[]).join("");
    assert!(told.ends_with("exec-24, exec-25 and 14 more"), "{told}");
}

#[test]
fn what_is_not_for_this_shard_now_is_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.heartbeat");
    let heartbeat = Heartbeat::create(&path, &SegmentOptions::new("0")).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(read(&reader, "0").unwrap().unwrap_err().contains("is starting"));
    heartbeat.set_state(ProcessState::Running);
    let _thread = heartbeat.register("exec-s0").unwrap();
    assert_eq!(read(&reader, "0").unwrap().unwrap().threads, ["exec-s0"]);
    assert!(read(&reader, "1").unwrap().unwrap_err().contains("another shard"));
}
