//! The age of a channel's oldest waiting message, from the watchdog's own samples: how long ago it
//! first saw `sent` exceed the current `received`. No clock of the target is used.

use alloc::collections::VecDeque;

use crate::clock::Monotonic;

/// Samples retained for one channel. When that many are stored, every other one is dropped: the age
/// becomes coarser but is never off by more than the gap between two samples.
const SAMPLES: usize = 64;

/// The recent past of one channel.
#[derive(Clone, Debug, Default)]
pub struct ChannelAge {
    sent: VecDeque<(Monotonic, u64)>,
}

impl ChannelAge {
    /// Adds a sample and returns since when the oldest waiting message has waited.
    pub fn observe(&mut self, at: Monotonic, sent: u64, received: u64) -> Option<Monotonic> {
        let waiting = |counter: u64| counter.wrapping_sub(received).cast_signed() > 0;
        // A sample above the current `sent` was torn when it was read: the counter never goes down.
        self.sent.retain(|(_, counter)| counter.wrapping_sub(sent).cast_signed() <= 0);
        if self.sent.back().is_none_or(|(_, last)| *last != sent) {
            if self.sent.len() == SAMPLES {
                let mut keep = false;
                self.sent.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
            self.sent.push_back((at, sent));
        }
        while self.sent.front().is_some_and(|(_, counter)| !waiting(*counter)) {
            self.sent.pop_front();
        }
        self.oldest_since()
    }

    /// Since when the oldest waiting message has waited, as of the last sample.
    pub fn oldest_since(&self) -> Option<Monotonic> {
        self.sent.front().map(|(since, _)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_channel_has_no_age() {
        let mut age = ChannelAge::default();
        assert_eq!(age.observe(Monotonic(1), 5, 5), None);
        assert_eq!(age.observe(Monotonic(2), 5, 6), None);
    }

    #[test]
    fn the_age_is_that_of_the_oldest_waiting_message() {
        let mut age = ChannelAge::default();
        assert_eq!(age.observe(Monotonic(1), 1, 0), Some(Monotonic(1)));
        assert_eq!(age.observe(Monotonic(2), 2, 0), Some(Monotonic(1)));
        assert_eq!(age.observe(Monotonic(3), 2, 1), Some(Monotonic(2)));
        assert_eq!(age.observe(Monotonic(4), 2, 2), None);
    }

    #[test]
    fn a_counter_read_torn_leaves_no_message_waiting() {
        let mut age = ChannelAge::default();
        assert_eq!(age.observe(Monotonic(1), 5, 4), Some(Monotonic(1)));
        assert_eq!(age.observe(Monotonic(2), 1 << 40, 4), Some(Monotonic(1)));
        assert_eq!(age.observe(Monotonic(3), 6, 5), Some(Monotonic(3)));
        assert_eq!(age.observe(Monotonic(4), 6, 6), None);
    }

    #[test]
    fn a_long_backlog_stays_bounded_and_old() {
        let mut age = ChannelAge::default();
        for n in 1..10_000 {
            assert_eq!(age.observe(Monotonic(n), n, 0), Some(Monotonic(1)));
        }
        assert!(age.sent.len() <= SAMPLES);
    }
}
