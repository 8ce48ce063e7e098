//! Fault points: named places at which a test may have this very process hang, spin, panic or lose
//! the thread, to see that its watchdog notices and its supervisor restarts it.
//!
//! ```
//! # fn apply() {}
//! fn commit() {
//!     shard_heartbeat::faults::point("commit");
//!     apply();
//! }
//! ```
//!
//! Without the feature `faults` a [`point`] is nothing, so it may stand in the code for good. With
//! it, a point that nothing is armed for costs one relaxed load. Nothing can be armed before the
//! process calls `serve`, which opens a unix socket for this user and root; `shard-watchdog inject
//! --socket PATH hang --yes-break-it`, or a person with `nc -U PATH`, then orders a fault.
//! `docs/faults-in-your-process.md` has the words.
//!
//! Duties:
//! - what a fault does is what a bug would do: the thread really hangs, really spins, is really
//!   gone;
//! - everything is bounded: orders, connections, armed faults, the time that a fault lasts;
//! - `disarm` undoes: threads that hang or spin go on.
//!
//! Never: a fault that no order on the socket has armed, an order of another user, a fault in a
//! forked child.

#[cfg(feature = "faults")]
mod order;
#[cfg(feature = "faults")]
mod points;
#[cfg(feature = "faults")]
mod port;
#[cfg(feature = "faults")]
mod socket;

#[cfg(feature = "faults")]
pub(crate) use points::Named;
#[cfg(feature = "faults")]
pub use port::{Port, ServeError, serve};
#[cfg(feature = "faults")]
pub use socket::{SocketError, SocketFile, bind};

/// A place in the code at which an armed fault strikes, by its name: 1 to 64 printable characters
/// without spaces, the same for every thread that comes by.
///
/// Unless a fault is armed it does nothing but one relaxed load. If one is, it may not return for a
/// while, or it may unwind. It allocates and takes a lock then: no place for one is a signal
/// handler.
#[cfg(feature = "faults")]
#[inline]
pub fn point(place: &str) {
    if points::POINTS.are_active() {
        points::POINTS.pass(place);
    }
}

/// A place in the code at which an armed fault would strike with the feature `faults`: without it,
/// nothing.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_place: &str) {}
