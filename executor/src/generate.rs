//! A chain of our own, for those who have no archive node: transfers and token transfers under Prague, each block on the
//! state after the one before it.
//!
//! How blocks conflict is chosen: without conflict no two transactions of a block touch the same account or slot, except
//! that token transfers share the token's contract; with conflict that share of them pays one of a few popular accounts.
//! The same [`Plan`] always gives the same chain, byte for byte. Headers carry what sequential execution gives.

mod random;
mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;

use alloy_consensus::Header as ConsensusHeader;
use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use revm::primitives::alloy_primitives::Bloom;
use revm::primitives::{Address, B256, Bytes, U256, address, keccak256};

use crate::block::{Block, Chain, Expected, Fork, Header, PreAccount, PreState, Transaction, Withdrawal};
use crate::state::State;
use crate::validate::{self, Mismatch, ValidateError};
use random::Random;

/// Known to belong to nobody: private test networks use it.
const CHAIN_ID: u64 = 1337;
const ETHER: u128 = 1_000_000_000_000_000_000;
const GWEI: u128 = 1_000_000_000;
const BENEFICIARY: Address = address!("0x00000000000000000000000000000000feeb0a7d");
const TOKEN: Address = address!("0x0000000000000000000000000000000000700ce2");
/// Popular recipients. The first is paid as often as all others together, roughly as on mainnet.
const POPULAR: u64 = 8;
const SECONDS_PER_BLOCK: u64 = 12;
const GENESIS_TIME: u64 = 1_750_000_000;
/// A plain transfer to an account that exists or not.
const TRANSFER_GAS: u64 = 21_000;
/// A token transfer to somebody who had none uses about 52,000.
const TOKEN_GAS: u64 = 70_000;
/// The most transactions in a block; far more than any chain has.
pub const MAX_TRANSACTIONS: u32 = 100_000;

/// What chain to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Transactions in each block, at most [`MAX_TRANSACTIONS`].
    pub transactions: u32,
    /// The share of transactions, 0 to 1, that pay a popular account.
    pub conflict: f64,
    /// Another seed, another chain.
    pub seed: u64,
}

/// An endless chain; each step is a block that verifies.
#[derive(Debug)]
pub struct Generator {
    plan: Plan,
    random: Random,
    nonces: BTreeMap<Address, u64>,
    /// State after the last block, its number and hash; none before the first.
    last: Option<(State, u64, B256)>,
}

/// Why the next block could not be made. Each of these is a defect of the generator.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The block did not run to its end.
    #[error(transparent)]
    Execution(#[from] ValidateError),
    /// A transaction that the EVM refuses.
    #[error("generated block {number}: {mismatch}")]
    Invalid {
        /// The block.
        number: u64,
        /// What is wrong with it.
        mismatch: Mismatch,
    },
}

impl Generator {
    /// A generator at the beginning of the chain of `plan`.
    pub fn new(plan: Plan) -> Self {
        let plan = Plan { transactions: plan.transactions.min(MAX_TRANSACTIONS), ..plan };
        Self { plan, random: Random::new(plan.seed), nonces: BTreeMap::new(), last: None }
    }

    /// Makes the next block. Only the first has `pre`.
    pub fn next_block(&mut self) -> Result<Block, GenerateError> {
        let (previous, number, parent_hash) = match self.last.take() {
            Some((state, number, hash)) => (Some(state), number + 1, hash),
            None => (None, 1, keccak256(self.plan.seed.to_be_bytes())),
        };
        let mut block = self.draft(number, parent_hash);
        if previous.is_none() {
            block.pre = Some(self.pre());
        }
        let mut state = validate::open(&block, previous)?;
        let result = validate::run_in_order(&block, &mut state, Vec::new(), &|| {})?;
        // The draft promises nothing yet, so only a refused transaction is a fault.
        if let Some(mismatch @ Mismatch::InvalidTransaction { .. }) = result.mismatch {
            return Err(GenerateError::Invalid { number, mismatch });
        }
        block.expected = Expected {
            gas_used: result.gas_used,
            logs_bloom: result.logs_bloom,
            receipts_root: result.receipts_root.unwrap_or_default(),
        };
        block.hash = hash(&block);
        state.close(&block);
        self.last = Some((state, number, block.hash));
        Ok(block)
    }

    fn draft(&mut self, number: u64, parent_hash: B256) -> Block {
        let transactions: Vec<_> =
            (0..self.plan.transactions).map(|index| self.transaction(number, index)).collect();
        let gas: u64 = transactions.iter().map(|tx| tx.gas_limit).sum();
        Block {
            path: PathBuf::from(format!("{number}.json.gz")),
            hash: B256::ZERO,
            chain: Chain { id: CHAIN_ID, fork: Fork::Prague },
            header: Header {
                number,
                parent_hash,
                beneficiary: BENEFICIARY,
                timestamp: GENESIS_TIME + number * SECONDS_PER_BLOCK,
                gas_limit: gas.max(30_000_000),
                base_fee: GWEI as u64,
                difficulty: U256::ZERO,
                prev_randao: self.random.hash(),
                excess_blob_gas: Some(0),
                parent_beacon_root: Some(self.random.hash()),
            },
            expected: Expected { gas_used: 0, logs_bloom: Bloom::ZERO, receipts_root: B256::ZERO },
            transactions,
            withdrawals: vec![Withdrawal { address: popular(number % POPULAR), gwei: number }],
            uncles: 0,
            pre: None,
            hashes: BTreeMap::new(),
        }
    }

    /// The sender of place `index` sends once a block, so that nonces never conflict.
    fn transaction(&mut self, number: u64, index: u32) -> Transaction {
        let sender = sender(index);
        let nonce = self.nonces.entry(sender).or_default();
        let (to_popular, of_token, dynamic_fee) =
            (self.random.share() < self.plan.conflict, self.random.below(2) == 0, self.random.below(2) == 0);
        let recipient = if to_popular {
            popular(if self.random.below(2) == 0 { 0 } else { self.random.below(POPULAR) })
        } else {
            peer(index)
        };
        let amount = U256::from(1 + self.random.below(1_000_000));
        let (to, value, input, gas_limit) = if of_token {
            (TOKEN, U256::ZERO, token::transfer(recipient, amount), TOKEN_GAS)
        } else {
            (recipient, amount, Bytes::new(), TRANSFER_GAS)
        };
        let transaction = Transaction {
            // Unsigned, so the hash is only a name: unique, since a sender uses a nonce once.
            hash: keccak256([sender.as_slice(), &nonce.to_be_bytes(), &number.to_be_bytes()].concat()),
            tx_type: if dynamic_fee { 2 } else { 0 },
            sender,
            nonce: *nonce,
            to: Some(to),
            value,
            input,
            gas_limit,
            max_fee: 3 * GWEI,
            max_priority_fee: dynamic_fee.then_some(GWEI / 2),
            chain_id: Some(CHAIN_ID),
            access_list: Vec::new(),
            max_fee_per_blob_gas: 0,
            blob_hashes: Vec::new(),
            authorizations: Vec::new(),
        };
        *nonce += 1;
        transaction
    }

    /// Senders with ether and tokens, the token, and the contracts the protocol itself calls.
    fn pre(&self) -> PreState {
        let contract = |code: &[u8]| PreAccount {
            nonce: 1,
            code: Bytes::copy_from_slice(code),
            ..PreAccount::default()
        };
        let mut pre = PreState::from([
            (TOKEN, contract(&token::code())),
            (eip4788::BEACON_ROOTS_ADDRESS, contract(&eip4788::BEACON_ROOTS_CODE)),
            (eip2935::HISTORY_STORAGE_ADDRESS, contract(&eip2935::HISTORY_STORAGE_CODE)),
            (
                eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
                contract(&eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE),
            ),
            (
                eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
                contract(&eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE),
            ),
        ]);
        let mut holdings = BTreeMap::new();
        for index in 0..self.plan.transactions {
            let sender = sender(index);
            pre.insert(sender, PreAccount { balance: U256::from(1_000 * ETHER), ..PreAccount::default() });
            holdings.insert(token::balance_slot(sender), U256::from(1_000 * ETHER));
        }
        if let Some(token) = pre.get_mut(&TOKEN) {
            token.storage = holdings;
        }
        pre
    }
}

/// Addresses are hashes, as real ones are: neighbours in a block are strangers in a sorted map.
fn named(kind: &str, index: u64) -> Address {
    Address::from_word(keccak256(format!("{kind} {index}")))
}

fn sender(index: u32) -> Address {
    named("sender", u64::from(index))
}

fn peer(index: u32) -> Address {
    named("peer", u64::from(index))
}

fn popular(index: u64) -> Address {
    named("popular", index)
}

/// The header's hash. The roots that need a whole trie are left at their defaults: nothing here checks them.
fn hash(block: &Block) -> B256 {
    let header = &block.header;
    ConsensusHeader {
        parent_hash: header.parent_hash,
        beneficiary: header.beneficiary,
        receipts_root: block.expected.receipts_root,
        logs_bloom: block.expected.logs_bloom,
        number: header.number,
        gas_limit: header.gas_limit,
        gas_used: block.expected.gas_used,
        timestamp: header.timestamp,
        mix_hash: header.prev_randao,
        base_fee_per_gas: Some(header.base_fee),
        blob_gas_used: Some(0),
        excess_blob_gas: header.excess_blob_gas,
        parent_beacon_block_root: header.parent_beacon_root,
        ..ConsensusHeader::default()
    }
    .hash_slow()
}
