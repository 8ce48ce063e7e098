//! Forwards the events of the watch loop: to the board from which queries are answered, to the
//! metrics, to the log and to the journal. Nothing that it calls waits for a disk or for a reader.

mod unit_status;

use std::sync::Arc;
use std::time::Instant;

use shard_telemetry::service_manager::ServiceManager;
use tokio::sync::mpsc::Receiver;

use crate::archive::Archive;
use crate::board::Board;
use crate::event::{Event, Opening, ShadowStep, Step};
use crate::incident::deaths::Deaths;
use crate::incident::journal::Journal;
use crate::incident::spans::{self, Told};
use crate::incident::{Incident, Status, timeline};
use crate::judge::crash_loop::CrashLoops;
use crate::pause::Pause;
use crate::recorder::{Excerpt, file};
use crate::telemetry::Telemetry;
use crate::telemetry::otlp::Spans;
use crate::verdict::{ExcuseKind, Verdict};

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
    archive: Option<Archive>,
    unit: UnitStatus,
}

#[derive(Debug)]
struct OpenIncident {
    number: u64,
    killed: bool,
    told: Told,
    incident: Incident,
}

impl Relay {
    /// A relay with these recipients.
    pub fn new(board: Arc<Board>, telemetry: Arc<Telemetry>, journal: Journal, spans: Option<Spans>) -> Self {
        Self {
            board,
            telemetry,
            journal,
            spans,
            open: Vec::new(),
            archive: None,
            unit: UnitStatus::default(),
        }
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
        match event {
            Event::Snapshot(snapshot) => {
                self.unit.tell(snapshot.verdict, &snapshot.reason, Instant::now());
                self.board.set_snapshot(Arc::new(*snapshot));
            }
            Event::Timings(timings) => self.telemetry.timings(&timings),
            Event::Verdict { from, to, why, .. } => {
                tracing::info!(event = "verdict", %from, %to, why, "verdict {to}: {why}");
            }
            Event::Adopted { target, restored, .. } => {
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
            }
            Event::Refused { why, .. } => tracing::warn!(event = "refused", why, "not watching: {why}"),
            Event::Excuse { thread, kind, .. } => excuse(&thread, kind),
            Event::ExcuseOver { thread, kind, cap, .. } => tracing::warn!(
                event = "excuse_over_cap",
                thread,
                %kind,
                cap_seconds = cap.as_secs_f64(),
                "{thread} has been {kind} for {cap:.1?}, the longest that this excuse may last; nothing is killed for it, investigate"
            ),
            Event::CrashLoops { at, known, before } => self.crash_loops(at, &known, &before),
            Event::Shadow { live, step, .. } => self.shadow(live, step),
            Event::Paused { pause, .. } => self.paused(&pause),
            Event::PauseOver { pause, by, .. } => self.pause_over(pause, by),
            Event::ChannelLate { channel, why, .. } => {
                tracing::warn!(event = "channel_late", channel, why, "channel {channel}: {why}");
            }
            Event::ChannelInTime { channel, after, deepest, .. } => tracing::info!(
                event = "channel_in_time",
                channel,
                after_seconds = after.as_secs_f64(),
                deepest,
                "channel {channel} is within its rule again, after {after:.1?}; at most {deepest} messages waited"
            ),
            Event::IncidentOpened(opening) => self.opened(&opening),
            Event::Recorded { incident, excerpt } => self.recorded(incident, &excerpt),
            Event::Chunk { excerpt, looks, lost } => {
                if let Some(archive) = &mut self.archive {
                    archive.keep(&excerpt, looks, lost);
                }
            }
            Event::IncidentStep { incident, at, step } => self.step(incident, at, &step),
        }
    }

    fn paused(&self, pause: &Pause) {
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

    fn pause_over(&self, pause: Arc<Pause>, by: Option<String>) {
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
            mode,
            why = opening.why,
            "incident: {}",
            opening.why
        );
        self.journal.record(Arc::new(incident.clone()));
        if self.open.len() >= MOST_OPEN {
            self.open.remove(0);
        }
        let mut told = Told::default();
        if let Some(spans) = &self.spans {
            spans.send(told.finished(&incident));
        }
        self.open.push(OpenIncident { number: opening.incident, killed: false, told, incident });
    }

    fn recorded(&self, number: u64, excerpt: &Excerpt) {
        // If its opening was dropped, there is no folder for the recording.
        let Some(open) = self.open.iter().find(|open| open.number == number) else { return };
        let recording = file::write(excerpt, self.board.shard(), self.board.anchor());
        self.journal.keep_recording(open.incident.id.clone(), recording);
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
        let (name, detail) = timeline::tell(step);
        let since = open.incident.since_last_progress(at);
        let _inside = spans::inside(&open.incident);
        tracing::warn!(
            event = "incident_step",
            incident = %open.incident.id,
            step = name.label(),
            detail = detail.as_deref(),
            since_last_progress_ms = since,
            "incident {}: {}",
            open.incident.id,
            name.label()
        );
        self.journal.record(Arc::new(open.incident.clone()));
        if let Some(spans) = &self.spans {
            spans.send(open.told.finished(&open.incident));
        }
        if open.incident.status != Status::Open {
            self.open.retain(|open| open.number != number);
        }
    }
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
