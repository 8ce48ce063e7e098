//! The flight recorder: the last minute of observations in a ring of chunks, written with each
//! incident and fed to the judge again by `replay`. docs/recording.md describes the format.
//!
//! # Duties
//! The watch loop encodes each observation into preallocated memory, right after it has acted. An
//! encoded observation is the difference to the previous one, mostly a few bytes, and costs less
//! than copying the observation would. So encoding happens in the loop and not behind the queue,
//! which 250 copies a second would fill. Complete chunks leave the loop by reference.
//!
//! # Prohibitions
//! Nothing that the loop calls here allocates in proportion to load, blocks, or writes to a disk.
//! What does not fit is dropped and counted: a recording marks its gaps. No policy is recorded,
//! only what any policy may be judged on.

pub mod codes;
pub mod decode;
pub mod delta;
pub mod encode;
pub mod file;
pub mod gaps;
pub mod records;
pub mod replay;
pub mod ring;
pub mod threshold;
pub mod wire;

use std::sync::Arc;

use crate::act::budget::Past;
use crate::clock::Monotonic;
use crate::judge::crash_loop::CrashLoops;
use crate::observation::Observation;
use crate::snapshot::TargetIdentity;

use delta::Memory;
use ring::{Chunk, Ring};
use wire::Out;

/// Most kills remembered for the budget. A larger budget in any period limits nothing.
const MOST_KILLS: usize = 64;
/// A refusal is one sentence; a longer one is cut to this many bytes.
pub const LONGEST_REFUSAL: usize = 1024;

/// What applies to a whole recording and depends on no policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// When the watch loop began.
    pub began: Monotonic,
    /// Kills by earlier lives of the sidecar, for which the budget had paid by then.
    pub past: Past,
    /// Kills since then; only the latest are retained.
    pub kills: Vec<Monotonic>,
    /// Whether ends of threads were polled.
    pub poll_threads: bool,
    /// Observations that were not recorded in this life of the sidecar.
    pub dropped: u64,
}

/// The recorder, for the watch loop.
#[derive(Debug)]
pub struct Recorder {
    facts: Facts,
    ring: Ring,
    memory: Memory,
    /// The process that the judge met and when, to be written into each chunk.
    met: Option<(TargetIdentity, Monotonic)>,
    /// What the judge knew of deaths before the next recorded observation, to be written into each
    /// chunk.
    known: CrashLoops,
    /// Observations dropped since the last recorded one.
    lost: u64,
    /// Until when killing is paused, to be written into each chunk.
    paused: Option<Monotonic>,
}

/// The contents of the ring at one moment, by reference.
#[derive(Clone, Debug)]
pub struct Excerpt {
    /// When it was taken.
    pub at: Monotonic,
    /// What applies to all of it.
    pub facts: Facts,
    /// Its chunks, oldest first.
    pub chunks: Vec<Arc<Chunk>>,
}

impl Recorder {
    /// A recorder, with its memory allocated now.
    pub fn new(began: Monotonic, past: Past, poll_threads: bool) -> Self {
        let kills = Vec::with_capacity(MOST_KILLS);
        Self {
            facts: Facts { began, past, kills, poll_threads, dropped: 0 },
            ring: Ring::default(),
            memory: Memory::default(),
            met: None,
            paused: None,
            known: CrashLoops::NONE,
            lost: 0,
        }
    }

    /// The same, for a judge that knows of earlier deaths.
    #[must_use]
    pub const fn remembering(mut self, known: CrashLoops) -> Self {
        self.known = known;
        self
    }

    /// Updates what the judge knows of deaths after the last observation.
    pub const fn remember(&mut self, known: &CrashLoops) {
        self.known = *known;
    }

    /// Records that a person cleared work, and what the judge knows afterwards.
    pub fn cleared(&mut self, at: Monotonic, key: Option<u64>, known: &CrashLoops) {
        self.note(at, |out| encode::cleared(at, key, out));
        self.known = *known;
    }

    /// Records one observation.
    pub fn look(&mut self, seen: &Observation) {
        let identity = seen.process.as_ref().map(|process| process.identity);
        if identity != self.met.map(|(met, _)| met) {
            self.met = identity.map(|identity| (identity, seen.at));
        }
        let memory = &self.memory;
        let written =
            self.ring.wants_no_other(seen.at) && self.ring.append(|out| encode::look(memory, seen, out));
        if written || self.in_new_chunk(seen.at, |memory, out| encode::look(memory, seen, out)) {
            self.ring.count_look();
            self.memory.take(seen);
        } else {
            self.facts.dropped = self.facts.dropped.saturating_add(1);
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// Writes the first record of the next chunk, which depends on nothing before it.
    fn in_new_chunk(&mut self, at: Monotonic, encode: impl FnOnce(&Memory, &mut Out<'_>)) -> bool {
        if !self.ring.begin(at) {
            return false;
        }
        self.memory.forget(at);
        let (memory, known, lost) = (&self.memory, &self.known, self.lost);
        let first_seen = self.met.map(|(_, met)| met);
        let paused = self.paused.filter(|until| at < *until);
        let written = self.ring.append(|out| {
            encode::key(at, first_seen, out);
            if *known != CrashLoops::NONE {
                encode::known(known, out);
            }
            if lost > 0 {
                encode::lost(lost, out);
            }
            if let Some(until) = paused {
                encode::paused(at, until, out);
            }
            encode(memory, out);
        });
        if written {
            self.lost = 0;
        } else {
            // More threads than fit in a chunk.
            self.ring.abandon();
        }
        written
    }

    /// Records that a target was refused; the judge reports that while it has no other.
    pub fn refused(&mut self, why: &str, at: Monotonic) {
        let why = why.get(..why.floor_char_boundary(LONGEST_REFUSAL)).unwrap_or_default();
        self.note(at, |out| encode::refused(at, why, out));
    }

    /// Records that the config was reloaded: from here on, a live decision may follow another
    /// policy.
    pub fn reloaded(&mut self, at: Monotonic) {
        self.note(at, |out| encode::reloaded(at, out));
    }

    /// Records that a person has paused killing.
    pub fn paused(&mut self, until: Monotonic, at: Monotonic) {
        self.paused = Some(until);
        self.note(at, |out| encode::paused(at, until, out));
    }

    /// Records that the pause has ended.
    pub fn resumed(&mut self, at: Monotonic) {
        self.paused = None;
        self.note(at, |out| encode::resumed(at, out));
    }

    /// Records that a person requests the kill of the watched process.
    pub fn requested(&mut self, why: &str, at: Monotonic) {
        self.note(at, |out| encode::requested(at, why, out));
    }

    /// Records that a kill was begun, for which the budget has paid.
    pub fn killed(&mut self, at: Monotonic) {
        if self.facts.kills.len() == MOST_KILLS {
            self.facts.kills.remove(0);
        }
        self.facts.kills.push(at);
    }

    fn note(&mut self, at: Monotonic, encode: impl Fn(&mut Out<'_>)) {
        if !self.ring.append(&encode) && !self.in_new_chunk(at, |_, out| encode(out)) {
            self.facts.dropped = self.facts.dropped.saturating_add(1);
        }
    }

    /// The contents of the ring, for storage. The next observation begins a new chunk.
    pub fn excerpt(&mut self, at: Monotonic) -> Excerpt {
        self.ring.seal();
        Excerpt { at, facts: self.facts.clone(), chunks: self.ring.chunks() }
    }

    /// The same without beginning a new chunk: however often it is called, it takes nothing from
    /// the recording of the next incident. Copies at most one chunk.
    pub fn copy(&self, at: Monotonic) -> Excerpt {
        let mut chunks = self.ring.chunks();
        chunks.extend(self.ring.copy_current());
        Excerpt { at, facts: self.facts.clone(), chunks }
    }

    /// The oldest complete chunk not returned here before, and how many observations are in it.
    pub fn take_whole(&mut self, at: Monotonic) -> Option<(Excerpt, u32)> {
        let whole = self.ring.take_whole()?;
        Some((Excerpt { at, facts: self.facts.clone(), chunks: vec![whole.chunk] }, whole.looks))
    }

    /// Ends the recording: the last chunk is complete.
    pub fn end(&mut self) {
        self.ring.seal();
    }

    /// Observations not recorded so far.
    pub const fn dropped(&self) -> u64 {
        self.facts.dropped
    }
}
