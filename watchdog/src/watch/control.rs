//! How the rest of the sidecar talks to the loop: a small queue and a wake-up. The loop answers
//! between two observations, if a command has a channel for that, and never blocks: the requester
//! may be gone.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::oneshot;

use crate::config::Config;
use crate::pause::Pause;
use crate::probe::wakeup::Waker;
use crate::recorder::Excerpt;

use super::hand::{KillAnswer, KillOrder};

/// No sane use has more commands than this at once.
const QUEUE: usize = 16;

/// What a person has cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Work that was in a crash loop and is no more.
    pub keys: Vec<u64>,
    /// How many kills in a row had brought no finished piece of work, and are forgotten.
    pub kills_without_progress: u32,
}

/// A command to the loop.
#[derive(Debug)]
pub enum Command {
    /// Continue with this configuration. The answer comes when it is in force.
    Reload(Arc<Config>, oneshot::Sender<()>),
    /// Answer with the recording of the last minute. The requester must limit how often: this
    /// copies a chunk.
    Recording(oneshot::Sender<Box<Excerpt>>),
    /// Withhold kills until the end of this pause, which replaces an earlier one; answer with that
    /// one.
    Pause(Arc<Pause>, oneshot::Sender<Option<Arc<Pause>>>),
    /// Stop withholding kills. Takes who ordered it; answer with the pause that ended.
    Resume(String, oneshot::Sender<Option<Arc<Pause>>>),
    /// Judge this work, or all work, like any other again: it may kill anew. Answer with the keys
    /// that were in a crash loop.
    Clear(Option<u64>, oneshot::Sender<Cleared>),
    /// Kill the target, whatever else is in force. The answer follows the observation that does it.
    Kill(Box<KillOrder>, oneshot::Sender<KillAnswer>),
    /// End, and leave the target alone.
    Stop,
}

/// The receiving end, for the loop.
#[derive(Debug)]
pub struct Inbox(Receiver<Command>);

impl Inbox {
    /// The next command, if there is one.
    pub fn take(&self) -> Option<Command> {
        self.0.try_recv().ok()
    }
}

/// The sending end, for everybody else.
#[derive(Clone, Debug)]
pub struct Control {
    sender: SyncSender<Command>,
    waker: Arc<Waker>,
}

impl Control {
    /// Both ends of the queue.
    pub fn new(waker: Arc<Waker>) -> (Self, Inbox) {
        let (sender, receiver) = sync_channel(QUEUE);
        (Self { sender, waker }, Inbox(receiver))
    }

    /// Sends a command to the loop. False if its queue is full or it has ended.
    pub fn tell(&self, command: Command) -> bool {
        let told = self.sender.try_send(command).is_ok();
        self.waker.wake();
        told
    }
}
