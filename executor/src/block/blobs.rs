//! How many blobs a block may hold and what they cost. Since EIP-7892 this can change without any
//! other rule changing.

use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_eips::eip7840::BlobParams;
use serde::{Deserialize, Serialize};

use super::Fork;

/// The blob parameters in force (EIP-7840).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blobs {
    /// The number of blobs a block should hold; above it the price rises.
    pub target: u64,
    /// The most blobs a block may hold.
    pub max: u64,
    /// How slowly the price follows the excess (`baseFeeUpdateFraction`).
    pub update_fraction: u64,
}

/// The largest `max` accepted: a hundred times what any chain plans, and small enough that sums of
/// blob gas stay far from 64 bits.
const MOST: u64 = 4096;

impl Blobs {
    /// The parameters that `fork` itself introduces; `None` if it introduces none, as Amsterdam, or
    /// if they are not decided yet.
    pub const fn of(fork: Fork) -> Option<Self> {
        let params = match fork {
            Fork::Cancun => BlobParams::cancun(),
            Fork::Prague => BlobParams::prague(),
            Fork::Osaka => BlobParams::osaka(),
            Fork::Bpo1 => BlobParams::bpo1(),
            Fork::Bpo2 => BlobParams::bpo2(),
            _ => return None,
        };
        Some(Self {
            target: params.target_blob_count,
            max: params.max_blob_count,
            update_fraction: params.update_fraction as u64,
        })
    }

    /// Why no chain can have these parameters; `None` if one can.
    pub(super) fn fault(self) -> Option<String> {
        let Self { target, max, update_fraction } = self;
        if max == 0 || max > MOST {
            return Some(format!("`max` is {max}, and a block may hold 1 to {MOST} blobs"));
        }
        if target > max {
            return Some(format!("`target` is {target}, more than `max`, {max}"));
        }
        (update_fraction == 0).then(|| "`baseFeeUpdateFraction` is 0, by which is divided".into())
    }

    /// These parameters with the rules of `fork`: since Osaka a transaction has at most six blobs
    /// (EIP-7594), and the price has a floor (EIP-7918).
    const fn params(self, fork: Fork) -> BlobParams {
        let fixed = match fork {
            Fork::Osaka
            | Fork::Bpo1
            | Fork::Bpo2
            | Fork::Bpo3
            | Fork::Bpo4
            | Fork::Bpo5
            | Fork::Amsterdam => BlobParams::osaka(),
            _ => BlobParams::prague().with_max_blobs_per_tx(self.max),
        };
        BlobParams {
            target_blob_count: self.target,
            max_blob_count: self.max,
            update_fraction: self.update_fraction as u128,
            ..fixed
        }
    }

    /// The most blobs that one transaction may have.
    pub fn max_per_transaction(self, fork: Fork) -> u64 {
        self.params(fork).max_blobs_per_tx.min(self.max)
    }

    /// Wei per unit of blob gas; `None` if all the blobs of a block together would cost more than
    /// 128 bits hold, which is as far as revm's sums are exact.
    ///
    /// revm's own function is not used: it multiplies in 128 bits and overflows long before the
    /// price does. This one computes in 512 bits.
    pub fn price(self, excess: u64) -> Option<u128> {
        // The parameters may come over the network.
        if self.fault().is_some() {
            return None;
        }
        let price = self.params(Fork::Cancun).calc_blob_fee(excess);
        price.checked_mul(u128::from(self.max * DATA_GAS_PER_BLOB)).map(|_| price)
    }

    /// The most excess blob gas that has a [`Self::price`].
    pub fn max_excess(self) -> u64 {
        // The price never falls as the excess grows.
        let (mut has_one, mut has_none) = (0, u64::MAX);
        while has_none - has_one > 1 {
            let between = has_one + (has_none - has_one) / 2;
            if self.price(between).is_some() { has_one = between } else { has_none = between }
        }
        has_one
    }

    /// The excess of a block of `fork` whose parent has this `excess`, `used` blob gas and
    /// `base_fee` per gas; `None` if the computation would overflow.
    pub fn next_excess(self, fork: Fork, excess: u64, used: u64, base_fee: u64) -> Option<u64> {
        // The crate's arithmetic is unchecked; no block that was read here comes near its limits.
        excess.checked_add(used)?;
        used.checked_mul(self.max)?;
        self.price(excess)?;
        Some(self.params(fork).next_block_excess_blob_gas_osaka(excess, used, base_fee))
    }
}

/// The blob gas of this many blobs.
pub const fn blob_gas(blobs: u64) -> u64 {
    blobs.saturating_mul(DATA_GAS_PER_BLOB)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

    use revm::context_interface::block::calc_blob_gasprice;

    use super::*;

    const FORKS: [Fork; 5] = [Fork::Cancun, Fork::Prague, Fork::Osaka, Fork::Bpo1, Fork::Bpo2];

    #[test]
    fn the_schedule_is_that_of_the_eips() {
        let schedule = FORKS.map(|fork| {
            let Blobs { target, max, update_fraction } = Blobs::of(fork).unwrap();
            (target, max, update_fraction, Blobs::of(fork).unwrap().max_per_transaction(fork))
        });
        assert_eq!(
            schedule,
            [
                (3, 6, 3_338_477, 6),
                (6, 9, 5_007_716, 9),
                (6, 9, 5_007_716, 6),
                (10, 15, 8_346_193, 6),
                (14, 21, 11_684_671, 6)
            ]
        );
        assert_eq!([Fork::Shanghai, Fork::Bpo3, Fork::Amsterdam].map(Blobs::of), [None; 3]);
    }

    /// revm's price computed with checked arithmetic; `None` if it overflows.
    fn in_128_bits(excess: u64, fraction: u64) -> Option<u128> {
        let (excess, fraction) = (u128::from(excess), u128::from(fraction));
        let (mut i, mut sum, mut term) = (1_u128, 0_u128, fraction);
        while term > 0 {
            sum = sum.checked_add(term)?;
            term = term.checked_mul(excess)? / fraction.checked_mul(i)?;
            i += 1;
        }
        Some(sum / fraction)
    }

    /// The first number without an answer. There is one, and no number after it has an answer.
    fn first_without(has_answer: impl Fn(u64) -> bool) -> u64 {
        let (mut with, mut without) = (0, u64::from(u32::MAX));
        assert!(has_answer(with) && !has_answer(without));
        while without - with > 1 {
            let between = with + (without - with) / 2;
            if has_answer(between) { with = between } else { without = between }
        }
        without
    }

    #[test]
    fn the_price_is_exact_far_beyond_where_revms_own_overflows() {
        for (fork, revms, ours) in [
            (Fork::Cancun, 192_204_552, 250_878_459),
            (Fork::Prague, 284_284_038, 374_287_272),
            (Fork::Bpo1, 465_354_415, 619_548_646),
            (Fork::Bpo2, 643_714_134, 863_436_597),
        ] {
            let blobs = Blobs::of(fork).unwrap();
            let last_of_revm =
                first_without(|excess| in_128_bits(excess, blobs.update_fraction).is_some()) - 1;
            assert_eq!((last_of_revm, blobs.max_excess()), (revms, ours), "{fork}");
            assert!(blobs.price(ours).is_some() && blobs.price(ours + 1).is_none());
            for part in 0..=64 {
                let excess = last_of_revm / 64 * part;
                let price = blobs.price(excess);
                assert_eq!(price, in_128_bits(excess, blobs.update_fraction), "{fork}, excess {excess}");
                assert_eq!(price, Some(calc_blob_gasprice(excess, blobs.update_fraction)));
            }
        }
    }

    #[test]
    fn the_excess_has_a_floor_since_osaka_where_blobs_are_too_cheap() {
        let blobs = Blobs::of(Fork::Bpo2).unwrap();
        let (full, target) = (blob_gas(21), blob_gas(14));
        // A base fee of 16 wei: 2^13 × 16 is 2^17, the price of a blob at one wei a unit, and does
        // not exceed it.
        assert_eq!(blobs.next_excess(Fork::Bpo2, 0, full, 16), Some(full - target));
        // One wei more: a third of the blob gas used remains as excess, whatever the target is.
        assert_eq!(blobs.next_excess(Fork::Bpo2, 0, full, 17), Some(full / 3));
        assert_eq!(blobs.next_excess(Fork::Bpo2, 5, target, 17), Some(5 + target / 3));
        assert_eq!(blobs.next_excess(Fork::Bpo2, 5, 0, 17), Some(0), "below the target there is no excess");
        // Before Osaka the base fee does not matter.
        let blobs = Blobs::of(Fork::Prague).unwrap();
        assert_eq!(blobs.next_excess(Fork::Prague, 5, blob_gas(9), u64::MAX), Some(5 + blob_gas(3)));
        assert_eq!(blobs.next_excess(Fork::Prague, u64::MAX, 1, 1), None, "no overflow");
    }

    #[test]
    fn parameters_that_no_chain_can_have_are_told() {
        let right = Blobs::of(Fork::Osaka).unwrap();
        assert_eq!(right.fault(), None);
        for wrong in [
            Blobs { max: 0, target: 0, ..right },
            Blobs { max: MOST + 1, ..right },
            Blobs { target: 10, ..right },
            Blobs { update_fraction: 0, ..right },
        ] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }
}
