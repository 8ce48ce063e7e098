//! The state a block runs on: accounts, storage, code and the hashes of earlier blocks.

mod code;
mod digest;
mod journal;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use revm::bytecode::Bytecode;
use revm::primitives::map::HashMap;
use revm::primitives::{Address, B256, Bytes, KECCAK_EMPTY, U256, keccak256};

use crate::block::{Block, BlockError, Fork, PreAccount, PreState};
use crate::vm::{AccountInfo, Changes, StateView, ViewError};

pub use code::analysed;
pub(crate) use journal::Journal;
pub use source::{Answers, Found, NoAnswer, Reads, Source};

/// How many earlier blocks `BLOCKHASH` reaches; older hashes are dropped.
const HASHES_KEPT: u64 = 256;

/// An account with its storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Account {
    info: AccountInfo,
    /// Slots that are not zero.
    storage: HashMap<U256, U256>,
}

/// Everything a block can read. Cheap to share for reading; cloned only if it must change while
/// somebody still reads it.
#[derive(Clone, Debug, Default)]
pub struct State {
    accounts: HashMap<Address, Account>,
    codes: HashMap<B256, Bytecode>,
    hashes: BTreeMap<u64, B256>,
    /// Number and hash of the block that produced this state, once one has run.
    tip: Option<(u64, B256)>,
    /// What the current block has written, if it is recorded.
    journal: Option<Journal>,
    /// Answers for everything that is neither here nor written; `None`: what is not here does not
    /// exist.
    source: Option<Arc<Source>>,
}

impl State {
    /// A state of exactly these accounts.
    pub fn from_pre(pre: &PreState) -> Self {
        let mut state = Self::default();
        for (address, account) in pre {
            state.add_code(&account.code);
            let code_hash = account.hash_of_code();
            let info = AccountInfo { balance: account.balance, nonce: account.nonce, code_hash };
            let storage =
                account.storage.iter().filter(|(_, v)| !v.is_zero()).map(|(k, v)| (*k, *v)).collect();
            state.accounts.insert(*address, Account { info, storage });
        }
        state
    }

    /// A state that is looked up in `source` as `block` reads it. Valid for this one block only.
    pub fn found_out(source: Arc<Source>, block: &Block) -> Self {
        let tip = block.number().checked_sub(1).map(|parent| (parent, block.header.parent_hash));
        Self { source: Some(source), tip, ..Self::default() }
    }

    /// The state that `block` runs on: its own `pre` if it has one, else `previous`, which must be
    /// the state that its parent left.
    pub fn after(previous: Option<Self>, block: &Block) -> Result<Self, BlockError> {
        let mut state = match (&block.pre, previous) {
            (Some(pre), _) => Self::from_pre(pre),
            (None, None) => {
                return Err(BlockError::NoState { path: block.path.clone(), number: block.number() });
            }
            (None, Some(state)) => {
                state.check_follows(block)?;
                state
            }
        };
        state.journal = (block.witness.is_some() || state.source.is_some()).then(Journal::default);
        state.hashes.extend(&block.hashes);
        if let Some(parent) = block.number().checked_sub(1) {
            state.hashes.entry(parent).or_insert(block.header.parent_hash);
        }
        state.hashes = state.hashes.split_off(&block.number().saturating_sub(HASHES_KEPT));
        Ok(state)
    }

    fn check_follows(&self, block: &Block) -> Result<(), BlockError> {
        match self.tip {
            Some((number, hash)) if number.checked_add(1) == Some(block.number()) => {
                if hash == block.header.parent_hash {
                    return Ok(());
                }
                Err(BlockError::Wrong {
                    path: block.path.clone(),
                    reason: format!(
                        "block {} has no `pre` and its parentHash {} is not the hash {hash} of block {number} in the same folder",
                        block.number(),
                        block.header.parent_hash
                    ),
                    hint: "The files are of different chains: keep those of one, or give this block a `pre`."
                        .into(),
                })
            }
            _ => Err(BlockError::NoState { path: block.path.clone(), number: block.number() }),
        }
    }

    /// Records that `block` has run to its end, so that the next one can run on this state.
    pub fn close(&mut self, block: &Block) {
        self.tip = Some((block.number(), block.hash));
        self.hashes.insert(block.number(), block.hash);
    }

    /// Applies the changes of a transaction or a system call.
    pub fn apply(&mut self, changes: &Changes) {
        for (hash, code) in &changes.codes {
            self.codes.entry(*hash).or_insert_with(|| analysed(code));
        }
        for (address, change) in &changes.accounts {
            self.write(*address, change.info, change.wiped, change.storage.iter().copied());
        }
    }

    /// Writes one account.
    pub(crate) fn write(
        &mut self,
        address: Address,
        info: Option<AccountInfo>,
        wiped: bool,
        storage: impl IntoIterator<Item = (U256, U256)>,
    ) {
        let written = self.journal.as_mut().map(|journal| {
            if wiped || info.is_none() {
                journal.wipe(address);
            }
            journal.touch(address)
        });
        let Some(info) = info else {
            self.accounts.remove(&address);
            return;
        };
        let account = self.accounts.entry(address).or_default();
        account.info = info;
        if wiped {
            account.storage.clear();
        }
        let mut slots = written.map(|written| &mut written.slots);
        for (slot, value) in storage {
            if let Some(slots) = &mut slots {
                slots.insert(slot);
            }
            if value.is_zero() {
                account.storage.remove(&slot);
            } else {
                account.storage.insert(slot, value);
            }
        }
    }

    /// Adds code that is already analysed.
    pub(crate) fn add_codes(&mut self, codes: HashMap<B256, Bytecode>) {
        for (hash, code) in codes {
            self.codes.entry(hash).or_insert(code);
        }
    }

    /// Adds to a balance and touches the account, as fees, withdrawals and rewards do.
    pub fn credit(&mut self, address: Address, wei: U256, fork: Fork) {
        let before = self.account(&address);
        if wei.is_zero() && fork.clears_empty_accounts() {
            if before.is_some_and(|info| info.is_empty()) {
                self.write(address, None, true, []);
            }
            return;
        }
        if let Some(journal) = &mut self.journal {
            journal.touch(address);
        }
        let account = self.accounts.entry(address).or_default();
        account.info = before.unwrap_or_default();
        account.info.balance = account.info.balance.saturating_add(wei);
    }

    /// Digest of the whole state; see [`digest`] for what exactly is hashed.
    pub fn digest(&self) -> B256 {
        digest::of(self.accounts.iter().map(|(address, account)| (address, &account.info, &account.storage)))
    }

    /// An account, if it exists.
    pub fn account(&self, address: &Address) -> Option<AccountInfo> {
        match (self.accounts.get(address), &self.source) {
            (Some(account), _) => Some(account.info),
            (None, Some(source)) if self.written(address).is_none() => source.account(address),
            (None, _) => None,
        }
    }

    /// The value of a slot; zero if it was never written.
    pub fn slot(&self, address: &Address, slot: &U256) -> U256 {
        let here = self.accounts.get(address).and_then(|account| account.storage.get(slot));
        match (here, &self.source) {
            (Some(value), _) => *value,
            (None, Some(source))
                if self.written(address).is_none_or(|it| !it.wiped && !it.slots.contains(slot)) =>
            {
                source.slot(address, slot)
            }
            (None, _) => U256::ZERO,
        }
    }

    fn written(&self, address: &Address) -> Option<&journal::Written> {
        self.journal.as_ref()?.of(address)
    }

    /// What the current block has written. It is recorded only for a block with a witness and for a
    /// state with a source.
    pub(crate) const fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// The slots of an account that are not zero, as far as they are known here.
    pub(crate) fn slots(&self, address: &Address) -> impl Iterator<Item = &U256> {
        self.accounts.get(address).into_iter().flat_map(|account| account.storage.keys())
    }

    /// Copies what a block has written to `other`.
    pub(crate) fn take_over(&mut self, other: &Self) {
        for (hash, code) in &other.codes {
            self.codes.entry(*hash).or_insert_with(|| code.clone());
        }
        for (address, written) in other.journal.iter().flat_map(Journal::accounts) {
            let storage: Vec<_> = if written.wiped {
                other.slots(address).map(|slot| (*slot, other.slot(address, slot))).collect()
            } else {
                written.slots.iter().map(|slot| (*slot, other.slot(address, slot))).collect()
            };
            self.write(*address, other.accounts.get(address).map(|of| of.info), written.wiped, storage);
        }
    }

    /// Code by its hash, as a block's file holds it; `None`: it is not known.
    pub(crate) fn code_of(&self, code_hash: &B256) -> Option<Bytes> {
        if *code_hash == KECCAK_EMPTY {
            return Some(Bytes::new());
        }
        self.codes.get(code_hash).map(Bytecode::original_bytes)
    }

    /// All accounts, in the form of a block's file.
    pub(crate) fn to_pre(&self) -> PreState {
        let account = |account: &Account| PreAccount {
            balance: account.info.balance,
            nonce: account.info.nonce,
            code: self.code_of(&account.info.code_hash).unwrap_or_default(),
            code_hash: None,
            storage: account.storage.iter().map(|(slot, value)| (*slot, *value)).collect(),
        };
        self.accounts.iter().map(|(address, of)| (*address, account(of))).collect()
    }

    /// Hashes of earlier blocks, by number.
    pub(crate) const fn hashes(&self) -> &BTreeMap<u64, B256> {
        &self.hashes
    }

    /// Hash of an earlier block, from a block's file, an earlier block or the source.
    pub fn hash_of(&self, number: u64) -> Option<B256> {
        self.hashes.get(&number).copied().or_else(|| self.source.as_ref()?.hash_of(number))
    }

    /// The addresses of all accounts, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.accounts.keys()
    }

    /// Returns `answer`, unless the source failed to answer this or an earlier question.
    fn unless_failed<T>(&self, answer: T) -> Result<T, ViewError> {
        match &self.source {
            Some(source) if source.has_failed() => {
                Err(ViewError::Unavailable("a question had no answer".into()))
            }
            _ => Ok(answer),
        }
    }

    fn add_code(&mut self, code: &Bytes) {
        if !code.is_empty() {
            self.codes.entry(keccak256(code)).or_insert_with(|| analysed(code));
        }
    }
}

impl StateView for State {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        let account = Self::account(self, &address);
        self.unless_failed(account)
    }

    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        if code_hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        let found_out = || self.source.as_ref()?.code(&code_hash);
        self.codes.get(&code_hash).cloned().or_else(found_out).ok_or(ViewError::UnknownCode(code_hash))
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        let value = self.slot(&address, &slot);
        self.unless_failed(value)
    }

    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        self.hash_of(number).ok_or(ViewError::UnknownBlockHash(number))
    }
}
