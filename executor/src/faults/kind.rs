//! What can go wrong, where, and in which of the two processes.

use std::fmt;
use std::time::Duration;

/// What goes wrong. Unless it says otherwise, it happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The working thread panics.
    Panic,
    /// The working thread returns without reporting anything.
    Exit,
    /// The working thread burns CPU and gets nowhere until it is disarmed.
    Spin,
    /// The working thread waits for a lock that is not released until the fault is disarmed.
    Deadlock,
    /// The working thread panics, and the panic hook hangs for ever once it has left its last words
    /// in the segment. No abort timer is there to end it. Needs the hook on.
    HookHang,
    /// The executor thread gives its work to a scoped pool of two. One worker panics while the
    /// other waits for it, so all three are lost while the executor thread stays alive. Needs the
    /// hook off.
    WorkerPanic,
    /// A helper of the executor thread panics in the middle of a transaction. Needs a shard with at
    /// least two threads.
    HelperPanic,
    /// A helper of the executor thread burns CPU in the middle of a transaction until it is
    /// disarmed.
    HelperSpin,
    /// Each transaction takes this much longer, and the thread reports progress meanwhile: slow is
    /// not stuck. Lasts until disarmed.
    Slow(Duration),
    /// The process ends by SIGABRT with a core of this many GiB, of which almost no page was ever
    /// written to: such a core takes about a second for every ten GiB, and next to no disk.
    Core(u64),
    /// The executor thread takes no further part and stays idle for ever.
    Deaf,
    /// The executor thread never reports that it is ready. Only at startup: see `--arm`.
    NeverReady,
    /// The sending thread panics when it is given its next message.
    SendPanic,
    /// The sending thread returns when it is given its next message.
    SendExit,
    /// The result of the next part vanishes on its way, as if the network had lost it.
    DropResult,
    /// The next part is answered with an error instead of its result.
    PartError,
    /// Before the real result of the next part, false ones are sent that resemble it: from an
    /// incarnation that is dead, for an attempt and a round that are over, and for a coordinator
    /// that has gone.
    Ghost,
    /// The network threads block for ever at the next message: nothing is read any more, not even
    /// orders of tests.
    NetBlock,
    /// The next part vanishes on its way to a shard, as if the network had lost it.
    DropPart,
    /// This many state requests get no answer; [`u64::MAX`]: all until disarmed.
    MuteState(u64),
    /// Each state request takes this much longer, as over a slower network or from a slower disk.
    /// Lasts until disarmed.
    SlowState(Duration),
    /// The next part is sent this many more times, under attempt numbers that nobody waits for.
    Flood(u64),
    /// The process that tries a block alone, after shards were lost with it, panics.
    SacrificePanic,
    /// The process's first thread ends while the others live on.
    LeaderExit,
    /// The process begins to stop and never finishes.
    ExitHang,
}

/// Which process a fault belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A shard.
    Shard,
    /// A coordinator.
    Coordinator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shard => "shard",
            Self::Coordinator => "coordinator",
        })
    }
}

/// Where in a process a fault strikes: each place has a fault point of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before a transaction at a shard, before a block at a coordinator.
    Work,
    /// Before a helper executes a transaction ahead.
    Help,
    /// Before the executor thread looks for a part.
    Look,
    /// Before the executor thread is ready.
    Start,
    /// Before a message goes to the coordinator.
    Send,
    /// Before a part's result is handed over.
    Answer,
    /// At a message from the coordinator, on a network thread.
    Network,
    /// Before a part goes to a shard.
    Dispatch,
    /// Before a process is started that tries a block alone.
    Sacrifice,
    /// Before a state request is answered.
    State,
    /// After a state request was answered.
    Answered,
}

impl Kind {
    /// The word that orders it and that reports it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Exit => "exit",
            Self::Spin => "spin",
            Self::Deadlock => "deadlock",
            Self::HookHang => "hook-hang",
            Self::WorkerPanic => "worker-panic",
            Self::HelperPanic => "helper-panic",
            Self::HelperSpin => "helper-spin",
            Self::Slow(_) => "slow",
            Self::Core(_) => "core",
            Self::Deaf => "deaf",
            Self::NeverReady => "never-ready",
            Self::SendPanic => "send-panic",
            Self::SendExit => "send-exit",
            Self::DropResult => "drop-result",
            Self::PartError => "part-error",
            Self::Ghost => "ghost",
            Self::NetBlock => "net-block",
            Self::DropPart => "drop-part",
            Self::MuteState(_) => "mute-state",
            Self::SlowState(_) => "slow-state",
            Self::Flood(_) => "flood",
            Self::SacrificePanic => "sacrifice-panic",
            Self::LeaderExit => "leader-exit",
            Self::ExitHang => "exit-hang",
        }
    }

    pub(super) const fn place(self) -> Place {
        match self {
            Self::Panic
            | Self::Exit
            | Self::Spin
            | Self::Deadlock
            | Self::HookHang
            | Self::WorkerPanic
            | Self::Slow(_)
            | Self::Core(_)
            | Self::LeaderExit
            | Self::ExitHang => Place::Work,
            Self::HelperPanic | Self::HelperSpin => Place::Help,
            Self::Deaf => Place::Look,
            Self::NeverReady => Place::Start,
            Self::SendPanic | Self::SendExit => Place::Send,
            Self::DropResult | Self::PartError | Self::Ghost => Place::Answer,
            Self::NetBlock => Place::Network,
            Self::SacrificePanic => Place::Sacrifice,
            Self::DropPart | Self::Flood(_) => Place::Dispatch,
            Self::MuteState(_) => Place::State,
            Self::SlowState(_) => Place::Answered,
        }
    }

    /// The only process that has its fault point; `None`: both have.
    pub(super) const fn only_in(self) -> Option<Role> {
        match self.place() {
            Place::Work => match self {
                Self::WorkerPanic => Some(Role::Shard),
                _ => None,
            },
            Place::Answered
            | Place::Help
            | Place::Look
            | Place::Start
            | Place::Send
            | Place::Answer
            | Place::Network => Some(Role::Shard),
            Place::Dispatch | Place::Sacrifice | Place::State => Some(Role::Coordinator),
        }
    }

    /// Whether it can let some items pass its point first.
    pub(super) const fn counts(self) -> bool {
        !matches!(self.place(), Place::Look | Place::Start)
    }

    /// Whether its point knows the current block.
    pub(super) const fn knows_block(self) -> bool {
        matches!(
            self.place(),
            Place::Work | Place::Answer | Place::Dispatch | Place::Sacrifice | Place::State
        )
    }

    /// Whether it strikes until it is disarmed.
    pub(super) fn lasts(self) -> bool {
        self.left() == Some(self)
    }

    /// What remains of it once it has struck.
    pub(super) const fn left(self) -> Option<Self> {
        match self {
            Self::Slow(_) | Self::SlowState(_) | Self::MuteState(u64::MAX) => Some(self),
            Self::MuteState(count) if count > 1 => Some(Self::MuteState(count - 1)),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Slow(by) => write!(f, " {}ms", by.as_millis()),
            Self::SlowState(by) => write!(f, " {}us", by.as_micros()),
            Self::MuteState(u64::MAX) => Ok(()),
            Self::MuteState(count) | Self::Flood(count) | Self::Core(count) => write!(f, " {count}"),
            _ => Ok(()),
        }
    }
}

/// A fault that waits for its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    /// What will go wrong.
    pub kind: Kind,
    /// How many more transactions pass first; at points that see no transactions, how many parts,
    /// requests or messages.
    pub after: u64,
    /// If set, the fault strikes only in this block.
    pub block: Option<u64>,
}

impl fmt::Display for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.after > 0 {
            write!(f, " after {}", self.after)?;
            if self.kind.place() == Place::Work {
                f.write_str(" transactions")?;
            }
        }
        self.block.map_or(Ok(()), |block| write!(f, " block {block}"))
    }
}
