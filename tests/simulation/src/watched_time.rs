//! Watched time in which every observation saw the same thing.

use std::time::Duration;

use super::plan::Nanos;

/// Watched time since the observation that first saw it; `None`: the last one did not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(pub Option<Nanos>);

impl Sum {
    /// One more observation.
    pub fn look(&mut self, seen: bool, elapsed: Nanos, late: bool) {
        self.0 = match self.0 {
            _ if !seen => None,
            None => Some(0),
            Some(sum) => Some(sum + if late { 0 } else { elapsed }),
        };
    }

    /// Whether it has reached `limit`.
    pub fn reached(self, limit: Duration) -> bool {
        self.0.is_some_and(|sum| Duration::from_nanos(sum) >= limit)
    }
}
