//! What a row observed: filled as it goes, so that a failing row shows how far it got.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::figures::milliseconds;

/// The record of one row.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<Seen>>);

#[derive(Clone, Debug, Default)]
struct Seen {
    verdict: String,
    times: Map<String, Value>,
    facts: Map<String, Value>,
}

impl Told {
    /// Records the observed verdict, with reason, kind or excuse.
    pub fn saw(&self, verdict: &str) {
        self.with(|seen| verdict.clone_into(&mut seen.verdict));
    }

    /// Records the milliseconds between two times of the monotonic clock.
    pub fn time(&self, name: &str, from: u64, to: u64) {
        self.with(|seen| seen.times.insert(format!("{name}_ms"), json!(milliseconds(from, to))));
    }

    /// Records them and asserts that they do not exceed `bound`.
    #[track_caller]
    pub fn time_within(&self, name: &str, from: u64, to: u64, bound: Duration) {
        self.time(name, from, to);
        let took = milliseconds(from, to);
        let bound = bound.as_secs_f64() * 1e3;
        assert!(took <= bound, "{name} after {took:.0} ms, and {bound:.0} ms are allowed");
    }

    /// Records how long a fault was held for which nothing may be killed.
    pub fn held(&self, time: Duration) {
        self.with(|seen| seen.times.insert("held_ms".to_owned(), json!(time.as_secs_f64() * 1e3)));
    }

    /// Records any other fact.
    pub fn fact(&self, name: &str, value: &Value) {
        self.with(|seen| seen.facts.insert(name.to_owned(), value.clone()));
    }

    /// The whole record; `None` if it is being written at this moment.
    pub fn so_far(&self) -> Option<Value> {
        let seen = match self.0.try_lock() {
            Ok(seen) => seen,
            Err(std::sync::TryLockError::Poisoned(seen)) => seen.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        Some(json!({ "seen": seen.verdict, "times": seen.times, "facts": seen.facts }))
    }

    fn with<T>(&self, then: impl FnOnce(&mut Seen) -> T) {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
