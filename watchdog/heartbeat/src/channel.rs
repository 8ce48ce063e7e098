//! A channel slot: how much went in, how much came out.

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
/// dropped, the channel is off the watch.
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
        // Neither counter ever goes back; what the last owner left unreceived is not this
        // channel's.
        slot[word(C_RECEIVED)].store(slot[word(C_SENT)].load(Ordering::Relaxed), Ordering::Relaxed);
        claim.publish(&slot[word(C_CLAIM)], CLAIM_LIVE);
        ChannelBeat(Arc::new(Channel { sent: slot.at(C_SENT), received: slot.at(C_RECEIVED), slot, claim }))
    }

    /// One message went in. To be called once the send has succeeded; the receiver may then count
    /// first for a moment, and readers take a negative depth for zero.
    #[inline]
    pub fn sent(&self) {
        self.0.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Both counters at once, for one who counts elsewhere, such as bytes of a socket. Neither ever
    /// goes back.
    #[inline]
    pub fn counted(&self, sent: u64, received: u64) {
        self.0.sent.fetch_max(sent, Ordering::Relaxed);
        self.0.received.fetch_max(received, Ordering::Relaxed);
    }

    /// One message came out.
    #[inline]
    pub fn received(&self) {
        self.0.received.fetch_add(1, Ordering::Relaxed);
    }

    /// As [`ChannelBeat::sent`], in one order with a later look at whether anybody still receives.
    #[cfg(feature = "crossbeam")]
    #[inline]
    pub(crate) fn sent_in_order(&self) {
        self.0.sent.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts what waits as received: nobody will receive it any more. May be called by several at
    /// once; `received` is never raised above what was sent.
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
