//! On which of the configured places the sidecar listens now, and why not on the others.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::HttpConfig;

/// One of the places where the sidecar can be queried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// The full API, on a TCP address.
    Listen,
    /// Probes and metrics only, on a TCP address.
    Public,
    /// The full API, on a unix socket.
    Socket,
}

impl Which {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Listen, Self::Public, Self::Socket];

    /// The name of the place, as a label and in `status`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Public => "public",
            Self::Socket => "socket",
        }
    }

    /// The config key.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Listen => "http.listen",
            Self::Public => "http.public",
            Self::Socket => "http.socket",
        }
    }

    /// The configured address; `None` if the config does not name this place.
    pub fn address(self, config: &HttpConfig) -> Option<String> {
        match self {
            Self::Listen => config.listen.map(|address| address.to_string()),
            Self::Public => config.public.map(|address| address.to_string()),
            Self::Socket => config.socket.as_ref().map(|path| path.display().to_string()),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// The state of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Listens at this address, with the actual port.
    Listens(String),
    /// Cannot be bound, for this reason; binding is retried until it succeeds.
    Tries {
        /// The address in the config.
        address: String,
        /// Why it cannot be bound.
        why: String,
    },
}

/// The state of every place that the config names.
#[derive(Debug, Default)]
pub struct Listening(Mutex<Vec<(Which, State)>>);

impl Listening {
    /// Sets the state of `which`. Returns whether it differs from the state before.
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

    /// The state of each place.
    pub fn all(&self) -> Vec<(Which, State)> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Which, State)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
