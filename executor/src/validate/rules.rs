//! Rules for blocks that the EVM does not check: which transactions fit in a block together, how
//! long it may be, and how its header must follow from its parent's.

use alloy_consensus::proofs::calculate_withdrawals_root;
use alloy_eips::eip1559::{BaseFeeParams, INITIAL_BASE_FEE, calc_next_block_base_fee};
use alloy_eips::eip4895::Withdrawal;
use revm::primitives::B256;
use revm::primitives::eip7825::TX_GAS_LIMIT_CAP;

use crate::block::{Block, Fork, Parent, Transaction};
use crate::vm::BlockGas;

/// The longest block since Osaka, in bytes of RLP: a message of 10 MiB minus 2 MiB for the
/// consensus layer (EIP-7934).
const MAX_RLP_BYTES: u64 = 8_388_608;
/// A gas limit differs from the parent's by less than this fraction of it (1/1,024), and is never
/// below the minimum that follows.
const GAS_LIMIT_PARTS: u64 = 1_024;
const LEAST_GAS_LIMIT: u64 = 5_000;

/// Why `transaction` no longer fits in `block` after others with this much gas and this many blobs.
pub(super) fn no_room(
    block: &Block,
    transaction: &Transaction,
    gas: BlockGas,
    blobs_before: u64,
) -> Option<String> {
    let wanted = transaction.gas_limit;
    let left = |used: u64| block.header.gas_limit.saturating_sub(used);
    // Since Amsterdam a transaction's execution gas is capped, and gas for state counts against the
    // block's whole limit by itself (EIP-8037).
    let (execution, state) = match block.chain.fork {
        Fork::Amsterdam => (wanted.min(TX_GAS_LIMIT_CAP), wanted),
        _ => (wanted, 0),
    };
    if execution > left(gas.execution) {
        return Some(format!("it may use {execution} gas and the block has {} left", left(gas.execution)));
    }
    if state > left(gas.state) {
        return Some(format!("it may use {state} gas for state and the block has {} left", left(gas.state)));
    }
    let (blobs, max) = (transaction.blob_hashes.len() as u64, block.chain.blobs?.max);
    let left = max.saturating_sub(blobs_before);
    (blobs > left).then(|| format!("it has {blobs} blobs and the block has room for {left} more of {max}"))
}

/// The first rule for blocks that `block` breaks, if any.
pub(super) fn broken(block: &Block) -> Option<String> {
    let size = block.size.filter(|size| *size > MAX_RLP_BYTES && block.chain.fork >= Fork::Osaka);
    if let Some(size) = size {
        return Some(format!(
            "it is {size} bytes long in RLP, more than the {MAX_RLP_BYTES} allowed (EIP-7934)"
        ));
    }
    if block.header.gas_limit > i64::MAX as u64 {
        return Some(format!("its gasLimit is {}, more than 2^63 - 1", block.header.gas_limit));
    }
    block.parent.as_ref().and_then(|parent| {
        follows_in_time(block, parent)
            .or_else(|| gas_limit(block, parent))
            .or_else(|| base_fee(block, parent))
            .or_else(|| excess_blob_gas(block, parent))
    })
}

fn follows_in_time(block: &Block, parent: &Parent) -> Option<String> {
    let (now, before) = (block.header.timestamp, parent.timestamp);
    (now <= before).then(|| format!("its timestamp is {now}, and that of its parent is {before}"))
}

/// Whether `block` is the first with a base fee; that block also has twice the gas.
fn is_first_of_london(block: &Block, parent: &Parent) -> bool {
    block.chain.fork >= Fork::London && parent.base_fee.is_none()
}

fn gas_limit(block: &Block, parent: &Parent) -> Option<String> {
    let limit = block.header.gas_limit;
    let before =
        if is_first_of_london(block, parent) { parent.gas_limit.saturating_mul(2) } else { parent.gas_limit };
    let bound = before / GAS_LIMIT_PARTS;
    if limit.abs_diff(before) >= bound && limit != before {
        return Some(format!(
            "its gasLimit is {limit}, and has to differ by less than {bound} from {before} after its parent"
        ));
    }
    (limit < LEAST_GAS_LIMIT).then(|| format!("its gasLimit is {limit}, less than {LEAST_GAS_LIMIT}"))
}

fn base_fee(block: &Block, parent: &Parent) -> Option<String> {
    if block.chain.fork < Fork::London {
        return None;
    }
    let wanted = match parent.base_fee {
        None => INITIAL_BASE_FEE,
        // Other values, which no parent can have, would overflow the crate's sums.
        Some(fee) if fee <= i64::MAX as u64 && parent.gas_used <= parent.gas_limit => {
            calc_next_block_base_fee(parent.gas_used, parent.gas_limit, fee, BaseFeeParams::ethereum())
        }
        Some(fee) => {
            return Some(format!(
                "its parent has a base fee of {fee} and used {} gas of {}, which no block can",
                parent.gas_used, parent.gas_limit
            ));
        }
    };
    let got = block.header.base_fee;
    (got != wanted).then(|| format!("its baseFeePerGas is {got}, and has to be {wanted} after its parent"))
}

fn excess_blob_gas(block: &Block, parent: &Parent) -> Option<String> {
    let (blobs, got) = (block.chain.blobs?, block.header.excess_blob_gas?);
    // The first block with blobs starts with an excess of zero.
    let (excess, used) = (parent.excess_blob_gas.unwrap_or(0), parent.blob_gas_used.unwrap_or(0));
    let base_fee = parent.base_fee.unwrap_or(0);
    let wanted = blobs.next_excess(block.chain.fork, excess, used, base_fee);
    (wanted != Some(got)).then(|| match wanted {
        Some(wanted) => format!("its excessBlobGas is {got}, and has to be {wanted} after its parent"),
        None => format!(
            "its parent has the excessBlobGas {excess} and the blobGasUsed {used}, which no block can"
        ),
    })
}

/// Root of the withdrawals. If the file lacks their indices, and so has no root to compare, zeros
/// replace them.
pub fn withdrawals_root(block: &Block) -> B256 {
    let encoded = block.withdrawals.iter().map(|paid| Withdrawal {
        index: paid.index.unwrap_or_default(),
        validator_index: paid.validator_index.unwrap_or_default(),
        address: paid.address,
        amount: paid.gwei,
    });
    calculate_withdrawals_root(&encoded.collect::<Vec<_>>())
}
