//! The fault matrix: every row of docs/failure-modes.md against the binaries beside the running
//! program. Each row runs in a process of its own, so that one that fails, hangs or dies affects no
//! other and leaves nothing behind.
//!
//! A row is data: its number, how its fault is caused, and what must be observed. A row with a
//! course of its own is a function.

mod child;
mod evidence;
mod left_out;
mod needs;
mod parent;
mod recovers;
mod report;
mod rows;
mod select;
mod spared;
mod strike;
mod told;

pub use child::{One, play};
pub use left_out::{LEFT_OUT, LeftOut, NOT_BUILT};
pub use needs::Need;
pub use parent::{Ended, Run, Verdict, run};
pub use recovers::Recovers;
pub use report::{Report, list};
pub use rows::all;
pub use select::Selection;
pub use spared::{Spared, Work};
pub use strike::{Step, Who};
pub use told::Told;

/// The section of the matrix that a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Faults that must be detected, and mostly killed for.
    Seen,
    /// What looks like a fault and must get nothing killed.
    Spared,
    /// Faults of the sidecar.
    Watchdog,
}

impl Part {
    /// Heading of the section.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seen => "must be seen",
            Self::Spared => "must not be killed",
            Self::Watchdog => "the watchdog itself",
        }
    }
}

/// One row, or one case of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Row number in docs/failure-modes.md, or `poc`, or `watchdog` for the rows without one.
    pub number: &'static str,
    /// Which case of that number; empty for the first.
    pub case: &'static str,
    /// Section of the matrix.
    pub part: Part,
    /// What happens.
    pub what: &'static str,
    /// How that is caused.
    pub fault: &'static str,
    /// What the machine must have for it.
    pub needs: &'static [Need],
    /// Whether it needs the machine to itself: it loads it, or changes machine-wide state.
    pub alone: bool,
    /// What is done and what must be observed.
    pub course: Course,
}

/// What is done and what must be observed.
#[derive(Clone, Copy, Debug)]
pub enum Course {
    /// Shard 0 of a cluster is lost, and comes back.
    Recovers(Recovers),
    /// Shard 0 of a working cluster is held up, and lives.
    Spared(Spared),
    /// Anything else.
    Scene(fn(&Told)),
}

impl Row {
    /// Number and case, such as `3/helper-spin`: its name on the command line and in files.
    pub fn id(&self) -> String {
        if self.case.is_empty() { self.number.to_owned() } else { format!("{}/{}", self.number, self.case) }
    }

    /// The [`Self::id`] as a folder name.
    pub fn folder(&self) -> String {
        let id = self.id().replace('/', "-");
        format!("row-{}{id}", if self.number.len() == 1 { "0" } else { "" })
    }
}

/// A row whose course is neither [`Recovers`] nor [`Spared`].
const fn scene(
    part: Part,
    number: &'static str,
    case: &'static str,
    what: &'static str,
    fault: &'static str,
    play: fn(&Told),
) -> Row {
    Row { number, case, part, what, fault, needs: &[], alone: false, course: Course::Scene(play) }
}

impl Row {
    /// The same row, run only on a machine that has `needs`.
    const fn on(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    /// The same row, run with the machine to itself.
    const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}
