use super::*;

use crate::board::sample;
use crate::feed::{Heard, Listener};
use crate::verdict::ExcuseKind;
use futures_util::FutureExt;
use serde_json::Value;

struct Told {
    listeners: Listeners,
    listener: Listener,
    snapshot: Snapshot,
}

fn told() -> Told {
    let feed = Arc::new(Feed::new(Arc::default()));
    let mut listener = feed.listen(None).unwrap();
    assert!(listener.next().now_or_never().is_some(), "the first id");
    Told { listeners: Listeners::new(feed, sample::board()), listener, snapshot: sample::snapshot() }
}

impl Told {
    /// Tells of the state `millis` later. Returns what a listener hears of that kind.
    fn after(&mut self, millis: u64, kind: Kind) -> Vec<Value> {
        self.snapshot.at = Monotonic(self.snapshot.at.0 + millis * 1_000_000);
        self.listeners.snapshot(&self.snapshot);
        let heard = std::iter::from_fn(|| self.listener.next().now_or_never().flatten());
        let of_kind = heard.filter(|heard: &Heard| heard.kind == Some(kind));
        of_kind.map(|heard| serde_json::from_str(&heard.data).unwrap()).collect()
    }

    fn health(&mut self, place: usize, health: Health) {
        let thread = &mut self.snapshot.threads[place];
        thread.health = health;
        thread.excuse = (health == Health::Excused).then_some(ExcuseKind::Starved);
    }
}

#[test]
fn a_change_of_health_is_told_and_that_work_begins_and_ends_is_not() {
    let mut told = told();
    assert_eq!(told.after(0, Kind::Thread), Vec::<Value>::new(), "all is as expected");
    told.health(0, Health::Idle);
    told.health(1, Health::Working);
    assert_eq!(told.after(2_000, Kind::Thread), Vec::<Value>::new());
    told.health(0, Health::Excused);
    let excused = told.after(250, Kind::Thread);
    assert_eq!(excused.len(), 1);
    let of = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let words = ["name", "health", "kind"].map(|key| of(&excused[0], key));
    assert_eq!(words, ["exec-s0", "excused", "starved"].map(str::to_owned));
    assert_eq!(told.after(2_000, Kind::Thread), Vec::<Value>::new(), "once");
    told.health(0, Health::Working);
    assert_eq!(told.after(250, Kind::Thread)[0]["health"], "working");
}

#[test]
fn a_thread_that_flips_is_told_of_once_a_second_with_what_it_is_then() {
    let mut told = told();
    let mut heard = Vec::new();
    for look in 0..1_000 {
        told.health(0, if look % 2 == 0 { Health::Excused } else { Health::Working });
        heard.extend(told.after(5, Kind::Thread));
    }
    assert!((2..=6).contains(&heard.len()), "{} in five seconds", heard.len());
    told.health(0, Health::Stalled);
    heard.extend(told.after(1_000, Kind::Thread));
    assert_eq!(heard.last().unwrap()["health"], "stalled");
}

#[test]
fn four_hundred_that_flip_do_not_hide_one_that_is_gone_and_all_are_told_at_the_end() {
    let mut told = told();
    let one = told.snapshot.threads[0].clone();
    told.snapshot.threads = (0..401)
        .map(|number| crate::snapshot::ThreadStatus {
            tid: Some(number),
            name: format!("w{number}"),
            ..one.clone()
        })
        .collect();
    told.after(0, Kind::Thread);
    let flip = |told: &mut Told, health| (0..400).for_each(|place| told.health(place, health));
    let mut heard = 0;
    for look in 0..2_000 {
        flip(&mut told, if look % 2 == 0 { Health::Excused } else { Health::Working });
        heard += told.after(5, Kind::Thread).len();
    }
    assert!(heard <= THREADS_A_SECOND * 11, "{heard} in ten seconds");
    told.health(400, Health::Gone);
    let gone = told.after(1_000, Kind::Thread);
    assert_eq!((&gone[0]["name"], &gone[0]["health"]), (&"w400".into(), &"gone".into()), "the worst first");
    flip(&mut told, Health::Excused);
    let mut last = std::collections::HashMap::new();
    for told in (0..60).flat_map(|_| told.after(500, Kind::Thread)) {
        last.insert(told["name"].clone(), told["health"].clone());
    }
    // Those that were last told of as excused need no further word.
    assert!(last.values().all(|health| health == "excused"), "{last:?}");
    let known = &told.listeners.threads;
    assert!(known.values().filter(|known| known.state.health == Some(Health::Excused)).count() == 400);
}

#[test]
fn threads_that_are_no_longer_there_are_forgotten() {
    let mut told = told();
    told.after(0, Kind::Thread);
    told.snapshot.threads.truncate(1);
    told.after(250, Kind::Thread);
    assert_eq!(told.listeners.threads.len(), 1);
}

#[test]
fn a_verdict_is_told_once_and_from_the_state_if_its_event_was_dropped() {
    let mut told = told();
    assert_eq!(told.after(0, Kind::Verdict)[0]["verdict"], "healthy");
    let at = told.snapshot.at;
    told.listeners.verdict(Verdict::Condemned, "it is lost", at);
    told.snapshot.verdict = Verdict::Condemned;
    let heard = told.after(0, Kind::Verdict);
    assert_eq!((heard.len(), &heard[0]["reason"]), (1, &"it is lost".into()));
    told.snapshot.verdict = Verdict::Dying;
    told.snapshot.reason = "it ends".to_owned();
    let heard = told.after(250, Kind::Verdict);
    assert_eq!((heard.len(), &heard[0]["reason"]), (1, &"it ends".into()));
}
