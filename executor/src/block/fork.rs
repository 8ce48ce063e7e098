//! Which rules a block runs under.

use std::fmt;
use std::str::FromStr;

use revm::primitives::hardfork::SpecId;
use serde::{Deserialize, Serialize};

/// The forks of L1 mainnet that change execution, in order.
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
}

/// First block of each fork up to the Merge on mainnet.
const BY_NUMBER: [(u64, Fork); 9] = [
    (15_537_394, Fork::Merge),
    (12_965_000, Fork::London),
    (12_244_000, Fork::Berlin),
    (9_069_000, Fork::Istanbul),
    (7_280_000, Fork::Petersburg),
    (4_370_000, Fork::Byzantium),
    (2_675_000, Fork::SpuriousDragon),
    (2_463_000, Fork::Tangerine),
    (1_150_000, Fork::Homestead),
];

/// First second of each fork after the Merge on mainnet.
const BY_TIME: [(u64, Fork); 3] =
    [(1_746_612_311, Fork::Prague), (1_710_338_135, Fork::Cancun), (1_681_338_455, Fork::Shanghai)];

/// From this second on mainnet runs rules that this crate does not claim to know.
const AFTER_PRAGUE: u64 = 1_764_798_551;

const NAMES: [(&str, Fork); 23] = [
    ("frontier", Fork::Frontier),
    ("homestead", Fork::Homestead),
    ("tangerine", Fork::Tangerine),
    ("spurious_dragon", Fork::SpuriousDragon),
    ("byzantium", Fork::Byzantium),
    ("petersburg", Fork::Petersburg),
    ("istanbul", Fork::Istanbul),
    ("berlin", Fork::Berlin),
    ("london", Fork::London),
    ("merge", Fork::Merge),
    ("shanghai", Fork::Shanghai),
    ("cancun", Fork::Cancun),
    ("prague", Fork::Prague),
    // Other names in use for the same rules; the first match is the one printed.
    ("paris", Fork::Merge),
    ("tangerine_whistle", Fork::Tangerine),
    ("constantinoplefix", Fork::Petersburg),
    ("eip150", Fork::Tangerine),
    ("eip155", Fork::SpuriousDragon),
    ("eip158", Fork::SpuriousDragon),
    // These only put off when mining becomes hard.
    ("muir_glacier", Fork::Istanbul),
    ("arrow_glacier", Fork::London),
    ("gray_glacier", Fork::London),
    ("spurious", Fork::SpuriousDragon),
];

impl Fork {
    /// The fork that a mainnet block of this number and time runs under; `None` past the last one known here.
    pub fn of_mainnet(number: u64, timestamp: u64) -> Option<Self> {
        let by_number =
            BY_NUMBER.iter().find(|(first, _)| number >= *first).map_or(Self::Frontier, |(_, f)| *f);
        if by_number < Self::Merge {
            return Some(by_number);
        }
        if timestamp >= AFTER_PRAGUE {
            return None;
        }
        Some(BY_TIME.iter().find(|(first, _)| timestamp >= *first).map_or(by_number, |(_, f)| *f))
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
        }
    }

    /// From Spurious Dragon on a touched account that is empty does not exist.
    pub fn clears_empty_accounts(self) -> bool {
        self >= Self::SpuriousDragon
    }

    /// What the beneficiary is paid for the block itself, in wei, before the Merge.
    pub fn block_reward(self) -> u128 {
        const ETHER: u128 = 1_000_000_000_000_000_000;
        match self {
            f if f >= Self::Merge => 0,
            f if f >= Self::Petersburg => 2 * ETHER,
            f if f >= Self::Byzantium => 3 * ETHER,
            _ => 5 * ETHER,
        }
    }

    /// Whether it comes into force with a block of some number; later ones come with a second.
    pub fn begins_with_a_block(self) -> bool {
        self <= Self::Merge
    }

    /// The canonical names, for messages.
    pub fn names() -> String {
        NAMES.iter().take(13).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, fork)| fork == self).map_or("unknown", |(name, _)| name))
    }
}

impl FromStr for Fork {
    type Err = String;

    /// Accepts any case, and blanks, hyphens or nothing where the canonical name has an underscore.
    fn from_str(text: &str) -> Result<Self, String> {
        let plain =
            |s: &str| s.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_ascii_lowercase();
        let wanted = plain(text);
        NAMES
            .iter()
            .find(|(name, _)| plain(name) == wanted)
            .map(|(_, fork)| *fork)
            .ok_or_else(|| format!("fork `{text}` is not one of {}", Self::names()))
    }
}
