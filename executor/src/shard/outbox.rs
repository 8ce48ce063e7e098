//! The thread that forwards the executor thread's messages to its coordinator, so that a network
//! that does not accept them never blocks the executor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shard_heartbeat::crossbeam::{Receiver, RecvTimeoutError};
use shard_heartbeat::{ThreadBeat, Work};
use tokio::sync::mpsc::error::TrySendError;

use super::session::{Counters, Session};
use super::spawn::Ready;
use crate::deadline;
use crate::faults::{Faults, LastWords};
use crate::net::wire::Up;
use crate::process::Stopping;

/// How often to retry on a full stream: too short for a coordinator to notice, and without load.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// A message, and the session of the coordinator that it is for.
pub(super) struct Outgoing {
    pub(super) session: Arc<Session>,
    pub(super) message: Up,
}

pub(super) struct Outbox {
    pub(super) results: Receiver<Outgoing>,
    pub(super) faults: Faults,
    pub(super) stopping: Stopping,
    pub(super) counters: Arc<Counters>,
}

impl Outbox {
    pub(super) fn run(self, beat: ThreadBeat, words: &mut LastWords, ready: &Ready) {
        // If nobody waits for this any more, the process is ending.
        let _ = ready.try_send(());
        while !self.stopping.begun() {
            match self.results.recv_timeout(deadline::LOOK_ROUND) {
                Ok(outgoing) => {
                    let _working = beat.working(Work::new(0).deadline(deadline::HAND_OVER));
                    let mut in_hand = InHand(Some(&self));
                    if self.faults.send_point(words).is_err() {
                        return;
                    }
                    in_hand.0 = None;
                    drop(in_hand);
                    self.deliver(outgoing);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The executor thread has gone. The guard must detect and name that thread, not
                // this one after it.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(deadline::LOOK_ROUND),
            }
        }
        beat.leave();
    }

    /// If the coordinator has gone, or does not read, only the message is lost; the shard goes on.
    fn deliver(&self, outgoing: Outgoing) {
        let Outgoing { session, message } = outgoing;
        let Some(up) = session.up() else { return self.dropped() };
        let until = Instant::now() + deadline::HAND_OVER;
        let mut message = Ok(message);
        loop {
            message = match up.try_send(message) {
                Ok(()) => return,
                Err(TrySendError::Closed(_)) => return self.dropped(),
                Err(TrySendError::Full(message)) => message,
            };
            if Instant::now() >= until {
                session.close("the coordinator does not read");
                return self.dropped();
            }
            std::thread::sleep(FULL_PAUSE);
        }
    }

    fn dropped(&self) {
        if Counters::count(&self.counters.results_dropped) == 0 {
            tracing::info!(
                "a message was dropped because its coordinator has gone; further ones are only counted"
            );
        }
    }
}

/// A message that this thread has taken and not yet forwarded: if the thread is lost with it, the
/// loss is counted.
struct InHand<'a>(Option<&'a Outbox>);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if let Some(outbox) = self.0 {
            outbox.dropped();
        }
    }
}

/// Messages still waiting when the thread ends, in whichever way, are lost too.
impl Drop for Outbox {
    fn drop(&mut self) {
        for _ in self.results.drain() {
            self.dropped();
        }
    }
}
