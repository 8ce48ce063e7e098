//! A synthetic chain, for those who have no archive node: transfers, token transfers and swaps,
//! each block on the state after the one before it.
//!
//! How much blocks conflict can be chosen. A transaction that does not conflict has a sender of its
//! own and a recipient, or a pool, of its own: no other transaction reads or writes what it writes,
//! except for the beneficiary's fee. At a conflict of 0 that holds for every transaction. A
//! transaction that conflicts pays one of [`POPULAR`] popular accounts, or swaps in one of as many
//! popular pools; one in eight also comes from one of as many popular senders, so that nonces
//! depend on each other. Popularity follows Zipf's law with the exponent [`Plan::skew`]. At a
//! conflict of 1 every transaction conflicts.
//!
//! The same [`Plan`] always gives the same chain, byte for byte. Headers carry the results of
//! sequential execution.

mod contract;
mod error;
mod kind;
mod popularity;
mod proven;
mod random;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use alloy_consensus::{EMPTY_ROOT_HASH, Header as ConsensusHeader};
use alloy_eips::eip1559::{BaseFeeParams, calc_next_block_base_fee};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use revm::primitives::alloy_primitives::Bloom;
use revm::primitives::{Address, B256, Bytes, U256, address, keccak256};

use crate::block::{
    Block, Chain, Expected, ExpectedReceipt, Fork, Header, Parent, PreAccount, PreState, Transaction,
    Withdrawal,
};
use crate::validate::{self, Mismatch};
use crate::vm::Receipt;
use contract::Token;
pub use error::GenerateError;
use kind::Action;
pub use kind::{Kind, MAX_TRANSACTIONS};
use popularity::{POPULAR, Popularity};
use proven::Proven;
use random::Random;

/// Known to belong to no public chain: private test networks use it.
const CHAIN_ID: u64 = 1337;
const ETHER: u128 = 1_000_000_000_000_000_000;
const GWEI: u128 = 1_000_000_000;
const BENEFICIARY: Address = address!("0x00000000000000000000000000000000feeb0a7d");
const TOKENS: [Address; 2] = [
    address!("0x0000000000000000000000000000000000700ce2"),
    address!("0x0000000000000000000000000000000000700ce3"),
];
/// The contract that every pool delegates to.
const POOL: Address = address!("0x0000000000000000000000000000000000700ce4");
/// One in this many conflicting transactions comes from a popular sender.
const FROM_POPULAR: u64 = 8;
const SECONDS_PER_BLOCK: u64 = 12;
const GENESIS_TIME: u64 = 1_750_000_000;
/// What chain to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Transactions in each block, at most [`Kind::most_transactions`].
    pub transactions: u32,
    /// The share of transactions, 0 to 1, that touch popular accounts; the module has the details.
    pub conflict: f64,
    /// Another seed, another chain.
    pub seed: u64,
    /// What the transactions do.
    pub kind: Kind,
    /// The exponent of Zipf's law among popular accounts, 0 to 10; at 0 they are equally popular.
    pub skew: f64,
    /// The fork whose rules apply, [`FIRST_FORK`] to [`LAST_FORK`].
    pub fork: Fork,
    /// Whether blocks carry a witness. Their headers have the state root either way.
    pub witness: bool,
}

/// The first fork to choose. It has withdrawals; later additions are included if they need no slot.
pub const FIRST_FORK: Fork = Fork::Shanghai;
/// The last fork under which the transactions' gas suffices.
pub const LAST_FORK: Fork = Fork::Bpo2;

impl Default for Plan {
    fn default() -> Self {
        Self {
            transactions: 100,
            conflict: 0.1,
            seed: 1,
            kind: Kind::Mixed,
            skew: 1.0,
            fork: Fork::Prague,
            witness: true,
        }
    }
}

/// An endless chain; each step makes a block that verifies.
#[derive(Debug)]
pub struct Generator {
    plan: Plan,
    random: Random,
    popularity: Popularity,
    nonces: BTreeMap<Address, u64>,
    /// State after the last block, and what the next one needs of it; `None` before the first.
    last: Option<(Proven, Parent)>,
}

impl Generator {
    /// A generator at the start of the chain that `plan` describes.
    pub fn new(plan: Plan) -> Self {
        let transactions = plan.transactions.min(plan.kind.most_transactions());
        let plan = Plan { transactions, fork: plan.fork.clamp(FIRST_FORK, LAST_FORK), ..plan };
        Self {
            plan,
            random: Random::new(plan.seed),
            popularity: Popularity::new(plan.skew),
            nonces: BTreeMap::new(),
            last: None,
        }
    }

    /// Makes the next block. Only the first has `pre`.
    pub fn next_block(&mut self) -> Result<Block, GenerateError> {
        let (mut proven, parent, pre) = match self.last.take() {
            Some((proven, parent)) => (proven, parent, None),
            None => {
                let pre = self.pre();
                let (proven, parent) = Proven::genesis(&pre, self.genesis())?;
                (proven, parent, Some(pre))
            }
        };
        let mut block = self.draft(parent);
        block.pre = pre;
        let number = block.number();
        let (result, state_root, witness) = proven.execute(&block)?;
        // The draft has no expected results yet, so only a refused transaction is an error.
        if let Some(mismatch @ Mismatch::InvalidTransaction { .. }) = result.mismatch {
            return Err(GenerateError::Invalid { number, mismatch: Box::new(mismatch) });
        }
        block.expected = Expected {
            gas_used: result.gas_used,
            logs_bloom: result.logs_bloom,
            receipts_root: result.receipts_root.unwrap_or_default(),
            requests_hash: result.requests_hash,
            withdrawals_root: Some(validate::withdrawals_root(&block)),
            blob_gas_used: (block.chain.fork >= Fork::Cancun).then_some(0),
            block_access_list_hash: None,
            state_root: Some(state_root),
            receipts: Some(expected(&result.receipts)),
        };
        let header = consensus_header(&block);
        block.hash = header.hash_slow();
        proven.close(&block, &header);
        if self.plan.witness {
            block.hashes.extend(witness.hashes());
            block.witness = Some(Arc::new(witness));
        }
        self.last = Some((proven, Parent::from(&block)));
        Ok(block)
    }

    /// More than twice what the transactions can use: the base fee never rises, so all of them can
    /// pay it.
    fn gas_limit(&self) -> u64 {
        (2 * u64::from(self.plan.transactions) * Action::MOST_GAS).max(30_000_000)
    }

    /// The header before the first block, without its state root. It used half of its gas, so that
    /// the base fee stays the same.
    fn genesis(&self) -> ConsensusHeader {
        let is_of_cancun = self.plan.fork >= Fork::Cancun;
        ConsensusHeader {
            timestamp: GENESIS_TIME,
            gas_limit: self.gas_limit(),
            gas_used: self.gas_limit() / 2,
            mix_hash: keccak256(self.plan.seed.to_be_bytes()),
            base_fee_per_gas: Some(GWEI as u64),
            withdrawals_root: Some(EMPTY_ROOT_HASH),
            blob_gas_used: is_of_cancun.then_some(0),
            excess_blob_gas: is_of_cancun.then_some(0),
            parent_beacon_block_root: is_of_cancun.then_some(B256::ZERO),
            requests_hash: (self.plan.fork >= Fork::Prague).then_some(EMPTY_REQUESTS_HASH),
            ..ConsensusHeader::default()
        }
    }

    fn draft(&mut self, parent: Parent) -> Block {
        let number = parent.number + 1;
        let fork = self.plan.fork;
        let transactions: Vec<_> =
            (0..self.plan.transactions).map(|index| self.transaction(number, index)).collect();
        let fee = parent.base_fee.unwrap_or_default();
        let base_fee =
            calc_next_block_base_fee(parent.gas_used, parent.gas_limit, fee, BaseFeeParams::ethereum());
        let is_of_cancun = fork >= Fork::Cancun;
        let (prev_randao, beacon_root) = (self.random.hash(), self.random.hash());
        Block {
            path: PathBuf::from(format!("{number}.json.gz")),
            hash: B256::ZERO,
            chain: Chain::new(CHAIN_ID, fork),
            header: Header {
                number,
                parent_hash: parent.hash,
                beneficiary: BENEFICIARY,
                timestamp: GENESIS_TIME + number * SECONDS_PER_BLOCK,
                gas_limit: self.gas_limit(),
                base_fee,
                difficulty: U256::ZERO,
                prev_randao,
                excess_blob_gas: is_of_cancun.then_some(0),
                parent_beacon_root: is_of_cancun.then_some(beacon_root),
                slot_number: None,
            },
            expected: Expected {
                gas_used: 0,
                logs_bloom: Bloom::ZERO,
                receipts_root: B256::ZERO,
                requests_hash: None,
                withdrawals_root: None,
                blob_gas_used: None,
                block_access_list_hash: None,
                state_root: None,
                receipts: None,
            },
            size: None,
            transactions,
            withdrawals: vec![Withdrawal {
                index: Some(number),
                validator_index: Some(number % POPULAR),
                address: popular(number % POPULAR),
                gwei: number,
            }],
            uncles: 0,
            pre: None,
            parent: Some(parent),
            hashes: BTreeMap::new(),
            witness: None,
        }
    }

    fn transaction(&mut self, number: u64, index: u32) -> Transaction {
        let conflicting = self.random.share() < self.plan.conflict;
        let action = self.plan.kind.action(self.random.below(u64::MAX));
        let sender = if conflicting && self.random.below(FROM_POPULAR) == 0 {
            Trader::Popular(self.popularity.draw(&mut self.random))
        } else {
            Trader::Place(index)
        };
        let amount = U256::from(1 + self.random.below(1_000_000));
        let (to, value, input) = match action {
            Action::Transfer => (self.recipient(conflicting, index), amount, Bytes::new()),
            Action::TokenTransfer => {
                let token = if self.random.below(2) == 0 { TOKENS[0] } else { TOKENS[1] };
                (token, U256::ZERO, Token::transfer(self.recipient(conflicting, index), amount))
            }
            Action::Swap => {
                let pool =
                    if conflicting { sender.popular_pool(&self.popularity) } else { sender.own_pool() };
                // Up to a thousandth of a token, which is a billionth of what the pool has.
                let paid = amount * U256::from(GWEI);
                (pool, U256::ZERO, contract::swap(self.random.below(2) == 0, paid))
            }
        };
        let dynamic_fee = self.random.below(2) == 0;
        let nonce = self.nonces.entry(sender.address()).or_default();
        let transaction = Transaction {
            // It is unsigned, so the hash is only a name: unique, since a sender uses a nonce once.
            hash: keccak256(
                [sender.address().as_slice(), &nonce.to_be_bytes(), &number.to_be_bytes()].concat(),
            ),
            tx_type: if dynamic_fee { 2 } else { 0 },
            sender: sender.address(),
            nonce: *nonce,
            to: Some(to),
            value,
            input,
            gas_limit: action.gas(),
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

    fn recipient(&mut self, conflicting: bool, index: u32) -> Address {
        if conflicting { popular(self.popularity.draw(&mut self.random)) } else { peer(index) }
    }

    /// Senders with ether and tokens, the contracts they use, and those that the protocol itself
    /// calls.
    fn pre(&self) -> PreState {
        let contract = |code: &[u8]| PreAccount {
            nonce: 1,
            code: Bytes::copy_from_slice(code),
            ..PreAccount::default()
        };
        let mut pre = PreState::from([
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
        let kind = self.plan.kind;
        let mut tokens = [Token::default(), Token::default()];
        for trader in self.traders() {
            let ether = U256::from(1_000 * ETHER);
            pre.insert(trader.address(), PreAccount { balance: ether, ..PreAccount::default() });
            let pools = [trader.own_pool(), trader.popular_pool(&self.popularity)];
            for token in &mut tokens {
                token.endow(trader.address());
                if kind.has_pools() {
                    for pool in pools {
                        token.endow(pool);
                        token.allow(trader.address(), pool);
                    }
                }
            }
            if kind.has_pools() {
                for pool in pools {
                    pre.entry(pool).or_insert_with(|| contract::pool(POOL, TOKENS[0], TOKENS[1]));
                }
            }
        }
        if kind.has_pools() {
            pre.insert(POOL, contract::pool_implementation());
        }
        if kind.has_tokens() {
            pre.extend(TOKENS.into_iter().zip(tokens.map(Token::account)));
        }
        pre
    }

    /// Everybody who may ever send.
    fn traders(&self) -> impl Iterator<Item = Trader> {
        let popular = if self.plan.conflict > 0.0 { POPULAR } else { 0 };
        (0..self.plan.transactions).map(Trader::Place).chain((0..popular).map(Trader::Popular))
    }
}

/// The sender of a transaction.
#[derive(Clone, Copy, Debug)]
enum Trader {
    /// The one who sends at this position of each block and nowhere else.
    Place(u32),
    /// A popular sender, by its rank.
    Popular(u64),
}

impl Trader {
    fn address(self) -> Address {
        match self {
            Self::Place(index) => named("sender", u64::from(index)),
            Self::Popular(rank) => named("popular sender", rank),
        }
    }

    /// A pool in which only this sender swaps.
    fn own_pool(self) -> Address {
        match self {
            Self::Place(index) => named("pool", u64::from(index)),
            Self::Popular(rank) => named("pool of popular sender", rank),
        }
    }

    /// The popular pool in which this sender swaps, always the same: each allowance has to be in
    /// the first block's `pre`.
    fn popular_pool(self, popularity: &Popularity) -> Address {
        let seed = self.address().into_word();
        let mut random =
            Random::new(seed.iter().rev().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte)));
        named("popular pool", popularity.draw(&mut random))
    }
}

/// What the file has of the receipts: enough to identify the transaction to blame, without storing
/// every log a second time.
fn expected(receipts: &[Receipt]) -> Vec<ExpectedReceipt> {
    let mut cumulative_gas_used = 0;
    let one = |receipt: &Receipt| {
        cumulative_gas_used += receipt.gas_used;
        ExpectedReceipt {
            success: Some(receipt.success),
            cumulative_gas_used,
            logs_bloom: Some(Bloom::from_iter(&receipt.logs)),
            logs: None,
        }
    };
    receipts.iter().map(one).collect()
}

/// Addresses are hashes, like real ones: neighbours in a block are far apart in a sorted map.
fn named(kind: &str, index: u64) -> Address {
    Address::from_word(keccak256(format!("{kind} {index}")))
}

fn peer(index: u32) -> Address {
    named("peer", u64::from(index))
}

fn popular(index: u64) -> Address {
    named("popular", index)
}

/// The header. The roots of transactions and withdrawals stay at their defaults: nothing here
/// checks them.
fn consensus_header(block: &Block) -> ConsensusHeader {
    let header = &block.header;
    ConsensusHeader {
        parent_hash: header.parent_hash,
        beneficiary: header.beneficiary,
        state_root: block.expected.state_root.unwrap_or_default(),
        receipts_root: block.expected.receipts_root,
        logs_bloom: block.expected.logs_bloom,
        number: header.number,
        gas_limit: header.gas_limit,
        gas_used: block.expected.gas_used,
        timestamp: header.timestamp,
        mix_hash: header.prev_randao,
        base_fee_per_gas: Some(header.base_fee),
        withdrawals_root: block.expected.withdrawals_root,
        blob_gas_used: block.expected.blob_gas_used,
        excess_blob_gas: header.excess_blob_gas,
        parent_beacon_block_root: header.parent_beacon_root,
        requests_hash: block.expected.requests_hash,
        ..ConsensusHeader::default()
    }
}
