//! A channel slot: how many messages were sent, and how many received.

use std::sync::Arc;

use crate::claim::Claim;
use crate::layout::{
    C_CAPACITY, C_CLAIM, C_NAME, C_RECEIVED, C_SENT, C_SEQUENCE, CAPACITY_UNBOUNDED, CHANNEL_STRIDE,
    CLAIM_FREE, CLAIM_LEFT, CLAIM_LIVE, H_CHANNEL_HIGH_WATER, word,
};
use crate::seqlock::Stamp;
use crate::sync::Ordering;
use crate::words::{Word, Words};
use crate::work::pack_name;

/// Counts the messages of one channel; clones count on the same slot. When the last clone is
/// dropped, the channel is no longer watched.
#[derive(Clone, Debug)]
pub struct ChannelBeat(Arc<Channel>);

#[derive(Debug)]
struct Channel {
    slot: Words,
    claim: Claim,
    sent: Word,
    received: Word,
}

impl ChannelBeat {
    /// Claims one of the `slots` channel slots that start at byte `offset`; `None` if none is left.
    pub(crate) fn claim(
        segment: &Words,
        offset: usize,
        slots: u32,
        name: &str,
        capacity: Option<u64>,
    ) -> Option<ChannelBeat> {
        for from in [CLAIM_FREE, CLAIM_LEFT] {
            for index in 0..slots {
                let slot = segment.part(offset + index as usize * CHANNEL_STRIDE, CHANNEL_STRIDE);
                let Some(claim) = Claim::take(&slot[word(C_CLAIM)], from) else { continue };
                segment[word(H_CHANNEL_HIGH_WATER)].fetch_max(u64::from(index) + 1, Ordering::AcqRel);
                return Some(ChannelBeat::fill(slot, claim, name, capacity));
            }
        }
        None
    }

    fn fill(slot: Words, claim: Claim, name: &str, capacity: Option<u64>) -> ChannelBeat {
        let words = pack_name(name);
        Stamp::adopt(&slot[word(C_SEQUENCE)]).write(&slot[word(C_SEQUENCE)], || {
            slot[word(C_NAME)].store(words[0], Ordering::Relaxed);
            slot[word(C_NAME) + 1].store(words[1], Ordering::Relaxed);
        });
        slot[word(C_CAPACITY)].store(capacity.unwrap_or(CAPACITY_UNBOUNDED), Ordering::Relaxed);
        // Neither counter ever goes back; messages that the last owner left unreceived do not
        // belong to this channel.
        slot[word(C_RECEIVED)].store(slot[word(C_SENT)].load(Ordering::Relaxed), Ordering::Relaxed);
        claim.publish(&slot[word(C_CLAIM)], CLAIM_LIVE);
        ChannelBeat(Arc::new(Channel { sent: slot.at(C_SENT), received: slot.at(C_RECEIVED), slot, claim }))
    }

    /// Counts one message sent. Call it once the send has succeeded. The receiver may briefly count
    /// first; readers treat a negative depth as zero.
    #[inline]
    pub fn sent(&self) {
        self.0.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets both counters at once, for callers that count elsewhere, such as the bytes of a socket.
    /// Neither ever goes back.
    #[inline]
    pub fn counted(&self, sent: u64, received: u64) {
        self.0.sent.fetch_max(sent, Ordering::Relaxed);
        self.0.received.fetch_max(received, Ordering::Relaxed);
    }

    /// Counts one message received.
    #[inline]
    pub fn received(&self) {
        self.0.received.fetch_add(1, Ordering::Relaxed);
    }

    /// As [`ChannelBeat::sent`], but sequentially consistent with a later check whether any
    /// receiver is left.
    #[cfg(feature = "crossbeam")]
    #[inline]
    pub(crate) fn sent_in_order(&self) {
        self.0.sent.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts all waiting messages as received, since no receiver is left. Several threads may call
    /// it at once; `received` is never raised above `sent`.
    #[cfg(feature = "crossbeam")]
    pub(crate) fn settle(&self) {
        let _ = self.0.received.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |received| {
            let sent = self.0.sent.load(Ordering::SeqCst);
            // By the sign of the difference: `received` is ahead while a sender has not counted its
            // message yet.
            let ahead = sent.wrapping_sub(received) > u64::MAX / 2;
            (sent != received && !ahead).then_some(sent)
        });
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.claim.publish(&self.slot[word(C_CLAIM)], CLAIM_LEFT);
    }
}
