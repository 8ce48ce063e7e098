//! Channels of `crossbeam-channel` that publish how far their receivers lag behind.
//!
//! Each end counts in the channel's slot: `sent` once a send has succeeded, `received` once a
//! message is taken out. So the watchdog knows the depth and, by its own clock, the age of the
//! oldest waiting message, however many senders and receivers there are. Messages that are
//! discarded because the last receiver is gone count as received: nothing waits any more, and
//! senders get an error. When all ends are gone the channel is no longer watched.
//!
//! **No call here waits without end, on purpose**: `send`, `recv` and the endless iterators are
//! left out, because a thread that waits in one of them is as silent as one that is lost. Give each
//! wait the time after which its result is of no use, and treat *full*, *timeout* and
//! *disconnected* as the values they are.
//!
//! Cost by `just bench-channel`: ns per message (one send and one receive), median of 41 pairs of
//! alternating runs; the difference with its quartiles. AMD EPYC, two cores also busy with other
//! work (load 4), Linux 6.18, 2026-11-23. On two cores four threads mostly take turns rather than
//! contend.
//!
//! | | bare | counted | difference |
//! | --- | --- | --- | --- |
//! | bounded, one thread | 33.2 | 35.1 | 1.7 (1.1 to 3.2) |
//! | unbounded, one thread | 39.2 | 41.2 | 1.7 (0.4 to 2.6) |
//! | bounded, 2 senders and 2 receivers | 123.6 | 120.7 | 4.2 (−38.3 to 7.5) |
//! | unbounded, 2 and 2 | 102.7 | 107.2 | 5.9 (−0.5 to 9.5) |
//!
//! The bare ends are not exposed: a `select!` over them would receive without counting. To wait on
//! several channels at once, ask which one is ready and then receive from it:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::time::Duration;
//! # use shard_heartbeat::{Heartbeat, SegmentOptions};
//! use shard_heartbeat::crossbeam::{Select, bounded};
//!
//! # let heartbeat = Heartbeat::create("/run/shard/0.heartbeat".as_ref(), &SegmentOptions::new("0"))?;
//! let (_orders, orders) = bounded::<u64>(&heartbeat, "orders", 16)?;
//! let (_parts, parts) = bounded::<String>(&heartbeat, "parts", 16)?;
//! let mut select = Select::new();
//! let from_orders = orders.add_to(&mut select);
//! let from_parts = parts.add_to(&mut select);
//! match select.ready_timeout(Duration::from_millis(100)) {
//!     // Another receiver may have been faster, so this may find nothing.
//!     Ok(ready) if ready == from_orders => drop(orders.try_recv()),
//!     Ok(ready) if ready == from_parts => drop(parts.try_recv()),
//!     Ok(_) | Err(_) => {}
//! }
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use crossbeam_channel::{RecvTimeoutError, Select, SendTimeoutError, TryRecvError, TrySendError};

use crate::channel::ChannelBeat;
use crate::error::RegisterError;
use crate::writer::Heartbeat;

/// Creates a channel for at most `capacity` messages, watched under a name of 1 to 15 bytes. With a
/// capacity of 0 a send succeeds only while a receiver waits.
pub fn bounded<T>(
    heartbeat: &Heartbeat,
    name: &str,
    capacity: usize,
) -> Result<(Sender<T>, Receiver<T>), RegisterError> {
    let beat = heartbeat.channel(name, Some(capacity as u64))?;
    Ok(ends(beat, crossbeam_channel::bounded(capacity)))
}

/// Creates a channel for any number of messages, watched under a name of 1 to 15 bytes. Only its
/// depth and age show that a receiver has fallen behind: prefer [`bounded`] where the sender can
/// react.
pub fn unbounded<T>(heartbeat: &Heartbeat, name: &str) -> Result<(Sender<T>, Receiver<T>), RegisterError> {
    let beat = heartbeat.channel(name, None)?;
    Ok(ends(beat, crossbeam_channel::unbounded()))
}

fn ends<T>(
    beat: ChannelBeat,
    (sender, receiver): (crossbeam_channel::Sender<T>, crossbeam_channel::Receiver<T>),
) -> (Sender<T>, Receiver<T>) {
    let count = Arc::new(Count { beat, deserted: AtomicBool::new(false) });
    let receivers = Arc::new(Receivers(Arc::clone(&count)));
    (Sender { channel: sender, count }, Receiver { channel: receiver, receivers })
}

/// State shared by all ends of one channel.
struct Count {
    beat: ChannelBeat,
    /// Whether every receiver is gone.
    deserted: AtomicBool,
}

impl Count {
    #[inline]
    fn sent(&self) {
        self.beat.sent_in_order();
        // Sequentially consistent with the store in `Receivers::drop`: a send that succeeded just
        // before the last receiver was dropped is settled either there or here.
        if self.deserted.load(Ordering::SeqCst) {
            self.beat.settle();
        }
    }
}

/// State shared by all receivers of one channel; dropped with the last of them.
struct Receivers(Arc<Count>);

impl Drop for Receivers {
    fn drop(&mut self) {
        self.0.deserted.store(true, Ordering::SeqCst);
        self.0.beat.settle();
    }
}

/// The sending end. Clones send into the same channel.
pub struct Sender<T> {
    channel: crossbeam_channel::Sender<T>,
    count: Arc<Count>,
}

impl<T> Sender<T> {
    /// Sends if there is room now. The message comes back with the error.
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.channel.try_send(message)?;
        self.count.sent();
        Ok(())
    }

    /// Sends, waiting at most `patience` for room. The message comes back with the error.
    #[inline]
    pub fn send_timeout(&self, message: T, patience: Duration) -> Result<(), SendTimeoutError<T>> {
        self.channel.send_timeout(message, patience)?;
        self.count.sent();
        Ok(())
    }

    /// Number of messages that wait in the channel now.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.channel.is_empty()
    }

    /// How many messages it can hold; `None` = unbounded.
    pub fn capacity(&self) -> Option<usize> {
        self.channel.capacity()
    }
}

// A derived impl would require messages that can be cloned.
impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { channel: self.channel.clone(), count: Arc::clone(&self.count) }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "Sender", self.len(), self.capacity())
    }
}

/// The receiving end. Clones share the messages: each message goes to one of them.
pub struct Receiver<T> {
    // The first field, so it is dropped first: messages then settled as received can no longer be
    // received.
    channel: crossbeam_channel::Receiver<T>,
    receivers: Arc<Receivers>,
}

impl<T> Receiver<T> {
    /// Receives a message if one waits now.
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let message = self.channel.try_recv()?;
        self.receivers.0.beat.received();
        Ok(message)
    }

    /// Receives a message, waiting at most `patience` for one.
    #[inline]
    pub fn recv_timeout(&self, patience: Duration) -> Result<T, RecvTimeoutError> {
        let message = self.channel.recv_timeout(patience)?;
        self.receivers.0.beat.received();
        Ok(message)
    }

    /// Receives until no message waits, without ever waiting. Senders that are faster than the loop
    /// keep it going; where that matters, use [`Receiver::drain`].
    pub fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Receives at most as many messages as wait at this call. Messages that the loop does not take
    /// stay in the channel.
    pub fn drain(&self) -> impl Iterator<Item = T> + '_ {
        self.try_iter().take(self.len())
    }

    /// Adds the receiving end to a `Select` and returns its index. `try_ready` or `ready_timeout`
    /// then report when a message can be received here, or when none will come any more.
    /// (`try_select` and the like need the bare receiver, which is not exposed, and panic.)
    pub fn add_to<'a>(&'a self, select: &mut Select<'a>) -> usize {
        select.recv(&self.channel)
    }

    /// Number of messages that wait in the channel now.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.channel.is_empty()
    }

    /// How many messages it can hold; `None` = unbounded.
    pub fn capacity(&self) -> Option<usize> {
        self.channel.capacity()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver { channel: self.channel.clone(), receivers: Arc::clone(&self.receivers) }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "Receiver", self.len(), self.capacity())
    }
}

fn describe(f: &mut fmt::Formatter<'_>, end: &str, len: usize, capacity: Option<usize>) -> fmt::Result {
    f.debug_struct(end).field("len", &len).field("capacity", &capacity).finish_non_exhaustive()
}
