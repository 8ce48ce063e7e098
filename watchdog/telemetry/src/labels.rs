//! Turns names that the target chose into labels, and limits their number.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::metric::{NAMES, OTHER};

/// Names in a segment have at most this many bytes; a longer one is invalid.
const LONGEST: usize = 64;

/// Names that have a label. They are assigned first come, first served, for the life of the
/// sidecar: a name that disappears keeps its place, because its series stays in every database as
/// long.
#[derive(Debug)]
pub struct Names {
    known: Mutex<HashSet<Arc<str>>>,
    other: Arc<str>,
}

impl Default for Names {
    fn default() -> Self {
        Self { known: Mutex::default(), other: Arc::from(OTHER) }
    }
}

impl Names {
    /// The label for `name`.
    pub fn label(&self, name: &str) -> Arc<str> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = known.get(name) {
            return Arc::clone(label);
        }
        let clean: String = name.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        if let Some(label) = known.get(clean.as_str()) {
            return Arc::clone(label);
        }
        if clean.is_empty() || known.len() >= NAMES {
            return Arc::clone(&self.other);
        }
        let label: Arc<str> = Arc::from(clean);
        known.insert(Arc::clone(&label));
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_segment_cannot_make_series_without_end() {
        let names = Names::default();
        let labels: HashSet<Arc<str>> = (0..10_000).map(|n| names.label(&format!("thread-{n}"))).collect();
        assert_eq!(labels.len(), NAMES + 1);
        assert!(labels.contains(OTHER));
        assert_eq!(&*names.label("thread-3"), "thread-3");
    }

    #[test]
    fn control_characters_and_empty_names_do_not_become_labels() {
        let names = Names::default();
        assert_eq!(&*names.label("ex\u{0}ec\n"), "exec");
        assert_eq!(&*names.label("\u{1b}"), OTHER);
        assert_eq!(names.label(&"x".repeat(500)).len(), LONGEST);
    }
}
