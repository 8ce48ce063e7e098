//! What the sources provide of the state before one block, and which source to ask for the rest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use revm::primitives::{Address, B256, Bytes, U256};

use super::missing::Missing;
use super::node::Node;
use super::parts::Parts;
use super::traces::Traces;
use crate::block::prestate::AccountJson;
use crate::block::{Block, PreAccount, PreState};
use crate::state::{Answers, Found, NoAnswer};
use crate::witness::{Proofs, Witness};

/// The value of `at` before the first transaction.
const BEFORE: usize = usize::MAX;

/// The sources, asked in this order: what was given by hand, the witness, the traces, the node.
#[derive(Debug)]
pub(super) struct Gathered {
    number: u64,
    transactions: usize,
    given: PreState,
    witness: Option<Proofs>,
    traces: Option<Traces>,
    hashes: BTreeMap<u64, B256>,
    node: Option<Arc<Node>>,
    /// Index of the current transaction; [`BEFORE`] before the first, their number after the last.
    at: AtomicUsize,
    missing: Mutex<Missing>,
    /// Accounts assumed absent because they are not in the list of the transaction that reads them.
    taken_for_absent: Mutex<Vec<Address>>,
}

impl Gathered {
    pub(super) fn new(parts: &Parts, block: &Block, traces: Option<Traces>, node: Option<Arc<Node>>) -> Self {
        let number = block.number();
        let missing = Missing { before: number.saturating_sub(1), ..Missing::default() };
        let witness: Option<Arc<Witness>> = block.witness.clone();
        let mut hashes = parts.hashes.clone();
        hashes.extend(&block.hashes);
        Self {
            number,
            transactions: block.transactions.len(),
            given: parts.given.clone(),
            witness: witness.map(Proofs),
            traces,
            hashes,
            node,
            at: AtomicUsize::new(BEFORE),
            missing: Mutex::new(missing),
            taken_for_absent: Mutex::default(),
        }
    }

    pub(super) fn begin_transactions(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    pub(super) fn next_transaction(&self) {
        // Called after each transaction when settling in order, and also when the state root is
        // computed, after all reads.
        let at = self.at.load(Ordering::Relaxed);
        if at < self.transactions {
            self.at.store(at + 1, Ordering::Relaxed);
        }
    }

    /// What was requested and no source provided.
    pub(super) fn missing(&self) -> Missing {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A possible reason why the block does not verify.
    pub(super) fn guess(&self) -> String {
        let absent = self.taken_for_absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.is_empty() || self.node.is_some() {
            return String::new();
        }
        let named: Vec<_> = absent.iter().take(10).map(ToString::to_string).collect();
        format!(
            "; {} accounts were taken for absent because no trace lists them where they are first read ({}{})",
            absent.len(),
            named.join(", "),
            if absent.len() > named.len() { ", …" } else { "" }
        )
    }

    /// The transaction that is being executed, if one is.
    fn transaction(&self) -> Option<usize> {
        Some(self.at.load(Ordering::Relaxed)).filter(|at| *at < self.transactions)
    }

    fn note(&self, what: impl FnOnce(&mut Missing)) {
        what(&mut self.missing.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// An account as a trace shows it.
    fn of_trace(&self, address: Address, traced: &AccountJson) -> Result<Option<Found>, NoAnswer> {
        let code = match (&traced.code, &self.node) {
            _ if traced.fault(address, false).is_none() => traced.code.clone().unwrap_or_default(),
            (_, Some(node)) => node.code(address, self.before())?,
            (_, None) => {
                self.note(|missing| _ = missing.codes.insert(address));
                return Ok(None);
            }
        };
        Ok(Some(Found::with_code(
            traced.balance.unwrap_or_default(),
            traced.nonce.unwrap_or_default().to(),
            code,
        )))
    }

    const fn before(&self) -> u64 {
        self.number.saturating_sub(1)
    }

    fn given(&self, address: &Address) -> Option<&PreAccount> {
        self.given.get(address)
    }
}

/// The code of the contracts that the protocol itself calls, which is the same on every chain.
fn code_of_system_contract(address: &Address) -> Option<Bytes> {
    let known: [(Address, &Bytes); 4] = [
        (eip4788::BEACON_ROOTS_ADDRESS, &eip4788::BEACON_ROOTS_CODE),
        (eip2935::HISTORY_STORAGE_ADDRESS, &eip2935::HISTORY_STORAGE_CODE),
        (eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, &eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE),
        (eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, &eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE),
    ];
    known.into_iter().find(|(of, _)| of == address).map(|(_, code)| code.clone())
}

impl Answers for Gathered {
    fn account(&self, address: Address) -> Result<Option<Found>, NoAnswer> {
        if let Some(given) = self.given(&address) {
            return Ok(Some(Found::with_code(given.balance, given.nonce, given.code.clone())));
        }
        if let Some(witness) = &self.witness {
            let found = witness.account(address)?;
            let unknown = found.as_ref().filter(|found| found.code.is_empty() && !found.has_no_code());
            return match (unknown, &self.node) {
                (Some(found), Some(node)) => {
                    let asked = Found { code: node.code(address, self.before())?, ..found.clone() };
                    // The node's answer may be wrong: the witness proves the hash.
                    Ok(Some(if asked.has_its_code() { asked } else { found.clone() }))
                }
                _ => Ok(found),
            };
        }
        if let Some(traces) = &self.traces {
            let traced = match self.transaction() {
                Some(at) => traces.at(at, &address),
                None => traces.first(&address),
            };
            if let Some(traced) = traced {
                return self.of_trace(address, traced);
            }
        }
        if let Some(node) = &self.node {
            return Ok(Some(node.account(address, self.before())?));
        }
        if self.traces.is_some() && self.transaction().is_some() {
            self.taken_for_absent.lock().unwrap_or_else(PoisonError::into_inner).push(address);
        } else {
            self.note(|missing| _ = missing.accounts.insert(address));
            // With the contract's code, execution also reveals which slots are missing.
            return Ok(code_of_system_contract(&address).map(|code| Found::with_code(U256::ZERO, 1, code)));
        }
        Ok(None)
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, NoAnswer> {
        // As everywhere in `pre`, a slot that is left out is zero.
        if let Some(given) = self.given(&address) {
            return Ok(given.storage.get(&slot).copied().unwrap_or_default());
        }
        if let Some(witness) = &self.witness {
            return witness.slot(address, slot);
        }
        let traced = match (&self.traces, self.transaction()) {
            (Some(traces), Some(at)) => {
                // Each list has the slots that its transaction is the first to read, zero or not,
                // if the client prints zeros.
                let here =
                    traces.at(at, &address).and_then(|traced| traced.storage.as_ref()?.get(&slot).copied());
                here.or_else(|| self.node.is_none().then_some(U256::ZERO))
            }
            // Outside of transactions a list may show what the protocol's own calls have written:
            // it is better to ask the node.
            (Some(traces), None) if self.node.is_none() => traces.first_slot(&address, &slot),
            _ => None,
        };
        if let Some(value) = traced {
            return Ok(value);
        }
        if let Some(node) = &self.node {
            return Ok(node.slot(address, slot, self.before())?);
        }
        self.note(|missing| _ = missing.slots.entry(address).or_default().insert(slot));
        Ok(U256::ZERO)
    }

    fn block_hash(&self, number: u64) -> Result<B256, NoAnswer> {
        if let Some(hash) = self.hashes.get(&number) {
            return Ok(*hash);
        }
        if let Some(node) = &self.node {
            return Ok(node.hash(number)?);
        }
        self.note(|missing| _ = missing.hashes.insert(number));
        Ok(B256::ZERO)
    }
}
