//! The JSON of `/api/v1/status`: one type for the server that writes it and the commands that read
//! it. Fields may be added, but no existing field is removed or changes its meaning.

pub mod brakes;
pub mod heartbeat_out;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::Held;
use crate::board::Board;
use crate::board::listening::{State, Which};
use crate::clock::Monotonic;
use crate::config::{KillBy, Links};
use crate::incident::near_miss::NearMiss;
use crate::incident::timeline::{maybe_micros, micros};
use crate::snapshot::{ChannelStatus, Deadline, ExcuseStatus, ShadowStatus, Snapshot, ThreadStatus};
use crate::telemetry::dropped::Signal;
use crate::verdict::{ExcuseKind, Health, NearMissOutcome, Reason, Unobserved, Verdict};

pub use heartbeat_out::HeartbeatOutJson;

/// The state of the watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StatusJson {
    /// The name of the shard.
    pub shard: String,
    /// The verdict on the target.
    pub verdict: Verdict,
    /// The reason for the verdict, as a sentence.
    pub reason: String,
    /// The time since which the verdict holds.
    #[serde(with = "micros")]
    pub since: Timestamp,
    /// The target's pid, while one is watched.
    pub pid: Option<i32>,
    /// The incarnation according to its segment.
    pub incarnation: Option<u64>,
    /// Watched threads, and rules whose thread is missing.
    pub threads: Vec<ThreadJson>,
    /// Published channels.
    pub channels: Vec<ChannelJson>,
    /// Kills that the budget still allows; null before the first observation.
    pub kills_left: Option<u32>,
    /// Seconds until the budget allows one more; null while it is full.
    #[serde(default)]
    pub next_kill_in_seconds: Option<f64>,
    /// When the pause of killing ends; null if there is none.
    #[serde(with = "maybe_micros", default)]
    pub paused_until: Option<Timestamp>,
    /// The reason for the pause, in the words of the person who ordered it.
    #[serde(default)]
    pub paused_reason: Option<String>,
    /// Who ordered the pause, as far as it is known.
    #[serde(default)]
    pub paused_by: Option<String>,
    /// `observe` or `enforce`.
    pub mode: String,
    /// Why time does not count now, if any thread is excused.
    #[serde(default)]
    pub excuse: Option<ExcuseKind>,
    /// Seconds excused so far, by kind.
    #[serde(default)]
    pub excused_seconds: BTreeMap<String, f64>,
    /// How a target is killed: `signal`, or `exit-code`, that of this sidecar, by which its pod
    /// restarts all containers.
    #[serde(default = "by_signal")]
    pub kill_by: String,
    /// How ends of threads are detected: `pidfd` or `poll`.
    #[serde(default)]
    pub thread_events: Option<String>,
    /// The verdict of the `[shadow]` policy; null without one.
    #[serde(default)]
    pub shadow: Option<ShadowJson>,
    /// Whether the thread for which it is condemned is excused now, or stands still in a way that
    /// its rule only reports, so that a kill that was withheld waits.
    #[serde(default)]
    pub held: bool,
    /// Work that was in flight at more than one death: the sidecar does not kill for it until
    /// `clear`.
    #[serde(default)]
    pub crash_loop_keys: Vec<u64>,
    /// Whether it is condemned for such work, so that no kill follows.
    #[serde(default)]
    pub spared: bool,
    /// How many kills in a row have brought no finished piece of work.
    #[serde(default)]
    pub kills_without_progress: u32,
    /// Whether those are so many that nothing more is killed until `clear`.
    #[serde(default)]
    pub braked: bool,
    /// Whether the target was restored from a checkpoint: the same pid, thread ids and segment, but
    /// a new start time.
    #[serde(default)]
    pub restored: bool,
    /// Deadlines of the whole process that run now.
    #[serde(default)]
    pub deadlines: Vec<DeadlineJson>,
    /// Why it has not killed: first the deciding cause, then whatever else would prevent a kill.
    #[serde(default)]
    pub no_kill: Vec<BrakeJson>,
    /// The places where the sidecar listens, and where it cannot, the reason.
    #[serde(default)]
    pub listeners: Vec<ListenerJson>,
    /// Why incidents, and state that must outlive this sidecar, cannot be written now; null while
    /// they can.
    #[serde(default)]
    pub evidence_trouble: Option<String>,
    /// The last near miss that is recorded; null if there is none.
    #[serde(default)]
    pub last_near_miss: Option<NearMissJson>,
    /// What evidence of an incident would lack for want of a permission, and what to grant, one
    /// sentence each.
    #[serde(default)]
    pub evidence_lacks: Vec<String>,
    /// The sign of life to a service outside; null without `[heartbeat_out]`.
    #[serde(default)]
    pub heartbeat_out: Option<HeartbeatOutJson>,
    /// The long-term recording; null without `[recorder]`.
    #[serde(default)]
    pub recorder: Option<RecorderJson>,
    /// Dropped telemetry, by signal.
    #[serde(default)]
    pub telemetry_dropped: BTreeMap<String, u64>,
    /// Where the status page leads: addresses with placeholders, as under `[links]`.
    #[serde(default)]
    pub links: Links,
    /// The version of the sidecar.
    pub version: String,
}

/// A thread at work that made no progress for `warn_after`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NearMissJson {
    /// Name of the thread.
    pub thread: String,
    /// When it was found late.
    #[serde(with = "micros")]
    pub at: Timestamp,
    /// How it ended.
    pub outcome: NearMissOutcome,
    /// From its last sign of progress to the next one, or to the end, seconds.
    pub lasted_seconds: f64,
    /// The threshold at which it would have been stalled, seconds.
    pub stall_after_seconds: f64,
}

impl From<&NearMiss> for NearMissJson {
    fn from(near_miss: &NearMiss) -> Self {
        Self {
            thread: near_miss.thread.name.clone(),
            at: near_miss.at,
            outcome: near_miss.outcome,
            lasted_seconds: near_miss.lasted_seconds,
            stall_after_seconds: near_miss.stall_after_seconds,
        }
    }
}

/// A deadline of the whole process, and the time that has passed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeadlineJson {
    /// `startup_grace`, `stopped` or `exiting`.
    pub what: String,
    /// Seconds that have passed.
    pub seconds: f64,
    /// Seconds that are allowed.
    pub at_most_seconds: f64,
    /// Whether the process is condemned when the time is up.
    pub kills: bool,
}

/// One thing that prevents a kill of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BrakeJson {
    /// The cause in one word, for scripts.
    pub because: String,
    /// The explanation for a person, as a sentence.
    pub why: String,
}

/// A place where the sidecar can be queried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ListenerJson {
    /// `listen`, `public` or `socket`, as under `[http]`.
    pub name: String,
    /// The address or the path.
    pub address: String,
    /// Whether it listens there.
    pub listening: bool,
    /// Why it does not listen; binding is retried until it succeeds.
    pub trouble: Option<String>,
}

/// How long one excuse of a thread has applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ExcuseJson {
    /// The kind of excuse, as in `kind` of the thread.
    pub kind: ExcuseKind,
    /// Whether it applies now.
    pub running: bool,
    /// Seconds since the thread's last progress in which it applied, in total.
    pub seconds: f64,
    /// Seconds that it may apply; null if there is no limit.
    pub at_most_seconds: Option<f64>,
}

/// The long-term recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RecorderJson {
    /// The directory of the files.
    pub directory: String,
    /// The number of files.
    pub files: u64,
    /// The size of the files.
    pub bytes: u64,
    /// Files deleted since the sidecar started, to stay within the limits.
    pub removed_files: u64,
    /// Observations that were not written since the sidecar started.
    pub missing_looks: u64,
    /// The error of the disk, while writing fails.
    pub trouble: Option<String>,
}

/// The state of a policy that is judged but never acted upon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ShadowJson {
    /// The verdict of the policy.
    pub verdict: Verdict,
    /// The reason for the verdict, as a sentence.
    pub reason: String,
    /// The time since which the verdict holds.
    #[serde(with = "micros")]
    pub since: Timestamp,
    /// Kills that it would have carried out since the sidecar started.
    pub would_have_killed: u64,
    /// The last of them.
    pub last_kill: Option<ShadowKillJson>,
    /// Kills that its own budget still allows.
    pub kills_left: u32,
}

/// A kill that the shadow policy would have carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ShadowKillJson {
    /// The time of the kill.
    #[serde(with = "micros")]
    pub at: Timestamp,
    /// The reason for the kill.
    pub reason: Reason,
    /// The explanation for a person, as a sentence.
    pub why: String,
}

/// One watched thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ThreadJson {
    /// Registered name, or the glob of a rule that no thread ever matched.
    pub name: String,
    /// Thread id as the sidecar sees it.
    pub tid: Option<i32>,
    /// The health of the thread according to the watchdog.
    pub health: Health,
    /// Why the watchdog cannot observe the thread, if so; `health` is then the last known state.
    #[serde(default)]
    pub unobserved: Option<Unobserved>,
    /// For a stall, how the thread is stuck; for an excuse, why it is excused.
    pub kind: Option<String>,
    /// Whether its excuse has reached its cap: a person should investigate.
    #[serde(default)]
    pub excuse_over_cap: bool,
    /// Every excuse that has applied since its last progress.
    #[serde(default)]
    pub excuses: Vec<ExcuseJson>,
    /// Seconds since its last sign of progress or change of activity.
    pub heartbeat_age_seconds: Option<f64>,
    /// The key of the work in progress.
    pub work_key: Option<u64>,
    /// The number of the attempt at that work.
    pub attempt: Option<u64>,
    /// The section of that work that it is in, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// Seconds since it was first seen at work on that.
    pub work_age_seconds: Option<f64>,
    /// Seconds without progress that count against it.
    #[serde(default)]
    pub counted_seconds: f64,
    /// The threshold of `counted_seconds` that is in force; zero if stalls of this thread are not
    /// judged.
    #[serde(default)]
    pub stall_after_seconds: f64,
    /// The threshold of the thread's rule, where another one is in force: the thread is in a
    /// section with a threshold of its own, or its work has a shorter deadline, or is the first
    /// after a start and may take longer (`warm_up`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_stall_after_seconds: Option<f64>,
    /// The threshold of the section that the thread is in, if its rule has one for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_stall_after_seconds: Option<f64>,
    /// Seconds in which there was work for this thread and it could have begun it, but began none;
    /// absent unless its rule has a silence horizon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_counted_seconds: Option<f64>,
    /// The silence horizon of its rule (`idle_at_most`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_at_most_seconds: Option<f64>,
    /// Seconds for which it has been silent, beyond that horizon; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_seconds: Option<f64>,
}

/// One published channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChannelJson {
    /// The published name of the channel.
    pub name: String,
    /// Messages sent and not received.
    pub depth: u64,
    /// Age of the oldest of them; zero if none waits.
    pub age_seconds: f64,
    /// Messages ever sent.
    pub sent: u64,
    /// Messages ever received.
    pub received: u64,
    /// The longest that a message may wait by the channel's rule; absent without a rule.
    #[serde(default)]
    pub max_age_seconds: Option<f64>,
    /// Seconds in which every consumer could have received but none did; absent unless a rule may
    /// kill for that.
    #[serde(default)]
    pub counted_seconds: Option<f64>,
    /// Whether the channel exceeds its rule.
    #[serde(default)]
    pub late: bool,
}

impl StatusJson {
    /// The status according to `board` at `now`.
    pub fn of(board: &Board, now: Monotonic) -> Self {
        let standing = board.standing(now);
        let snapshot = board.snapshot();
        let held = snapshot.as_deref();
        let target = held.and_then(|snapshot| snapshot.target);
        let paused = held.and_then(|snapshot| snapshot.paused.as_deref());
        let dropped = |signal: &Signal| (signal.label().to_owned(), board.dropped().get(*signal));
        let mut status = Self {
            shard: board.shard().to_owned(),
            verdict: standing.verdict,
            reason: standing.reason,
            since: board.wall(standing.since),
            pid: target.map(|target| target.pid),
            incarnation: target.map(|target| target.incarnation),
            threads: held.map(|s| s.threads.iter().map(|t| thread(s, t)).collect()).unwrap_or_default(),
            channels: held.map(|s| s.channels.iter().map(|c| channel(s, c)).collect()).unwrap_or_default(),
            kills_left: held.map(|snapshot| snapshot.kills_left),
            next_kill_in_seconds: held.and_then(|snapshot| snapshot.next_kill_in).map(seconds),
            paused_until: paused.map(|pause| board.wall(pause.until)),
            paused_reason: paused.map(|pause| pause.reason.clone()),
            paused_by: paused.map(|pause| pause.by.clone()),
            mode: board.mode().label().to_owned(),
            kill_by: board.kills_by().label().to_owned(),
            excuse: held.and_then(|snapshot| snapshot.threads.iter().find_map(|thread| thread.excuse)),
            excused_seconds: held.map(excused).unwrap_or_default(),
            thread_events: held.map(|snapshot| snapshot.thread_events.to_owned()),
            shadow: held.and_then(|snapshot| snapshot.shadow.as_ref()).map(|status| shadow(board, status)),
            listeners: board.listening().all().into_iter().map(listener).collect(),
            evidence_trouble: None,
            last_near_miss: None,
            evidence_lacks: board.evidence_lacks(),
            heartbeat_out: board.sign_of_life().map(HeartbeatOutJson::of),
            recorder: board.archive().map(recorder),
            telemetry_dropped: Signal::ALL.iter().map(dropped).collect(),
            held: held.is_some_and(|snapshot| snapshot.held),
            crash_loop_keys: held.map(|snapshot| snapshot.crash_loop_keys.clone()).unwrap_or_default(),
            spared: held.is_some_and(|snapshot| snapshot.spared),
            kills_without_progress: held.map_or(0, |snapshot| snapshot.kills_without_progress),
            braked: held.is_some_and(|snapshot| snapshot.braked),
            restored: held.is_some_and(|snapshot| snapshot.restored),
            deadlines: held.map(deadlines).unwrap_or_default(),
            no_kill: Vec::new(),
            links: Links::clone(&board.links()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        status.no_kill = brakes::of(&status);
        status
    }
}

/// The default for older sidecars, which do not report this field.
fn by_signal() -> String {
    KillBy::Signal.label().to_owned()
}

fn listener((which, state): (Which, State)) -> ListenerJson {
    let (address, trouble) = match state {
        State::Listens(address) => (address, None),
        State::Tries { address, why } => (address, Some(why)),
    };
    ListenerJson { name: which.label().to_owned(), address, listening: trouble.is_none(), trouble }
}

fn recorder(held: Held) -> RecorderJson {
    let Held { directory, files, bytes, removed, missing, trouble } = held;
    RecorderJson {
        directory: directory.display().to_string(),
        files,
        bytes,
        removed_files: removed,
        missing_looks: missing,
        trouble,
    }
}

fn shadow(board: &Board, status: &ShadowStatus) -> ShadowJson {
    let last = status.last.as_ref();
    ShadowJson {
        verdict: status.verdict,
        reason: status.reason.clone(),
        since: board.wall(status.since),
        would_have_killed: status.kills,
        last_kill: last.map(|(at, reason, why)| ShadowKillJson {
            at: board.wall(*at),
            reason: *reason,
            why: why.clone(),
        }),
        kills_left: status.kills_left,
    }
}

fn deadlines(snapshot: &Snapshot) -> Vec<DeadlineJson> {
    let json = |deadline: &Deadline| DeadlineJson {
        what: deadline.what.to_owned(),
        seconds: seconds(snapshot.at.since(deadline.since)),
        at_most_seconds: seconds(deadline.at_most),
        kills: deadline.kills,
    };
    snapshot.deadlines.iter().map(json).collect()
}

fn excused(snapshot: &Snapshot) -> BTreeMap<String, f64> {
    let kinds = ExcuseKind::ALL.iter().zip(snapshot.excused).filter(|(_, time)| !time.is_zero());
    kinds.map(|(kind, time)| (kind.label().to_owned(), seconds(time))).collect()
}

fn thread(snapshot: &Snapshot, thread: &ThreadStatus) -> ThreadJson {
    let age = |since: Option<Monotonic>| since.map(|since| seconds(snapshot.at.since(since)));
    ThreadJson {
        name: thread.name.clone(),
        tid: thread.tid,
        health: thread.health,
        unobserved: thread.unobserved,
        kind: kind(thread).map(str::to_owned),
        excuse_over_cap: thread.excuse_over_cap,
        excuses: thread.excuses.iter().map(|excuse| excuse_json(thread, excuse)).collect(),
        heartbeat_age_seconds: age(thread.last_beat),
        work_key: thread.work_key,
        attempt: thread.attempt,
        section: thread.section.map(|section| section.to_string()),
        work_age_seconds: age(thread.work_since),
        counted_seconds: seconds(thread.counted),
        stall_after_seconds: seconds(thread.stall_after),
        rule_stall_after_seconds: (thread.stall_after != thread.rule_stall_after)
            .then(|| seconds(thread.rule_stall_after)),
        section_stall_after_seconds: thread.section_stall_after.map(seconds),
        idle_counted_seconds: thread.silence.map(|silence| seconds(silence.counted)),
        idle_at_most_seconds: thread.silence.map(|silence| seconds(silence.idle_at_most)),
        silent_seconds: thread.silence.and_then(|silence| age(silence.silent_since)),
    }
}

/// For a stall, how the thread is stuck; for an excuse, why it is excused.
pub(crate) fn kind(thread: &ThreadStatus) -> Option<&'static str> {
    match (thread.health, thread.kind, thread.excuse) {
        (Health::Excused, _, Some(excuse)) => Some(excuse.label()),
        (_, Some(kind), _) => Some(kind.label()),
        (_, None, excuse) => excuse.map(ExcuseKind::label),
    }
}

fn excuse_json(thread: &ThreadStatus, excuse: &ExcuseStatus) -> ExcuseJson {
    ExcuseJson {
        kind: excuse.kind,
        running: thread.excuse == Some(excuse.kind),
        seconds: seconds(excuse.lasted),
        at_most_seconds: excuse.cap.map(seconds),
    }
}

fn channel(snapshot: &Snapshot, channel: &ChannelStatus) -> ChannelJson {
    ChannelJson {
        name: channel.name.clone(),
        depth: channel.depth,
        age_seconds: channel.oldest_since.map_or(0.0, |since| seconds(snapshot.at.since(since))),
        sent: channel.sent,
        received: channel.received,
        max_age_seconds: channel.max_age.map(seconds),
        counted_seconds: channel.counted.map(seconds),
        late: channel.late,
    }
}

/// Seconds to the microsecond: more digits are noise.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::sample;
    use std::sync::Arc;

    #[test]
    fn the_fields_of_the_contract_are_all_there() {
        let board = sample::board();
        board.set_snapshot(Arc::new(sample::snapshot()));
        let value = serde_json::to_value(StatusJson::of(&board, crate::clock::now())).unwrap();
        let contract = "shard verdict reason since pid incarnation threads channels kills_left paused_until";
        for key in contract.split(' ') {
            assert!(value.get(key).is_some(), "{key}");
        }
        let thread = "name tid health kind heartbeat_age_seconds work_key attempt work_age_seconds";
        for key in thread.split(' ') {
            assert!(value["threads"][0].get(key).is_some(), "thread: {key}");
        }
        for key in "name depth age_seconds sent received".split(' ') {
            assert!(value["channels"][0].get(key).is_some(), "channel: {key}");
        }
        assert_eq!(value["verdict"], "healthy");
        assert_eq!(value["threads"][0]["heartbeat_age_seconds"], 0.5);
        assert_eq!(value["channels"][0]["age_seconds"], 0.25);
        assert!(value["paused_until"].is_null());
    }

    #[test]
    fn before_the_first_look_nothing_is_claimed() {
        let status = StatusJson::of(&sample::board(), crate::clock::now());
        assert_eq!(status.verdict, Verdict::Unguarded);
        assert_eq!((status.pid, status.kills_left), (None, None));
        assert!(status.threads.is_empty());
    }

    #[test]
    fn an_excused_thread_says_why() {
        let board = sample::board();
        let mut snapshot = sample::snapshot();
        snapshot.threads[0].health = Health::Excused;
        snapshot.threads[0].excuse = Some(ExcuseKind::Stopped);
        board.set_snapshot(Arc::new(snapshot));
        let status = StatusJson::of(&board, crate::clock::now());
        assert_eq!(status.threads[0].kind.as_deref(), Some("stopped"));
        assert_eq!(status.excuse, Some(ExcuseKind::Stopped));
    }
}
