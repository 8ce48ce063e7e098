//! The story of an incident goes on whenever its sidecar ends: the next one closes it, as one
//! incident, with one trace, and without a guess at what nobody saw.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use shard_tests::pair::Pair;
use shard_tests::process::{Process, binary};
use shard_tests::puppet::{STUCK, order, order_unanswered};
use shard_tests::sidecar::Settings;
use shard_tests::{incident, wait};

/// Many ticks of the kernel's clock.
const A_WHILE: Duration = Duration::from_millis(300);

/// A target whose sidecar is killed at a moment of the test's choice.
struct Story {
    pair: Pair,
    socket: PathBuf,
    /// The folder of the socket, which must outlive the sidecar.
    _folder: tempfile::TempDir,
}

impl Story {
    #[track_caller]
    fn begin(mut settings: Settings, target: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("w.sock");
        settings.append = format!("socket = {socket:?}\n");
        let mut pair = Pair::configure_with(&settings);
        pair.start_target(target);
        let mut story = Self { pair, socket, _folder: folder };
        story.start_sidecar();
        story.pair.sidecar.wait_for("healthy");
        story
    }

    fn start_sidecar(&mut self) {
        self.pair.start_sidecar(Command::new(binary("shard-watchdog")));
    }

    /// Kills the sidecar, as the OOM killer would, with this state of its incident on the disk; and
    /// starts the next one.
    #[track_caller]
    fn next_sidecar(&mut self) {
        let mut sidecar = self.pair.running.pop().unwrap();
        sidecar.signal(Signal::KILL);
        sidecar.wait("its end");
        assert_eq!(self.only()["status"], "open", "{:#}", self.only());
        self.start_sidecar();
    }

    /// Waits for the end of the first target, and starts the next one.
    #[track_caller]
    fn next_target(&mut self, target: Command) {
        let mut first = self.pair.running.remove(0);
        first.wait("the end of the target");
        self.pair.start_target(target);
        let last = self.pair.running.len() - 1;
        self.pair.running.swap(0, last);
    }

    /// The only incident, as it is on the disk.
    #[track_caller]
    fn only(&self) -> Value {
        let mut all = self.pair.sidecar.incidents();
        assert_eq!(all.len(), 1, "{all:#?}");
        all.remove(0)
    }

    /// Waits until the only incident has as many steps of this name.
    #[track_caller]
    fn step(&self, name: &str, count: usize) -> Value {
        wait::until(&format!("{count} {name}"), || {
            let incident = self.pair.sidecar.incidents().pop()?;
            (steps(&incident).iter().filter(|step| **step == name).count() >= count).then_some(incident)
        });
        self.only()
    }

    /// Waits for the end of the story. Checks that the sidecar lists it once, and what remains of
    /// the kill budget.
    #[track_caller]
    fn end(&self, kills_left: u64) -> Value {
        let incident = self.pair.sidecar.incident("recovered");
        assert_eq!(self.only()["id"], incident["id"]);
        let told = wait::until("the end as the sidecar tells it", || {
            Some(self.pair.sidecar.told_incidents()).filter(|told| told[0]["status"] == "recovered")
        });
        assert_eq!((told.len(), &told[0]), (1, &incident));
        let status = self.pair.sidecar.wait_for("healthy");
        assert_eq!(status["kills_left"], kills_left, "{status:#}");
        incident
    }

    #[track_caller]
    fn command(&self, arguments: &[&str]) {
        let mut command = Command::new(binary("shard-watchdog"));
        command.args(arguments).arg("--socket").arg(&self.socket);
        let mut command = Process::start("command", command);
        let status = command.wait("an answer");
        assert!(status.success(), "{:?}", command.lines());
    }
}

fn puppet() -> Command {
    Command::new(binary("puppet"))
}

/// One that begins with a piece of work that it does not finish before it is told to.
fn stuck() -> Command {
    let mut command = puppet();
    command.env(STUCK, "1");
    command
}

fn steps(incident: &Value) -> Vec<&str> {
    let steps = incident["timeline"].as_array().unwrap().iter();
    // When evidence is complete depends on how busy the machine is.
    steps.filter_map(|entry| entry["step"].as_str()).filter(|step| *step != "evidence").collect()
}

/// Whether the time of that step is known.
#[track_caller]
fn is_known(incident: &Value, step: &str) -> bool {
    assert!(steps(incident).contains(&step), "no {step}: {incident:#}");
    incident::step_at(incident, step).is_some()
}

#[test]
fn between_verdict_and_signal_the_next_sidecar_condemns_again_and_kills_in_the_same_incident() {
    let mut story = Story::begin(Settings::default(), puppet());
    story.command(&["pause", "--for", "10m", "--reason", "a sidecar ends meanwhile"]);
    order(story.pair.port, "hang");
    let before = story.step("withheld", 1);
    story.next_sidecar();
    let again = story.step("verdict", 2);
    assert_eq!((&again["id"], &again["trace"]), (&before["id"], &before["trace"]));
    assert!(story.pair.running[0].is_running() && !steps(&again).contains(&"signal"), "{again:#}");
    story.command(&["resume"]);
    story.next_target(puppet());
    let end = story.end(2);
    let expected = [
        "last_progress",
        "seen",
        "verdict",
        "withheld",
        "sidecar_restarted",
        "verdict",
        "withheld",
        "signal",
        "exited",
        "exit_status",
        "restarted",
        "recovered",
    ];
    // The status is known only if the parent has reaped the process in time.
    let told: Vec<_> = steps(&end).into_iter().filter(|step| *step != "exit_status").collect();
    assert_eq!(told, expected.into_iter().filter(|step| *step != "exit_status").collect::<Vec<_>>());
    for step in ["signal", "exited", "restarted", "recovered"] {
        assert!(is_known(&end, step), "{step} was seen: {end:#}");
    }
}

/// A story whose sidecar was killed while it waited for a random part of ten seconds before it
/// killed; `None` if it drew a few milliseconds.
#[track_caller]
fn killed_in_its_jitter() -> Option<(Story, Value)> {
    let kill = "jitter = \"10s\"\n".to_owned();
    // The next sidecar finds the target healthy for so long.
    let stall_after = "5s".to_owned();
    let mut story = Story::begin(Settings { kill, stall_after, ..Settings::default() }, puppet());
    order(story.pair.port, "hang");
    story.step("verdict", 1);
    let mut sidecar = story.pair.running.pop().unwrap();
    sidecar.signal(Signal::KILL);
    sidecar.wait("its end");
    let before = story.only();
    (story.pair.running[0].is_running() && !steps(&before).contains(&"signal")).then_some((story, before))
}

#[test]
fn a_kill_that_was_not_sent_yet_is_not_paid_for() {
    let tries = (0..5).find_map(|_| killed_in_its_jitter());
    let (mut story, before) = tries.expect("more than a few milliseconds of ten seconds in five draws");
    story.start_sidecar();
    let status = story.pair.sidecar.wait_for("healthy");
    assert_eq!(status["kills_left"], 3, "nobody was killed: {status:#}");
    order(story.pair.port, "go");
    let over = wait::until("the end of the stall", || {
        story.pair.sidecar.incidents().into_iter().find(|one| one["status"] == "abandoned")
    });
    assert_eq!((&over["id"], story.only()["status"].as_str()), (&before["id"], Some("abandoned")));
    assert!(story.pair.running[0].is_running());
}

#[test]
fn between_signal_and_restart_the_next_sidecar_waits_for_the_successor() {
    let mut story = Story::begin(Settings::default(), puppet());
    order_unanswered(story.pair.port, "lose");
    let before = story.step("exited", 1);
    story.next_sidecar();
    story.step("sidecar_restarted", 1);
    wait::until("the next sidecar to watch for a target", || {
        story.pair.sidecar.status().filter(|status| status["verdict"] == "unguarded")
    });
    // The kernel tells when a process started to a hundredth of a second.
    wait::holds_for(A_WHILE, "no target", || story.pair.sidecar.verdict() == "unguarded");
    story.next_target(puppet());
    let end = story.end(2);
    assert_eq!((&end["id"], &end["trace"]), (&before["id"], &before["trace"]));
    assert_eq!(steps(&end).last(), Some(&"recovered"));
    assert!(is_known(&end, "restarted") && is_known(&end, "recovered"), "{end:#}");
    assert!(end["durations"]["fault_to_recovered_ms"].is_f64(), "{end:#}");
}

#[test]
fn a_death_and_a_restart_that_nobody_saw_are_told_without_a_time() {
    let mut story = Story::begin(Settings { mode: "observe".to_owned(), ..Settings::default() }, puppet());
    order(story.pair.port, "lose");
    let before = story.step("withheld", 1);
    let mut sidecar = story.pair.running.pop().unwrap();
    sidecar.signal(Signal::KILL);
    sidecar.wait("its end");
    story.pair.running[0].signal(Signal::KILL);
    story.next_target(puppet());
    story.start_sidecar();
    let end = story.end(3);
    assert_eq!(end["id"], before["id"]);
    for step in ["exited", "restarted", "recovered"] {
        assert!(!is_known(&end, step), "{step}: {end:#}");
    }
    for duration in ["signal_to_dead_us", "dead_to_restarted_ms", "fault_to_recovered_ms"] {
        assert!(end["durations"][duration].is_null(), "{duration}: {end:#}");
    }
}

#[test]
fn between_restart_and_recovery_the_next_sidecar_waits_for_the_first_finished_work() {
    let settings = Settings { stall_after: "100s".to_owned(), ..Settings::default() };
    let mut story = Story::begin(settings, puppet());
    order_unanswered(story.pair.port, "lose");
    story.next_target(stuck());
    let before = story.step("restarted", 1);
    story.next_sidecar();
    let adopted = wait::until("the next sidecar to watch the successor", || {
        story.pair.sidecar.status().filter(|status| status["pid"] == story.pair.running[0].pid())
    });
    assert_eq!(story.only()["status"], "open", "{adopted:#}");
    order(story.pair.port, "go");
    let end = story.end(2);
    assert_eq!((&end["id"], &end["trace"]), (&before["id"], &before["trace"]));
    assert_eq!(steps(&end).iter().filter(|step| **step == "restarted").count(), 1, "{end:#}");
    assert!(!is_known(&end, "recovered"), "work may have been finished while no sidecar watched: {end:#}");
}
