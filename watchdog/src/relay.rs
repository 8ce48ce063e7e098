//! Forwards the events of the watch loop: to the board from which queries are answered, to the
//! metrics, to the log and to the journal. Nothing that it calls waits for a disk or for a reader.

mod left;
mod near_misses;
mod stacks;
mod unit_status;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use shard_telemetry::service_manager::ServiceManager;
use tokio::sync::mpsc::Receiver;

use crate::archive::Archive;
use crate::board::Board;
use crate::config::KillMode;
use crate::event::{Event, Opening, ShadowStep, Step};
use crate::evidence::Evidence;
use crate::evidence::gatherer::{Dump, Gathered, Purpose};
use crate::feed::{Feed, Listeners};
use crate::incident::deaths::Deaths;
use crate::incident::folder::{RECORDING, THREADS};
use crate::incident::id::IncidentId;
use crate::incident::journal::Journal;
use crate::incident::spans::{self, Told};
use crate::incident::timeline::{self, StepName};
use crate::incident::{Incident, Status};
use crate::judge::crash_loop::CrashLoops;
use crate::judge::words::Rounded;
use crate::pause::Pause;
use crate::recorder::{Excerpt, file};
use crate::status_json::{ChannelJson, StatusJson, ThreadJson};
use crate::symbolizer::Symbolizer;
use crate::telemetry::Telemetry;
use crate::telemetry::otlp::Spans;
use crate::verdict::{ExcuseKind, Verdict};

use left::Left;
use near_misses::NearMisses;
use stacks::{Asked, Wants};
use unit_status::UnitStatus;

/// Events received at once; the end of a thread causes a burst of about ten.
const AT_ONCE: usize = 64;
/// Incidents that may still get a step. The loop has one open at a time, but the exit status of one
/// may arrive after the next began.
const MOST_OPEN: usize = 4;

/// The relay and its recipients.
#[derive(Debug)]
pub struct Relay {
    board: Arc<Board>,
    telemetry: Arc<Telemetry>,
    journal: Journal,
    spans: Option<Spans>,
    open: Vec<OpenIncident>,
    left: Option<Left>,
    archive: Option<Archive>,
    unit: UnitStatus,
    near: NearMisses,
    stacks: Asked,
    listeners: Listeners,
}

#[derive(Debug)]
struct OpenIncident {
    number: u64,
    killed: bool,
    wants: Wants,
    told: Told,
    incident: Incident,
}

/// The file `threads.json` of an incident.
#[derive(Debug, serde::Serialize)]
struct ThreadsFile<'a> {
    incident: &'a IncidentId,
    shard: &'a str,
    #[serde(flatten)]
    evidence: &'a Evidence,
    #[serde(flatten)]
    heartbeats: Heartbeats,
}

/// What the segment told at the verdict, as in the status.
#[derive(Debug, serde::Serialize)]
struct Heartbeats {
    watched: Vec<ThreadJson>,
    channels: Vec<ChannelJson>,
}

impl OpenIncident {
    /// Tells the log, the journal and the collector of its newest step.
    fn tell(
        &mut self,
        (name, detail): (StepName, Option<String>),
        since_last_progress_ms: Option<f64>,
        (journal, listeners): (&Journal, &Listeners),
        spans: Option<&Spans>,
    ) {
        let incident = &self.incident;
        listeners.incident(incident, name, detail.as_deref());
        told_step(incident, (name, detail), since_last_progress_ms);
        journal.record(Arc::new(incident.clone()));
        if let Some(spans) = spans {
            spans.send(self.told.finished(incident));
        }
    }
}

impl Relay {
    /// A relay with these recipients.
    pub fn new(board: Arc<Board>, telemetry: Arc<Telemetry>, journal: Journal, spans: Option<Spans>) -> Self {
        let listeners = Listeners::new(Arc::new(Feed::new(Arc::default())), Arc::clone(&board));
        Self {
            board,
            telemetry,
            journal,
            spans,
            open: Vec::new(),
            left: None,
            archive: None,
            unit: UnitStatus::default(),
            near: NearMisses::default(),
            stacks: Asked::default(),
            listeners,
        }
    }

    /// Adds the feed of those who listen to what happens.
    #[must_use]
    pub fn feeding(mut self, feed: Arc<Feed>) -> Self {
        self.listeners = Listeners::new(feed, Arc::clone(&self.board));
        self
    }

    /// Adds what looks up the stacks of minidumps, once it has been started.
    #[must_use]
    pub fn asking(mut self, symbolizer: Arc<OnceLock<Symbolizer>>) -> Self {
        self.stacks = Asked::of(symbolizer);
        self
    }

    /// Adds a long-term recording.
    #[must_use]
    pub fn with_archive(mut self, archive: Option<Archive>) -> Self {
        self.archive = archive;
        self
    }

    /// Adds the service manager, which is notified of each verdict.
    #[must_use]
    pub fn telling(mut self, manager: Arc<ServiceManager>) -> Self {
        self.unit = UnitStatus::of(manager);
        self
    }

    /// Forwards events until the watch loop has ended and all of its events are forwarded.
    pub async fn run(mut self, mut events: Receiver<Event>) {
        let mut some = Vec::with_capacity(AT_ONCE);
        while events.recv_many(&mut some, AT_ONCE).await > 0 {
            for event in some.drain(..) {
                self.pass_on(event);
            }
        }
    }

    /// Forwards one event.
    pub fn pass_on(&mut self, event: Event) {
        // In this order: the journal finds the incident that goes on first.
        let without = self.take_without_stacks();
        self.take_left();
        self.look_up_left(without);
        match event {
            Event::Snapshot(snapshot) => {
                self.left_seen(&snapshot);
                self.listeners.snapshot(&snapshot);
                self.unit.tell(snapshot.verdict, &snapshot.reason, Instant::now());
                self.board.set_snapshot(Arc::new(*snapshot));
            }
            Event::Timings(timings) => self.telemetry.timings(&timings),
            Event::Verdict { at, from, to, why, unmatched } => {
                self.listeners.verdict(to, &why, at);
                // It is expected to kill for what nobody watches.
                if unmatched && self.board.mode() == KillMode::Enforce {
                    tracing::warn!(event = "verdict", %from, %to, why, "verdict {to}: {why}");
                } else {
                    tracing::info!(event = "verdict", %from, %to, why, "verdict {to}: {why}");
                }
            }
            Event::Adopted { at, target, restored } => {
                tracing::info!(
                    event = "adopted",
                    pid = target.pid,
                    start_time = target.start_time,
                    incarnation = target.incarnation,
                    restored,
                    "watching process {}{}",
                    target.pid,
                    if restored { ", restored from a checkpoint" } else { "" }
                );
                self.journal.look();
                self.left_adopted(at, target);
            }
            Event::Refused { why, .. } => tracing::warn!(event = "refused", why, "not watching: {why}"),
            Event::Excuse { thread, kind, .. } => excuse(&thread, kind),
            Event::ExcuseOver { thread, kind, cap, .. } => tracing::warn!(
                event = "excuse_over_cap",
                thread,
                %kind,
                cap_seconds = cap.as_secs_f64(),
                "{thread} has been {kind} for {}, the longest that this excuse may last; nothing is killed for it, investigate",
                Rounded(cap)
            ),
            Event::CrashLoops { at, known, before } => self.crash_loops(at, &known, &before),
            Event::Shadow { live, step, .. } => self.shadow(live, step),
            Event::Paused { pause, .. } => self.paused(&pause),
            Event::PauseOver { at, pause, by } => self.pause_over(at, pause, by),
            Event::ChannelLate { channel, why, .. } => {
                tracing::warn!(event = "channel_late", channel, why, "channel {channel}: {why}");
            }
            Event::ChannelInTime { channel, after, deepest, .. } => tracing::info!(
                event = "channel_in_time",
                channel,
                after_seconds = after.as_secs_f64(),
                deepest,
                "channel {channel} is within its rule again, after {}; at most {deepest} messages waited",
                Rounded(after)
            ),
            Event::Silent { threads, evidence, after, .. } => tracing::warn!(
                event = "silent",
                threads,
                evidence,
                after_seconds = after.as_secs_f64(),
                "{threads}: no work begun for {} in which there was some, while {evidence}",
                Rounded(after)
            ),
            Event::WorksAgain { threads, after, .. } => tracing::info!(
                event = "silent_over",
                threads,
                after_seconds = after.as_secs_f64(),
                "{threads}: work begun again, {} after the silence horizon",
                Rounded(after)
            ),
            Event::IncidentOpened(opening) => self.opened(&opening),
            Event::Recorded { incident, excerpt } => self.recorded(incident, &excerpt),
            Event::Gathered(gathered) => self.gathered(gathered),
            Event::Dumped { incident, at, dump } => self.dumped(incident, at, dump),
            Event::Symbolized(symbolized) => self.symbolized(*symbolized),
            Event::Late(late) => self.late(*late),
            Event::LateOver { number, outcome, lasted, incident, evidence_holds } => {
                let incident = self.open.iter().find(|open| Some(open.number) == incident);
                let incident = incident.map(|open| open.incident.id.clone());
                let holds = evidence_holds;
                self.late_over(near_misses::Over { number, outcome, lasted, incident, holds });
            }
            Event::Chunk { excerpt, looks, lost } => {
                if let Some(archive) = &mut self.archive {
                    archive.keep(&excerpt, looks, lost);
                }
            }
            Event::IncidentStep { incident, at, step } => self.step(incident, at, &step),
        }
    }

    fn paused(&self, pause: &Pause) {
        self.listeners.paused(pause);
        let until = self.board.wall(pause.until);
        tracing::warn!(
            event = "paused",
            until = %format_args!("{until:.6}"),
            reason = pause.reason,
            by = pause.by,
            "killing is paused until {until:.0}, by {}: {}",
            pause.by,
            pause.reason
        );
    }

    fn pause_over(&self, at: crate::clock::Monotonic, pause: Arc<Pause>, by: Option<String>) {
        self.listeners.resumed(at, by.as_deref());
        if let Some(by) = by {
            // The command that ended it has the journal forget it.
            tracing::warn!(event = "pause_over", by, "killing is no longer paused: {by} ended it");
        } else {
            tracing::warn!(event = "pause_over", "killing is no longer paused: its time is over");
            self.journal.pause_over(pause);
        }
    }

    fn crash_loops(&self, at: crate::clock::Monotonic, known: &CrashLoops, before: &CrashLoops) {
        for work_key in known.keys().iter().filter(|key| !before.contains(**key)) {
            tracing::error!(
                event = "crash_loop",
                work_key,
                "work {work_key} was in flight at more than one death of the target: nothing is killed for it any more. Look at the \
                 work, then `shard-watchdog clear {work_key}`"
            );
        }
        for work_key in before.keys().iter().filter(|key| !known.contains(**key)) {
            tracing::warn!(
                event = "crash_loop_over",
                work_key,
                "work {work_key} is no longer in a crash loop: the target may be killed for it again"
            );
        }
        self.journal.remember(Deaths::of(known, self.board.anchor().wall(at)));
    }

    fn shadow(&self, live: Verdict, step: ShadowStep) {
        match step {
            ShadowStep::WouldKill { reason, why, thread } => {
                self.telemetry.shadow_killed(reason);
                tracing::warn!(
                    event = "shadow_would_kill",
                    %reason,
                    thread,
                    %live,
                    why,
                    "the shadow policy would have killed; no signal is sent for it: {why}"
                );
            }
            ShadowStep::Withheld { why } => tracing::warn!(
                event = "shadow_withheld",
                %live,
                why,
                "the shadow policy would have killed, had its budget not been spent: {why}"
            ),
            ShadowStep::Lifted { why } => tracing::warn!(
                event = "shadow_lifted",
                %live,
                why,
                "the shadow policy would have killed wrongly or too early: {why}"
            ),
        }
    }

    fn opened(&mut self, opening: &Opening) {
        if self.left_goes_on(opening) {
            return;
        }
        self.telemetry.detected(opening);
        let mode = self.board.mode().label();
        let incident = Incident::open(opening, self.board.shard(), mode, self.board.anchor());
        let _inside = spans::inside(&incident);
        tracing::warn!(
            event = "incident_opened",
            incident = %incident.id,
            reason = %opening.reason,
            pid = opening.target.pid,
            thread = opening.thread.as_ref().map(|thread| thread.name.as_str()),
            work_key = opening.thread.as_ref().and_then(|thread| thread.work_key),
            section = opening.thread.as_ref().and_then(|thread| thread.section.as_deref()),
            mode,
            why = opening.why,
            "incident: {}",
            opening.why
        );
        self.journal.record(Arc::new(incident.clone()));
        self.listeners.incident(&incident, StepName::Verdict, Some(&opening.why));
        if self.open.len() >= MOST_OPEN {
            let mut oldest = self.open.remove(0);
            self.look_up(oldest.wants.at_the_end().then_some(oldest.incident.id));
        }
        let mut told = Told::default();
        if let Some(spans) = &self.spans {
            spans.send(told.finished(&incident));
        }
        let (number, wants) = (opening.incident, Wants::default());
        self.open.push(OpenIncident { number, killed: false, wants, told, incident });
    }

    fn recorded(&self, number: u64, excerpt: &Excerpt) {
        // If its opening was dropped, there is no folder for the recording.
        let Some(open) = self.open.iter().find(|open| open.number == number) else { return };
        let recording = file::write(excerpt, self.board.shard(), self.board.anchor());
        self.journal.keep_file(open.incident.id.clone(), RECORDING, recording);
    }

    fn gathered(&mut self, Gathered { purpose, at, at_fault, evidence }: Gathered) {
        let incident = match purpose {
            Purpose::Incident(incident) => incident,
            Purpose::NearMiss(number) => return self.near.gathered(number, *evidence),
            Purpose::Rehearsal => return self.rehearsed(&evidence),
        };
        let Some(open) = self.open.iter().find(|open| open.number == incident) else { return };
        if evidence.threads.is_empty() {
            let why = "the process ended before it could be read".to_owned();
            return self.step(incident, at, &Step::NoEvidence { why });
        }
        let id = open.incident.id.clone();
        let status = StatusJson::of(&self.board, crate::clock::now());
        let step = Step::Evidence {
            took_ms: evidence.took_ms,
            threads: evidence.threads.len(),
            guess: at_fault.and_then(|tid| evidence.guess(tid)),
        };
        let heartbeats = Heartbeats { watched: status.threads, channels: status.channels };
        let file = ThreadsFile { incident: &id, shard: self.board.shard(), evidence: &evidence, heartbeats };
        match serde_json::to_vec_pretty(&file) {
            Ok(text) => self.journal.keep_file(id, THREADS, text),
            Err(error) => tracing::error!(%error, "the evidence of an incident cannot be written as JSON"),
        }
        self.step(incident, at, &step);
    }

    fn dumped(&mut self, incident: u64, at: crate::clock::Monotonic, dump: Result<Dump, String>) {
        let Some(open) = self.open.iter_mut().find(|open| open.number == incident) else { return };
        let step = match dump {
            Ok(Dump { file, threads, bytes, stood_still }) => {
                self.journal.keep_dump(open.incident.id.clone(), file);
                open.wants.dumped();
                Step::Dump { threads, bytes, stood_still }
            }
            Err(why) => Step::NoDump { why },
        };
        self.step(incident, at, &step);
    }

    /// Says what evidence would lack, as long as there is time to grant it.
    fn rehearsed(&self, evidence: &Evidence) {
        let lacks = evidence.lacks();
        for missing in &lacks {
            tracing::warn!(
                event = "evidence_limited",
                missing,
                "evidence of an incident would be incomplete: {missing}"
            );
        }
        self.board.set_evidence_lacks(lacks);
    }

    fn step(&mut self, number: u64, at: crate::clock::Monotonic, step: &Step) {
        let Some(open) = self.open.iter_mut().find(|open| open.number == number) else {
            // Its opening was dropped because the queue was full.
            tracing::warn!(event = "incident_step", ?step, "a step of an incident that was not announced");
            return;
        };
        match step {
            Step::Signal { error: None, .. } if !open.killed => {
                open.killed = true;
                self.telemetry.killed(open.incident.reason);
            }
            Step::Withheld(by) | Step::Unproven { by, .. } => self.telemetry.withheld(*by),
            Step::Restarted { after, .. } => self.telemetry.restarted(*after),
            _ => {}
        }
        open.incident.step(at, step, self.board.anchor());
        let since = open.incident.since_last_progress(at);
        open.tell(timeline::tell(step), since, (&self.journal, &self.listeners), self.spans.as_ref());
        let wanted = open.wants.after(step).then(|| open.incident.id.clone());
        if open.incident.status != Status::Open {
            self.open.retain(|open| open.number != number);
        }
        self.look_up(wanted);
    }
}

/// Tells the log of a step of an incident.
fn told_step(
    incident: &Incident,
    (name, detail): (StepName, Option<String>),
    since_last_progress_ms: Option<f64>,
) {
    let _inside = spans::inside(incident);
    tracing::warn!(
        event = "incident_step",
        incident = %incident.id,
        step = name.label(),
        detail = detail.as_deref(),
        since_last_progress_ms,
        "incident {}: {}",
        incident.id,
        name.label()
    );
}

fn excuse(thread: &str, kind: Option<ExcuseKind>) {
    match kind {
        Some(kind) => {
            tracing::info!(event = "excuse", thread, %kind, "time of {thread} does not count: {kind}");
        }
        None => tracing::info!(event = "excuse_over", thread, "time of {thread} counts again"),
    }
}

#[cfg(test)]
#[path = "relay/tests.rs"]
mod tests;
