//! Whose rules a block runs under: the key `chain` of its file, else mainnet's.
//!
//! `{"id": 1337, "fork": "cancun"}` names the fork. `{"id": 1337, "activations": {"london": 0, "cancun": 1700000000}}` says since
//! when each is in force, as a chain's genesis does: up to the Merge since a block, from Shanghai on since a second. Without
//! either the block's number and time say it, as on mainnet. A key that is not known is refused: mistyped, it would let the
//! block run under rules that nobody asked for.

use std::collections::BTreeMap;

use revm::primitives::alloy_primitives::U64;
use serde::{Deserialize, Serialize};

use super::{Chain, Fork};

const MAINNET: u64 = 1;

/// Where names, orders and combinations are explained.
const HINT: &str = "Correct the key `chain`: {\"id\": 1337, \"fork\": \"cancun\"}, or \"activations\" in place of \"fork\"; see docs/blocks.md.";

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChainJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fork: Option<String>,
    /// First block, or first second, of each fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) activations: Option<BTreeMap<String, U64>>,
}

/// What is wrong, and what to do about it.
pub(super) struct NoChain {
    pub(super) reason: String,
    pub(super) hint: &'static str,
}

/// The chain of the block with this number and time.
pub(super) fn of(given: Option<&ChainJson>, number: u64, timestamp: u64) -> Result<Chain, NoChain> {
    let wrong = |reason| NoChain { reason, hint: HINT };
    let id = given.and_then(|chain| chain.id).map_or(MAINNET, |id| id.to());
    if id == 0 {
        return Err(wrong("`chain` has the id 0, which no chain can have (EIP-155)".into()));
    }
    let fork = match given.map(|chain| (&chain.fork, &chain.activations)) {
        Some((Some(_), Some(_))) => {
            return Err(wrong("`chain` has both `fork` and `activations`, which may contradict each other".into()));
        }
        Some((Some(name), None)) => name.parse().map_err(wrong)?,
        Some((None, Some(activations))) => in_force(activations, number, timestamp).map_err(wrong)?,
        None | Some((None, None)) => Fork::of_mainnet(number, timestamp).ok_or_else(|| NoChain {
            reason: format!("block {number} is of a fork after Prague, whose rules are not known here"),
            hint: "If it is a block of another chain, say which fork: \"chain\": {\"id\": …, \"fork\": \"prague\"}.",
        })?,
    };
    Ok(Chain { id, fork })
}

/// The latest fork whose block or second has come.
fn in_force(activations: &BTreeMap<String, U64>, number: u64, timestamp: u64) -> Result<Fork, String> {
    let mut since = BTreeMap::new();
    for (name, at) in activations {
        let fork: Fork = name.parse().map_err(|reason| format!("`activations`: {reason}"))?;
        // Two names of the same rules may both be there, as in many a genesis, if they agree.
        if since.insert(fork, at.to::<u64>()).is_some_and(|other| other != at.to::<u64>()) {
            return Err(format!("`activations` says twice since when {fork} is in force, and not the same"));
        }
    }
    let order = since.iter().zip(since.iter().skip(1));
    for ((earlier, at), (later, then)) in order {
        if earlier.begins_with_a_block() == later.begins_with_a_block() && at > then {
            return Err(format!(
                "`activations` has {later} at {then}, before {earlier} at {at}: forks come one after the other"
            ));
        }
    }
    let has_come = |(fork, at): &(&Fork, &u64)| {
        let now = if fork.begins_with_a_block() { number } else { timestamp };
        now >= **at
    };
    Ok(since.iter().rev().find(has_come).map_or(Fork::Frontier, |(fork, _)| *fork))
}
