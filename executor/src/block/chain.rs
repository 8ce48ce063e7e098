//! Which chain's rules a block runs under: those in the key `chain` of its file, else mainnet's.
//!
//! `{"id": 1337, "fork": "cancun"}` names the fork.
//! `{"id": 1337, "activations": {"london": 0, "cancun": 1700000000}}` says when each fork comes
//! into force, as a chain's genesis does: up to the Merge by block number, from Shanghai on by
//! timestamp. Without either, a block of a public chain runs under the fork of its number and
//! timestamp. `blobSchedule` is as in a genesis too (EIP-7840, EIP-7892). An unknown key is
//! refused: a mistyped one would let the block run under rules that nobody asked for.

use std::collections::BTreeMap;

use revm::primitives::alloy_primitives::U64;
use serde::{Deserialize, Serialize};

use super::{Blobs, Chain, Fork};

const MAINNET: u64 = 1;

/// Points to the page that explains names, order and combinations.
const HINT: &str = "Correct the key `chain`: {\"id\": 1337, \"fork\": \"cancun\"}, or \"activations\" in place of \"fork\"; see docs/blocks.md.";

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChainJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fork: Option<String>,
    /// The first block number, or the first timestamp, of each fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) activations: Option<BTreeMap<String, U64>>,
    /// The blob parameters of each fork that differ from mainnet's.
    #[serde(rename = "blobSchedule", skip_serializing_if = "Option::is_none")]
    pub(super) blob_schedule: Option<BTreeMap<String, BlobsJson>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct BlobsJson {
    target: U64,
    max: U64,
    #[serde(alias = "updateFraction")]
    base_fee_update_fraction: U64,
}

impl From<Blobs> for BlobsJson {
    fn from(Blobs { target, max, update_fraction }: Blobs) -> Self {
        Self {
            target: U64::from(target),
            max: U64::from(max),
            base_fee_update_fraction: U64::from(update_fraction),
        }
    }
}

impl From<Chain> for ChainJson {
    /// Names the fork, and gives its blob parameters only if they are not the fork's own.
    fn from(chain: Chain) -> Self {
        let fork = chain.fork.to_string();
        let own = (chain.blobs != Chain::new(chain.id, chain.fork).blobs).then_some(chain.blobs).flatten();
        Self {
            id: Some(U64::from(chain.id)),
            blob_schedule: own.map(|blobs| BTreeMap::from([(fork.clone(), blobs.into())])),
            fork: Some(fork),
            activations: None,
        }
    }
}

/// What is wrong with `chain`, and what to do about it.
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
    let schedule = schedule(given).map_err(wrong)?;
    let (fork, begun) = match given.map(|chain| (&chain.fork, &chain.activations)) {
        Some((Some(_), Some(_))) => {
            return Err(wrong(
                "`chain` has both `fork` and `activations`, which may contradict each other".into(),
            ));
        }
        Some((Some(name), None)) => (name.parse().map_err(wrong)?, Vec::new()),
        Some((None, Some(activations))) => in_force(activations, number, timestamp).map_err(wrong)?,
        None | Some((None, None)) => {
            let fork = Fork::of_public_chain(id, number, timestamp).ok_or_else(|| NoChain {
                reason: format!("the forks of chain {id} are not known, and `chain` has neither `fork` nor `activations`"),
                hint: "Say which rules it runs under: \"chain\": {\"id\": …, \"fork\": \"osaka\"}; see docs/blocks.md.",
            })?;
            (fork, Vec::new())
        }
    };
    let blobs = blobs(fork, begun, &schedule).map_err(wrong)?;
    Ok(Chain { id, fork, blobs })
}

/// The fork in force, and all forks from Cancun on that have begun, the latest first.
fn in_force(
    activations: &BTreeMap<String, U64>,
    number: u64,
    timestamp: u64,
) -> Result<(Fork, Vec<Fork>), String> {
    let mut since = BTreeMap::new();
    for (name, at) in activations {
        let fork: Fork = name.parse().map_err(|reason| format!("`activations`: {reason}"))?;
        // A genesis often lists two names of the same rules, which is fine if they agree, or a
        // later fork that changes nothing.
        let known = activations.iter().filter(|(other, _)| !Fork::is_glacier(other));
        if Fork::is_glacier(name) && known.into_iter().any(|(other, _)| other.parse() == Ok(fork)) {
            continue;
        }
        if Fork::is_glacier(name) {
            let first = since.entry(fork).or_insert(at.to::<u64>());
            *first = (*first).min(at.to());
            continue;
        }
        if since.insert(fork, at.to::<u64>()).is_some_and(|other| other != at.to::<u64>()) {
            return Err(format!("`activations` says twice since when {fork} is in force, and not the same"));
        }
    }
    for (earlier, at) in &since {
        for (later, then) in since.range(*earlier..) {
            // The number of blobs may change at any time after Osaka, even after later forks.
            let independent = earlier.is_of_blobs_only() && !later.is_of_blobs_only();
            if earlier.begins_with_a_block() == later.begins_with_a_block() && at > then && !independent {
                return Err(format!(
                    "`activations` has {later} at {then}, before {earlier} at {at}: forks come one after the other"
                ));
            }
        }
    }
    let has_come = |(fork, at): &(&Fork, &u64)| {
        let now = if fork.begins_with_a_block() { number } else { timestamp };
        now >= **at
    };
    let fork = since.iter().rev().find(has_come).map_or(Fork::Frontier, |(fork, _)| *fork);
    let mut begun: Vec<(u64, Fork)> = since.iter().filter(has_come).map(|(fork, at)| (*at, *fork)).collect();
    begun.retain(|(_, fork)| *fork >= Fork::Cancun);
    begun.sort_unstable();
    Ok((fork, begun.into_iter().rev().map(|(_, fork)| fork).collect()))
}

fn schedule(given: Option<&ChainJson>) -> Result<BTreeMap<Fork, Blobs>, String> {
    let mut schedule = BTreeMap::new();
    for (name, blobs) in given.and_then(|chain| chain.blob_schedule.as_ref()).into_iter().flatten() {
        let fork: Fork = name.parse().map_err(|reason| format!("`blobSchedule`: {reason}"))?;
        if fork < Fork::Cancun {
            return Err(format!("`blobSchedule` has {fork}, which has no blobs"));
        }
        let blobs = Blobs {
            target: blobs.target.to(),
            max: blobs.max.to(),
            update_fraction: blobs.base_fee_update_fraction.to(),
        };
        if let Some(fault) = blobs.fault() {
            return Err(format!("`blobSchedule`, {fork}: {fault}"));
        }
        schedule.insert(fork, blobs);
    }
    Ok(schedule)
}

/// The blob parameters of the latest fork that has any: among those that have `begun`, if these are
/// known, else among all up to `fork`.
fn blobs(fork: Fork, begun: Vec<Fork>, schedule: &BTreeMap<Fork, Blobs>) -> Result<Option<Blobs>, String> {
    if fork < Fork::Cancun {
        return Ok(None);
    }
    let of = |said: Fork| schedule.get(&said).copied().or_else(|| Blobs::of(said));
    // A fork that changes only the blobs cannot be passed over if its parameters are not known.
    let in_force = if begun.is_empty() { vec![fork] } else { begun };
    for said in in_force {
        if let Some(blobs) = of(said) {
            return Ok(Some(blobs));
        }
        if said.is_of_blobs_only() {
            return Err(format!(
                "how many blobs a block may hold under {said} is not known: `chain` needs \"blobSchedule\": {{\"{said}\": {{\"target\": …, \"max\": …, \"baseFeeUpdateFraction\": …}}}}"
            ));
        }
    }
    Ok(Fork::from_the_latest().filter(|earlier| *earlier <= fork).find_map(of))
}
