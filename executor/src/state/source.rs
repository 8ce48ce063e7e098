//! A state that is looked up as it is read: each account and slot is requested when execution first
//! reads it, and recorded.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use revm::bytecode::Bytecode;
use revm::primitives::map::HashMap;
use revm::primitives::{Address, B256, Bytes, KECCAK_EMPTY, U256, keccak256};

use super::code::analysed;
use crate::block::{Fork, PreAccount, PreState};
use crate::vm::AccountInfo;

/// Why a question has no answer.
pub type NoAnswer = Box<dyn std::error::Error + Send + Sync>;

/// Balance, nonce and code of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Wei.
    pub balance: U256,
    /// Nonce.
    pub nonce: u64,
    /// Keccak-256 of the code.
    pub code_hash: B256,
    /// The code; empty if there is none, or if it is not known.
    pub code: Bytes,
}

impl Found {
    /// Makes an account from its code, which is known.
    pub fn with_code(balance: U256, nonce: u64, code: Bytes) -> Self {
        let code_hash = if code.is_empty() { KECCAK_EMPTY } else { keccak256(&code) };
        Self { balance, nonce, code_hash, code }
    }

    /// Whether the account has no code, judged by the hash.
    pub fn has_no_code(&self) -> bool {
        self.code_hash == KECCAK_EMPTY
    }

    /// Whether `code` is the code that the hash belongs to.
    pub fn has_its_code(&self) -> bool {
        keccak256(&self.code) == self.code_hash
    }
}

/// Answers questions about the state before a block.
pub trait Answers: Debug + Send + Sync {
    /// An account; `None`: it does not exist.
    ///
    /// # Errors
    /// If the answer cannot be determined.
    fn account(&self, address: Address) -> Result<Option<Found>, NoAnswer>;
    /// The value of a slot of an existing account.
    ///
    /// # Errors
    /// If the answer cannot be determined.
    fn slot(&self, address: Address, slot: U256) -> Result<U256, NoAnswer>;
    /// The hash of an earlier block that `BLOCKHASH` can reach.
    ///
    /// # Errors
    /// If the answer cannot be determined.
    fn block_hash(&self, number: u64) -> Result<B256, NoAnswer>;
}

/// What a block has read.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    /// Accounts with the slots that were read, even zero ones; `None`: the account does not exist.
    pub accounts: BTreeMap<Address, Option<PreAccount>>,
    /// Hashes of earlier blocks, by number.
    pub hashes: BTreeMap<u64, B256>,
}

impl Reads {
    /// The accounts that exist, with their non-zero slots.
    pub fn pre(&self) -> PreState {
        let mut pre = PreState::new();
        for (address, account) in &self.accounts {
            if let Some(mut account) = account.clone() {
                account.storage.retain(|_, value| !value.is_zero());
                pre.insert(*address, account);
            }
        }
        pre
    }

    /// Everything that was requested, with absent accounts as empty ones, and with zero slots.
    pub(crate) fn asked(&self) -> PreState {
        let account = |account: &Option<PreAccount>| account.clone().unwrap_or_default();
        self.accounts.iter().map(|(address, of)| (*address, account(of))).collect()
    }
}

/// Asks each question once and records the answer. After the first question without an answer
/// everything else is answered as absent, and the results of the execution are worthless.
#[derive(Debug)]
pub struct Source {
    answers: Arc<dyn Answers>,
    fork: Fork,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    reads: Reads,
    codes: HashMap<B256, Bytecode>,
    failed: Option<NoAnswer>,
}

impl Source {
    /// Asks `answers` about the state before a block of `fork`.
    pub fn new(answers: Arc<dyn Answers>, fork: Fork) -> Self {
        Self { answers, fork, noted: Mutex::default() }
    }

    /// Everything that was read.
    ///
    /// # Errors
    /// If a question had no answer: the error of the first one.
    pub fn reads(&self) -> Result<Reads, NoAnswer> {
        let mut noted = self.noted();
        match noted.failed.take() {
            Some(error) => Err(error),
            None => Ok(noted.reads.clone()),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.noted().failed.is_some()
    }

    pub(super) fn account(&self, address: &Address) -> Option<AccountInfo> {
        let mut noted = self.noted();
        if noted.failed.is_some() {
            return None;
        }
        if let Some(known) = noted.reads.accounts.get(address) {
            return known.as_ref().map(info);
        }
        let account = match self.answers.account(*address) {
            Ok(found) => found.map(account),
            Err(error) => {
                noted.failed = Some(error);
                return None;
            }
        };
        // From Spurious Dragon on there are no empty accounts, and a node's answer for one is the
        // same as for an absent one.
        let account =
            account.filter(|account| !self.fork.clears_empty_accounts() || !info(account).is_empty());
        let info = account.as_ref().map(info);
        if let (Some(info), Some(account)) = (&info, account.as_ref().filter(|it| it.code_hash.is_none())) {
            noted.codes.entry(info.code_hash).or_insert_with(|| analysed(&account.code));
        }
        noted.reads.accounts.insert(*address, account);
        info
    }

    pub(super) fn slot(&self, address: &Address, slot: &U256) -> U256 {
        // Reading a slot implies reading its account.
        if self.account(address).is_none() {
            return U256::ZERO;
        }
        let mut noted = self.noted();
        let known = noted.reads.accounts.get(address).and_then(|of| of.as_ref()?.storage.get(slot));
        if let Some(value) = known {
            return *value;
        }
        match self.answers.slot(*address, *slot) {
            Ok(value) => {
                if let Some(Some(account)) = noted.reads.accounts.get_mut(address) {
                    account.storage.insert(*slot, value);
                }
                value
            }
            Err(error) => {
                noted.failed = Some(error);
                U256::ZERO
            }
        }
    }

    pub(super) fn code(&self, hash: &B256) -> Option<Bytecode> {
        self.noted().codes.get(hash).cloned()
    }

    pub(super) fn hash_of(&self, number: u64) -> Option<B256> {
        let mut noted = self.noted();
        if let Some(hash) = noted.reads.hashes.get(&number) {
            return Some(*hash);
        }
        match self.answers.block_hash(number) {
            Ok(hash) => {
                noted.reads.hashes.insert(number, hash);
                Some(hash)
            }
            Err(error) => {
                noted.failed = Some(error);
                None
            }
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn info(account: &PreAccount) -> AccountInfo {
    AccountInfo { balance: account.balance, nonce: account.nonce, code_hash: account.hash_of_code() }
}

fn account(found: Found) -> PreAccount {
    let unknown = found.code.is_empty() && found.code_hash != KECCAK_EMPTY;
    PreAccount {
        balance: found.balance,
        nonce: found.nonce,
        code: found.code,
        code_hash: unknown.then_some(found.code_hash),
        ..PreAccount::default()
    }
}
