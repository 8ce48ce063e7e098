//! The watchdog's vocabulary: verdicts on the process, the health of a thread, and the reasons.

use serde::{Deserialize, Serialize};

/// Gives an enum its label: one lower-case word that never changes, used in JSON, metrics and logs
/// alike.
macro_rules! labelled {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $label)] $variant,)+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word used in JSON, metrics and logs.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result { f.pad(self.label()) }
        }

        // Its derive takes no words from a macro.
        #[cfg(feature = "schema")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                use utoipa::openapi::schema::{ObjectBuilder, Type};
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some([$($label,)+])).into()
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::ToSchema for $name {}
    };
}

labelled! {
    /// The verdict on the target as a whole.
    pub enum Verdict {
        /// No target is being watched: none found yet, refused, or it stopped in an orderly way.
        Unguarded = "unguarded",
        /// A target is watched and within `startup_grace`.
        Starting = "starting",
        /// Every watched thread is idle or makes progress.
        Healthy = "healthy",
        /// Watched, but not as configured: a rule matches no thread, or something is late or
        /// unknown.
        Degraded = "degraded",
        /// Something stands still through no fault of the target.
        Excused = "excused",
        /// Judged dead. Lifted only if nobody has acted on it and its reason is gone
        /// (docs/adr/002).
        Condemned = "condemned",
        /// We have sent a signal, or the process is ending by itself.
        Dying = "dying",
        /// Dead, and not restarted within `restart.within`.
        Dead = "dead",
        /// Dead, and its supervisor still has time to restart it.
        Restarting = "restarting",
        /// The same work was in flight at more than one death: nothing more is killed for it.
        CrashLoop = "crash_loop",
    }
}

labelled! {
    /// How a near miss ended: a thread at work that made no progress for `warn_after`.
    pub enum NearMissOutcome {
        /// It made progress again.
        Recovered = "recovered",
        /// It became an incident.
        Condemned = "condemned",
        /// The thread, or its process, ended, or was released.
        Ended = "ended",
    }
}

labelled! {
    /// The health of one thread.
    pub enum Health {
        /// Not seen yet, within `startup_grace`.
        Starting = "starting",
        /// Waiting for work. Never a stall, however long.
        Idle = "idle",
        /// At work and making progress.
        Working = "working",
        /// At work, no progress for `warn_after` of countable time; or idle, no work begun for
        /// `idle_at_most` although there was some.
        Late = "late",
        /// At work, no progress for `stall_after` of countable time.
        Stalled = "stalled",
        /// Ended while its process lives on.
        Gone = "gone",
        /// At work without progress, through no fault of its own.
        Excused = "excused",
    }
}

labelled! {
    /// Why a target was condemned, or why an incident was opened. The metric label `reason`.
    pub enum Reason {
        /// A watched thread ended while the process lives on.
        ThreadGone = "thread_gone",
        /// The main thread ended while others live on: a zombie leader.
        LeaderGone = "leader_gone",
        /// A working thread made no progress for `stall_after` of countable time.
        Stalled = "stalled",
        /// Messages wait in a channel, and its consumers do not receive them although they could.
        ChannelLag = "channel_lag",
        /// An idle thread began no work for `idle_at_most`, although a witness showed that there
        /// was some.
        Silent = "silent",
        /// The process stayed stopped for longer than its excuse.
        Stopped = "stopped",
        /// The process began to end and did not finish in time.
        ExitHung = "exit_hung",
        /// The process ended by itself without announcing it.
        ProcessGone = "process_gone",
        /// A person asked for the kill explicitly.
        Requested = "requested",
    }
}

labelled! {
    /// How a stalled thread stands still.
    pub enum StallKind {
        /// Asleep on a lock, no CPU time used.
        Deadlock = "deadlock",
        /// Running and using CPU time, but making no progress.
        Livelock = "livelock",
        /// In uninterruptible sleep, most likely on a device.
        IoWait = "io_wait",
        /// Asleep in the kernel, interruptibly or not, on something that is neither a lock nor a
        /// device.
        Blocked = "blocked",
        /// The kernel's data do not decide it.
        Unknown = "unknown",
    }
}

labelled! {
    /// Why time does not count against a thread.
    pub enum ExcuseKind {
        /// Stopped by a signal (state `T`).
        Stopped = "stopped",
        /// Held by a debugger (state `t`).
        Traced = "traced",
        /// Its cgroup is frozen.
        Frozen = "frozen",
        /// Its cgroup used up its CPU quota, or it used up what its real-time scheduling class
        /// allows it.
        Throttled = "throttled",
        /// Its cgroup is over `memory.high` and makes it wait.
        MemoryThrottled = "memory_throttled",
        /// The hypervisor took the CPU that it needs.
        Stolen = "stolen",
        /// Runnable, but given no CPU.
        Starved = "starved",
        /// Writing a core dump.
        CoreDumping = "core_dumping",
        /// The machine was suspended.
        Suspended = "suspended",
        /// The watchdog itself was late, so it cannot know.
        ObserverLate = "observer_late",
    }
}

labelled! {
    /// Why a watched thread is out of sight. No time counts against it then, and whether it is well
    /// is unknown.
    pub enum Unobserved {
        /// The watchdog has no descriptors left for it, or for a worker that it may be waiting for.
        NoDescriptors = "no_descriptors",
        /// For several seconds the kernel has reported nothing about it, or about a worker that it
        /// may be waiting for.
        Unreadable = "unreadable",
    }
}

labelled! {
    /// Why a kill that the judge asked for was not carried out.
    pub enum Withheld {
        /// `kill.mode` is `observe`.
        Observe = "observe",
        /// The kill budget is spent.
        Budget = "budget",
        /// A person has paused killing.
        Paused = "paused",
        /// The work in flight was already in flight at more than one death: another kill would not
        /// help.
        CrashLoop = "crash_loop",
        /// The last kills brought no finished piece of work, so neither would another one.
        NoProgress = "no_progress",
        /// The signal could not be sent: permission.
        NotPermitted = "not_permitted",
        /// The process is certainly not the target any more: it has another user or program, or
        /// lacks the segment.
        NotTarget = "not_target",
        /// It cannot be determined now whether the process still is the target.
        Unproven = "unproven",
    }
}
