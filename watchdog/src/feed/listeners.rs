//! What the relay tells the listeners, and how often: a hundred threads whose excuse comes and goes
//! must not push an incident out of what is held.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::board::Board;
use crate::clock::Monotonic;
use crate::incident::Incident;
use crate::incident::near_miss::NearMiss;
use crate::incident::timeline::{Entry, StepName};
use crate::pause::Pause;
use crate::snapshot::{Snapshot, ThreadStatus};
use crate::status_json::{self, NearMissJson};
use crate::verdict::{Health, Unobserved, Verdict};

use super::{Feed, IncidentTold, Kind, NearMissTold, PauseTold, ResumeTold, ThreadTold, VerdictTold};

/// A thread that changes more often is told of with what it is then.
const ONE_THREAD_EVERY: Duration = Duration::from_secs(1);
/// More threads than this in a second share a cause; the others follow, the worst first.
const THREADS_A_SECOND: usize = 16;
const SECOND: Duration = Duration::from_secs(1);

/// Tells the listeners, and remembers what they know.
#[derive(Debug)]
pub struct Listeners {
    feed: Arc<Feed>,
    board: Arc<Board>,
    verdict: Option<Verdict>,
    threads: HashMap<(String, Option<i32>), Known>,
    /// Since when this second counts, and the threads that were told of in it.
    second: Option<(Monotonic, usize)>,
}

/// What the listeners know of a thread.
#[derive(Clone, Copy, Debug)]
struct Known {
    state: State,
    at: Option<Monotonic>,
}

/// What is told of when it changes. Work begins and ends too often to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// `None` while the thread is well: idle or at work.
    health: Option<Health>,
    kind: Option<&'static str>,
    unobserved: Option<Unobserved>,
}

impl State {
    fn of(thread: &ThreadStatus) -> Self {
        let health = Some(thread.health).filter(|health| !matches!(health, Health::Idle | Health::Working));
        Self { health, kind: status_json::kind(thread), unobserved: thread.unobserved }
    }

    /// Whether nothing need be told of a thread that is seen for the first time.
    const fn is_expected(self) -> bool {
        matches!(self.health, None | Some(Health::Starting)) && self.unobserved.is_none()
    }

    /// The worst first.
    const fn rank(self) -> u8 {
        match self.health {
            Some(Health::Gone) => 0,
            Some(Health::Stalled) => 1,
            Some(Health::Late) => 2,
            _ if self.unobserved.is_some() => 3,
            Some(Health::Excused) => 4,
            _ => 5,
        }
    }
}

impl Listeners {
    /// Those of `feed`.
    pub fn new(feed: Arc<Feed>, board: Arc<Board>) -> Self {
        Self { feed, board, verdict: None, threads: HashMap::new(), second: None }
    }

    /// A newer state: threads, and the verdict if the event of its change was dropped.
    pub(crate) fn snapshot(&mut self, snapshot: &Snapshot) {
        self.verdict(snapshot.verdict, &snapshot.reason, snapshot.since);
        self.threads(snapshot);
    }

    /// The verdict, if it is another one.
    pub(crate) fn verdict(&mut self, verdict: Verdict, reason: &str, since: Monotonic) {
        if self.verdict.replace(verdict) == Some(verdict) {
            return;
        }
        let since = self.board.wall(since);
        self.feed.tell(Kind::Verdict, &VerdictTold { verdict, reason: reason.to_owned(), since });
    }

    /// An incident was opened, or has a further step.
    pub(crate) fn incident(&self, incident: &Incident, step: StepName, detail: Option<&str>) {
        let is_it = |entry: &Entry| entry.step == step && entry.detail.as_deref() == detail;
        self.feed.tell(Kind::Incident, &IncidentTold::of(incident, is_it));
    }

    /// A near miss is over.
    pub(crate) fn near_miss(&self, near_miss: &NearMiss) {
        let (id, incident) = (near_miss.id.clone(), near_miss.incident.clone());
        let near_miss = NearMissJson::from(near_miss);
        self.feed.tell(Kind::NearMiss, &NearMissTold { id, near_miss, incident });
    }

    /// Killing was paused.
    pub(crate) fn paused(&self, pause: &Pause) {
        let paused_until = self.board.wall(pause.until);
        let told = PauseTold { paused_until, reason: pause.reason.clone(), by: pause.by.clone() };
        self.feed.tell(Kind::Pause, &told);
    }

    /// Killing is no longer paused.
    pub(crate) fn resumed(&self, at: Monotonic, by: Option<&str>) {
        let told = ResumeTold { at: self.board.wall(at), by: by.map(str::to_owned) };
        self.feed.tell(Kind::Resume, &told);
    }

    fn threads(&mut self, snapshot: &Snapshot) {
        let at = snapshot.at;
        let mut before = std::mem::take(&mut self.threads);
        let mut due = Vec::new();
        for thread in &snapshot.threads {
            let (key, state) = ((thread.name.clone(), thread.tid), State::of(thread));
            let known = before.remove(&key);
            let first = State { health: None, kind: None, unobserved: None };
            let expected = if state.is_expected() { state } else { first };
            let known = known.unwrap_or(Known { state: expected, at: None });
            let rested = known.at.is_none_or(|told| at.since(told) >= ONE_THREAD_EVERY);
            if known.state != state && rested {
                due.push((state, known.at, thread));
            }
            self.threads.insert(key, known);
        }
        due.sort_by_key(|(state, told, _)| (state.rank(), *told));
        for (state, _, thread) in due.into_iter().take(self.room(at)) {
            self.thread(at, state, thread);
        }
    }

    /// How many threads may be told of now.
    fn room(&mut self, at: Monotonic) -> usize {
        let second = self.second.filter(|(since, _)| at.since(*since) < SECOND);
        let (_, told) = *self.second.insert(second.unwrap_or((at, 0)));
        THREADS_A_SECOND.saturating_sub(told)
    }

    fn thread(&mut self, at: Monotonic, state: State, thread: &ThreadStatus) {
        if let Some((_, told)) = &mut self.second {
            *told += 1;
        }
        self.threads.insert((thread.name.clone(), thread.tid), Known { state, at: Some(at) });
        let told = ThreadTold {
            at: self.board.wall(at),
            name: thread.name.clone(),
            tid: thread.tid,
            health: thread.health,
            kind: state.kind.map(str::to_owned),
            unobserved: thread.unobserved,
            work_key: thread.work_key,
        };
        self.feed.tell(Kind::Thread, &told);
    }
}

#[cfg(test)]
#[path = "listeners/tests.rs"]
mod tests;
