//! What the protocol itself does at the edges of a block: system calls, withdrawals, rewards.

use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
use alloy_eips::eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS;
use revm::primitives::{Address, Bytes, U256};

use super::{ExecutionEnv, Executor, Requests, VmError};
use crate::block::{Block, Fork};
use crate::state::State;

/// Mainnet's id: other chains before the Merge pay their beneficiaries by rules of their own.
const MAINNET: u64 = 1;

const WEI_PER_GWEI: u64 = 1_000_000_000;

/// Before the first transaction: the parent's beacon root (EIP-4788) and the parent's hash (EIP-2935).
pub fn before_transactions(block: &Block, state: &mut State) -> Result<(), VmError> {
    let env = ExecutionEnv::of(block);
    if env.fork() >= Fork::Prague {
        call(&env, state, HISTORY_STORAGE_ADDRESS, block.header.parent_hash.0.into())?;
    }
    if let Some(root) = block.header.parent_beacon_root.filter(|_| env.fork() >= Fork::Cancun) {
        call(&env, state, BEACON_ROOTS_ADDRESS, root.0.into())?;
    }
    Ok(())
}

/// After the last transaction: withdrawals, the request queues (EIP-7002, EIP-7251), the beneficiary's reward.
///
/// Before the Merge the miners of a block's uncles are paid too; who they are is not in the block's file, so the digest is
/// of a state without those payments.
pub fn after_transactions(block: &Block, state: &mut State) -> Result<Requests, VmError> {
    let env = ExecutionEnv::of(block);
    let mut requests = Requests::default();
    if env.fork() >= Fork::Prague {
        requests.withdrawals = call(&env, state, WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, Bytes::new())?;
        requests.consolidations = call(&env, state, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, Bytes::new())?;
    }
    if env.fork() >= Fork::Shanghai {
        for withdrawal in &block.withdrawals {
            let wei = U256::from(withdrawal.gwei) * U256::from(WEI_PER_GWEI);
            state.credit(withdrawal.address, wei, env.fork());
        }
    }
    let reward = U256::from(env.fork().block_reward());
    if env.chain.id == MAINNET && !reward.is_zero() {
        let for_uncles = (reward >> 5) * U256::from(block.uncles);
        state.credit(block.header.beneficiary, reward + for_uncles, env.fork());
    }
    Ok(requests)
}

/// What the contract answers.
fn call(env: &ExecutionEnv, state: &mut State, contract: Address, input: Bytes) -> Result<Bytes, VmError> {
    if state.account(&contract).is_none() {
        return Ok(Bytes::new());
    }
    let (changes, answer) = Executor::without_reads(env, &*state).system_call(contract, input)?;
    state.apply(&changes);
    Ok(answer)
}
