//! A view with the writes of earlier transactions on top, on which the later transactions of a part
//! run.

use revm::bytecode::Bytecode;
use revm::primitives::map::HashMap;
use revm::primitives::{Address, B256, U256};

use super::{AccountInfo, Changes, Effect, ExecutionEnv, ReadSet, StateView, TxOutcome, ViewError};
use crate::block::Fork;
use crate::state::{State, analysed};

/// Writes on top of a view that never changes itself.
#[derive(Debug)]
pub struct Overlay<V> {
    base: V,
    fork: Fork,
    beneficiary: Address,
    accounts: HashMap<Address, Written>,
    codes: HashMap<B256, Bytecode>,
    /// Fees since the beneficiary was last written. Separate, so that the beneficiary is loaded
    /// only if a transaction reads it.
    fees: Option<U256>,
}

/// Everything that was written on top of a view.
#[derive(Debug)]
pub(crate) struct Writes {
    accounts: HashMap<Address, Written>,
    codes: HashMap<B256, Bytecode>,
    fees: Option<U256>,
}

impl Writes {
    /// Applies the writes to the state below.
    pub(crate) fn apply_to(self, state: &mut State, beneficiary: Address, fork: Fork) {
        state.add_codes(self.codes);
        for (address, written) in self.accounts {
            state.write(address, written.info, written.wiped, written.storage);
        }
        // Fees paid before the beneficiary was last written are included in that write.
        if let Some(fees) = self.fees {
            state.credit(beneficiary, fees, fork);
        }
    }
}

#[derive(Debug, Default)]
struct Written {
    info: Option<AccountInfo>,
    wiped: bool,
    storage: HashMap<U256, U256>,
}

impl<V: StateView> Overlay<V> {
    /// An overlay with nothing written yet.
    pub fn new(env: &ExecutionEnv, base: V) -> Self {
        Self {
            base,
            fork: env.fork(),
            beneficiary: env.header.beneficiary,
            accounts: HashMap::default(),
            codes: HashMap::default(),
            fees: None,
        }
    }

    /// Makes an outcome visible to the transactions after it. An invalid one changes nothing.
    pub fn apply(&mut self, outcome: &TxOutcome) {
        if let Effect::Executed { changes, fee, .. } = &outcome.effect {
            self.write(changes);
            if let Some(fee) = fee {
                self.pay(*fee);
            }
        }
    }

    /// Adds to the beneficiary's fees.
    pub(crate) fn pay(&mut self, fee: U256) {
        self.fees = Some(self.fees.unwrap_or_default().saturating_add(fee));
    }

    /// Moves the overlay out and leaves one on an empty view in its place.
    pub(crate) fn take(&mut self) -> Self
    where
        V: Default,
    {
        Self {
            base: std::mem::take(&mut self.base),
            accounts: std::mem::take(&mut self.accounts),
            codes: std::mem::take(&mut self.codes),
            fees: self.fees.take(),
            ..*self
        }
    }

    /// The view below, and what was written.
    pub(crate) fn into_parts(self) -> (V, Writes) {
        (self.base, Writes { accounts: self.accounts, codes: self.codes, fees: self.fees })
    }

    /// Makes changes visible to later reads.
    pub(crate) fn write(&mut self, changes: &Changes) {
        for (hash, code) in &changes.codes {
            self.codes.entry(*hash).or_insert_with(|| analysed(code));
        }
        for (address, change) in &changes.accounts {
            if *address == self.beneficiary {
                // The balance written already includes the fees that the transaction saw.
                self.fees = None;
            }
            let written = self.accounts.entry(*address).or_default();
            written.info = change.info;
            if change.wiped || change.info.is_none() {
                written.wiped = true;
                written.storage.clear();
            }
            written.storage.extend(change.storage.iter().copied());
        }
    }

    /// Whether `reads`, all of them made on the view below, would read the same values through what
    /// has been written since.
    pub(crate) fn still_reads(&self, reads: &ReadSet) -> bool {
        let account = |(address, seen): &(Address, Option<AccountInfo>)| match self.accounts.get(address) {
            // The fees are not yet included in a write.
            _ if *address == self.beneficiary => false,
            Some(written) => written.info == *seen,
            None => true,
        };
        let slot = |(address, slot, seen): &(Address, U256, U256)| match self.accounts.get(address) {
            Some(written) => match written.storage.get(slot) {
                Some(now) => now == seen,
                None => !written.wiped || seen.is_zero(),
            },
            None => true,
        };
        reads.accounts.iter().all(account) && reads.storage.iter().all(slot)
    }

    fn with_fees(&self, account: Option<AccountInfo>) -> Option<AccountInfo> {
        let Some(fees) = self.fees else { return account };
        let mut account = account.unwrap_or_default();
        account.balance = account.balance.saturating_add(fees);
        (!self.fork.clears_empty_accounts() || !account.is_empty()).then_some(account)
    }
}

impl<V: StateView> StateView for Overlay<V> {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        let account = match self.accounts.get(&address) {
            Some(written) => written.info,
            None => self.base.account(address)?,
        };
        Ok(if address == self.beneficiary { self.with_fees(account) } else { account })
    }

    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        match self.codes.get(&code_hash) {
            Some(code) => Ok(code.clone()),
            None => self.base.code(code_hash),
        }
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        if let Some(written) = self.accounts.get(&address) {
            if let Some(value) = written.storage.get(&slot) {
                return Ok(*value);
            }
            if written.wiped {
                return Ok(U256::ZERO);
            }
        }
        self.base.storage(address, slot)
    }

    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        self.base.block_hash(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Chain, Fork, Header};
    use crate::validate::holds;
    use crate::vm::AccountChange;

    const BENEFICIARY: Address = Address::repeat_byte(0xbe);

    fn env() -> ExecutionEnv {
        let header = Header {
            number: 1,
            parent_hash: B256::ZERO,
            beneficiary: BENEFICIARY,
            timestamp: 1,
            gas_limit: 1,
            base_fee: 1,
            difficulty: U256::ZERO,
            prev_randao: B256::ZERO,
            excess_blob_gas: Some(0),
            parent_beacon_root: None,
            slot_number: None,
        };
        ExecutionEnv { chain: Chain::new(1, Fork::Prague), header }
    }

    fn change(balance: Option<u64>, wiped: bool, storage: &[(u64, u64)]) -> AccountChange {
        let info =
            balance.map(|wei| AccountInfo { balance: U256::from(wei), nonce: 1, ..AccountInfo::default() });
        let storage = storage.iter().map(|(slot, value)| (U256::from(*slot), U256::from(*value))).collect();
        AccountChange { info, wiped, storage }
    }

    fn changes(accounts: &[(Address, AccountChange)]) -> Changes {
        Changes { accounts: accounts.to_vec(), codes: Vec::new() }
    }

    #[test]
    fn what_was_read_below_still_reads_the_same_exactly_if_it_holds() {
        let [kept, paid, same, gone, anew] = [1, 2, 3, 4, 5].map(Address::repeat_byte);
        let before = || change(Some(7), false, &[(1, 10), (2, 20)]);
        let mut base = State::default();
        base.apply(&changes(&[kept, paid, same, gone, anew, BENEFICIARY].map(|who| (who, before()))));
        let mut now = Overlay::new(&env(), base.clone());
        now.write(&changes(&[
            (paid, change(Some(8), false, &[(1, 11)])),
            (same, change(Some(7), false, &[(1, 10)])),
            (gone, change(None, true, &[])),
            (anew, change(Some(7), true, &[(1, 10)])),
        ]));
        let mut held = 0;
        for who in [kept, paid, same, gone, anew, Address::repeat_byte(6)] {
            let account = ReadSet { accounts: vec![(who, base.account(&who))], ..ReadSet::default() };
            let slots = [1, 2, 3].map(U256::from).map(|slot| ReadSet {
                storage: vec![(who, slot, base.slot(&who, &slot))],
                ..ReadSet::default()
            });
            for reads in slots.into_iter().chain([account]) {
                assert_eq!(now.still_reads(&reads), holds(&reads, &now), "{reads:?}");
                held += usize::from(now.still_reads(&reads));
            }
        }
        // All except: `paid` and its slot 1, `gone` and its slots 1 and 2, slot 2 of `anew`.
        assert_eq!(held, 24 - 6);
        let beneficiary =
            ReadSet { accounts: vec![(BENEFICIARY, base.account(&BENEFICIARY))], ..ReadSet::default() };
        assert!(!now.still_reads(&beneficiary), "its fees are not written yet");
    }
}
