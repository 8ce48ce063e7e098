//! Which of the configured places the sidecar listens on now, and why not on the others.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::listen::Which;

/// How it stands with one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It listens at this address, whose port is the real one.
    Listens(String),
    /// It cannot be had, for this reason; it is tried again and again.
    Tries {
        /// What the config says.
        address: String,
        /// Why it cannot be had.
        why: String,
    },
}

/// All that the config names.
#[derive(Debug, Default)]
pub struct Listening(Mutex<Vec<(Which, State)>>);

impl Listening {
    /// From now on it stands so with `which`. Says whether that is another state than before.
    pub fn set(&self, which: Which, state: State) -> bool {
        let mut all = self.lock();
        match all.iter_mut().find(|(held, _)| *held == which) {
            Some((_, held)) if *held == state => false,
            Some((_, held)) => {
                *held = state;
                true
            }
            None => {
                all.push((which, state));
                all.sort_unstable_by_key(|(which, _)| *which);
                true
            }
        }
    }

    /// How it stands with each.
    pub fn all(&self) -> Vec<(Which, State)> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Which, State)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
