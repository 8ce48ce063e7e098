//! The heartbeat segment as the judge needs it. The segment is hostile: everything here is bounded, and nothing that
//! it says can do more than excuse or be counted from.

use std::sync::Arc;

use globset::GlobMatcher;
use shard_heartbeat::{ProcessState, RawState, Reader, Sample, SlotState, ThreadSample};

use crate::observation::{ChannelObservation, Claim, Declared, Observation, Presence, ThreadObservation};

use super::Adopted;
use super::thread::WatchedThread;
use super::worker::Room;

/// The last sample and what is needed to see that nothing moved since the one before.
#[derive(Debug, Default)]
pub struct SegmentProbe {
    sample: Sample,
    /// Generation and name of each channel that was ever seen, by slot.
    channels: Vec<Option<(u64, Arc<str>)>>,
}

impl SegmentProbe {
    /// Takes a sample; `None` if the segment cannot be read.
    pub fn read(&mut self, reader: &Reader) -> Option<&Sample> {
        reader.sample(&mut self.sample).ok()?;
        self.channels.resize(self.sample.channels.len().max(self.channels.len()), None);
        for (slot, known) in self.sample.channels.iter().zip(&mut self.channels) {
            if slot.live && known.as_ref().is_none_or(|(generation, _)| *generation != slot.generation) {
                let name = reader.describe_channel(slot.slot as usize).ok().flatten();
                *known = Some((slot.generation, name.unwrap_or_default().into()));
            }
        }
        Some(&self.sample)
    }

    /// Whether a message waits that nobody has received since the last look, in a channel that somebody should.
    fn waiting(&self, before: &Observation, consumers: &[Consumers]) -> bool {
        !consumers.is_empty()
            && before.channels.iter().any(|old| {
                let now = self.sample.channels.get(old.slot as usize);
                let stuck = now.is_some_and(|now| {
                    now.live
                        && now.generation == old.generation
                        && now.received == old.received
                        && now.depth() > 0
                });
                stuck && consumers.iter().any(|consumers| *consumers.channel == *old.name)
            })
    }

    /// Writes the threads and channels into `into`. With an unreadable segment everything stays as last seen, and
    /// nothing that rests on time is asked of the kernel.
    ///
    /// Of a thread that is idle the kernel is asked only while a message waits that it should receive.
    pub fn fill(
        &self,
        threads: &mut [Option<WatchedThread>],
        target: &Adopted,
        into: &mut Observation,
        readable: bool,
        consumers: &[Consumers],
    ) {
        let waiting = self.waiting(into, consumers);
        let before = std::mem::take(&mut into.threads);
        let mut before = before.into_iter().peekable();
        let mut room = Room::default();
        for thread in threads.iter_mut().flatten() {
            let (slot, generation) = thread.key();
            // Both are in slot order.
            while before.next_if(|old| old.slot < slot).is_some() {}
            let mut old = before.next_if(|old| (old.slot, old.generation) == (slot, generation));
            let words = self.sample.threads.get(slot as usize).filter(|words| words.generation == generation);
            let mut seen = ThreadObservation {
                slot,
                generation,
                name: thread.name(),
                tid: thread.tid(),
                claim: Claim::Live,
                presence: thread.presence(),
                activity: 0,
                progress: 0,
                work_key: 0,
                attempt: 0,
                deadline_ns: 0,
                task: None,
                workers: old.as_mut().map(|old| std::mem::take(&mut old.workers)).unwrap_or_default(),
            };
            seen.workers.clear();
            match (readable, words, &old) {
                (true, Some(words), _) => {
                    seen.claim = claim(words);
                    seen.activity = words.activity;
                    seen.progress = words.lanes.fingerprint();
                    seen.work_key = words.work_key;
                    seen.attempt = words.attempt;
                    seen.deadline_ns = words.deadline_ns;
                }
                // The slot has been used again by another thread: this one must have left, or is gone by its pidfd.
                (true, None, _) => seen.claim = Claim::Left,
                (false, _, Some(old)) => {
                    let presence = seen.presence;
                    seen = ThreadObservation { presence, task: None, ..old.clone() };
                }
                (false, _, None) => {}
            }
            let unmoved = old
                .as_ref()
                .is_some_and(|old| (old.activity, old.progress) == (seen.activity, seen.progress));
            let asked = |seen: &ThreadObservation| {
                seen.working()
                    || waiting && consumers.iter().any(|consumers| consumers.threads.is_match(&*seen.name))
            };
            if readable && unmoved && seen.presence != Presence::Gone && asked(&seen) {
                seen.task = thread.task();
                if let Some(words) = words.filter(|_| seen.working() && seen.task.is_some()) {
                    thread.workers(&words.lanes.lanes, target, &mut room, &mut seen.workers);
                }
            }
            into.threads.push(seen);
        }
        into.channels.clear();
        for slot in self.sample.channels.iter().filter(|slot| slot.live) {
            let known = self.channels.get(slot.slot as usize).and_then(Option::as_ref);
            let Some((_, name)) = known.filter(|(generation, _)| *generation == slot.generation) else {
                continue;
            };
            into.channels.push(ChannelObservation {
                slot: slot.slot,
                generation: slot.generation,
                name: Arc::clone(name),
                sent: slot.sent,
                received: slot.received,
            });
        }
    }
}

/// Who should receive from a channel, for rules that may kill.
#[derive(Clone, Debug)]
pub struct Consumers {
    /// The channel's name.
    pub channel: String,
    /// The threads that should receive from it.
    pub threads: GlobMatcher,
}

/// What the process says of itself.
pub fn declared(state: RawState) -> Declared {
    match state.known() {
        Some(ProcessState::Boot) => Declared::Boot,
        Some(ProcessState::Running) => Declared::Running,
        Some(ProcessState::Stopping) => Declared::Stopping,
        Some(ProcessState::Failed) => Declared::Failed,
        None => Declared::Unknown,
    }
}

/// Whether a slot belongs, or belonged, to a thread.
pub const fn is_claimed(slot: &ThreadSample) -> bool {
    matches!(slot.claim, SlotState::Live | SlotState::Dropped)
}

fn claim(slot: &ThreadSample) -> Claim {
    match slot.claim {
        SlotState::Left => Claim::Left,
        SlotState::Dropped => Claim::Dropped,
        // A code that this version does not know, or a slot wiped by somebody: only the kernel can say gone.
        SlotState::Live | SlotState::Free | SlotState::Unknown(_) => Claim::Live,
    }
}

/// The registered name. A name that cannot be had untorn is empty: it matches no rule but `*`.
pub fn thread_name(reader: &Reader, slot: &ThreadSample) -> Arc<str> {
    let described = reader.describe(slot.slot as usize).ok().flatten();
    described.filter(|d| d.generation == slot.generation).map(|d| d.name).unwrap_or_default().into()
}
