//! Fault points: named places at which a test can make this very process hang, spin, panic or lose
//! the thread, to check that its watchdog notices and its supervisor restarts it.
//!
//! ```
//! # fn apply() {}
//! fn commit() {
//!     shard_heartbeat::faults::point("commit");
//!     apply();
//! }
//! ```
//!
//! Without the feature `faults` a [`point`] compiles to nothing, so it can stay in the code for
//! good. With it, a point costs one relaxed load while no fault is armed. Nothing can be armed
//! before the process calls `serve`, which opens a unix socket for this user and root;
//! `shard-watchdog inject --socket PATH hang --yes-break-it`, or a person with `nc -U PATH`, then
//! orders a fault. `docs/faults-in-your-process.md` lists the orders.
//!
//! Duties:
//! - what a fault does is what a bug would do: the thread really hangs, really spins, is really
//!   gone;
//! - everything is bounded: orders, connections, armed faults, the duration of a fault;
//! - `disarm` undoes faults: threads that hang or spin go on.
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

/// A named place in the code at which an armed fault strikes. The name has 1 to 64 printable
/// characters without spaces and is the same for every thread that passes.
///
/// Unless a fault is armed it only does one relaxed load. If one is armed, it may not return for a
/// while, or it may unwind. It then allocates and takes a lock, so do not use it in a signal
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
