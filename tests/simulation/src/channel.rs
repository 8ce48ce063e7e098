//! A channel of the target as it really is: what was sent, what was received, and since when the
//! oldest message waits.

use std::collections::VecDeque;
use std::sync::Arc;

use super::plan::Nanos;

/// A published channel.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Use of its slot.
    pub generation: u64,
    /// Its name.
    pub name: Arc<str>,
    /// Messages ever sent.
    pub sent: u64,
    /// Messages ever received.
    pub received: u64,
    /// When the count of sent messages came to what.
    sends: VecDeque<(Nanos, u64)>,
}

impl Channel {
    /// An empty one.
    pub const fn new(generation: u64, name: Arc<str>) -> Self {
        Self { generation, name, sent: 0, received: 0, sends: VecDeque::new() }
    }

    /// Messages that wait.
    pub const fn depth(&self) -> u64 {
        self.sent - self.received
    }

    /// `messages` more are sent.
    pub fn send(&mut self, now: Nanos, messages: u64) {
        self.sent += messages;
        self.sends.push_back((now, self.sent));
    }

    /// As many are received, of those that wait. True if there was one.
    pub fn receive(&mut self, messages: u64) -> bool {
        let taken = messages.min(self.depth());
        self.received += taken;
        while self.sends.front().is_some_and(|(_, sent)| *sent <= self.received) {
            self.sends.pop_front();
        }
        taken > 0
    }

    /// Since when the oldest message waits.
    pub fn oldest_since(&self) -> Option<Nanos> {
        self.sends.front().map(|(at, _)| *at)
    }
}
