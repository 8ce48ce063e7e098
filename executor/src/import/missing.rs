//! What no source provides of the state before a block, and how to get it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use revm::primitives::{Address, U256};

/// The most of each that are listed by name; the rest is counted.
const NAMED: usize = 20;

/// What a block reads and no source provides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Number of the block before, at whose end the state is needed.
    pub before: u64,
    /// Accounts: balance, nonce and code.
    pub accounts: BTreeSet<Address>,
    /// Accounts of which only the code is missing.
    pub codes: BTreeSet<Address>,
    /// Storage slots, by account.
    pub slots: BTreeMap<Address, BTreeSet<U256>>,
    /// Numbers of the earlier blocks whose hashes are needed.
    pub hashes: BTreeSet<u64>,
}

impl Missing {
    /// Whether everything is known.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.codes.is_empty() && self.slots.is_empty() && self.hashes.is_empty()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, accounts, codes, slots, hashes } = self;
        f.write_str("the answers do not say everything that the block reads:")?;
        if !accounts.is_empty() {
            let calls = "eth_getBalance, eth_getTransactionCount and eth_getCode";
            write!(f, " {} accounts ({calls} at block {before:#x}): {};", accounts.len(), list(accounts))?;
        }
        if !codes.is_empty() {
            write!(
                f,
                " the code of {} accounts (eth_getCode at block {before:#x}, or trace without disableCode): {};",
                codes.len(),
                list(codes)
            )?;
        }
        if !slots.is_empty() {
            let count: usize = slots.values().map(BTreeSet::len).sum();
            let each = slots
                .iter()
                .map(|(of, all)| format!("{} of {of}", list(all.iter().map(|slot| format!("{slot:#x}")))));
            write!(f, " {count} slots (eth_getStorageAt at block {before:#x}): {};", list(each))?;
        }
        if !hashes.is_empty() {
            write!(f, " the hashes of blocks (eth_getBlockByNumber(n, false)): {};", list(hashes))?;
        }
        f.write_str(
            " name a file with debug_executionWitness(n) as well, or one of the form {address: {balance, nonce, code, storage}} with the accounts, or run with --rpc URL --block N, which asks for them",
        )
    }
}

fn list<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    let mut all = all.into_iter();
    let mut text = all.by_ref().take(NAMED).map(|one| one.to_string()).collect::<Vec<_>>().join(", ");
    let more = all.count();
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}
