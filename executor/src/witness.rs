//! An execution witness: the nodes of the state trie that a block reads and changes, the code that
//! it runs, and the headers that lead to its parent. It proves the state before the block and
//! allows computing the state root after it.
//!
//! Nothing in a witness is trusted except by its hash. The block's `parentHash` identifies the
//! parent's header, that header the root of the state before, and each trie node its children. If a
//! needed node is missing, the error names it.

mod alone;
mod full;
mod header;
mod json;
mod root;
mod trie;

use std::collections::BTreeMap;

use alloy_consensus::Header;
use alloy_rlp::Decodable;
use alloy_trie::TrieAccount;
use revm::primitives::map::HashMap;
use revm::primitives::{Address, B256, Bytes, KECCAK_EMPTY, U256, keccak256};

use crate::block::{Fork, PreAccount, PreState};
use crate::vm::AccountInfo;
use trie::{Nodes, TrieError};

pub(crate) use alone::{Proofs, execute};
pub(crate) use full::Full;
pub(crate) use json::WitnessJson;

/// The most trie nodes in a witness. A block of 100 million gas can touch some 40,000 slots, each
/// below some ten nodes of its own.
const MAX_NODES: usize = 2_000_000;
/// The most code entries in a witness. A block of 100 million gas can call some 40,000 contracts.
const MAX_CODES: usize = 200_000;
/// How many earlier blocks `BLOCKHASH` reaches, and so the most headers that are of use.
const MAX_HEADERS: usize = 256;

/// A witness whose headers lead to the parent of its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    nodes: Nodes,
    codes: HashMap<B256, Bytes>,
    /// As RLP: the parent's first, then in each case the header of the parent of the one before.
    headers: Vec<Bytes>,
    /// Root of the state before the block.
    root: B256,
    /// Numbers and hashes of the blocks in `headers`.
    hashes: BTreeMap<u64, B256>,
}

/// Why a witness cannot be used for its block: what is wrong, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}. {hint}")]
pub struct WitnessError {
    /// What is wrong.
    pub reason: String,
    /// What to do next.
    pub hint: &'static str,
}

const ASK_AGAIN: &str = "Fetch the witness again with debug_executionWitness(n), for this very block.";
const ASK_ANOTHER: &str = "The node left it out of the witness: fetch the witness from another client, or take the key `witness` out.";
const OF_ANOTHER: &str = "`pre` and `witness` are of different blocks or chains: fetch both again, or make the file with `shard-executor import`.";

impl Witness {
    /// Assembles the witness of block `number` with parent `parent_hash`. Headers may come in any
    /// order; those that do not lead to the parent are dropped.
    pub(crate) fn new(
        nodes: impl IntoIterator<Item = Bytes>,
        codes: impl IntoIterator<Item = Bytes>,
        headers: Vec<Bytes>,
        parent_hash: B256,
        number: u64,
    ) -> Result<Self, WitnessError> {
        let mut by_hash: HashMap<B256, Bytes> =
            headers.into_iter().map(|header| (keccak256(&header), header)).collect();
        let mut chain = Vec::new();
        let (mut hashes, mut root) = (BTreeMap::new(), None);
        let (mut wanted, mut child) = (parent_hash, number);
        while let Some(rlp) = by_hash.remove(&wanted).filter(|_| chain.len() < MAX_HEADERS) {
            let header = Header::decode(&mut rlp.as_ref()).map_err(|error| WitnessError {
                reason: format!("the header {wanted} in `witness` is not one ({error})"),
                hint: ASK_AGAIN,
            })?;
            if header.number.checked_add(1) != Some(child) {
                return Err(WitnessError {
                    reason: format!(
                        "the header {wanted} in `witness` is of block {}, and the parent of block {child} is wanted",
                        header.number
                    ),
                    hint: ASK_AGAIN,
                });
            }
            hashes.insert(header.number, wanted);
            root.get_or_insert(header.state_root);
            chain.push(rlp);
            (wanted, child) = (header.parent_hash, header.number);
        }
        let Some(root) = root else {
            return Err(WitnessError {
                reason: format!(
                    "`witness` has no header of block {} with the hash {parent_hash}, block {number}'s parentHash",
                    number.saturating_sub(1)
                ),
                hint: ASK_AGAIN,
            });
        };
        let by_hash = |bytes: Bytes| (keccak256(&bytes), bytes);
        let nodes = nodes.into_iter().map(by_hash).collect();
        let codes = codes.into_iter().map(by_hash).collect();
        Ok(Self { nodes, codes, headers: chain, root, hashes })
    }

    /// Root of the state before the block.
    pub const fn root(&self) -> B256 {
        self.root
    }

    /// Hashes of earlier blocks that the headers prove, by number.
    pub const fn hashes(&self) -> &BTreeMap<u64, B256> {
        &self.hashes
    }

    /// The parent's header, as RLP.
    pub fn parent(&self) -> &[u8] {
        self.headers.first().map_or(&[], |header| header)
    }

    /// Code by its hash.
    pub fn code(&self, hash: &B256) -> Option<&Bytes> {
        self.codes.get(hash)
    }

    /// The account as it stood before the block; `None`: it did not exist.
    ///
    /// # Errors
    /// If the witness proves neither.
    pub fn account(&self, address: Address) -> Result<Option<AccountInfo>, WitnessError> {
        let info =
            |of: TrieAccount| AccountInfo { balance: of.balance, nonce: of.nonce, code_hash: of.code_hash };
        Ok(self.trie_account(address)?.map(info))
    }

    /// The value of a slot before the block.
    ///
    /// # Errors
    /// If the witness does not prove it.
    pub fn slot(&self, address: Address, slot: U256) -> Result<U256, WitnessError> {
        let Some(account) = self.trie_account(address)? else { return Ok(U256::ZERO) };
        self.slot_below(account.storage_root, address, slot)
    }

    fn slot_below(&self, root: B256, address: Address, slot: U256) -> Result<U256, WitnessError> {
        let what = || format!("slot {slot:#x} of account {address}");
        let value = trie::get(&self.nodes, root, &trie::key(slot.to_be_bytes::<32>()));
        match value.map_err(|error| unproven(&what(), &error))? {
            None => Ok(U256::ZERO),
            Some(rlp) => decoded(&rlp).ok_or_else(|| WitnessError {
                reason: format!("`witness` has a value that is no number for {}", what()),
                hint: ASK_AGAIN,
            }),
        }
    }

    fn trie_account(&self, address: Address) -> Result<Option<TrieAccount>, WitnessError> {
        let what = || format!("account {address}");
        let value = trie::get(&self.nodes, self.root, &trie::key(address));
        match value.map_err(|error| unproven(&what(), &error))? {
            None => Ok(None),
            Some(rlp) => decoded(&rlp).map(Some).ok_or_else(|| WitnessError {
                reason: format!("`witness` has something that is no account for {}", what()),
                hint: ASK_AGAIN,
            }),
        }
    }

    /// Checks that every account and slot of `pre` is what the state before the block held.
    ///
    /// # Errors
    /// For the first, by address and slot, that is not, or that the witness does not prove.
    pub(crate) fn prove(&self, pre: &PreState, fork: Fork) -> Result<(), WitnessError> {
        for (address, account) in pre {
            self.prove_account(*address, account, fork)?;
        }
        Ok(())
    }

    fn prove_account(&self, address: Address, account: &PreAccount, fork: Fork) -> Result<(), WitnessError> {
        let differs = |what: &str, pre: String, proven: String| WitnessError {
            reason: format!("account {address} has {what} {pre} in `pre`, and {proven} by `witness`"),
            hint: OF_ANOTHER,
        };
        let code_hash = account.hash_of_code();
        let found = self.trie_account(address)?;
        let found = match found {
            Some(found) => found,
            None => {
                let empty = account.balance.is_zero() && account.nonce == 0 && code_hash == KECCAK_EMPTY;
                if !empty || !fork.clears_empty_accounts() {
                    return Err(WitnessError {
                        reason: format!("account {address} is in `pre`, and by `witness` it does not exist"),
                        hint: OF_ANOTHER,
                    });
                }
                TrieAccount::default()
            }
        };
        if account.balance != found.balance {
            return Err(differs("balance", account.balance.to_string(), found.balance.to_string()));
        }
        if account.nonce != found.nonce {
            return Err(differs("nonce", account.nonce.to_string(), found.nonce.to_string()));
        }
        if code_hash != found.code_hash {
            return Err(differs("code with hash", code_hash.to_string(), found.code_hash.to_string()));
        }
        for (slot, value) in &account.storage {
            let proven = self.slot_below(found.storage_root, address, *slot)?;
            if *value != proven {
                return Err(differs(
                    &format!("slot {slot:#x} ="),
                    format!("{value:#x}"),
                    format!("{proven:#x}"),
                ));
            }
        }
        Ok(())
    }

    fn preimages(&self) -> (impl Iterator<Item = &Bytes>, impl Iterator<Item = &Bytes>, &[Bytes]) {
        let sorted = |of: &'_ HashMap<B256, Bytes>| {
            let mut hashes: Vec<B256> = of.keys().copied().collect();
            hashes.sort_unstable();
            hashes
        };
        let nodes = sorted(&self.nodes).into_iter().filter_map(|hash| self.nodes.get(&hash));
        let codes = sorted(&self.codes).into_iter().filter_map(|hash| self.codes.get(&hash));
        (nodes, codes, &self.headers)
    }
}

fn unproven(what: &str, error: &TrieError) -> WitnessError {
    match error {
        TrieError::Missing { .. } => WitnessError {
            reason: format!("`witness` does not prove {what}: it lacks {error}"),
            hint: ASK_ANOTHER,
        },
        TrieError::Malformed { .. } => {
            WitnessError { reason: format!("`witness` does not prove {what}: {error}"), hint: ASK_AGAIN }
        }
    }
}

/// A decoded value; `None` if it is malformed or bytes are left over.
fn decoded<T: Decodable>(mut rlp: &[u8]) -> Option<T> {
    T::decode(&mut rlp).ok().filter(|_| rlp.is_empty())
}
