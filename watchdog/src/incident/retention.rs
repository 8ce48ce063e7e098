//! Which incident is deleted first when the limits are reached.
//!
//! Age alone is not enough. A target that dies many times in quick succession would displace the
//! one incident that a person needs: the kill that was requested by hand, or the first incident of
//! its kind, before hundreds like it.

use std::collections::BTreeMap;
use std::fmt;

use crate::verdict::{Reason, StallKind};

use super::Incident;
use super::id::IncidentId;
use super::timeline::StepName;

/// Incidents with the same fingerprint are repeats of each other. The names come from the target,
/// which may invent new ones for each death: so fingerprints only order deletion and never raise
/// the limits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint {
    reason: Reason,
    kind: Option<StallKind>,
    thread: Option<String>,
    /// Empty if its stacks are not known, as in each document of an earlier version.
    own_frames: Vec<String>,
}

impl Fingerprint {
    /// The fingerprint of `incident`.
    pub fn of(incident: &Incident) -> Self {
        let thread = incident.thread.as_ref();
        Self {
            reason: incident.reason,
            kind: thread.and_then(|thread| thread.kind),
            thread: thread.map(|thread| thread.name.clone()),
            own_frames: incident.own_frames.clone(),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(kind) = self.kind {
            write!(f, "/{kind}")?;
        }
        let parts = self.thread.iter().chain(&self.own_frames);
        parts.into_iter().try_for_each(|part| write!(f, "/{part}"))
    }
}

/// What retention needs to know of one incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traits {
    /// The incident continues, and is never deleted.
    pub open: bool,
    /// A person asked for the kill.
    pub by_hand: bool,
    /// `None` for a folder whose document cannot be read.
    pub fingerprint: Option<Fingerprint>,
}

impl Traits {
    /// The traits of a folder whose document cannot be read.
    pub const UNREADABLE: Self = Self { open: false, by_hand: false, fingerprint: None };

    /// The traits of `incident`.
    pub fn of(incident: &Incident) -> Self {
        Self {
            open: incident.status == super::Status::Open,
            // Even if the watchdog had condemned it before the person requested the kill.
            by_hand: incident.reason == Reason::Requested
                || incident.timeline.iter().any(|entry| entry.step == StepName::Requested),
            fingerprint: Some(Fingerprint::of(incident)),
        }
    }
}

/// How much would be lost with an incident, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// An earlier and a later one with the same fingerprint remain, or it is unreadable.
    Repeat,
    /// The first or the last with its fingerprint.
    FirstOrLast,
    /// A person requested it, and will be asked why.
    ByHand,
}

/// The incident to delete next: the one of the least worth, and of those the oldest. `retained` is
/// in order, oldest first. Open incidents and the latest one are never deleted; `None` if there are
/// no others.
pub fn next_to_delete<'a>(
    retained: impl Iterator<Item = (&'a IncidentId, &'a Traits)> + Clone,
) -> Option<&'a IncidentId> {
    let mut ends: BTreeMap<&Fingerprint, (&IncidentId, &IncidentId)> = BTreeMap::new();
    let mut latest = None;
    for (id, traits) in retained.clone() {
        latest = Some(id);
        if let Some(fingerprint) = &traits.fingerprint {
            ends.entry(fingerprint).and_modify(|(_, last)| *last = id).or_insert((id, id));
        }
    }
    let worth = |id: &IncidentId, traits: &Traits| {
        let ends = traits.fingerprint.as_ref().and_then(|fingerprint| ends.get(fingerprint));
        if traits.by_hand {
            Worth::ByHand
        } else if ends.is_some_and(|(first, last)| *first == id || *last == id) {
            Worth::FirstOrLast
        } else {
            Worth::Repeat
        }
    };
    retained
        .filter(|(id, traits)| !traits.open && Some(*id) != latest)
        .min_by_key(|(id, traits)| worth(id, traits))
        .map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids in the order of `number`, below 10,000.
    fn id(number: u64) -> IncidentId {
        IncidentId::parse(&format!("20261128T00{number:04}000Z-0000")).unwrap()
    }

    fn traits(reason: Reason, thread: &str) -> Traits {
        let fingerprint =
            Fingerprint { reason, kind: None, thread: Some(thread.to_owned()), own_frames: Vec::new() };
        Traits { open: false, by_hand: reason == Reason::Requested, fingerprint: Some(fingerprint) }
    }

    /// The numbers of the incidents that are left after deleting down to `limit`.
    fn left(retained: &[Traits], limit: usize) -> Vec<usize> {
        let mut left: BTreeMap<IncidentId, Traits> =
            retained.iter().enumerate().map(|(n, traits)| (id(n as u64), traits.clone())).collect();
        while left.len() > limit {
            let Some(next) = next_to_delete(left.iter()).cloned() else { break };
            left.remove(&next);
        }
        (0..retained.len()).filter(|n| left.contains_key(&id(*n as u64))).collect()
    }

    #[test]
    fn a_flood_of_deaths_pushes_out_no_kill_by_hand_and_no_first_of_its_kind() {
        let mut all = vec![
            traits(Reason::Stalled, "exec-s0"),
            traits(Reason::Requested, "exec-s0"),
            traits(Reason::ThreadGone, "exec-s0"),
        ];
        all.extend(vec![traits(Reason::ProcessGone, "exec-s0"); 100]);
        assert_eq!(left(&all, 6), [0, 1, 2, 3, 101, 102]);
    }

    #[test]
    fn a_target_that_invents_names_pushes_out_no_kill_by_hand() {
        let mut all = vec![traits(Reason::Requested, "exec-s0")];
        all.extend((0..100).map(|n| traits(Reason::ThreadGone, &format!("thread-{n}"))));
        assert_eq!(left(&all, 3), [0, 99, 100]);
    }

    #[test]
    fn a_kill_that_a_person_asked_for_is_by_hand_whoever_condemned_first() {
        let (_, document) = include_bytes!("../../fuzz/kept/kept_file/incident").split_first().unwrap();
        let document = std::str::from_utf8(document).unwrap();
        let of = |text: &str| Traits::of(&serde_json::from_str::<Incident>(text).unwrap());
        assert!(!of(document).by_hand);
        assert!(of(&document.replacen("\"seen\"", "\"requested\"", 1)).by_hand);
    }

    #[test]
    fn a_fingerprint_tells_apart_where_a_thread_stood_and_an_old_document_has_no_such_part() {
        let (_, document) = include_bytes!("../../fuzz/kept/kept_file/incident").split_first().unwrap();
        let mut incident: Incident = serde_json::from_slice(document).unwrap();
        let old = Fingerprint::of(&incident);
        insta::assert_snapshot!(old, @"thread_gone/exec-s0");
        incident.own_frames = vec!["executor::vm::run".to_owned(), "executor::shard::part".to_owned()];
        let new = Fingerprint::of(&incident);
        insta::assert_snapshot!(new, @"thread_gone/exec-s0/executor::vm::run/executor::shard::part");
        assert_ne!(old, new);
        incident.own_frames[0] = "executor::state::fetch".to_owned();
        assert_ne!(Fingerprint::of(&incident), new);
    }

    #[test]
    fn the_limit_holds_even_if_every_kill_was_by_hand() {
        let all: Vec<_> = (0..9).map(|n| traits(Reason::Requested, &format!("thread-{n}"))).collect();
        assert_eq!(left(&all, 2), [7, 8]);
    }

    #[test]
    fn what_cannot_be_read_goes_first_and_what_is_open_never() {
        let open = Traits { open: true, ..traits(Reason::Stalled, "exec-s0") };
        let all = vec![
            open,
            traits(Reason::ThreadGone, "exec-s0"),
            Traits::UNREADABLE,
            traits(Reason::Stopped, "a"),
        ];
        assert_eq!(left(&all, 3), [0, 1, 3]);
        assert_eq!(left(&all, 0), [0, 3]);
    }
}
