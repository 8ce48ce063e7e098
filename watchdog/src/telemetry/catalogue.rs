//! Every metric of the sidecar, declared once. All instruments are built from these entries, so
//! that documentation, dashboards and alerts can be checked against one list.

pub mod story;

use shard_telemetry::metric::{Kind, Unit, names, one, words};

use crate::board::listening::Which;
use crate::event::StacksOutcome;
use crate::verdict::{ExcuseKind, Health, NearMissOutcome, Reason, Unobserved, Verdict, Withheld};

use super::dropped::Signal;

macro_rules! labels_of {
    ($enum:ident) => {
        || $enum::ALL.iter().map(|value| value.label()).collect()
    };
}

// From the 10 µs of a wake-up to the half minute of a stall behind excuses.
const DETECTION: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5,
    1.0, 5.0, 30.0,
];
// From an embedded supervisor's 10 ms to the 300 s of Kubernetes' longest back-off.
const RESTART: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
// From a timer's own slack to the 10 s at which the watch counts as absent; 0.1 s voids a sample.
const LATE: &[f64] = &[0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0, 10.0];
// Around the thresholds that people set: a second to a minute, with shorter gaps for `suggest`.
const GAP: &[f64] = &[0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];

shard_telemetry::catalogue! {
    VERDICT: "shard_watchdog_verdict", Kind::Gauge, Unit::Flag, [words("verdict", labels_of!(Verdict))],
        "1 for the present verdict, 0 for every other.";
    THREAD_HEALTH: "shard_watchdog_thread_health", Kind::Gauge, Unit::Flag,
        [names("thread"), words("health", labels_of!(Health))],
        "1 for the health of the thread (of threads of one name, whether any has it), 0 for every other.";
    SECTION_THREADS: "shard_watchdog_section_threads", Kind::Gauge, Unit::Count("{thread}"), [names("section")],
        "Watched threads that are in this section of their work, for the sections that the config names.";
    UNOBSERVED: "shard_watchdog_unobserved_threads", Kind::Gauge, Unit::Count("{thread}"),
        [words("reason", labels_of!(Unobserved))],
        "Watched threads that the sidecar cannot observe, by reason. Their health is unknown.";
    THREAD_CPU: "shard_watchdog_thread_cpu_seconds_total", Kind::Counter, Unit::Seconds,
        [names("thread"), words("mode", || vec!["user", "system"])],
        "CPU time that the thread used, read every few seconds.";
    THREAD_RUN_DELAY: "shard_watchdog_thread_run_delay_seconds_total", Kind::Counter, Unit::Seconds,
        [names("thread")],
        "Time for which the thread was runnable but got no CPU.";
    HEARTBEATS: "shard_watchdog_heartbeats_total", Kind::Counter, Unit::Count("{beat}"), [names("thread")],
        "Signs of progress or changes of activity that the sidecar saw.";
    HEARTBEAT_AGE: "shard_watchdog_heartbeat_age_seconds", Kind::Gauge, Unit::Seconds, [names("thread")],
        "Time since the last sign of progress or change of activity. Grows without limit while idle.";
    WORK_AGE: "shard_watchdog_work_age_seconds", Kind::Gauge, Unit::Seconds, [names("thread")],
        "Time since the thread was first seen at its present work. Absent while idle.";
    SILENT: "shard_watchdog_silent_threads", Kind::Gauge, Unit::Count("{thread}"), [],
        "Idle threads that have begun no work for as long as `idle_at_most` allows, although there was some. Absent without a rule for it.";
    STALL_AFTER: "shard_watchdog_stall_after_seconds", Kind::Gauge, Unit::Seconds, [names("thread")],
        "The configured threshold: counted time without progress, at work, after which the thread is stalled.";
    NEAR_MISSES: "shard_watchdog_near_misses_total", Kind::Counter, Unit::Count("{near_miss}"),
        [names("thread"), words("outcome", labels_of!(NearMissOutcome))],
        "Times that a thread at work made no progress for `warn_after`, by how that ended: `recovered`, `condemned` or `ended`. At most one a thread a minute, and `evidence.near_misses_per_day`.";
    STACKS: "shard_watchdog_stacks_total", Kind::Counter, Unit::Count("{dump}"),
        [words("outcome", labels_of!(StacksOutcome))],
        "Minidumps whose stacks were looked up, by what became of it: `written`; `late`, it took longer than two minutes and was ended; `failed`, the incident's step `no_stacks` says why; `dropped`, too many waited.";
    CHANNEL_DEPTH: "shard_watchdog_channel_depth", Kind::Gauge, Unit::Count("{message}"), [names("channel")],
        "Messages sent and not received.";
    CHANNEL_AGE: "shard_watchdog_channel_age_seconds", Kind::Gauge, Unit::Seconds, [names("channel")],
        "Age of the oldest waiting message, according to the sidecar's own samples; 0 if none waits.";
    CHANNEL_MAX_AGE: "shard_watchdog_channel_max_age_seconds", Kind::Gauge, Unit::Seconds, [names("channel")],
        "The configured limit of that age. Absent without a rule for it.";
    CHANNEL_LATE: "shard_watchdog_channel_late", Kind::Gauge, Unit::Flag, [names("channel")],
        "1 while the channel is beyond its rule, by age or by depth.";
    CHANNEL_MESSAGES: "shard_watchdog_channel_messages_total", Kind::Counter, Unit::Count("{message}"),
        [names("channel"), words("direction", || vec!["sent", "received"])],
        "Messages that went through the channel.";
    DETECTION_SECONDS: "shard_watchdog_detection_seconds", Kind::Histogram(DETECTION), Unit::Seconds,
        [words("reason", labels_of!(Reason))],
        "Time to the verdict: from the first observation of an end, or from the last progress plus the threshold (which includes excused time).";
    RESTART_SECONDS: "shard_watchdog_restart_seconds", Kind::Histogram(RESTART), Unit::Seconds, [],
        "From the death of the target to the next process.";
    KILLS: "shard_watchdog_kills_total", Kind::Counter, Unit::Count("{kill}"),
        [words("reason", labels_of!(Reason))],
        "Incidents in which a signal was sent, by the reason of the verdict.";
    KILLS_WITHHELD: "shard_watchdog_kills_withheld_total", Kind::Counter, Unit::Count("{kill}"),
        [words("reason", labels_of!(Withheld))],
        "Kills that were due and not carried out, by what withheld them.";
    SHADOW_KILLS: "shard_watchdog_shadow_kills_total", Kind::Counter, Unit::Count("{kill}"),
        [words("reason", labels_of!(Reason))],
        "Kills that the policy of `[shadow]` would have carried out; it sends no signals.";
    KILLS_LEFT: "shard_watchdog_kills_left", Kind::Gauge, Unit::Count("{kill}"), [],
        "Kills that the budget still allows.";
    PAUSED: "shard_watchdog_paused", Kind::Gauge, Unit::Flag, [],
        "1 while a person has paused killing: kills that become due are withheld and reported, and all else continues.";
    CRASH_LOOP_KEYS: "shard_watchdog_crash_loop_keys", Kind::Gauge, Unit::Count("{key}"), [],
        "Work keys that were in flight at more than one death of the target: nothing is killed for them until `clear`.";
    EXCUSED: "shard_watchdog_excused_seconds_total", Kind::Counter, Unit::Seconds,
        [words("kind", labels_of!(ExcuseKind))],
        "Time that did not count against any thread, by kind of excuse.";
    EXCUSE_OVER_CAP: "shard_watchdog_excuse_over_cap", Kind::Gauge, Unit::Flag,
        [words("kind", labels_of!(ExcuseKind))],
        "1 while a watched thread has been excused for as long as `judge.excuse` allows, or longer: nothing is killed for it; a person should investigate.";
    RECORDING_BYTES: "shard_watchdog_recording_bytes", Kind::Gauge, Unit::Bytes, [],
        "Size of the long-term recording, all files. Absent without `[recorder]`.";
    RECORDING_DROPPED: "shard_watchdog_recording_dropped_total", Kind::Counter, Unit::Count("{item}"),
        [words("what", || vec!["looks", "files"])],
        "Observations that were not written, and files that were deleted to stay within the limits. Absent without `[recorder]`.";
    HEARTBEATS_OUT: "shard_watchdog_heartbeats_out_total", Kind::Counter, Unit::Count("{heartbeat}"),
        [words("outcome", || vec!["sent", "failed"])],
        "Signs of life to the service of `[heartbeat_out]`, by whether it accepted them. None are sent while the sidecar does not see its target. Absent without `[heartbeat_out]`.";
    LOOP_LATE: "shard_watchdog_loop_late_seconds", Kind::Histogram(LATE), Unit::Seconds, [],
        "How much later than planned the watch loop woke.";
    HTTP_LISTENING: "shard_watchdog_http_listening", Kind::Gauge, Unit::Flag,
        [words("listener", || Which::ALL.iter().map(|which| which.label()).collect())],
        "1 for each configured listener that is open, 0 for one that cannot be opened now and is retried. Absent for one that is not configured.";
    RELOAD_SUCCEEDED: "shard_watchdog_config_last_reload_successful", Kind::Gauge, Unit::Flag, [],
        "1 if the config that was read last is in force, 0 after one that was refused: the sidecar goes by the one before.";
    RELOAD_GOOD_AT: "shard_watchdog_config_last_reload_success_timestamp_seconds", Kind::Gauge, Unit::UnixSeconds, [],
        "When a config was last put in force, by the start or by a reload.";
    TELEMETRY_DROPPED: "shard_watchdog_telemetry_dropped_total", Kind::Counter, Unit::Count("{item}"),
        [words("signal", labels_of!(Signal))],
        "Telemetry that was dropped because its reader was too slow, or a disk or a collector refused it.";
    BUILD_INFO: "shard_watchdog_build_info", Kind::Gauge, Unit::Flag,
        [one("version")],
        "Always 1.";
    PROGRESS_GAP: "shard_watchdog_progress_gap_seconds", Kind::Histogram(GAP), Unit::Seconds, [names("thread")],
        "Time between two signs of progress of a thread at work.";
    SHARD_CPU: "shard_process_cpu_seconds_total", Kind::Counter, Unit::Seconds, [],
        "CPU time that the target used.";
    SHARD_MEMORY: "shard_process_resident_memory_bytes", Kind::Gauge, Unit::Bytes, [],
        "Memory of the target that is resident.";
    SHARD_FDS: "shard_process_open_fds", Kind::Gauge, Unit::Count("{fd}"), [],
        "File descriptors that the target holds. Absent if the sidecar may not read them.";
    SHARD_THREADS: "shard_process_threads", Kind::Gauge, Unit::Count("{thread}"), [],
        "Threads of the target.";
    SHARD_START: "shard_process_start_time_seconds", Kind::Gauge, Unit::UnixSeconds, [],
        "When the target started.";
    OWN_CPU: "process_cpu_seconds_total", Kind::Counter, Unit::Seconds, [],
        "CPU time that the sidecar used.";
    OWN_MEMORY: "process_resident_memory_bytes", Kind::Gauge, Unit::Bytes, [],
        "Memory of the sidecar that is resident.";
    OWN_VIRTUAL: "process_virtual_memory_bytes", Kind::Gauge, Unit::Bytes, [],
        "Memory that the sidecar has mapped.";
    OWN_FDS: "process_open_fds", Kind::Gauge, Unit::Count("{fd}"), [],
        "File descriptors that the sidecar holds.";
    OWN_MOST_FDS: "process_max_fds", Kind::Gauge, Unit::Count("{fd}"), [],
        "File descriptors that the sidecar may hold.";
    OWN_THREADS: "process_threads", Kind::Gauge, Unit::Count("{thread}"), [],
        "Threads of the sidecar.";
    OWN_START: "process_start_time_seconds", Kind::Gauge, Unit::UnixSeconds, [],
        "When the sidecar started.";
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_say_kind_and_unit_and_no_label_has_values_without_end() {
        assert_eq!(shard_telemetry::metric::complaints(super::ALL), Vec::<String>::new());
    }
}
