//! Why nothing is watched: one sentence for each reason, with what to do next.

use crate::probe::handle::HandleError;
use crate::probe::proof::Unproven;
use crate::probe::task::Uids;

use shard_heartbeat::Blind;

use super::custody::Distrusted;
use super::hidden::Hidden;

/// How to share the pid namespace of another container.
const SHARE: &str = "share the target's pid namespace with the sidecar (Kubernetes: shareProcessNamespace: true; docker and \
                     podman: --pid=container:TARGET)";

/// When a container and an outside observer see different files.
const VOLUME: &str = " (what is written through an overlay, such as a container's own root, is another file from outside: put the \
                      segment on a volume or a tmpfs)";

/// Why a segment's owner is not watched.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No process fits.
    #[error(
        "no running process is the owner of the heartbeat segment: it names pid {pid}{}, {why}{}",
        here(*.pid, *.candidate),
        boot(*.other_boot)
    )]
    NoOwner {
        /// The pid that the segment names.
        pid: u32,
        /// The process that comes closest, by its pid as the sidecar sees it.
        candidate: Option<i32>,
        /// Why that process does not fit.
        why: Misfit,
        /// The segment names another boot than this machine's.
        other_boot: bool,
    },
    /// The segment belongs to another shard.
    #[error(
        "the heartbeat segment is that of shard {found:?}, and [target] shard is {wanted:?}: nothing is watched, or one shard would be \
         killed under another's name. Correct [target] shard or heartbeat, or have the executor name that shard in its segment"
    )]
    OtherShard {
        /// The shard that the segment names, made printable.
        found: String,
        /// The shard that the config names.
        wanted: String,
    },
    /// The file cannot be trusted.
    #[error(transparent)]
    Distrusted(#[from] Distrusted),
    /// The writer does not show its `/proc`.
    #[error(
        "{0}; with [kill] by = \"exit-code\" nothing is watched until the target shows its /proc: start the executor with --show-proc (or \
         call show_proc of shard-heartbeat), or {SHARE} and leave out [kill] by"
    )]
    Blind(#[from] Blind),
    /// The process changed while it was checked.
    #[error(transparent)]
    Unproven(Unproven),
    /// No reliable handle for signals could be opened.
    #[error(transparent)]
    Handle(#[from] HandleError),
}

impl Refusal {
    /// Whether it concerns a process that was restored from a checkpoint.
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
    /// No such process runs.
    #[error("and no such process runs")]
    Absent,
    /// No such process runs in the sidecar's pid namespace, which does not show all processes.
    #[error(
        "and no such process runs in the sidecar's pid namespace: if the target runs in another container, {SHARE}"
    )]
    AbsentHere,
    /// It ended during the check.
    #[error("which has just ended")]
    Ended,
    /// It has another pid in its own namespace.
    #[error("which has another number in its own pid namespace")]
    OtherNumber,
    /// It runs as another user.
    #[error("which {}, and the file belongs to user {owner}", runs_as(*.uids))]
    OtherUser {
        /// User ids of the process.
        uids: Uids,
        /// User id of the file's owner.
        owner: u32,
    },
    /// It is this sidecar or one of its ancestors.
    #[error("which is this sidecar itself or one of its ancestors")]
    Ourselves,
    /// The pid is that of this sidecar or of an ancestor, which does not map the file: the segment
    /// means a process in another pid namespace.
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
    /// Its files in `/proc` have an unknown format.
    #[error(
        "whose files in /proc are not of a form that this version understands: is what is mounted there a /proc of Linux? If \
         so, please report its status and stat"
    )]
    Malformed,
    /// The kernel hides the process.
    #[error(transparent)]
    Hidden(#[from] Hidden),
    /// It is in another systemd unit.
    #[error("which stands in {found}, and systemd_unit asks for {wanted}")]
    OtherUnit {
        /// Where the process is.
        found: String,
        /// The configured unit.
        wanted: String,
    },
    /// It started at another time than the segment says.
    #[error("which started at another time")]
    OtherStart,
    /// It started at another time, and has some but not all of the threads that the segment names.
    #[error(
        "which started at another time and has {found} of the {all} threads that the segment names: it looks like a process that \
         was restored from a checkpoint and has lost threads since; restart it"
    )]
    RestoredInPart {
        /// Number of those threads that exist.
        found: usize,
        /// Number of threads that the segment names.
        all: usize,
    },
    /// Several restored processes fit equally well.
    #[error(
        "and more than one process that started at another time maps the file: copies restored from one checkpoint; end all but one"
    )]
    Ambiguous,
}

impl Misfit {
    /// How many checks a process passed. The one that passed most is reported, since it is probably
    /// the one meant.
    pub(super) const fn nearness(&self) -> u8 {
        match self {
            // Every process has some other number, so none of them is likely to be meant.
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

    /// The same misfit, as a sidecar reports it that does not see all processes of the machine.
    pub(super) fn seen_from_within(self, within: bool) -> Self {
        match self {
            Self::Absent if within => Self::AbsentHere,
            Self::NotMapped if within => Self::NotMappedHere,
            other => other,
        }
    }
}
