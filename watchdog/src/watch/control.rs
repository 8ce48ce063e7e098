//! How the rest of the sidecar talks to the loop: a small queue and a wake-up. The loop answers
//! where a command has a place for it, between two looks, and never waits: whoever asked may have
//! gone.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::oneshot;

use crate::config::Config;
use crate::pause::Pause;
use crate::probe::wakeup::Waker;
use crate::recorder::Excerpt;

use super::hand::{KillAnswer, KillOrder};

/// More commands than this at once come from nobody sane.
const QUEUE: usize = 16;

/// What the loop can be told.
#[derive(Debug)]
pub enum Command {
    /// Go on with this configuration. The answer comes when it is in force.
    Reload(Arc<Config>, oneshot::Sender<()>),
    /// Answer with what was seen during the last minute. Whoever asks sees to it that this is not
    /// often: it copies a chunk.
    Recording(oneshot::Sender<Box<Excerpt>>),
    /// Withhold kills until the end of this pause, which takes the place of an earlier one; answer
    /// with that one.
    Pause(Arc<Pause>, oneshot::Sender<Option<Arc<Pause>>>),
    /// Withhold them no longer. Who says so; answer with the pause that ended.
    Resume(String, oneshot::Sender<Option<Arc<Pause>>>),
    /// Judge this work, or all work, as any other again: it may kill anew. Answer with the keys
    /// that were in a crash loop.
    Clear(Option<u64>, oneshot::Sender<Vec<u64>>),
    /// Kill the target, whatever else is in force. The answer comes after the look that does it.
    Kill(Box<KillOrder>, oneshot::Sender<KillAnswer>),
    /// End, and leave the target alone.
    Stop,
}

/// The loop's end.
#[derive(Debug)]
pub struct Inbox(Receiver<Command>);

impl Inbox {
    /// The next command, if there is one.
    pub fn take(&self) -> Option<Command> {
        self.0.try_recv().ok()
    }
}

/// Everybody else's end.
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

    /// Tells the loop. False if its queue is full or it has ended.
    pub fn tell(&self, command: Command) -> bool {
        let told = self.sender.try_send(command).is_ok();
        self.waker.wake();
        told
    }
}
