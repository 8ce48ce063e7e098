//! The shared-memory heartbeat of shard-watchdog.
//!
//! A watched process publishes, in a file it maps, what each of its threads is doing; a sidecar
//! reads that file and distinguishes *idle* from *stalled*. `ABI.md` describes the file for writers
//! in other languages.
//!
//! Duties:
//! - a beat is one plain store: no system call, no allocation, no read-modify-write, no clock;
//! - each word has one writer, and decisions are based on single words only;
//! - nothing survives a fork: a child never beats for its parent;
//! - the reader trusts nothing: any bytes give a value or a typed error, in bounded time.
//!
//! Never: a lock or a wait in the path of a beat, a mapping in the reader, a decision based on a
//! time that the writer wrote, a beat from a timer (it would hide a stuck thread).
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, Work};
//!
//! let heartbeat = Heartbeat::create("/run/shard/0.heartbeat".as_ref(), &SegmentOptions::new("shard-0"))?;
//! heartbeat.set_state(ProcessState::Running);
//! let thread = heartbeat.register("exec-s0")?;
//! for block in 1..=3 {
//!     let _working = thread.working(Work::new(block));
//!     thread.progress();
//! }
//! thread.leave();
//! # Ok(())
//! # }
//! ```
//!
//! A panic hook can call [`Heartbeat::in_flight`] for its thread's work and leave
//! [`Heartbeat::last_words`]: the sidecar puts them into the incident even if the hook hangs after
//! that, or if nobody reads stderr.
//!
//! Feature `crossbeam`: `shard_heartbeat::crossbeam` has channels that publish how far their
//! receivers lag behind, and that offer no unbounded wait.
//!
//! Feature `faults`: [`faults`] has points at which a test can make this very process hang, spin,
//! panic or lose a thread, and the socket on which that is ordered. Without the feature a point
//! compiles to nothing.

#![cfg_attr(loom, allow(dead_code, unreachable_pub, missing_docs))]

#[cfg(not(target_endian = "little"))]
compile_error!("the words of a segment are little-endian, and a beat is too short to swap them");

pub mod layout;

#[allow(unreachable_pub, reason = "public to the model checker")]
mod claim;
#[allow(unreachable_pub, reason = "public to the model checker")]
mod identity;
#[allow(unreachable_pub, reason = "public to the model checker")]
mod lane;
#[allow(unreachable_pub, reason = "public to the model checker")]
mod last_words;
#[cfg(not(loom))]
mod quarantine;
mod section;
#[allow(unreachable_pub, reason = "public to the model checker")]
mod seqlock;
#[allow(unreachable_pub, reason = "public to the model checker")]
mod slot;
mod sync;
#[allow(unreachable_pub, reason = "public to the model checker")]
mod words;
mod work;

#[cfg(not(loom))]
mod channel;
#[cfg(all(feature = "crossbeam", not(loom)))]
pub mod crossbeam;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
pub mod faults;
#[cfg(not(loom))]
mod fork;
#[cfg(not(loom))]
mod header;
#[cfg(not(loom))]
mod in_flight;
#[cfg(not(loom))]
mod lock;
#[cfg(not(loom))]
mod peer;
#[cfg(not(loom))]
mod reader;
#[cfg(not(loom))]
mod sample;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod sight;
#[cfg(not(loom))]
mod source;
#[cfg(not(loom))]
mod state;
#[cfg(not(loom))]
mod thread;
#[cfg(not(loom))]
mod user_namespace;
#[cfg(not(loom))]
mod watchdog;
#[cfg(not(loom))]
mod writer;

pub use claim::SlotState;
pub use last_words::LastWords;
pub use layout::{MAX_LAST_WORDS, MAX_NAME, MAX_SECTION};
pub use section::Section;
pub use work::{TraceContext, Work};

#[cfg(not(loom))]
pub use {
    channel::ChannelBeat,
    error::{ClaimError, CreateError, ReadError, RegisterError},
    header::Header,
    in_flight::InFlight,
    lock::LockHolder,
    peer::Peer,
    quarantine::Quarantine,
    reader::{Description, Reader},
    sample::{ChannelSample, LaneSample, LaneSamples, RawState, Sample, ThreadSample},
    sight::{Blind, Sight},
    source::{Custody, FileId},
    state::ProcessState,
    thread::{Begun, Lane, Lanes, ThreadBeat, WorkGuard},
    user_namespace::is_unmapped,
    watchdog::{WatchdogBeat, WatchdogMonitor, WatchdogSeen},
    writer::{Heartbeat, SegmentOptions},
};

/// The parts that the model checker (loom) runs.
#[cfg(loom)]
#[doc(hidden)]
pub mod model {
    pub use crate::claim::Claim;
    pub use crate::identity::Identity;
    pub use crate::lane::{LaneCell, NoLane};
    pub use crate::last_words::{BODY_WORDS, heard, say};
    pub use crate::seqlock::{Stamp, read};
    pub use crate::slot::{Slot, Table};
    pub use crate::words::Words;
}
