//! Registers the network threads in the heartbeat: each is at work from when the runtime wakes it
//! until the runtime parks it again.
//!
//! The runtime owns these threads, so their beats live in thread-local storage, and the runtime's
//! callbacks mark work and idleness. A parked thread is idle, and idle is never a stall; a thread
//! that is blocked in the middle of a task is not parked.

use std::cell::RefCell;

use shard_heartbeat::{Begun, Heartbeat, ThreadBeat, Work};
use tokio::runtime::Builder;

thread_local! {
    static BEAT: RefCell<Option<NetBeat>> = const { RefCell::new(None) };
}

struct NetBeat {
    beat: ThreadBeat,
    at_work: Option<Begun>,
}

/// Registers each thread of the runtime that `builder` builds in the heartbeat, under `name`.
pub(super) fn watch(builder: &mut Builder, heartbeat: &Heartbeat, name: &str) {
    let heartbeat = heartbeat.clone();
    let name = name.to_owned();
    builder
        .on_thread_start(move || match heartbeat.register(&name) {
            Ok(beat) => BEAT.set(Some(NetBeat { beat, at_work: None })),
            Err(error) => tracing::error!(thread = name, %error, "cannot register in the heartbeat"),
        })
        .on_thread_unpark(|| with(NetBeat::wake))
        .on_thread_park(|| with(NetBeat::park))
        .on_thread_stop(|| {
            if let Some(mut beat) = BEAT.take() {
                beat.park();
                beat.beat.leave();
            }
        });
}

/// Reports progress of the calling network thread: it has read or sorted something.
pub(super) fn progress() {
    with(|net| net.beat.progress());
}

fn with(what: impl FnOnce(&mut NetBeat)) {
    // A callback within a callback, or one while the thread's storage is being torn down, has
    // nothing to report.
    let _ = BEAT.try_with(|beat| {
        if let Ok(mut beat) = beat.try_borrow_mut()
            && let Some(beat) = beat.as_mut()
        {
            what(beat);
        }
    });
}

impl NetBeat {
    fn wake(&mut self) {
        if self.at_work.is_none() {
            // Messages of many blocks pass through; the work belongs to no single block.
            self.at_work = Some(self.beat.begin(Work::new(0)));
        }
    }

    fn park(&mut self) {
        if let Some(begun) = self.at_work.take() {
            self.beat.end(begun);
        }
    }
}
