//! The forks whose rules a block can run under.

use std::fmt;
use std::str::FromStr;

use alloy_hardforks::EthereumHardfork;
use revm::primitives::hardfork::SpecId;
use serde::{Deserialize, Serialize};

/// The forks of L1 Ethereum that change execution or the number of blobs, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Fork {
    Frontier,
    Homestead,
    Tangerine,
    SpuriousDragon,
    Byzantium,
    Petersburg,
    Istanbul,
    Berlin,
    London,
    Merge,
    Shanghai,
    Cancun,
    Prague,
    Osaka,
    Bpo1,
    Bpo2,
    Bpo3,
    Bpo4,
    Bpo5,
    Amsterdam,
}

/// All forks, in order, each with its canonical name and its name in the crate `alloy-hardforks`.
const FORKS: [(Fork, &str, EthereumHardfork); 20] = [
    (Fork::Frontier, "frontier", EthereumHardfork::Frontier),
    (Fork::Homestead, "homestead", EthereumHardfork::Homestead),
    (Fork::Tangerine, "tangerine", EthereumHardfork::Tangerine),
    (Fork::SpuriousDragon, "spurious_dragon", EthereumHardfork::SpuriousDragon),
    (Fork::Byzantium, "byzantium", EthereumHardfork::Byzantium),
    (Fork::Petersburg, "petersburg", EthereumHardfork::Petersburg),
    (Fork::Istanbul, "istanbul", EthereumHardfork::Istanbul),
    (Fork::Berlin, "berlin", EthereumHardfork::Berlin),
    (Fork::London, "london", EthereumHardfork::London),
    (Fork::Merge, "merge", EthereumHardfork::Paris),
    (Fork::Shanghai, "shanghai", EthereumHardfork::Shanghai),
    (Fork::Cancun, "cancun", EthereumHardfork::Cancun),
    (Fork::Prague, "prague", EthereumHardfork::Prague),
    (Fork::Osaka, "osaka", EthereumHardfork::Osaka),
    (Fork::Bpo1, "bpo1", EthereumHardfork::Bpo1),
    (Fork::Bpo2, "bpo2", EthereumHardfork::Bpo2),
    (Fork::Bpo3, "bpo3", EthereumHardfork::Bpo3),
    (Fork::Bpo4, "bpo4", EthereumHardfork::Bpo4),
    (Fork::Bpo5, "bpo5", EthereumHardfork::Bpo5),
    (Fork::Amsterdam, "amsterdam", EthereumHardfork::Amsterdam),
];

/// Other common names for the same rules.
const ALIASES: [(&str, Fork); 7] = [
    ("paris", Fork::Merge),
    ("tangerine_whistle", Fork::Tangerine),
    ("constantinoplefix", Fork::Petersburg),
    ("eip150", Fork::Tangerine),
    ("eip155", Fork::SpuriousDragon),
    ("eip158", Fork::SpuriousDragon),
    ("spurious", Fork::SpuriousDragon),
];

/// Forks that only delay the difficulty bomb, each with the fork whose rules it keeps.
const GLACIERS: [(&str, Fork); 3] =
    [("muir_glacier", Fork::Istanbul), ("arrow_glacier", Fork::London), ("gray_glacier", Fork::London)];

impl Fork {
    /// The fork that a block of this number and timestamp runs under on a public chain: mainnet,
    /// Sepolia, Holesky or Hoodi. `None` for any other chain: only its own genesis defines its
    /// forks.
    pub fn of_public_chain(id: u64, number: u64, timestamp: u64) -> Option<Self> {
        let has_come = |fork: Self, named: EthereumHardfork| {
            if fork.begins_with_a_block() {
                named.activation_block(id.into()).is_some_and(|first| number >= first)
            } else {
                named.activation_timestamp(id.into()).is_some_and(|first| timestamp >= first)
            }
        };
        // In order, and only up to the first that has not begun: before the Merge a timestamp means
        // nothing.
        let mut in_force = None;
        for (fork, _, named) in FORKS {
            if has_come(fork, named) {
                in_force = Some(fork);
            } else if fork.begins_with_a_block() {
                break;
            }
        }
        in_force
    }

    /// Whether `name` names a fork that changes no rule. Such a fork comes after the one whose
    /// rules it keeps.
    pub(super) fn is_glacier(name: &str) -> bool {
        GLACIERS.iter().any(|(glacier, _)| plain(glacier) == plain(name))
    }

    /// All forks, the latest first.
    pub(crate) fn from_the_latest() -> impl Iterator<Item = Self> {
        FORKS.iter().rev().map(|(fork, _, _)| *fork)
    }

    /// The same rules under revm's name.
    pub const fn spec(self) -> SpecId {
        match self {
            Self::Frontier => SpecId::FRONTIER,
            Self::Homestead => SpecId::HOMESTEAD,
            Self::Tangerine => SpecId::TANGERINE,
            Self::SpuriousDragon => SpecId::SPURIOUS_DRAGON,
            Self::Byzantium => SpecId::BYZANTIUM,
            Self::Petersburg => SpecId::PETERSBURG,
            Self::Istanbul => SpecId::ISTANBUL,
            Self::Berlin => SpecId::BERLIN,
            Self::London => SpecId::LONDON,
            Self::Merge => SpecId::MERGE,
            Self::Shanghai => SpecId::SHANGHAI,
            Self::Cancun => SpecId::CANCUN,
            Self::Prague => SpecId::PRAGUE,
            Self::Osaka | Self::Bpo1 | Self::Bpo2 | Self::Bpo3 | Self::Bpo4 | Self::Bpo5 => SpecId::OSAKA,
            Self::Amsterdam => SpecId::AMSTERDAM,
        }
    }

    /// Whether a touched account that is empty ceases to exist (from Spurious Dragon on).
    pub fn clears_empty_accounts(self) -> bool {
        self >= Self::SpuriousDragon
    }

    /// The beneficiary's reward for the block itself, in wei, before the Merge.
    pub fn block_reward(self) -> u128 {
        const ETHER: u128 = 1_000_000_000_000_000_000;
        match self {
            f if f >= Self::Merge => 0,
            f if f >= Self::Petersburg => 2 * ETHER,
            f if f >= Self::Byzantium => 3 * ETHER,
            _ => 5 * ETHER,
        }
    }

    /// Whether the fork comes into force at a block number; later forks do so at a timestamp.
    pub fn begins_with_a_block(self) -> bool {
        self <= Self::Merge
    }

    /// Whether the fork changes the number of blobs and nothing else (EIP-7892).
    pub const fn is_of_blobs_only(self) -> bool {
        matches!(self, Self::Bpo1 | Self::Bpo2 | Self::Bpo3 | Self::Bpo4 | Self::Bpo5)
    }

    /// The canonical names, for messages.
    pub fn names() -> String {
        FORKS.map(|(_, name, _)| name).join(", ")
    }
}

/// A name in lower case, without separators between its words.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_ascii_lowercase()
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORKS.iter().find(|(fork, _, _)| fork == self).map_or("unknown", |(_, name, _)| name))
    }
}

impl FromStr for Fork {
    type Err = String;

    /// Accepts any case, and spaces, hyphens or nothing where the canonical name has an underscore.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = plain(text);
        FORKS
            .iter()
            .map(|(fork, name, _)| (*name, *fork))
            .chain(ALIASES)
            .chain(GLACIERS)
            .find(|(name, _)| plain(name) == wanted)
            .map(|(_, fork)| fork)
            .ok_or_else(|| format!("fork `{text}` is not one of {}", Self::names()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_chain_says_by_number_and_second_which_fork_it_runs_under() {
        let (mainnet, sepolia, holesky, hoodi) = (1, 11_155_111, 17_000, 560_048);
        for (id, number, timestamp, wanted) in [
            (mainnet, 0, 0, Fork::Frontier),
            (mainnet, 1_149_999, 1_457_938_000, Fork::Frontier),
            (mainnet, 1_150_000, 1_457_938_193, Fork::Homestead),
            (mainnet, 15_537_393, 1_663_224_000, Fork::London),
            (mainnet, 15_537_394, 1_663_224_179, Fork::Merge),
            (mainnet, 17_034_869, 1_681_338_454, Fork::Merge),
            (mainnet, 17_034_870, 1_681_338_455, Fork::Shanghai),
            (mainnet, 19_426_587, 1_710_338_135, Fork::Cancun),
            (mainnet, 22_431_084, 1_746_612_311, Fork::Prague),
            (mainnet, 23_935_693, 1_764_798_550, Fork::Prague),
            (mainnet, 23_935_694, 1_764_798_551, Fork::Osaka),
            (mainnet, 23_976_000, 1_765_290_070, Fork::Osaka),
            (mainnet, 23_976_001, 1_765_290_071, Fork::Bpo1),
            (mainnet, 24_180_000, 1_767_747_670, Fork::Bpo1),
            (mainnet, 24_180_001, 1_767_747_671, Fork::Bpo2),
            (mainnet, 24_628_607, 1_773_200_000, Fork::Bpo2),
            // A pre-Merge number with a post-Osaka timestamp is no block of this chain; it runs
            // under the fork of its number.
            (mainnet, 12_965_000, 1_764_798_551, Fork::London),
            (sepolia, 0, 0, Fork::London),
            (sepolia, 1_450_409, 1_655_000_000, Fork::Merge),
            (sepolia, 9_408_576, 1_760_427_359, Fork::Prague),
            (sepolia, 9_408_577, 1_760_427_360, Fork::Osaka),
            (sepolia, 10_100_112, 1_761_607_008, Fork::Bpo2),
            (sepolia, 11_856_336, 1_791_294_815, Fork::Bpo2),
            (sepolia, 11_856_337, 1_791_294_816, Fork::Amsterdam),
            (holesky, 0, 1_696_000_703, Fork::Merge),
            (holesky, 1, 1_740_434_112, Fork::Prague),
            (holesky, 1, 1_759_308_480, Fork::Osaka),
            (hoodi, 0, 0, Fork::Cancun),
            (hoodi, 60_412, 1_742_999_832, Fork::Prague),
            (hoodi, 1, 1_761_677_592, Fork::Osaka),
            (hoodi, 1, 1_762_955_544, Fork::Bpo2),
            // Not scheduled there.
            (hoodi, 1, u64::MAX, Fork::Bpo2),
        ] {
            let fork = Fork::of_public_chain(id, number, timestamp);
            assert_eq!(fork, Some(wanted), "chain {id}, block {number}, second {timestamp}");
        }
        // The number alone decides nothing on another chain, whatever rules the crate knows for it.
        for other in [0, 2, 10, 1_337, 42_161, 421_614] {
            assert_eq!(Fork::of_public_chain(other, 24_628_607, 1_773_200_000), None, "chain {other}");
        }
    }

    #[test]
    fn every_fork_is_read_by_the_name_that_it_prints() {
        let mut last = None;
        for (fork, name, _) in FORKS {
            assert_eq!(name.parse(), Ok(fork));
            assert_eq!(fork.to_string(), name);
            assert!(last < Some(fork), "in order");
            last = Some(fork);
        }
        assert!(ALIASES.iter().chain(&GLACIERS).all(|(name, fork)| name.parse() == Ok(*fork)));
    }
}
