//! A multi-version memory: for each account and slot the values that transactions wrote to it,
//! ordered by the transactions' places.
//!
//! The values were executed ahead and may be wrong; nothing is decided by them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use revm::bytecode::Bytecode;
use revm::primitives::map::HashMap;
use revm::primitives::{Address, B256, U256};
use smallvec::SmallVec;

use crate::state::analysed;
use crate::vm::{AccountInfo, Changes, StateView};

/// Parts of the memory, each with its own lock. Far more than threads, so that two seldom contend.
const SHARDS: usize = 64;
/// Words of the filter, 64 keys each. With 5,000 keys written by a large block, it recognises nine
/// of ten unwritten keys without a lock.
const FILTER_WORDS: usize = 1024;

/// Values by place, ascending. Most keys are written once in a block, which needs no allocation.
type Versions<T> = SmallVec<[(usize, T); 1]>;

#[derive(Default)]
struct Shard {
    accounts: HashMap<Address, Versions<Option<AccountInfo>>>,
    slots: HashMap<(Address, U256), Versions<U256>>,
}

#[derive(Clone, Copy)]
enum Key {
    Account(Address),
    Slot(Address, U256),
    Wipe(Address),
}

/// Writes of transactions whose outcomes may still change.
pub(super) struct Memory {
    shards: Box<[Mutex<Shard>]>,
    /// A bit is set for every key ever written: most reads are of keys that nobody wrote.
    filter: Box<[AtomicU64]>,
    /// The places at which an account's storage was cleared; rare, so stored separately.
    wipes: Mutex<HashMap<Address, Vec<usize>>>,
    any_wipe: AtomicBool,
    /// Code that was created. It is named by its hash, so it has no versions.
    codes: Mutex<HashMap<B256, Bytecode>>,
    any_code: AtomicBool,
    /// The keys written by each place, to remove those that it does not write the next time.
    written: Vec<Mutex<Vec<Key>>>,
}

impl Memory {
    /// A memory for this many transactions, with nothing written yet.
    pub(super) fn new(places: usize) -> Self {
        let mut new = Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            filter: (0..FILTER_WORDS).map(|_| AtomicU64::new(0)).collect(),
            wipes: Mutex::default(),
            any_wipe: AtomicBool::new(false),
            codes: Mutex::default(),
            any_code: AtomicBool::new(false),
            written: Vec::new(),
        };
        new.written.resize_with(places, Mutex::default);
        new
    }

    /// Clears the memory for reuse, retaining its allocations: at most what the largest batch took.
    pub(super) fn anew(mut self, places: usize) -> Self {
        for shard in &mut self.shards {
            let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            shard.accounts.clear();
            shard.slots.clear();
        }
        for word in &mut self.filter {
            *word.get_mut() = 0;
        }
        self.wipes.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        *self.any_wipe.get_mut() = false;
        self.codes.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        *self.any_code.get_mut() = false;
        for written in &mut self.written {
            written.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        }
        self.written.resize_with(places, Mutex::default);
        self
    }

    /// Records what the transaction at `place` writes on top of `base`, replacing what it wrote
    /// before.
    ///
    /// An account of which only storage was written is left out as long as no transaction has
    /// written more of it: for example a token, which every other transaction reads too. Recording
    /// it would make them all conflict for nothing.
    pub(super) fn publish(&self, place: usize, changes: &Changes, base: &impl StateView) {
        if !changes.codes.is_empty() {
            let mut codes = lock(&self.codes);
            for (hash, code) in &changes.codes {
                codes.entry(*hash).or_insert_with(|| analysed(code));
            }
            self.any_code.store(true, Ordering::Release);
        }
        let Some(written) = self.written.get(place) else { return };
        let mut written = lock(written);
        let before = if written.is_empty() { Vec::new() } else { std::mem::take(&mut *written) };
        for (address, change) in &changes.accounts {
            if change.wiped {
                let mut wipes = lock(&self.wipes);
                let places = wipes.entry(*address).or_default();
                if let Err(at) = places.binary_search(&place) {
                    places.insert(at, place);
                }
                self.any_wipe.store(true, Ordering::Release);
                written.push(Key::Wipe(*address));
            }
            let key = mix(address, None);
            let as_before = || base.account(*address).is_ok_and(|before| before == change.info);
            if self.maybe(key) || !as_before() {
                put(&mut lock(self.shard(key)).accounts, *address, place, change.info);
                self.note(key);
                written.push(Key::Account(*address));
            }
            for (slot, value) in &change.storage {
                let key = mix(address, Some(slot));
                put(&mut lock(self.shard(key)).slots, (*address, *slot), place, *value);
                self.note(key);
                written.push(Key::Slot(*address, *slot));
            }
        }
        if !before.is_empty() {
            self.take_back(place, before, &written);
        }
    }

    /// Removes keys that `place` wrote before and does not write now.
    fn take_back(&self, place: usize, before: Vec<Key>, now: &[Key]) {
        for key in before {
            if now.iter().any(|other| same(&key, other)) {
                continue;
            }
            match key {
                Key::Account(address) => {
                    let mut shard = lock(self.shard(mix(&address, None)));
                    remove(shard.accounts.get_mut(&address), place);
                }
                Key::Slot(address, slot) => {
                    let mut shard = lock(self.shard(mix(&address, Some(&slot))));
                    remove(shard.slots.get_mut(&(address, slot)), place);
                }
                Key::Wipe(address) => {
                    if let Some(places) = lock(&self.wipes).get_mut(&address) {
                        places.retain(|at| *at != place);
                    }
                }
            }
        }
    }

    /// The account after the transactions before `place`; `None`: none of them wrote it.
    pub(super) fn account(&self, address: &Address, place: usize) -> Option<Option<AccountInfo>> {
        let key = mix(address, None);
        if !self.maybe(key) {
            return None;
        }
        latest(lock(self.shard(key)).accounts.get(address)?, place).map(|(_, info)| info)
    }

    /// The slot's value after the transactions before `place`; `None`: none of them wrote or
    /// cleared it.
    pub(super) fn slot(&self, address: &Address, slot: &U256, place: usize) -> Option<U256> {
        let key = mix(address, Some(slot));
        let written = if self.maybe(key) {
            lock(self.shard(key)).slots.get(&(*address, *slot)).and_then(|versions| latest(versions, place))
        } else {
            None
        };
        if self.any_wipe.load(Ordering::Acquire)
            && let Some(wiped) = self.wiped(address, place)
            && written.is_none_or(|(at, _)| at < wiped)
        {
            return Some(U256::ZERO);
        }
        written.map(|(_, value)| value)
    }

    /// Code that a transaction created.
    pub(super) fn code(&self, hash: &B256) -> Option<Bytecode> {
        if !self.any_code.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.codes).get(hash).cloned()
    }

    fn wiped(&self, address: &Address, place: usize) -> Option<usize> {
        let wipes = lock(&self.wipes);
        let places = wipes.get(address)?;
        places.get(places.partition_point(|at| *at < place).checked_sub(1)?).copied()
    }

    fn shard(&self, key: u64) -> &Mutex<Shard> {
        // The top bits are the best mixed. The mask keeps the index within the `SHARDS` shards.
        &self.shards[key as usize >> 32 & (SHARDS - 1)]
    }

    fn note(&self, key: u64) {
        let (word, bit) = filter_place(key);
        if let Some(word) = self.filter.get(word) {
            word.fetch_or(bit, Ordering::Release);
        }
    }

    fn maybe(&self, key: u64) -> bool {
        let (word, bit) = filter_place(key);
        self.filter.get(word).is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
    }
}

fn filter_place(key: u64) -> (usize, u64) {
    ((key >> 48) as usize % FILTER_WORDS, 1 << (key >> 42 & 63))
}

/// A few well-mixed bits of a key, to tell keys apart before spending time on a real hash. An
/// attacker who makes keys collide makes a block slower, not wrong.
fn mix(address: &Address, slot: Option<&U256>) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let word = |at: usize| {
        let mut bytes = [0; 8];
        if let Some(from) = address.as_slice().get(at..at + 8) {
            bytes.copy_from_slice(from);
        }
        u64::from_le_bytes(bytes)
    };
    let mut key = word(0) ^ word(12).rotate_left(32);
    if let Some(slot) = slot {
        for limb in slot.as_limbs() {
            key = (key ^ limb).wrapping_mul(ODD).rotate_left(29);
        }
        key = key.wrapping_add(1);
    }
    let key = key.wrapping_mul(ODD);
    (key ^ key >> 29).wrapping_mul(ODD)
}

fn put<K: std::hash::Hash + Eq, T>(map: &mut HashMap<K, Versions<T>>, key: K, place: usize, value: T) {
    let versions = map.entry(key).or_default();
    match versions.binary_search_by_key(&place, |(at, _)| *at) {
        Ok(at) => {
            if let Some(version) = versions.get_mut(at) {
                version.1 = value;
            }
        }
        Err(at) => versions.insert(at, (place, value)),
    }
}

fn remove<T>(versions: Option<&mut Versions<T>>, place: usize) {
    if let Some(versions) = versions {
        versions.retain(|(at, _)| *at != place);
    }
}

fn latest<T: Copy>(versions: &Versions<T>, place: usize) -> Option<(usize, T)> {
    versions.get(versions.partition_point(|(at, _)| *at < place).checked_sub(1)?).copied()
}

fn same(a: &Key, b: &Key) -> bool {
    match (a, b) {
        (Key::Account(a), Key::Account(b)) | (Key::Wipe(a), Key::Wipe(b)) => a == b,
        (Key::Slot(a, s), Key::Slot(b, t)) => a == b && s == t,
        _ => false,
    }
}

/// A thread that panicked while holding the lock has left the map intact, and its contents are only
/// hints.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use crate::vm::AccountChange;

    const TOKEN: Address = Address::repeat_byte(7);

    fn info(wei: u64) -> AccountInfo {
        AccountInfo { balance: U256::from(wei), ..AccountInfo::default() }
    }

    fn changes(wei: u64, value: u64) -> Changes {
        let storage = vec![(U256::ONE, U256::from(value))];
        let change = AccountChange { info: Some(info(wei)), wiped: false, storage };
        Changes { accounts: vec![(TOKEN, change)], codes: Vec::new() }
    }

    #[test]
    fn an_account_of_which_only_storage_was_written_has_no_versions_until_more_is() {
        let mut base = State::default();
        base.apply(&changes(5, 1));
        let memory = Memory::new(4);
        memory.publish(0, &changes(5, 2), &base);
        assert_eq!(memory.account(&TOKEN, 1), None, "as it was");
        assert_eq!(memory.slot(&TOKEN, &U256::ONE, 1), Some(U256::from(2)));
        memory.publish(1, &changes(6, 3), &base);
        memory.publish(2, &changes(5, 4), &base);
        let seen = [1, 2, 3].map(|place| memory.account(&TOKEN, place));
        assert_eq!(seen, [None, Some(Some(info(6))), Some(Some(info(5)))], "from then on each is noted");
        memory.publish(1, &Changes::default(), &base);
        assert_eq!(memory.account(&TOKEN, 2), None, "taken back");
    }

    #[test]
    fn nothing_of_a_batch_is_left_for_the_next() {
        let base = State::default();
        let memory = Memory::new(2);
        let mut destroyed = changes(5, 2);
        destroyed.accounts[0].1.wiped = true;
        destroyed.codes.push((B256::repeat_byte(1), vec![0].into()));
        memory.publish(0, &destroyed, &base);
        memory.publish(1, &changes(6, 3), &base);
        assert!(memory.account(&TOKEN, 2).is_some() && memory.slot(&TOKEN, &U256::ONE, 2).is_some());
        assert_eq!(memory.slot(&TOKEN, &U256::ZERO, 1), Some(U256::ZERO), "its storage was cleared");
        assert!(memory.code(&B256::repeat_byte(1)).is_some());
        for places in [1, 5] {
            let memory = Memory::new(2).anew(places);
            assert_eq!(memory.written.len(), places);
        }
        let memory = memory.anew(4);
        for place in 0..5 {
            assert_eq!(memory.account(&TOKEN, place), None);
            assert_eq!([U256::ZERO, U256::ONE].map(|slot| memory.slot(&TOKEN, &slot, place)), [None, None]);
        }
        assert!(memory.code(&B256::repeat_byte(1)).is_none());
        // The first publication's write to this slot is not removed from the new one.
        memory.publish(1, &changes(7, 4), &base);
        memory.publish(0, &Changes::default(), &base);
        assert_eq!(memory.slot(&TOKEN, &U256::ONE, 2), Some(U256::from(4)));
    }
}
