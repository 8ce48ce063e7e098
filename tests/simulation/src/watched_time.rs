//! Time in which every look saw the same thing.

use std::time::Duration;

use super::plan::Nanos;

/// Watched time since a look that saw something for the first time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(pub Option<Nanos>);

impl Sum {
    /// One more look.
    pub fn look(&mut self, seen: bool, elapsed: Nanos, late: bool) {
        self.0 = match self.0 {
            _ if !seen => None,
            None => Some(0),
            Some(sum) => Some(sum + if late { 0 } else { elapsed }),
        };
    }

    /// Whether it is as long as `limit`.
    pub fn reached(self, limit: Duration) -> bool {
        self.0.is_some_and(|sum| Duration::from_nanos(sum) >= limit)
    }
}
