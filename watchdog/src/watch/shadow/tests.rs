use super::*;

use std::path::Path;

use tokio::sync::mpsc::{Receiver, channel};

use crate::config::{Config, read};
use crate::judge::testing;
use crate::observation::{TaskObservation, TaskState, ThreadObservation, WaitChannel};

const MILLI: u64 = 1_000_000;

fn config(shadow: &str) -> Config {
    let text = format!(
        "[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[[thread]]\nname = \"exec-s*\"\nstall_after = \"5s\"\n{shadow}"
    );
    read::parse(&text, Path::new("w.toml")).unwrap()
}

/// A live policy that would kill after 5 s, and a shadow of it.
struct Side {
    live: Policy,
    shadow: Option<Shadow>,
    publisher: Publisher,
    events: Receiver<Event>,
    seen: Observation,
}

impl Side {
    fn new(shadow: &str) -> Self {
        let config = config(shadow);
        let live = config.policy(false);
        let (sender, events) = channel(64);
        let shadow =
            config.shadow.as_ref().map(|shadow| Shadow::new(shadow, &live, CrashLoops::NONE, Monotonic(0)));
        Self { live, shadow, publisher: Publisher::new(sender), events, seen: working() }
    }

    fn reload(&mut self, shadow: &str) {
        let config = config(shadow);
        self.live = config.policy(false);
        Shadow::reload(&mut self.shadow, config.shadow.as_ref(), &self.live, CrashLoops::NONE, self.seen.at);
    }

    /// Observes whenever the shadow wants to, for so long; returns what the shadow reported.
    fn stand_still(&mut self, millis: u64) -> Vec<ShadowStep> {
        let until = self.seen.at.0 + millis * MILLI;
        while self.seen.at.0 < until {
            self.look();
            self.seen.at = self.shadow.as_ref().map_or(Monotonic(until), Shadow::look_at);
        }
        self.told()
    }

    fn progress(&mut self) -> Vec<ShadowStep> {
        self.seen.threads[0].progress += 1;
        self.look();
        self.told()
    }

    fn look(&mut self) {
        if let Some(shadow) = &mut self.shadow {
            shadow.look(&self.seen, Verdict::Healthy, &mut self.publisher);
        }
    }

    fn told(&mut self) -> Vec<ShadowStep> {
        let mut steps = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            let Event::Shadow { live: Verdict::Healthy, step, .. } = event else { panic!("{event:?}") };
            steps.push(step);
        }
        steps
    }

    fn status(&self) -> ShadowStatus {
        self.shadow.as_ref().unwrap().status()
    }
}

fn working() -> Observation {
    let wait = Some(WaitChannel::Futex);
    let task = TaskObservation { state: TaskState::Sleeping, cpu_ns: Some(1), run_delay_ns: Some(1), wait };
    let thread = ThreadObservation {
        activity: 1,
        progress: 1,
        work_key: 7,
        attempt: 1,
        task: Some(task),
        ..testing::thread(0, "exec-s0")
    };
    let process = Some(testing::process(testing::identity(1)));
    Observation { at: testing::BEGAN, process, threads: vec![thread], ..Observation::default() }
}

const QUICK: &str = "[[shadow.thread]]\nname = \"exec-s*\"\nstall_after = \"500ms\"\n";

#[test]
fn a_shadow_says_what_it_would_kill_once_and_takes_it_back_when_that_goes_on() {
    let mut side = Side::new(QUICK);
    assert_eq!(side.stand_still(450), []);
    let told = side.stand_still(500);
    let [ShadowStep::WouldKill { reason: Reason::Stalled, why, thread: Some(thread) }] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(why.contains("500 ms") && thread == "exec-s0", "{told:?}");
    let status = side.status();
    assert_eq!((status.verdict, status.kills, status.kills_left), (Verdict::Condemned, 1, 2));
    let told = side.progress();
    assert!(matches!(&told[..], [ShadowStep::Lifted { .. }]), "{told:?}");
    let status = side.status();
    assert_eq!((status.verdict, status.kills), (Verdict::Healthy, 1));
    assert_eq!(status.last.unwrap().1, Reason::Stalled);
}

#[test]
fn a_shadow_has_a_budget_of_its_own() {
    let mut side = Side::new(&format!("{QUICK}[shadow.kill]\nbudget = {{ kills = 1, per = \"1h\" }}\n"));
    assert_eq!(side.stand_still(600).len(), 1);
    side.progress();
    let told = side.stand_still(600);
    assert!(matches!(&told[..], [ShadowStep::Withheld { .. }]), "{told:?}");
    assert_eq!((side.status().kills, side.status().kills_left), (1, 0));
}

#[test]
fn a_reload_begins_changes_and_ends_it() {
    let mut side = Side::new("");
    assert!(side.shadow.is_none());
    side.reload(QUICK);
    assert_eq!(side.stand_still(300), []);
    side.reload("[[shadow.thread]]\nname = \"exec-s*\"\nstall_after = \"900ms\"\n");
    assert_eq!(side.stand_still(500), [], "counted time is kept, the threshold is another");
    assert_eq!(side.stand_still(200).len(), 1);
    side.reload("");
    assert!(side.shadow.is_none());
}

#[test]
fn what_a_shadow_does_not_say_is_as_the_live_policy_has_it() {
    let config = config("[judge]\nexit_within = \"7s\"\n[shadow.judge]\nstartup_grace = \"1s\"\n");
    let shadow = config.shadow.as_ref().unwrap();
    let live = config.policy(true);
    let policy = policy(shadow, &live);
    assert_eq!(policy.rules[0].stall_after, live.rules[0].stall_after);
    assert_eq!((policy.exit_within, policy.startup_grace.as_secs()), (live.exit_within, 1));
    assert!(policy.poll_threads);
}
