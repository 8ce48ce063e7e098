//! The blocks that are executed before timed work.

use alloy_eips::eip8282;
use revm::bytecode::opcode::{OPCODE_INFO, PUSH0, STOP};
use revm::primitives::{B256, Bytes, U256};

use super::calls::calls;
use crate::block::{Block, Chain, Expected, Fork, PreAccount, Transaction};
use crate::generate::{self, GenerateError, Generator, Kind, Plan};
use crate::validate;

/// Enough for each kind of generated transaction, to popular and other accounts, several times.
const GENERATED: u32 = 12;

/// The fork of the block that is executed in full: mainnet's rules, with every precompile there is.
const FULL: Fork = generate::LAST_FORK;

/// The gas limit: more than any of the transactions uses under any fork, and less than the maximum
/// from Osaka on (EIP-7825).
const GAS: u64 = 4_000_000;

/// A block for each fork, from the latest on, and the one of [`FULL`] once more at the end. Each
/// has a state of its own.
pub(super) fn blocks() -> Result<Vec<Block>, GenerateError> {
    let full = full()?;
    let forks = Fork::from_the_latest().chain([FULL]);
    Ok(forks.map(|fork| under(fork, full.clone())).collect())
}

/// The block with only its generated transactions: what forks share is initialised only once.
pub(super) fn little_of(block: &Block) -> Block {
    let mut block = block.clone();
    block.transactions.truncate(GENERATED as usize);
    block
}

/// The full block, with a header that promises the result of executing it in order: for tests that
/// need a block that calls every precompile.
///
/// # Errors
/// If it cannot be made or executed, which is a defect of this module.
pub fn block() -> Result<Block, GenerateError> {
    let mut block = under(FULL, full()?);
    let mut state = validate::open(&block, None)?;
    let result = validate::run_in_order(&block, &mut state, Vec::new(), &|| {})?;
    block.expected = Expected {
        gas_used: result.gas_used,
        logs_bloom: result.logs_bloom,
        receipts_root: result.receipts_root.unwrap_or_default(),
        requests_hash: result.requests_hash,
        receipts: None,
        ..block.expected
    };
    Ok(block)
}

/// The block with generated transactions, a call of each precompile, and each instruction.
fn full() -> Result<Block, GenerateError> {
    // Generating it executes it on a proven state, which warms up that path, too.
    let plan =
        Plan { transactions: GENERATED, conflict: 0.5, kind: Kind::Mixed, fork: FULL, ..Plan::default() };
    let mut full = Generator::new(plan).next_block()?;
    // What follows turns it into another block, which has no parent.
    (full.parent, full.witness, full.expected.state_root) = (None, None, None);
    let extra: Vec<_> = calls().into_iter().map(|call| (Some(call.address), call.input)).collect();
    let extra = extra.into_iter().chain(instructions().map(|code| (None, code)));
    if let Some(like) = full.transactions.last().cloned() {
        let nonce = like.nonce + 1;
        full.transactions.extend((nonce..).zip(extra).map(|(nonce, (to, input))| Transaction {
            hash: B256::from(U256::from(nonce)),
            to,
            nonce,
            input,
            value: U256::ZERO,
            ..like.clone()
        }));
    }
    for transaction in &mut full.transactions {
        transaction.gas_limit = GAS;
    }
    full.header.gas_limit = GAS * full.transactions.len() as u64;
    Ok(full)
}

/// The block under `fork`, with only what that fork supports.
fn under(fork: Fork, mut block: Block) -> Block {
    block.chain = Chain::new(block.chain.id, fork);
    if fork > FULL {
        // The generator does not know these contracts; with empty queues they return nothing.
        let queue = PreAccount { nonce: 1, code: Bytes::from_static(&[STOP]), ..PreAccount::default() };
        for contract in [eip8282::BUILDER_DEPOSIT_CONTRACT_ADDRESS, eip8282::BUILDER_EXIT_CONTRACT_ADDRESS] {
            block.pre.get_or_insert_default().insert(contract, queue.clone());
        }
        block.header.slot_number = Some(1);
    }
    if fork < Fork::London {
        block.header.base_fee = 0;
        for transaction in &mut block.transactions {
            transaction.tx_type = 0;
            transaction.max_priority_fee = None;
        }
    }
    if fork < Fork::SpuriousDragon {
        block.transactions.iter_mut().for_each(|transaction| transaction.chain_id = None);
    }
    if fork < Fork::Shanghai {
        block.withdrawals.clear();
    }
    if fork < Fork::Cancun {
        block.header.excess_blob_gas = None;
        block.header.parent_beacon_root = None;
    }
    block
}

/// Each instruction that revm knows, as the code of a creation: as many zeros as it takes, the
/// instruction, and the end. Jumps occur in the generated transactions.
fn instructions() -> impl Iterator<Item = Bytes> {
    (0..=u8::MAX).zip(OPCODE_INFO).filter_map(|(opcode, info)| {
        let info = info?;
        let mut code = vec![PUSH0; usize::from(info.inputs())];
        code.push(opcode);
        code.extend(std::iter::repeat_n(0, usize::from(info.immediate_size())));
        code.push(STOP);
        Some(code.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::Mismatch;
    use revm::precompile::{PrecompileSpecId, Precompiles};

    #[test]
    fn there_is_a_block_of_each_fork_and_all_its_transactions_are_executed() {
        let blocks = blocks().expect("blocks");
        let forks = blocks.iter().rev().skip(1).map(|block| block.chain.fork.to_string());
        assert_eq!(forks.collect::<Vec<_>>().join(", "), Fork::names());
        for block in &blocks {
            let mut state = validate::open(block, None).expect("a state");
            let result = validate::run_in_order(block, &mut state, Vec::new(), &|| {}).expect("executed");
            let refused = matches!(result.mismatch, Some(Mismatch::InvalidTransaction { .. }));
            assert!(!refused, "{}: {:?}", block.chain.fork, result.mismatch);
            assert_eq!(result.receipts.len(), block.transactions.len(), "{}", block.chain.fork);
        }
    }

    #[test]
    fn the_rules_of_the_full_block_have_every_precompile() {
        let of_full = Precompiles::new(PrecompileSpecId::from_spec_id(FULL.spec()));
        let missing = Precompiles::latest().difference(of_full);
        assert!(missing.is_empty(), "a later fork has {missing:?}: make it the fork of the full block");
    }

    #[test]
    fn each_precompile_succeeds_in_the_full_block() {
        let block = blocks().expect("blocks").pop().expect("one");
        let mut state = validate::open(&block, None).expect("a state");
        let result = validate::run_in_order(&block, &mut state, Vec::new(), &|| {}).expect("executed");
        for call in calls() {
            let mut of_this = block.transactions.iter().zip(&result.receipts).filter(|(transaction, _)| {
                transaction.to == Some(call.address) && transaction.input == call.input
            });
            let (_, receipt) = of_this.next().unwrap_or_else(|| panic!("{} is not in the block", call.name));
            assert!(receipt.success, "{}", call.name);
        }
    }
}
