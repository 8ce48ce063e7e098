//! The true state of a channel of the target: what was sent, what was received, and since when the
//! oldest message has waited.

use std::collections::VecDeque;
use std::sync::Arc;

use super::plan::Nanos;

/// A published channel.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Generation of its slot: how often the slot was used.
    pub generation: u64,
    /// The name it is published under.
    pub name: Arc<str>,
    /// Messages sent so far.
    pub sent: u64,
    /// Messages received so far.
    pub received: u64,
    /// When the count of sent messages reached which value.
    sends: VecDeque<(Nanos, u64)>,
}

impl Channel {
    /// An empty channel.
    pub const fn new(generation: u64, name: Arc<str>) -> Self {
        Self { generation, name, sent: 0, received: 0, sends: VecDeque::new() }
    }

    /// Messages that are waiting.
    pub const fn depth(&self) -> u64 {
        self.sent - self.received
    }

    /// Sends `messages` more.
    pub fn send(&mut self, now: Nanos, messages: u64) {
        self.sent += messages;
        self.sends.push_back((now, self.sent));
    }

    /// Receives up to `messages` of those that wait. True if there was one.
    pub fn receive(&mut self, messages: u64) -> bool {
        let taken = messages.min(self.depth());
        self.received += taken;
        while self.sends.front().is_some_and(|(_, sent)| *sent <= self.received) {
            self.sends.pop_front();
        }
        taken > 0
    }

    /// Since when the oldest message has waited.
    pub fn oldest_since(&self) -> Option<Nanos> {
        self.sends.front().map(|(at, _)| *at)
    }
}
