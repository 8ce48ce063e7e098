//! The fault matrix: every row of docs/failure-modes.md against the binaries beside the running
//! program, each in a process of its own, so that a row that fails, hangs or dies takes no other
//! along and leaves nothing behind.
//!
//! A row is data: its number, how its fault is made, and what must be seen. Rows whose course is
//! their own are a function.

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

/// Where a row stands in the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Faults that must be seen, and mostly killed for.
    Seen,
    /// What looks like a fault and must cost nobody his life.
    Spared,
    /// Faults of the sidecar.
    Watchdog,
}

impl Part {
    /// Its heading.
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
    /// Its number in docs/failure-modes.md, or `poc`, or `watchdog` for the rows that have none.
    pub number: &'static str,
    /// Which of several cases of that number; empty for the first.
    pub case: &'static str,
    /// Where it stands.
    pub part: Part,
    /// What happens.
    pub what: &'static str,
    /// How that is brought about.
    pub fault: &'static str,
    /// What this machine must have for it.
    pub needs: &'static [Need],
    /// Whether it needs the machine for itself: it loads it, or changes what belongs to all of it.
    pub alone: bool,
    /// What is done and what must be seen.
    pub course: Course,
}

/// What is done and what must be seen.
#[derive(Clone, Copy, Debug)]
pub enum Course {
    /// Shard 0 of a cluster is lost, and comes back.
    Recovers(Recovers),
    /// Shard 0 of a cluster at work is held up, and lives.
    Spared(Spared),
    /// Anything else.
    Scene(fn(&Told)),
}

impl Row {
    /// Its number and case, such as `3/helper-spin`: how it is named on the command line and in
    /// files.
    pub fn id(&self) -> String {
        if self.case.is_empty() { self.number.to_owned() } else { format!("{}/{}", self.number, self.case) }
    }

    /// Its [`Self::id`] as the name of a folder.
    pub fn folder(&self) -> String {
        let id = self.id().replace('/', "-");
        format!("row-{}{id}", if self.number.len() == 1 { "0" } else { "" })
    }
}

/// A row whose fault is made by other means than those two.
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
    /// The same on a machine that has this.
    const fn on(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    /// The same with the machine for itself.
    const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}
