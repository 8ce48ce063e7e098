//! Why nobody is watched: one sentence for each reason, with what to do next.

use crate::probe::handle::HandleError;
use crate::probe::proof::Unproven;
use crate::probe::task::Uids;

use shard_heartbeat::Blind;

use super::custody::Distrusted;
use super::hidden::Hidden;

/// How the pid namespace of another container is shared.
const SHARE: &str = "share the target's pid namespace with the sidecar (Kubernetes: shareProcessNamespace: true; docker and \
                     podman: --pid=container:TARGET)";

/// Where a file is another one for a container than for whoever looks from outside.
const VOLUME: &str = " (what is written through an overlay, such as a container's own root, is another file from outside: put the \
                      segment on a volume or a tmpfs)";

/// Why a segment's owner is not watched.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody fits.
    #[error(
        "no running process is the owner of the heartbeat segment: it names pid {pid}{}, {why}{}",
        here(*.pid, *.candidate),
        boot(*.other_boot)
    )]
    NoOwner {
        /// The pid in the segment.
        pid: u32,
        /// The process that comes closest, as the sidecar sees it.
        candidate: Option<i32>,
        /// What is wrong with it.
        why: Misfit,
        /// The segment names another boot than this machine's.
        other_boot: bool,
    },
    /// The segment is that of another shard.
    #[error(
        "the heartbeat segment is that of shard {found:?}, and [target] shard is {wanted:?}: nothing is watched, or one shard would be \
         killed under another's name. Correct [target] shard or heartbeat, or have the executor name that shard in its segment"
    )]
    OtherShard {
        /// What the segment names, made printable.
        found: String,
        /// What the config names.
        wanted: String,
    },
    /// The file is not to be believed.
    #[error(transparent)]
    Distrusted(#[from] Distrusted),
    /// Its writer does not let itself be seen.
    #[error(
        "{0}; with [kill] by = \"exit-code\" nothing is watched until the target shows its /proc: start the executor with --show-proc (or \
         call show_proc of shard-heartbeat), or {SHARE} and leave out [kill] by"
    )]
    Blind(#[from] Blind),
    /// It was another one by the time that it was checked.
    #[error(transparent)]
    Unproven(Unproven),
    /// It cannot be signalled without doubt.
    #[error(transparent)]
    Handle(#[from] HandleError),
}

impl Refusal {
    /// Whether it is about a process that was restored from a checkpoint.
    pub(super) const fn is_of_restored(&self) -> bool {
        matches!(self, Self::NoOwner { why: Misfit::RestoredInPart { .. } | Misfit::Ambiguous, .. })
    }
}

fn runs_as(Uids { real, effective, saved }: Uids) -> String {
    if real == effective && effective == saved {
        return format!("runs as user {real}");
    }
    format!("runs as user {real} (real), {effective} (effective) and {saved} (saved), which must be one")
}

fn here(pid: u32, candidate: Option<i32>) -> String {
    let other = candidate.filter(|candidate| u32::try_from(*candidate) != Ok(pid));
    other.map(|candidate| format!(" (here {candidate})")).unwrap_or_default()
}

const fn boot(other: bool) -> &'static str {
    if other {
        "; the segment has another boot id, so it was written before the machine was booted, or in a container that has one of \
         its own"
    } else {
        ""
    }
}

/// Why one process is not the owner of a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// There is none.
    #[error("and no such process runs")]
    Absent,
    /// There is none in a pid namespace that does not show all processes.
    #[error(
        "and no such process runs in the sidecar's pid namespace: if the target runs in another container, {SHARE}"
    )]
    AbsentHere,
    /// It ended while it was looked at.
    #[error("which has just ended")]
    Ended,
    /// Another number in its own namespace.
    #[error("which has another number in its own pid namespace")]
    OtherNumber,
    /// Another user.
    #[error("which {}, and the file belongs to user {owner}", runs_as(*.uids))]
    OtherUser {
        /// Whose process it is.
        uids: Uids,
        /// Whose file it is.
        owner: u32,
    },
    /// It is us or an ancestor of ours.
    #[error("which is this sidecar itself or one of its ancestors")]
    Ourselves,
    /// The number is ours or an ancestor's, and the file is not: it is meant in another pid
    /// namespace.
    #[error(
        "which in the sidecar's pid namespace is the sidecar itself or one of its ancestors, and that does not map the file: the \
         target runs in a pid namespace that the sidecar does not see; {SHARE}"
    )]
    ForeignNamespace,
    /// It does not map the file.
    #[error("which does not map that file{VOLUME}")]
    NotMapped,
    /// It does not map the file, and the sidecar does not see all processes.
    #[error(
        "which does not map that file{VOLUME}; if the target runs in another container, where that number is its own, {SHARE}"
    )]
    NotMappedHere,
    /// Its files in `/proc` are of another form.
    #[error(
        "whose files in /proc are not of a form that this version understands: is what is mounted there a /proc of Linux? If \
         so, please report its status and stat"
    )]
    Malformed,
    /// The kernel hides it.
    #[error(transparent)]
    Hidden(#[from] Hidden),
    /// Another unit.
    #[error("which stands in {found}, and systemd_unit asks for {wanted}")]
    OtherUnit {
        /// Where it is.
        found: String,
        /// Where it should be.
        wanted: String,
    },
    /// It began later than the segment says.
    #[error("which started at another time")]
    OtherStart,
    /// As before, and threads that the segment knows are in it: but not all of them.
    #[error(
        "which started at another time and has {found} of the {all} threads that the segment names: it looks like a process that \
         was restored from a checkpoint and has lost threads since; restart it"
    )]
    RestoredInPart {
        /// Threads that are there.
        found: usize,
        /// Threads that should be.
        all: usize,
    },
    /// More than one restored process is as good as the other.
    #[error(
        "and more than one process that started at another time maps the file: copies restored from one checkpoint; end all but one"
    )]
    Ambiguous,
}

impl Misfit {
    /// How far a process got before it did not fit. The one that got furthest is told of: it is
    /// likely to be the one meant.
    pub(super) const fn nearness(&self) -> u8 {
        match self {
            // Any process of the machine has another number: none of them is likely to be meant.
            Self::Absent | Self::AbsentHere | Self::Ended | Self::OtherNumber => 0,
            Self::Malformed => 2,
            Self::OtherUser { .. } => 3,
            Self::Ourselves | Self::ForeignNamespace => 4,
            Self::NotMapped | Self::NotMappedHere => 5,
            Self::Hidden(Hidden::HidePid(_)) => 6,
            Self::Hidden(_) => 7,
            Self::OtherUnit { .. } => 8,
            Self::OtherStart => 9,
            Self::RestoredInPart { .. } | Self::Ambiguous => 10,
        }
    }

    /// The same for a sidecar that does not see all processes of the machine.
    pub(super) fn seen_from_within(self, within: bool) -> Self {
        match self {
            Self::Absent if within => Self::AbsentHere,
            Self::NotMapped if within => Self::NotMappedHere,
            other => other,
        }
    }
}
