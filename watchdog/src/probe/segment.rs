//! The heartbeat segment as the judge needs it. The segment is hostile: everything here is bounded,
//! and whatever it contains can at most excuse a thread or serve as a point to count from.

use std::collections::VecDeque;
use std::sync::Arc;

use globset::GlobMatcher;
use shard_heartbeat::{ProcessState, RawState, Reader, Sample, SlotState, ThreadSample};

use crate::observation::{ChannelObservation, Claim, Declared, Observation, Presence, ThreadObservation};

use super::Adopted;
use super::allowance::Allowance;
use super::thread::WatchedThread;
use super::worker::Room;

/// The last sample, and what is needed to detect that nothing changed since the one before.
#[derive(Debug, Default)]
pub struct SegmentProbe {
    sample: Sample,
    /// Generation and name of each channel ever seen, by slot.
    channels: Vec<Option<(u64, Arc<str>)>>,
    /// Reused buffer for those threads of the previous observation that change their position.
    before: VecDeque<ThreadObservation>,
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

    /// Whether a message waits that nobody has received since the last observation, in a channel
    /// that has a consumer configured.
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

    /// Writes the threads and channels into `into`. If the segment is unreadable, everything stays
    /// as last seen, and the kernel is not queried for anything that concerns time.
    ///
    /// For an idle thread, the kernel is queried only while a message waits that it should receive,
    /// or while it is one of `silent`, which are in order.
    ///
    /// Returns what all threads together show.
    pub fn fill(
        &mut self,
        (threads, allowance): (&mut [Option<WatchedThread>], &Arc<Allowance>),
        target: &Adopted,
        into: &mut Observation,
        readable: bool,
        (consumers, silent): (&[Consumers], &[(u32, u64)]),
    ) -> Filled {
        let waiting = self.waiting(into, consumers);
        self.before.clear();
        let mut moved = false;
        let mut room = Room::default();
        let mut count = 0;
        let mut filled = Filled::default();
        for thread in threads.iter_mut().flatten() {
            filled.asks |= thread.wants_look();
            if thread.is_unheard() {
                continue;
            }
            let key = thread.key();
            let known = self.carry_over(thread, count, &mut moved, &mut into.threads);
            let Some(seen) = into.threads.get_mut(count) else { break };
            count += 1;
            let was = known.then_some((seen.activity, seen.progress, seen.section));
            // A thread that could not be opened before may have been opened by now.
            thread.tell(&mut seen.name, &mut seen.tid);
            seen.presence = thread.presence();
            seen.task = None;
            seen.workers.clear();
            let words = self.sample.threads.get(key.0 as usize).filter(|words| words.generation == key.1);
            if readable {
                set_words(seen, words);
            }
            let unmoved = was == Some((seen.activity, seen.progress, seen.section));
            let asked = |seen: &ThreadObservation| {
                seen.working()
                    || silent.binary_search(&key).is_ok()
                    || waiting && consumers.iter().any(|consumers| consumers.threads.is_match(&*seen.name))
            };
            if readable && unmoved && seen.presence != Presence::Gone && asked(seen) {
                seen.task = thread.task();
                if let Some(words) = words.filter(|_| seen.working() && seen.task.is_some()) {
                    thread.workers(&words.lanes.lanes, target, &mut room, allowance, &mut seen.workers);
                }
            }
            filled.standing |= seen.task.is_some();
            filled.lost |= match seen.claim {
                Claim::Live => seen.presence == Presence::Gone,
                Claim::Dropped => true,
                Claim::Left => false,
            };
        }
        into.threads.truncate(count);
        self.fill_channels(&mut into.channels);
        filled
    }

    /// Makes room for `thread` as number `count` of `threads`, and puts there what the previous
    /// observation reported of it. Returns whether that reported anything. `moved`: a thread before
    /// this one has changed its position.
    ///
    /// In most observations, all threads are those of the previous one and are overwritten in
    /// place. From the first change on, each is moved: names are shared, and cloning them each time
    /// would cost as much as all the rest.
    fn carry_over(
        &mut self,
        thread: &WatchedThread,
        count: usize,
        moved: &mut bool,
        threads: &mut Vec<ThreadObservation>,
    ) -> bool {
        let key = thread.key();
        let known = threads.get(count).is_some_and(|old| (old.slot, old.generation) == key);
        if known && !*moved {
            return true;
        }
        if !*moved {
            self.before.extend(threads.drain(count..));
            *moved = true;
        }
        // Both are in slot order.
        while self.before.pop_front_if(|old| old.slot < key.0).is_some() {}
        let old = self.before.pop_front_if(|old| (old.slot, old.generation) == key);
        let known = old.is_some();
        threads.push(old.unwrap_or_else(|| unseen(thread)));
        known
    }

    /// Writes the channels that are in use, with the counts of this sample.
    fn fill_channels(&self, into: &mut Vec<ChannelObservation>) {
        into.clear();
        for slot in self.sample.channels.iter().filter(|slot| slot.live) {
            let known = self.channels.get(slot.slot as usize).and_then(Option::as_ref);
            let Some((_, name)) = known.filter(|(generation, _)| *generation == slot.generation) else {
                continue;
            };
            into.push(ChannelObservation {
                slot: slot.slot,
                generation: slot.generation,
                name: Arc::clone(name),
                sent: slot.sent,
                received: slot.received,
            });
        }
    }
}

/// What the threads of one observation show together: asking a thousand of them again for each of
/// these takes as long as observing them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Whether any must be polled for its end before the next observation.
    pub asks: bool,
    /// Whether the kernel was asked about any, because it makes no progress.
    pub standing: bool,
    /// Whether any was lost: it ended, or dropped its slot, without leaving.
    pub lost: bool,
}

/// Which threads should receive from a channel, for rules that may kill.
#[derive(Clone, Debug)]
pub struct Consumers {
    /// Name of the channel.
    pub channel: String,
    /// The threads that should receive from it.
    pub threads: GlobMatcher,
}

/// The state that the process declares.
pub fn declared(state: RawState) -> Declared {
    match state.known() {
        Some(ProcessState::Boot) => Declared::Boot,
        Some(ProcessState::Running) => Declared::Running,
        Some(ProcessState::Stopping) => Declared::Stopping,
        Some(ProcessState::Failed) => Declared::Failed,
        None => Declared::Unknown,
    }
}

/// Whether a slot belongs, or belonged, to a thread. A slot with an impossible thread id is
/// garbage, whatever its claim.
pub const fn is_claimed(slot: &ThreadSample) -> bool {
    /// The largest possible id on any machine: `PID_MAX_LIMIT` of the kernel.
    const LARGEST_TID: u64 = 1 << 22;
    matches!(slot.claim, SlotState::Live | SlotState::Dropped) && slot.tid > 0 && slot.tid <= LARGEST_TID
}

/// A thread not reported by any observation before.
fn unseen(thread: &WatchedThread) -> ThreadObservation {
    let (slot, generation) = thread.key();
    ThreadObservation {
        presence: Presence::Unknown,
        ..ThreadObservation::blank(slot, generation, thread.name(), thread.tid())
    }
}

/// Sets what the thread itself wrote. Without words, another thread has reused the slot: this one
/// must have left, or its pidfd shows that it is gone.
fn set_words(seen: &mut ThreadObservation, words: Option<&ThreadSample>) {
    seen.claim = words.map_or(Claim::Left, claim);
    seen.activity = words.map_or(0, |words| words.activity);
    seen.progress = words.map_or(0, |words| words.lanes.fingerprint());
    seen.work_key = words.map_or(0, |words| words.work_key);
    seen.attempt = words.map_or(0, |words| words.attempt);
    seen.deadline_ns = words.map_or(0, |words| words.deadline_ns);
    seen.section = words.map_or(0, |words| words.section);
}

fn claim(slot: &ThreadSample) -> Claim {
    match slot.claim {
        SlotState::Left => Claim::Left,
        SlotState::Dropped => Claim::Dropped,
        // A code that this version does not know, or a slot that was wiped: only the kernel can
        // show that the thread is gone.
        SlotState::Live | SlotState::Free | SlotState::Unknown(_) => Claim::Live,
    }
}

/// The registered name. If it cannot be read consistently, it is empty: it matches no rule but `*`.
pub fn thread_name(reader: &Reader, slot: &ThreadSample) -> Arc<str> {
    let described = reader.describe(slot.slot as usize).ok().flatten();
    described.filter(|d| d.generation == slot.generation).map(|d| d.name).unwrap_or_default().into()
}
