//! The header's fields. Each fork added some, so a header with other fields than those of its fork
//! belongs to another fork.

use alloy_eips::eip4844::DATA_GAS_PER_BLOB;

use super::shape::BlockJson;
use super::unfit::{Unfit, unfit};
use crate::block::{Chain, Fork, Header};

/// What to do about an unexpected or a missing field.
const HINT: &str = "Say which fork it is with the key `chain`, or fetch the whole block again with eth_getBlockByNumber(n, true); see docs/blocks.md.";

/// When a field is required.
enum Need {
    /// Nothing can be executed without it.
    Always,
    /// Required if the file has a node's whole header; older files of ours lack it.
    WhereWhole,
}

/// Fails if the header has a field that its fork does not have, or lacks a required one.
pub(super) fn fits(block: &BlockJson, chain: Chain) -> Result<(), Unfit> {
    let fork = chain.fork;
    let is_whole = block.state_root.is_some() && block.transactions_root.is_some();
    let fields = [
        // Files written before this check have a zero here.
        ("baseFeePerGas", Fork::London, block.base_fee_per_gas.map(|fee| !fee.is_zero()), Need::Always),
        ("withdrawalsRoot", Fork::Shanghai, has(&block.withdrawals_root), Need::WhereWhole),
        ("excessBlobGas", Fork::Cancun, has(&block.excess_blob_gas), Need::Always),
        ("blobGasUsed", Fork::Cancun, has(&block.blob_gas_used), Need::WhereWhole),
        ("parentBeaconBlockRoot", Fork::Cancun, has(&block.parent_beacon_block_root), Need::Always),
        ("requestsHash", Fork::Prague, has(&block.requests_hash), Need::WhereWhole),
        ("blockAccessListHash", Fork::Amsterdam, has(&block.block_access_list_hash), Need::WhereWhole),
        ("slotNumber", Fork::Amsterdam, has(&block.slot_number), Need::Always),
    ];
    for (field, since, found, need) in fields {
        let number = block.number;
        if fork >= since && found.is_none() && (is_whole || matches!(need, Need::Always)) {
            return Err(unfit(format!("block {number} runs under {fork} and has no `{field}`"), HINT));
        }
        if fork < since && found == Some(true) {
            let reason =
                format!("block {number} has a `{field}` and runs under {fork}, before {since} brought that");
            return Err(unfit(reason, HINT));
        }
    }
    if fork >= Fork::Merge && block.difficulty.is_some_and(|difficulty| !difficulty.is_zero()) {
        let reason = format!(
            "block {} has a difficulty and runs under {fork}, where nothing is mined any more",
            block.number
        );
        return Err(unfit(reason, HINT));
    }
    Ok(())
}

fn has<T>(field: &Option<T>) -> Option<bool> {
    field.as_ref().map(|_| true)
}

/// The header fields that execution sees. The fork's fields are present.
pub(super) fn header(block: &BlockJson, chain: Chain) -> Result<Header, Unfit> {
    let fork = chain.fork;
    let excess_blob_gas = block.excess_blob_gas.map(|gas| gas.to());
    if let (Some(blobs), Some(excess)) = (chain.blobs, excess_blob_gas)
        && blobs.price(excess).is_none()
    {
        return Err(unfit(
            format!(
                "block {} has excessBlobGas {excess}, where a block of blobs of {DATA_GAS_PER_BLOB} gas each costs more than 128 bits hold; the most with the update fraction {} is {}",
                block.number,
                blobs.update_fraction,
                blobs.max_excess()
            ),
            "No chain can reach that: fetch the block again, or correct the key `blobSchedule` of `chain`.",
        ));
    }
    Ok(Header {
        number: block.number.to(),
        parent_hash: block.parent_hash,
        beneficiary: block.miner,
        timestamp: block.timestamp.to(),
        gas_limit: block.gas_limit.to(),
        base_fee: block.base_fee_per_gas.map_or(0, |fee| fee.to()),
        difficulty: block.difficulty.unwrap_or_default(),
        prev_randao: block.mix_hash.unwrap_or_default(),
        excess_blob_gas: excess_blob_gas.filter(|_| fork >= Fork::Cancun),
        parent_beacon_root: block.parent_beacon_block_root.filter(|_| fork >= Fork::Cancun),
        slot_number: block.slot_number.map(|slot| slot.to()),
    })
}
