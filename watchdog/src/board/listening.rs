//! Which of the configured places the sidecar listens on now, and why not on the others.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::HttpConfig;

/// One of the places where the sidecar can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// Everything, on an address.
    Listen,
    /// Probes and metrics, on an address.
    Public,
    /// Everything, on a unix socket.
    Socket,
}

impl Which {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Listen, Self::Public, Self::Socket];

    /// Its name, as a label and in `status`.
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

    /// Where it is to be, if the config names it.
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
