//! What the player of histories tells whoever makes a mistake, and that its README leaves nothing
//! out.

use super::play::{play, report, rewritten};
use super::{changes, expect, script};

/// What is told of the one line that cannot be read.
fn refused(line: &str) -> String {
    let failures = play(&format!("# a history\n{line}\n"));
    assert_eq!(failures.len(), 1, "{line}: {failures:?}");
    assert_eq!(failures[0].line, 2);
    failures[0].told.join(" ")
}

#[test]
fn a_line_that_cannot_be_read_says_what_could_have_stood_there() {
    for (line, told) in [
        ("proces starts", "unknown word `proces`; known: policy, rule, process, thread"),
        ("process restarts", "unknown word `restarts`; known: starts, exits"),
        ("process", "missing: what happens to it"),
        ("thread", "missing: the name of the thread"),
        ("thread exec-s0 state=Q", "state: unknown word `Q`; known: R, S, D, T, t"),
        ("thread exec-s0 working", "missing: key=…"),
        ("thread exec-s0 key=7", "`key` is of work"),
        ("thread exec-s0 cpu=fast", "cpu: `fast` is no length of time, as in `900ms`"),
        ("thread exec-s0 state", "`state` needs a value"),
        ("thread exec-s0 idle=yes", "`idle` takes no value"),
        ("worker exec-s0 state=R", "`state=R` is no number of a lane"),
        ("rule thread exec-s* on=kill", "missing: stall_after=…"),
        ("rule channel commands on=kill", "missing: max_age=… or max_depth=…"),
        ("policy exit_within=soon", "exit_within: `soon` is no length of time"),
        ("advance", "missing: how much time passes"),
        ("advance 5 seconds", "`5` is no length of time"),
        ("advance 5s till condemned", "unknown word `till`; known: every=…, until …"),
        ("advance 5s until", "missing: what `until` waits for"),
        ("away 0s", "no time passes"),
        ("expect", "missing: what is expected"),
        ("expect verdict=fine", "verdict: unknown word `fine`; known: unguarded, starting, healthy"),
        ("expect verdict", "`verdict` needs a value"),
        ("expect thread exec-s0", "missing: a field and what it holds"),
        ("expect thread exec-s0 counted=..x", "counted: `x` is no length of time"),
        ("expect notes kaput", "unknown word `kaput`; known: opened, lifted"),
        ("expect why=\"no end", "a quotation mark is not closed"),
        ("repeat often", "`often` is no whole number of times"),
        ("repeat 3", "`repeat` without `end`"),
        ("end", "`end` without `repeat`"),
    ] {
        let refused = refused(line);
        assert!(refused.contains(told), "{line}: {refused}");
    }
}

#[test]
fn every_line_that_cannot_be_read_is_reported() {
    let lines: Vec<_> = play("foo\nprocess starts\nbar\n").iter().map(|failure| failure.line).collect();
    assert_eq!(lines, [1, 3]);
}

#[test]
fn what_makes_no_sense_where_it_stands_is_told_there() {
    for (text, line, told) in [
        ("thread exec-s0 idle", 1, "there is no process: `process starts` comes first"),
        ("expect verdict=healthy", 1, "nothing was observed yet: `advance` comes first"),
        ("process starts\nadvance 1s\nexpect thread exec-s0 health=idle", 3, "was not observed"),
        ("request \"a reason\"", 1, "nobody is watched"),
        ("clear key=7", 1, "no such work is in a crash loop"),
    ] {
        let failures = play(text);
        assert_eq!(failures.len(), 1, "{text}: {failures:?}");
        assert_eq!(failures[0].line, line, "{text}");
        assert!(failures[0].told[0].contains(told), "{text}: {failures:?}");
    }
}

const WRONG: &str = "\
rule thread exec-s* stall_after=1s
process starts
thread exec-s0 working key=7
advance 10ms
advance 500ms
expect verdict=healthy
expect thread exec-s0 health=idle counted=..100ms # a comment
expect notes lifted
advance 5s
expect verdict=healthy
";

#[test]
fn a_line_that_comes_otherwise_is_shown_in_its_place() {
    let told = report("starved.txt", WRONG, &play(WRONG));
    let expected = "
starved.txt:6
    4 | advance 10ms
    5 | advance 500ms
>   6 | expect verdict=healthy
      | verdict: expected healthy, came degraded
";
    assert!(told.starts_with(expected), "{told}");
    let expected = "
>   7 | expect thread exec-s0 health=idle counted=..100ms # a comment
      | health: expected idle, came late
      | counted: expected ..100ms, came 500ms
";
    assert!(told.contains(expected), "{told}");
    let expected = "
>   8 | expect notes lifted
      | notes: expected lifted
      | notes: came nothing
";
    assert!(told.contains(expected), "{told}");
    let expected = "
>   9 | advance 5s
      | condemned (stalled), and the line does not say `until condemned`
        at 1s10ms: condemned, ";
    assert!(told.contains(expected), "{told}");
    assert!(told.contains("        thread exec-s0: stalled, counted 1s, at work on 7\n"), "{told}");
    assert!(!told.contains("starved.txt:10"), "nothing makes sense after that: {told}");
}

#[test]
fn an_update_writes_what_came_and_keeps_the_rest() {
    let updated = rewritten(WRONG, &play(WRONG));
    let expected = WRONG
        .replacen("verdict=healthy", "verdict=degraded", 1)
        .replace("health=idle counted=..100ms", "health=late counted=500ms")
        .replace("notes lifted", "notes nothing");
    assert_eq!(updated, expected);
    let lines: Vec<_> = play(&updated).iter().map(|failure| failure.line).collect();
    assert_eq!(lines, [9], "a kill that nobody expects is not written down as right");
}

#[test]
fn a_time_that_nobody_reaches_is_told_as_such() {
    let told = play("process starts\nadvance 1s until condemned\n");
    assert_eq!(told[0].told, ["in vain: condemned: expected yes, came no"]);
}

#[test]
fn the_readme_has_every_word() {
    let readme = include_str!("../histories/README.md");
    let names = |words: &[(&'static str, ())]| words.iter().map(|(name, ())| *name).collect::<Vec<_>>();
    let fields =
        |words: &[(&'static str, expect::Kind)]| words.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let mut words = names(script::COMMANDS);
    words.extend(script::POLICY.iter().map(|(name, _)| *name));
    for table in [
        script::THREAD_RULE,
        script::CHANNEL_RULE,
        changes::PROCESS,
        changes::THREAD,
        changes::TASK,
        changes::CHANNEL,
    ] {
        words.extend(names(table));
    }
    for table in [expect::WHOLE, expect::THREAD, expect::CHANNEL, &expect::excuses()] {
        words.extend(fields(table));
    }
    // Every second piece stands between two marks of code.
    let code = readme.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(" ");
    let told: Vec<_> = code.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_').collect();
    for word in words {
        assert!(told.contains(&word), "`{word}` is missing in README.md");
    }
}
