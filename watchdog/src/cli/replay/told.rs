//! The output of a replay, for a person or a script.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use shard_watchdog::act::ladder::Rung;
use shard_watchdog::clock::Monotonic;
use shard_watchdog::judge::words::Rounded;
use shard_watchdog::judge::{Judge, Note};
use shard_watchdog::recorder::file::Header;
use shard_watchdog::verdict::{Reason, Verdict};

/// One decision.
#[derive(Debug, Serialize)]
pub(super) struct Decision {
    /// The time of the observation on which it rests.
    time: Timestamp,
    /// The same time on the clock of the observations.
    monotonic_ns: u64,
    /// The kind of decision.
    what: &'static str,
    /// The verdict, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    /// The reason, if it condemns.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// The thread at fault, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<String>,
    /// The explanation for a person, as a sentence.
    why: String,
}

impl Decision {
    /// A decision that consists of its sentence only.
    pub(super) fn new(header: &Header, at: Monotonic, what: &'static str, why: String) -> Self {
        let time = header.wall_of(at);
        Self { time, monotonic_ns: at.0, what, verdict: None, reason: None, thread: None, why }
    }
}

/// Everything that the replay reports.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    shard: String,
    written_by: String,
    from: Timestamp,
    to: Timestamp,
    /// Observations that were judged.
    pub(super) looks: u64,
    /// How often the sidecar reloaded its config during the recording.
    pub(super) reloads: u64,
    /// Whether the config would have killed.
    pub(super) would_kill: bool,
    /// Parts of the recording that could not be read.
    pub(super) problems: Vec<String>,
    decisions: Vec<Decision>,
}

impl Told {
    /// The empty result.
    pub(super) fn new(header: &Header) -> Self {
        Self {
            shard: header.shard.clone(),
            written_by: header.written_by.clone(),
            from: header.wall,
            to: header.wall,
            looks: 0,
            reloads: 0,
            would_kill: false,
            problems: Vec::new(),
            decisions: Vec::new(),
        }
    }

    /// One more decision.
    pub(super) fn push(&mut self, decision: Decision) {
        self.decisions.push(decision);
    }

    /// Adds what one observation led to.
    pub(super) fn look(&mut self, header: &Header, at: Monotonic, judge: &Judge, rungs: &[Rung]) {
        let time = header.wall_of(at);
        if self.looks == 0 {
            self.from = time;
        }
        self.to = time;
        self.looks += 1;
        let mut verdict_told = false;
        for note in judge.notes() {
            verdict_told |= matches!(note, Note::Verdict { .. });
            self.decisions.extend(noted(header, at, judge, note));
        }
        // What preceded the first observation is not recorded, so the verdict at that point is
        // reported even if nothing changes.
        if self.looks == 1 && !verdict_told {
            self.push(verdict(header, at, judge));
        }
        for rung in rungs {
            self.decisions.extend(climbed(header, at, *rung));
        }
    }

    /// The output for a script: one line of JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).map_or_else(|_| String::new(), |text| text + "\n")
    }

    /// The output for a person.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "shard {}: {} observations from {:.3} to {:.3}, recorded by {}",
            self.shard, self.looks, self.from, self.to, self.written_by
        );
        for decision in &self.decisions {
            let _ = write!(text, "  {:.3}  {:<10}  ", decision.time, decision.what);
            if let Some(verdict) = decision.verdict {
                let _ = write!(text, "{verdict}: ");
            }
            if let Some(reason) = decision.reason {
                let _ = write!(text, "{}: ", reason.label());
            }
            let _ = writeln!(text, "{}", decision.why);
        }
        text.push_str(if self.would_kill { "it would have killed\n" } else { "it would not have killed\n" });
        text
    }
}

fn verdict(header: &Header, at: Monotonic, judge: &Judge) -> Decision {
    let why = judge.why().to_owned();
    Decision { verdict: Some(judge.verdict()), ..Decision::new(header, at, "verdict", why) }
}

fn noted(header: &Header, at: Monotonic, judge: &Judge, note: &Note) -> Option<Decision> {
    let plain = |what, why| Decision::new(header, at, what, why);
    Some(match note {
        Note::Verdict { .. } => verdict(header, at, judge),
        Note::Opened(condemned) => Decision {
            reason: Some(condemned.reason),
            thread: condemned.thread.as_ref().map(|thread| thread.name.clone()),
            ..Decision::new(header, condemned.at, "condemned", condemned.why.clone())
        },
        Note::Lifted { why } => plain("lifted", why.clone()),
        Note::Exited => plain("exited", "the process is dead".to_owned()),
        Note::CrashLoop { work_key } => {
            plain("crash_loop", format!("work {work_key} was in flight at too many deaths"))
        }
        Note::RestartOverdue => plain("overdue", "no new process within [restart] within".to_owned()),
        Note::Restarted { target, after } => {
            plain("restarted", format!("process {} was found, {} later", target.pid, Rounded(*after)))
        }
        Note::Recovered { .. } => plain("recovered", "the new process finished its first work".to_owned()),
        Note::Excuse { thread, kind: Some(kind) } => {
            plain("excused", format!("the time of thread {thread} does not count: {}", kind.label()))
        }
        Note::Excuse { thread, kind: None } => {
            plain("counts", format!("the time of thread {thread} counts again"))
        }
        Note::ExcuseOver { thread, kind, cap } => plain(
            "excuse_cap",
            format!("thread {thread} has been {} for more than {}", kind.label(), Rounded(*cap)),
        ),
        Note::ChannelLate { channel, why } => plain("channel", format!("{channel}: {why}")),
        Note::ChannelInTime { channel, after, .. } => {
            plain("channel", format!("{channel} is within its rule again, after {}", Rounded(*after)))
        }
        Note::Silent { threads, evidence, .. } => {
            plain("silent", format!("no work begun by {threads}, while {evidence}"))
        }
        Note::WorksAgain { threads, after } => {
            plain("silent", format!("work begun by {threads}, {} after the silence horizon", Rounded(*after)))
        }
        Note::ProgressGap { .. } => return None,
    })
}

fn climbed(header: &Header, at: Monotonic, rung: Rung) -> Option<Decision> {
    let plain = |what, why| Some(Decision::new(header, at, what, why));
    match rung {
        Rung::Wait => None,
        Rung::Send(signal) => plain("signal", format!("it would have sent {}", signal.name())),
        Rung::Withhold(reason) => {
            plain("withheld", format!("a kill is due and withheld: {}", reason.label()))
        }
        Rung::NotDead => plain("not_dead", "its end would not have come in time".to_owned()),
    }
}
