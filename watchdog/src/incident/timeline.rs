//! The steps of an incident, each with its time on both clocks, and the durations derived from
//! them.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{Monotonic, WallAnchor};
use crate::event::Step;
use crate::verdict::Reason;

/// The name of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// The last moment at which the thread, or else the process, was seen to be well.
    LastProgress,
    /// The cause became visible.
    Seen,
    /// The verdict was reached; if again, by a sidecar that goes on with the incident of another.
    Verdict,
    /// Evidence was gathered.
    Evidence,
    /// No evidence was gathered, or not in time.
    NoEvidence,
    /// A minidump was taken.
    Dump,
    /// No minidump was taken, although one was wanted.
    NoDump,
    /// The functions and lines of the minidump's stacks were looked up. It may follow the end of
    /// the incident.
    Stacks,
    /// They were not, although there is a minidump.
    NoStacks,
    /// A kill was due but was not carried out.
    Withheld,
    /// A person requested the kill.
    Requested,
    /// A signal was sent.
    Signal,
    /// The kernel refused a signal.
    SignalRefused,
    /// The process died.
    Exited,
    /// The exit status became known.
    ExitStatus,
    /// SIGKILL did not end the process in time.
    NotDead,
    /// The same work was in flight at one death too many.
    CrashLoop,
    /// No new process started in time.
    RestartOverdue,
    /// A new process started.
    Restarted,
    /// The new process finished its first work.
    Recovered,
    /// The incident ended without an observed recovery.
    Abandoned,
    /// The sidecar ended during the incident, and another one has started.
    SidecarRestarted,
}

impl StepName {
    /// The word in JSON and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::LastProgress => "last_progress",
            Self::Seen => "seen",
            Self::Verdict => "verdict",
            Self::Evidence => "evidence",
            Self::NoEvidence => "no_evidence",
            Self::Dump => "dump",
            Self::NoDump => "no_dump",
            Self::Stacks => "stacks",
            Self::NoStacks => "no_stacks",
            Self::Withheld => "withheld",
            Self::Requested => "requested",
            Self::Signal => "signal",
            Self::SignalRefused => "signal_refused",
            Self::Exited => "exited",
            Self::ExitStatus => "exit_status",
            Self::NotDead => "not_dead",
            Self::CrashLoop => "crash_loop",
            Self::RestartOverdue => "restart_overdue",
            Self::Restarted => "restarted",
            Self::Recovered => "recovered",
            Self::Abandoned => "abandoned",
            Self::SidecarRestarted => "sidecar_restarted",
        }
    }
}

/// One entry of the timeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, utoipa::ToSchema))]
pub struct Entry {
    /// The wall-clock time, to the microsecond. Where `monotonic_ns` is null, the step was found
    /// then, and happened at an unknown time before (except `sidecar_restarted`).
    #[serde(with = "micros")]
    #[cfg_attr(feature = "schema", schemars(with = "super::schema::Instant"))]
    pub at: Timestamp,
    /// The same on the clock from which durations are derived: nanoseconds of `CLOCK_MONOTONIC` in
    /// the boot that `boot` names; null where that time is unknown.
    pub monotonic_ns: Option<u64>,
    /// Milliseconds since the last progress; null where that is unknown.
    pub since_last_progress_ms: Option<f64>,
    /// The step that happened.
    pub step: StepName,
    /// Details for a person.
    pub detail: Option<String>,
}

impl Entry {
    /// The entry that follows `before`.
    pub(super) fn new(
        before: &[Self],
        anchor: &WallAnchor,
        at: Monotonic,
        step: StepName,
        detail: Option<String>,
    ) -> Self {
        Self {
            at: anchor.wall(at),
            monotonic_ns: Some(at.0),
            since_last_progress_ms: since_last_progress(before, at).or(Some(0.0)),
            step,
            detail,
        }
    }

    /// A step that was found at that time and happened before.
    pub(super) const fn found(at: Timestamp, step: StepName, detail: Option<String>) -> Self {
        Self { at, monotonic_ns: None, since_last_progress_ms: None, step, detail }
    }
}

/// The step's name and its details.
pub fn tell(step: &Step) -> (StepName, Option<String>) {
    match step {
        Step::Withheld(withheld) => (StepName::Withheld, Some(withheld.label().to_owned())),
        Step::Unproven { by, why } => (StepName::Withheld, Some(format!("{}: {why}", by.label()))),
        Step::Evidence { took_ms, threads, guess } => {
            let counted = if *threads == 1 { "1 thread" } else { &format!("{threads} threads") };
            let guess = guess.as_ref().map(|guess| format!("; {guess}")).unwrap_or_default();
            (StepName::Evidence, Some(format!("{counted} in {took_ms:.1} ms{guess}")))
        }
        Step::NoEvidence { why } => (StepName::NoEvidence, Some(why.clone())),
        Step::Dump { threads, bytes, stood_still } => {
            let kib = bytes.div_ceil(1_024);
            let still = millis(*stood_still);
            let told = format!("{threads} threads, {kib} KiB; the process stood still for {still:.1} ms");
            (StepName::Dump, Some(told))
        }
        Step::NoDump { why } => (StepName::NoDump, Some(why.clone())),
        Step::Stacks { headline } => (StepName::Stacks, Some(headline.clone())),
        Step::NoStacks { why } => (StepName::NoStacks, Some(why.clone())),
        Step::Requested { why } => (StepName::Requested, Some(why.clone())),
        Step::Signal { signal, error: None } => (StepName::Signal, Some((*signal).to_owned())),
        Step::Signal { signal, error: Some(error) } => {
            (StepName::SignalRefused, Some(format!("{signal}: {error}")))
        }
        Step::Exited { how, .. } => (StepName::Exited, how.clone()),
        Step::ExitStatus { how } => (StepName::ExitStatus, Some(how.clone())),
        Step::NotDead => (StepName::NotDead, None),
        Step::CrashLoop { work_key } => {
            let what = format!(
                "work {work_key} was in flight at an earlier death too: nothing is killed for it until `shard-watchdog clear {work_key}`"
            );
            (StepName::CrashLoop, Some(what))
        }
        Step::RestartOverdue => (StepName::RestartOverdue, None),
        Step::Restarted { target, .. } => {
            (StepName::Restarted, Some(format!("pid {}, incarnation {}", target.pid, target.incarnation)))
        }
        Step::Recovered { work_key } => {
            (StepName::Recovered, work_key.map(|key| format!("finished work {key}")))
        }
        Step::Abandoned { why } => (StepName::Abandoned, Some(why.clone())),
    }
}

/// How long each part of an incident took; null where one of its ends is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, utoipa::ToSchema))]
pub struct Durations {
    /// Microseconds from the last progress to the verdict.
    pub last_progress_to_verdict_us: Option<u64>,
    /// Microseconds from the first sight of the cause to the verdict.
    pub seen_to_verdict_us: Option<u64>,
    /// Microseconds from the verdict to the first signal.
    pub verdict_to_signal_us: Option<u64>,
    /// Microseconds from the first signal to the death.
    pub signal_to_dead_us: Option<u64>,
    /// Milliseconds from the death to the new process.
    pub dead_to_restarted_ms: Option<f64>,
    /// Milliseconds from the new process to its first finished work.
    pub restarted_to_recovered_ms: Option<f64>,
    /// Milliseconds from the fault to the first finished work.
    pub fault_to_recovered_ms: Option<f64>,
}

impl Durations {
    /// The durations that follow from the timeline of an incident for `reason`.
    pub fn of(timeline: &[Entry], reason: Reason) -> Self {
        let between =
            |from: StepName, to: StepName| Some(moment(timeline, to)?.since(moment(timeline, from)?));
        let us = |from, to| between(from, to).map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
        let ms = |from, to| between(from, to).map(millis);
        // A stall begins with its last progress. An end is seen when it happens, and the last
        // progress before it may be older by a whole sleep of the loop.
        let fault = match reason {
            Reason::Stalled | Reason::ChannelLag | Reason::Silent | Reason::Stopped | Reason::ExitHung => {
                StepName::LastProgress
            }
            Reason::ThreadGone | Reason::LeaderGone | Reason::ProcessGone | Reason::Requested => {
                StepName::Seen
            }
        };
        Self {
            last_progress_to_verdict_us: us(StepName::LastProgress, StepName::Verdict),
            seen_to_verdict_us: us(StepName::Seen, StepName::Verdict),
            verdict_to_signal_us: us(StepName::Verdict, StepName::Signal),
            signal_to_dead_us: us(StepName::Signal, StepName::Exited),
            dead_to_restarted_ms: ms(StepName::Exited, StepName::Restarted),
            restarted_to_recovered_ms: ms(StepName::Restarted, StepName::Recovered),
            fault_to_recovered_ms: ms(fault, StepName::Recovered),
        }
    }
}

/// When `step` first happened.
fn moment(timeline: &[Entry], step: StepName) -> Option<Monotonic> {
    timeline.iter().find(|entry| entry.step == step)?.monotonic_ns.map(Monotonic)
}

/// Milliseconds from the last progress to `at`.
pub(super) fn since_last_progress(timeline: &[Entry], at: Monotonic) -> Option<f64> {
    Some(millis(at.since(moment(timeline, StepName::LastProgress)?)))
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// RFC 3339, always with six digits, so that columns align and readers meet only one form.
pub mod micros {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes `at`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{at:.6}"))
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If it is not a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

/// The same for a time that may be absent.
pub mod maybe_micros {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes `at`, or null.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::micros::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If it is neither null nor a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Option::<Timestamp>::deserialize(deserializer)
    }
}
