//! Bounded queues between the threads of one process, with their depth published in the heartbeat.
//!
//! There is no call here that waits without an end: a full queue is an answer, and a receiver looks round.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};
use shard_heartbeat::{ChannelBeat, Heartbeat, RegisterError};

/// The sending end.
pub struct QueueSender<T> {
    channel: Sender<T>,
    beat: ChannelBeat,
}

// Derived, it would ask for messages that can be cloned.
impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), beat: self.beat.clone() }
    }
}

/// The receiving end.
pub struct QueueReceiver<T> {
    channel: Receiver<T>,
    beat: ChannelBeat,
}

/// Why a message was not taken. It comes back with the error.
#[derive(Debug, thiserror::Error)]
pub enum SendError<T> {
    /// Nobody took anything in time.
    #[error("the queue is full")]
    Full(T),
    /// The thread that received from it has ended.
    #[error("nobody receives from the queue any more")]
    Closed(T),
}

/// What waiting for a message came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// A message.
    Message(T),
    /// None in time.
    Nothing,
    /// None, and none will come: every sender is gone.
    Closed,
}

/// A queue of at most `capacity` messages, on the watch under `name`.
pub fn bounded<T>(
    heartbeat: &Heartbeat,
    name: &str,
    capacity: usize,
) -> Result<(QueueSender<T>, QueueReceiver<T>), RegisterError> {
    let beat = heartbeat.channel(name, Some(capacity as u64))?;
    let (sender, receiver) = crossbeam_channel::bounded(capacity);
    Ok((QueueSender { channel: sender, beat: beat.clone() }, QueueReceiver { channel: receiver, beat }))
}

impl<T> QueueSender<T> {
    /// Puts a message in if there is room now.
    pub fn offer(&self, message: T) -> Result<(), SendError<T>> {
        self.channel.try_send(message).map_err(|error| match error {
            crossbeam_channel::TrySendError::Full(message) => SendError::Full(message),
            crossbeam_channel::TrySendError::Disconnected(message) => SendError::Closed(message),
        })?;
        self.beat.sent();
        Ok(())
    }

    /// Puts a message in, waiting at most `patience` for room.
    pub fn send(&self, message: T, patience: Duration) -> Result<(), SendError<T>> {
        self.channel.send_timeout(message, patience).map_err(|error| match error {
            SendTimeoutError::Timeout(message) => SendError::Full(message),
            SendTimeoutError::Disconnected(message) => SendError::Closed(message),
        })?;
        self.beat.sent();
        Ok(())
    }
}

impl<T> QueueReceiver<T> {
    /// Waits at most `patience` for a message.
    pub fn receive(&self, patience: Duration) -> Received<T> {
        match self.channel.recv_timeout(patience) {
            Ok(message) => {
                self.beat.received();
                Received::Message(message)
            }
            Err(RecvTimeoutError::Timeout) => Received::Nothing,
            Err(RecvTimeoutError::Disconnected) => Received::Closed,
        }
    }
}
