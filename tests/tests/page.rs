//! The status page in a real browser, beside a real executor: through a fault from beginning to
//! recovery, in light and dark, on a desk and on a phone, by keyboard alone, with a hostile name,
//! and without its sidecar. Pictures of each state are left in `target/status-page`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use shard_tests::browser::{self, Browser, key};
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::crowd::Crowd;
use shard_tests::pair::Pair;
use shard_tests::process::{Process, binary};
use shard_tests::puppet::order;
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, skip, wait};

const DESK: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (375, 812);

/// Whether there is a browser; if not, the test is noted as skipped.
fn can_run(test: &str) -> bool {
    let missing = browser::missing();
    if let Some(why) = &missing {
        skip::note(test, why);
    }
    missing.is_none()
}

fn picture(browser: &Browser, name: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/status-page");
    std::fs::create_dir_all(&folder).unwrap();
    browser.picture(&folder.join(format!("{name}.png")));
}

fn open(sidecar: &Sidecar) -> Browser {
    let browser = Browser::start();
    // What it asks itself for, for its first tab, is not ours.
    browser.open("about:blank");
    browser.requested();
    browser.show_as(DESK.0, DESK.1, false);
    browser.open(&format!("http://{}/", sidecar.http));
    browser
}

/// Gives an order over the socket in `folder`, as a person would.
#[track_caller]
fn give(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(binary("shard-watchdog"));
    let output = command.args(arguments).arg("--socket").arg(folder.join("w.sock")).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What holds for the page in every state: anybody can use it, nothing is wider than the screen,
/// the policy is kept, and no other host is asked for anything.
#[track_caller]
fn assert_good(browser: &Browser, sidecar: &Sidecar, state: &str) {
    for (size, dark) in [(DESK, false), (DESK, true), (PHONE, false), (PHONE, true)] {
        browser.show_as(size.0, size.1, dark);
        let violations = browser.accessibility_violations();
        assert!(violations.is_empty(), "{state}, {size:?}, dark {dark}: {violations:#?}");
        let wider = browser.run("return document.documentElement.scrollWidth > innerWidth");
        assert_eq!(wider, false, "{state}: wider than {size:?}");
        let kind = if size == PHONE { "phone" } else { "desk" };
        picture(browser, &format!("{state}-{kind}-{}", if dark { "dark" } else { "light" }));
    }
    browser.show_as(DESK.0, DESK.1, false);
    let refused: Vec<_> =
        browser.console().into_iter().filter(|line| line.contains("Content Security Policy")).collect();
    assert!(refused.is_empty(), "{state}: {refused:#?}");
    let own = [format!("http://{}/", sidecar.http), "data:".to_owned()];
    let elsewhere: Vec<_> =
        browser.requested().into_iter().filter(|url| !own.iter().any(|own| url.starts_with(own))).collect();
    assert!(elsewhere.is_empty(), "{state}: {elsewhere:#?}");
}

/// The last minute as the sidecar tells it: the parts of each entry add up to it.
#[track_caller]
fn assert_whole(sidecar: &Sidecar) {
    let history = api::json(sidecar.http, "/api/v1/history").unwrap();
    let threads = history["threads"].as_array().unwrap();
    assert!(!threads.is_empty(), "{history:#}");
    let micros = |column: &Value, index: usize| column[index].as_u64().unwrap();
    for thread in threads {
        for index in 0..thread["length_us"].as_array().unwrap().len() {
            let parts = ["idle_us", "working_us", "counted_us", "other_us"];
            let sum: u64 = parts.iter().map(|part| micros(&thread[*part], index)).sum();
            let excused = thread["excused_us"].as_object().unwrap().values();
            let excused: u64 = excused.map(|column| micros(column, index)).sum();
            assert_eq!(sum + excused, micros(&thread["length_us"], index), "{index}: {thread:#}");
        }
    }
}

/// Everything that the page shows of a fault of a real executor, from before it until after it.
#[test]
fn a_fault_is_shown_from_its_beginning_to_the_recovery() {
    if !can_run("page_a_fault_is_shown") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let append = format!(
        "socket = {:?}\n[links]\nrunbook = \"https://wiki.example/{{alert}}.md\"\n\
         trace = \"https://tempo.example/trace/{{trace_id}}\"\n",
        folder.path().join("w.sock")
    );
    // Even where the browser leaves little of the machine.
    let evidence = "minidump = true\ntime_limit = \"10s\"".to_owned();
    let settings = Settings { append, evidence, ..Settings::default() };
    let plan = Plan { shards: 1, settings, block_deadline: "120s".to_owned(), ..Plan::default() };
    let cluster = Cluster::start(&plan);
    let sidecar = &cluster.shards[0].sidecar;
    sidecar.wait_for("healthy");
    let browser = open(sidecar);

    browser.wait_for_text("#v-word", "healthy");
    browser.wait_for_text("#t-rows", "exec-s0");
    browser.wait_for_text("#t-rows .band-cell small", "working");
    browser.wait_for_text("#live", "healthy");
    assert_eq!(browser.text("#heard"), "live");
    assert_good(&browser, sidecar, "healthy");

    give(folder.path(), &["pause", "--for", "10m", "--reason", "to see it <b>stand</b>"]);
    browser.wait_for_text("#g-list", "to see it <b>stand</b>");
    browser.wait_for_text("#g-list", "shard-watchdog resume --socket");
    browser.run("document.querySelector('#t-find').focus()");
    cluster.inject(0, &["arm deadlock after 3"]);
    browser.wait_for_text("#v-word", "condemned");
    browser.wait_for_text("#v-brakes", "killing is paused");
    browser.wait_for_text("#live", "condemned");
    browser.wait_for_text("#t-rows", "deadlock");
    browser.wait_for_text("#t-rows .loud .band-cell small", "counted");
    browser.wait_for_text("#i-list summary", "open");
    assert_eq!(browser.run("return document.activeElement.id"), "t-find", "the focus stays");
    let runbook = browser.run("return document.querySelector('#v-links a').href");
    assert_eq!(runbook, "https://wiki.example/ShardCondemned.md");
    browser.run("document.querySelector('#i-list summary').click()");
    browser.wait_for_text("#i-list .times", "withheld");
    assert_good(&browser, sidecar, "condemned");

    give(folder.path(), &["resume"]);
    browser.wait_for_text("#i-list summary", "recovered");
    browser.wait_for_text("#v-word", "healthy");
    // What was open is open, and has gone on.
    let story = browser.wait_for_text("#i-list .times", "recovered");
    for step in ["last progress", "verdict", "withheld", "signal", "exited", "restarted"] {
        assert!(story.contains(step), "{step}: {story}");
    }
    browser.wait_for_text("#i-list .links", "trace");
    browser.wait_for_text("#i-list .body", "Observations");
    browser.wait_for_text("#i-list summary", "back after");
    assert_whole(sidecar);

    // By keyboard alone: the story closes and opens, and its stacks are asked for.
    browser.run("document.activeElement.blur()");
    browser.tab_to("#i-list summary");
    browser.press(key::ENTER);
    assert_eq!(browser.run("return document.querySelector('#i-list details').open"), false);
    browser.press(key::ENTER);
    browser.wait_for_text("#i-list h3 + .links", "stacks.txt");
    browser.tab_to("#i-list .stack summary");
    browser.press(key::ENTER);
    browser.wait_for_text("#i-list .stack pre", "exec-s0");
    assert_good(&browser, sidecar, "recovered");
}

/// A name from the target is text, whatever is in it; and what the sidecar does not say is not
/// shown as if it did.
#[test]
fn a_hostile_name_is_text_and_a_silent_sidecar_is_said_to_be_silent() {
    if !can_run("page_a_hostile_name") {
        return;
    }
    let name = "<img/src=//x/>";
    let settings = Settings::default().thread_rule("<*", "10s");
    let mut pair = Pair::configure_with(&settings);
    pair.start_target(Command::new(binary("puppet")));
    order(pair.port, &format!("double named {name}"));
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    pair.sidecar.wait_for("healthy");
    let browser = open(&pair.sidecar);
    browser.wait_for_text("#t-rows", name);
    assert_eq!(browser.run("return document.querySelectorAll('main img').length"), 0);
    assert_good(&browser, &pair.sidecar, "hostile-name");

    browser.run("document.activeElement.blur()");
    browser.tab_to("#t-unwell");
    browser.press(key::SPACE);
    browser.wait_for_text("#t-note", "Shown: 0 of 2");
    browser.tab_to("#t-all");
    browser.press(key::SPACE);
    browser.wait_for_text("#t-rows", name);

    let sidecar = pair.running.pop().unwrap();
    sidecar.signal(Signal::STOP);
    browser.wait_for_text("#v-word", "no answer");
    let said = browser.wait_for_text("#v-reason", "has not answered since");
    assert!(said.contains("It was last healthy"), "{said}");
    browser.wait_for_text("#live", "no answer");
    assert_eq!(browser.run("return document.querySelector('#v-now').checkVisibility()"), false);
    assert!(browser.text("#heard").starts_with("no answer since"));
    sidecar.signal(Signal::CONT);
    browser.wait_for_text("#v-word", "healthy");
    assert_eq!(browser.text("#heard"), "live");

    drop(sidecar);
    browser.wait_for_text("#v-word", "no answer");
    assert_good(&browser, &pair.sidecar, "no-answer");
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    wait::until("the next sidecar", || pair.sidecar.status());
    browser.wait_for_text("#v-word", "healthy");
    browser.wait_for_text("#t-rows .band-cell small", "working");
    assert_whole(&pair.sidecar);
}

/// A thousand threads: those that are not well stand first, and all can be shown.
#[test]
fn of_a_thousand_threads_the_worst_are_shown_first() {
    if !can_run("page_a_thousand_threads") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let settings =
        Settings { mode: "observe".to_owned(), stall_after: "1h".to_owned(), ..Settings::default() };
    let sidecar = Sidecar::configure(folder.path(), "crowd", "exec-s*", &settings);
    let mut target = Command::new(binary("puppet"));
    target.arg("crowd").arg(&sidecar.heartbeat).arg("1000");
    let mut crowd = Crowd::start(target);
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("run").arg("--config").arg(&sidecar.config);
    let _running = Process::start("sidecar", command);
    sidecar.wait_for("healthy");
    let browser = open(&sidecar);
    browser.wait_for_text("#t-note", "Shown: 50 of 1,000 watched, 0 not well. 936 have no history");
    crowd.lose(999);
    browser.wait_for_text("#t-rows tr:first-child", "exec-s999");
    browser.run("document.querySelector('#t-all').click()");
    browser.wait_for_text("#t-note", "1,000 watched, 1 not well");
    assert_eq!(browser.run("return document.querySelectorAll('#t-rows tr').length"), 1_000);
    // It goes on: the time since the verdict does.
    let before = browser.text("#v-facts");
    wait::until("a page that is still alive", || (browser.text("#v-facts") != before).then_some(()));
    assert_eq!(browser.text("#heard"), "live");
}
