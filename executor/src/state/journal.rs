//! What a block has written, so that a state root can be computed from that alone.

use revm::primitives::map::{HashMap, HashSet};
use revm::primitives::{Address, U256};

/// Accounts and slots that were written, without values: the state holds those.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(HashMap<Address, Written>);

/// What was written to one account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// Its storage from before the block has been cleared.
    pub(crate) wiped: bool,
    /// Slots written since it was wiped; if it was not, all slots written.
    pub(crate) slots: HashSet<U256>,
}

impl Journal {
    /// A journal as if each of these accounts were new.
    pub(crate) fn of_all<'a>(addresses: impl Iterator<Item = &'a Address>) -> Self {
        let made = || Written { wiped: true, slots: HashSet::default() };
        Self(addresses.map(|address| (*address, made())).collect())
    }

    /// All accounts that were written, in no order.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = (&Address, &Written)> {
        self.0.iter()
    }

    /// What was written to an account; `None`: nothing.
    pub(super) fn of(&self, address: &Address) -> Option<&Written> {
        self.0.get(address)
    }

    pub(super) fn touch(&mut self, address: Address) -> &mut Written {
        self.0.entry(address).or_default()
    }

    pub(super) fn wipe(&mut self, address: Address) {
        let written = self.touch(address);
        written.wiped = true;
        written.slots.clear();
    }
}
