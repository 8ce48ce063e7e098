//! What a history plays on: the scene, and what the kernel would show of each thread if it were
//! asked. As in the probe, it is asked only about a thread that stands still.

use std::time::Duration;

use shard_judge::observation::{
    ChannelObservation, Presence, TaskObservation, TaskState, ThreadObservation, WorkerObservation,
};
use shard_judge::testing::{self, BEGAN, Scene, ns};
use shard_judge::{Condemnation, Decision, Note};

use super::words::written;

/// How often `advance` observes if its line does not say.
pub const EVERY: Duration = Duration::from_millis(10);

/// What the kernel would show of one thread.
#[derive(Clone, Debug)]
pub struct Shown {
    pub task: Option<TaskObservation>,
    pub workers: Vec<WorkerObservation>,
    /// Whether its CPU time grows as fast as time passes.
    pub spins: bool,
    /// The same of its workers, by lane.
    pub spinning: Vec<u32>,
    /// Generation, activity and progress at the last observation.
    before: Option<(u64, u64, u64)>,
}

/// The scene of one history.
#[derive(Debug)]
pub struct Stage {
    pub scene: Scene,
    /// One for each thread of the scene.
    pub shown: Vec<Shown>,
    pub decision: Option<Decision>,
    /// The incident that was opened last.
    pub incident: Option<Condemnation>,
    /// How long the last step that lets time pass took.
    pub took: Duration,
    incarnations: u64,
}

impl Stage {
    /// An empty machine.
    pub fn new() -> Self {
        Self {
            scene: Scene::empty(testing::policy(Vec::new()), EVERY),
            shown: Vec::new(),
            decision: None,
            incident: None,
            took: Duration::ZERO,
            incarnations: 0,
        }
    }

    /// Time since the beginning.
    pub fn time(&self) -> Duration {
        self.scene.now.at.since(BEGAN)
    }

    /// Another process, up and without threads.
    pub fn starts(&mut self) {
        self.incarnations += 1;
        let mut identity = testing::identity(self.incarnations);
        identity.pid += i32::try_from(self.incarnations).unwrap() - 1;
        self.scene.now.process = Some(testing::process(identity));
        self.clear();
    }

    fn clear(&mut self) {
        self.scene.now.threads.clear();
        self.scene.now.channels.clear();
        self.shown.clear();
    }

    /// The place of the thread of this name, which is registered if it was not.
    pub fn thread(&mut self, name: &str) -> Result<usize, String> {
        self.running()?;
        if let Some(place) = self.known_thread(name) {
            return Ok(place);
        }
        let task = Some(testing::task(TaskState::Sleeping, None, 0));
        let (workers, spinning) = (Vec::new(), Vec::new());
        self.shown.push(Shown { task, workers, spins: false, spinning, before: None });
        Ok(self.scene.add(name))
    }

    /// The place of the thread of this name.
    pub fn known_thread(&self, name: &str) -> Option<usize> {
        self.scene.now.threads.iter().position(|thread| &*thread.name == name)
    }

    /// The channel of this name, which is published if it was not.
    pub fn channel(&mut self, name: &str) -> Result<&mut ChannelObservation, String> {
        self.running()?;
        let channels = &mut self.scene.now.channels;
        let known = channels.iter().position(|channel| &*channel.name == name);
        let place = known.unwrap_or(channels.len());
        if known.is_none() {
            channels.push(ChannelObservation::blank(u32::try_from(place).unwrap(), 1, name.into()));
        }
        Ok(&mut channels[place])
    }

    /// An error if there is no process.
    pub fn running(&self) -> Result<(), String> {
        match self.scene.now.process {
            Some(_) => Ok(()),
            None => Err("there is no process: `process starts` comes first".to_owned()),
        }
    }

    /// Observes once, after `time`.
    pub fn pass(&mut self, time: Duration) -> Decision {
        let Scene { now, judge, .. } = &mut self.scene;
        now.at = now.at.plus(time);
        let told =
            now.process.as_ref().is_some_and(|process| process.segment_readable && !process.core_dumping);
        let waits = now.channels.iter().any(|channel| channel.sent > channel.received);
        let current = judge.incarnation();
        let open: Vec<_> = current.map(|current| current.asks_about().collect()).unwrap_or_default();
        for (thread, shown) in now.threads.iter_mut().zip(&mut self.shown) {
            shown.spin(time);
            let asks = waits || open.contains(&(thread.slot, thread.generation));
            shown.tell(thread, told, asks);
        }
        let decision = self.scene.look();
        self.decision = Some(decision);
        for note in self.scene.judge.notes() {
            if let Note::Opened(condemned) = note {
                self.incident = Some((**condemned).clone());
            }
        }
        if self.scene.now.process.as_ref().is_some_and(|process| process.exited) {
            self.scene.now.process = None;
            self.clear();
        }
        decision
    }

    /// Observes again and again, `every` so often or whenever the judge asks, for `time` or until
    /// `done` says so.
    pub fn advance(
        &mut self,
        time: Duration,
        every: Option<Duration>,
        mut done: impl FnMut(&Self) -> bool,
    ) -> bool {
        let began = self.scene.now.at;
        let end = began.plus(time);
        loop {
            let next = match (every, self.decision) {
                (Some(every), _) => self.scene.now.at.plus(every),
                (None, Some(decision)) => decision.look_at,
                (None, None) => self.scene.now.at.plus(EVERY),
            };
            self.pass(next.min(end).since(self.scene.now.at));
            self.took = self.scene.now.at.since(began);
            if done(self) {
                return true;
            }
            if self.scene.now.at >= end {
                return false;
            }
        }
    }

    /// The notes since they were last taken, except those that a verdict or a thread shows by
    /// itself.
    pub fn take_notes(&mut self) -> Vec<String> {
        let notes = std::mem::take(&mut self.scene.notes);
        notes.iter().filter_map(noted).collect()
    }
}

impl Shown {
    fn spin(&mut self, time: Duration) {
        let grows = |task: &mut Option<TaskObservation>| {
            if let Some(cpu) = task.as_mut().and_then(|task| task.cpu_ns.as_mut()) {
                *cpu += ns(time);
            }
        };
        if self.spins {
            grows(&mut self.task);
        }
        for worker in self.workers.iter_mut().filter(|worker| self.spinning.contains(&worker.lane)) {
            grows(&mut worker.task);
        }
    }

    /// Puts into the observation what the probe would.
    fn tell(&mut self, thread: &mut ThreadObservation, told: bool, asks: bool) {
        let words = Some((thread.generation, thread.activity, thread.progress));
        let unmoved = self.before == words;
        self.before = words;
        let asked = told && unmoved && thread.presence == Presence::Present && (thread.working() || asks);
        thread.task = self.task.filter(|_| asked);
        let workers = asked && thread.working() && thread.task.is_some();
        thread.workers = if workers { self.workers.clone() } else { Vec::new() };
    }
}

/// A note as `expect notes` has it.
fn noted(note: &Note) -> Option<String> {
    let key = |key: Option<u64>| key.map_or_else(|| "unknown".to_owned(), |key| key.to_string());
    Some(match note {
        Note::Verdict { .. } | Note::ProgressGap { .. } => return None,
        Note::Opened(condemned) => format!("opened:{}", condemned.reason),
        Note::Lifted { .. } => "lifted".to_owned(),
        Note::Exited => "exited".to_owned(),
        Note::CrashLoop { work_key } => format!("crash_loop:{work_key}"),
        Note::RestartOverdue => "restart_overdue".to_owned(),
        Note::Restarted { target, .. } => format!("restarted:{}", target.incarnation),
        Note::Recovered { work_key } => format!("recovered:{}", key(*work_key)),
        Note::Excuse { thread, kind } => {
            format!("excuse:{thread}:{}", kind.map_or("none", |kind| kind.label()))
        }
        Note::ExcuseOver { thread, kind, cap } => format!("excuse_over:{thread}:{kind}:{}", written(*cap)),
        Note::ChannelLate { channel, .. } => format!("channel_late:{channel}"),
        Note::ChannelInTime { channel, deepest, .. } => format!("channel_in_time:{channel}:{deepest}"),
        Note::Silent { threads, .. } => format!("silent:{}", threads.replace(", ", ",").replace(' ', "_")),
        Note::WorksAgain { threads, .. } => format!("works_again:{}", threads.replace(", ", ",")),
    })
}
