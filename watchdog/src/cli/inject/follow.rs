//! Follows what the sidecar reports during a fault, and decides the outcome.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Deserialize;
use shard_watchdog::client::{self, Endpoint};
use shard_watchdog::clock;
use shard_watchdog::incident::id::IncidentId;
use shard_watchdog::incident::timeline::StepName;
use shard_watchdog::incident::{Incident, Status, Summary};
use shard_watchdog::status_json::StatusJson;
use shard_watchdog::verdict::{Health, Verdict};

use super::super::{plain, status};

/// Timeout of one query. A sidecar answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long the shard must stay healthy after an undo. A sidecar at rest observes about once a
/// second, and a lost thread is condemned after twenty milliseconds.
const SETTLED: Duration = Duration::from_secs(2);
/// How long to wait for a healthy shard before the fault: on a busy machine excuses come and go.
const HEALTHY_WITHIN: Duration = Duration::from_secs(10);
/// Limit of retained moments. A status that flips to and fro repeats itself.
const MOST_MOMENTS: usize = 64;

/// Something that was observed.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// Nanoseconds of the monotonic clock.
    pub(super) at: u64,
    pub(super) step: &'static str,
    pub(super) detail: String,
}

/// The outcome of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Another process has taken its place and works.
    Restarted,
    /// The same process is healthy again.
    Healthy,
    /// A signal to this program came first.
    Interrupted,
    /// No outcome within the time limit, and the reason as far as it is known.
    Late(String),
}

/// The sidecar's reports since before the fault.
#[derive(Debug)]
pub(super) struct Follow {
    endpoint: Endpoint,
    before: StatusJson,
    status: StatusJson,
    known: BTreeSet<IncidentId>,
    /// Incidents opened since then, oldest first.
    incidents: Vec<Incident>,
    moments: Vec<Moment>,
    late: BTreeSet<String>,
    healthy_since: Option<Instant>,
    answers: bool,
}

impl Follow {
    /// Checks that the sidecar watches this very process and finds it healthy. Otherwise nothing
    /// that follows would be conclusive.
    pub(super) fn begin(endpoint: Endpoint, pid: Option<i32>) -> Result<Self, String> {
        let until = Instant::now() + HEALTHY_WITHIN;
        let before = loop {
            // The flag that `status` calls --socket has another name here.
            let (_, told) =
                status::ask(&endpoint).map_err(|why| why.replace("--socket", "--status-socket"))?;
            if let (Some(watched), Some(pid)) = (told.pid, pid)
                && watched != pid
            {
                return Err(format!(
                    "the sidecar at {endpoint} watches process {watched}, not {pid}: name the one that watches it with --url or --status-socket"
                ));
            }
            if told.verdict == Verdict::Healthy || Instant::now() >= until {
                break told;
            }
            std::thread::sleep(super::LOOK_EVERY);
        };
        if before.verdict != Verdict::Healthy {
            return Err(format!(
                "shard {} is {} before any fault ({}), so the outcome of a fault would be unclear. Wait until it is healthy",
                plain(&before.shard),
                before.verdict,
                plain(&before.reason)
            ));
        }
        let known = summaries(&endpoint)
            .ok_or_else(|| format!("{endpoint} has no incidents: use its http.socket or http.listen"))?;
        Ok(Self {
            endpoint,
            status: before.clone(),
            before,
            known: known.into_iter().map(|summary| summary.id).collect(),
            incidents: Vec::new(),
            moments: Vec::new(),
            late: BTreeSet::new(),
            healthy_since: None,
            answers: true,
        })
    }

    /// Queries the sidecar once.
    pub(super) fn look(&mut self) {
        let now = clock::now().0;
        let asked = client::get(&self.endpoint, "/api/v1/status", ANSWER_WITHIN);
        let told = asked.ok().and_then(|answer| serde_json::from_slice::<StatusJson>(&answer.body).ok());
        let Some(told) = told else {
            if std::mem::replace(&mut self.answers, false) {
                self.add(now, "sidecar", "does not answer");
            }
            self.healthy_since = None;
            return;
        };
        if !std::mem::replace(&mut self.answers, true) {
            self.add(now, "sidecar", "answers again");
        }
        self.note(now, &told);
        self.status = told;
        self.look_at_incidents();
        let healthy = self.status.verdict == Verdict::Healthy && self.open().is_none();
        self.healthy_since = if healthy { self.healthy_since.or_else(|| Some(Instant::now())) } else { None };
    }

    /// Notes what only the status reports. The steps of an incident have times of their own.
    fn note(&mut self, now: u64, told: &StatusJson) {
        for thread in &told.threads {
            let (name, age) = (plain(&thread.name), thread.counted_seconds);
            if matches!(thread.health, Health::Late | Health::Stalled) && self.late.insert(name.clone()) {
                self.add(now, "late", &format!("{name}: no progress for {age:.1} s that count as stalled"));
            }
        }
        let changed = told.verdict != self.status.verdict;
        if changed
            && matches!(
                told.verdict,
                Verdict::Healthy | Verdict::Excused | Verdict::Degraded | Verdict::Unguarded
            )
        {
            self.add(now, told.verdict.label(), &plain(&told.reason));
        }
    }

    fn look_at_incidents(&mut self) {
        for summary in summaries(&self.endpoint).unwrap_or_default() {
            let held = self.incidents.iter().position(|incident| incident.id == summary.id);
            let closed = held.is_some_and(|at| self.incidents[at].status != Status::Open);
            if closed || self.known.contains(&summary.id) {
                continue;
            }
            let path = format!("/api/v1/incidents/{}", summary.id);
            let Ok(answer) = client::get(&self.endpoint, &path, ANSWER_WITHIN) else { continue };
            let Ok(incident) = serde_json::from_slice::<Incident>(&answer.body) else { continue };
            match held {
                Some(at) => self.incidents[at] = incident,
                None => self.incidents.push(incident),
            }
        }
        self.incidents.sort_by(|one, other| one.id.cmp(&other.id));
    }

    fn add(&mut self, at: u64, step: &'static str, detail: &str) {
        if self.moments.len() < MOST_MOMENTS {
            self.moments.push(Moment { at, step, detail: detail.to_owned() });
        }
    }

    fn open(&self) -> Option<&Incident> {
        self.incidents.iter().find(|incident| incident.status == Status::Open)
    }

    fn has(&self, step: StepName) -> bool {
        self.incidents.iter().flat_map(|incident| &incident.timeline).any(|entry| entry.step == step)
    }

    /// Whether the sidecar has sent a signal.
    pub(super) fn killed(&self) -> bool {
        self.has(StepName::Signal)
    }

    /// Whether the shard was condemned.
    pub(super) fn condemned(&self) -> bool {
        self.has(StepName::Verdict)
    }

    /// Whether the process that was broken has ended.
    pub(super) fn ended(&self) -> bool {
        self.has(StepName::Exited) || self.is_another()
    }

    fn is_another(&self) -> bool {
        let (now, before) = (&self.status, &self.before);
        now.pid.is_some() && (now.pid, now.incarnation) != (before.pid, before.incarnation)
    }

    /// The outcome so far; `None`: none yet.
    pub(super) fn outcome(&self, struck: bool, undone: bool) -> Option<Outcome> {
        let since = self.healthy_since?;
        if self.ended() {
            return self.is_another().then_some(Outcome::Restarted);
        }
        (struck && undone && since.elapsed() >= SETTLED).then_some(Outcome::Healthy)
    }

    /// The outcome once the time is up.
    pub(super) fn late(&self, struck: bool) -> Outcome {
        let status = &self.status;
        if !struck {
            return Outcome::Late("the fault never struck: no thread passed its point meanwhile".to_owned());
        }
        if self.is_another() && status.verdict == Verdict::Healthy && self.answers {
            // With no work to do the new process finishes nothing, and its incident stays open.
            return Outcome::Restarted;
        }
        let brake = if self.killed() { None } else { status.no_kill.first() };
        let why = brake.map_or_else(String::new, |brake| format!("; not killed: {}", plain(&brake.why)));
        let late = if self.answers { "" } else { " when the sidecar last answered" };
        Outcome::Late(format!(
            "shard {} is {}{late}: {}{why}",
            plain(&status.shard),
            status.verdict,
            plain(&status.reason)
        ))
    }

    /// Everything that was observed, in order of time.
    pub(super) fn moments(&self) -> Vec<Moment> {
        let mut all = self.moments.clone();
        for entry in self.incidents.iter().flat_map(|incident| &incident.timeline) {
            let step = match entry.step {
                // Before the fault, or at the same moment as the verdict or the death.
                StepName::LastProgress | StepName::Seen | StepName::ExitStatus => continue,
                StepName::Verdict => "condemned",
                StepName::Signal => "signalled",
                StepName::Exited => "dead",
                StepName::Recovered => "ready",
                other => other.label(),
            };
            if let Some(at) = entry.monotonic_ns {
                all.push(Moment { at, step, detail: plain(entry.detail.as_deref().unwrap_or_default()) });
            }
        }
        all.sort_by_key(|moment| moment.at);
        all
    }

    /// Seconds that were excused since the fault, by kind.
    pub(super) fn excused(&self) -> Vec<(String, f64)> {
        let before = |kind: &str| self.before.excused_seconds.get(kind).copied().unwrap_or(0.0);
        let since = self.status.excused_seconds.iter();
        // A sidecar that was restarted counts from zero.
        let since = since.map(|(kind, told)| (plain(kind), (told - before(kind)).max(0.0)));
        since.filter(|(_, seconds)| *seconds > 0.0).collect()
    }

    /// The kill mode of the sidecar.
    pub(super) fn mode(&self) -> String {
        plain(&self.status.mode)
    }
}

#[derive(Deserialize)]
struct Incidents {
    incidents: Vec<Summary>,
}

fn summaries(endpoint: &Endpoint) -> Option<Vec<Summary>> {
    let answer = client::get(endpoint, "/api/v1/incidents", ANSWER_WITHIN).ok()?;
    serde_json::from_slice::<Incidents>(&answer.body).ok().map(|all| all.incidents)
}

#[cfg(test)]
#[path = "follow/tests.rs"]
mod tests;
