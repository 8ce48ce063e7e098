//! The protocol's own work at the start and end of a block: system calls, withdrawals, rewards.

use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_eips::eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE};
use alloy_eips::eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE};
use alloy_eips::eip8282::{
    BUILDER_DEPOSIT_CONTRACT_ADDRESS, BUILDER_DEPOSIT_REQUEST_TYPE, BUILDER_EXIT_CONTRACT_ADDRESS,
    BUILDER_EXIT_REQUEST_TYPE,
};
use revm::primitives::{Address, Bytes, KECCAK_EMPTY, U256};

use super::{ExecutionEnv, Executor, Requests, VmError};
use crate::block::{Block, Fork};
use crate::state::State;

/// Mainnet's chain id; other chains before the Merge pay their beneficiaries by rules of their own.
const MAINNET: u64 = 1;

const WEI_PER_GWEI: u64 = 1_000_000_000;

/// A contract whose queue of requests to the consensus layer is emptied at the end of every block.
struct Queue {
    since: Fork,
    contract: Address,
    request_type: u8,
    /// Its name in messages.
    name: &'static str,
}

/// Ordered by the type of their requests.
const QUEUES: [Queue; 4] = [
    Queue {
        since: Fork::Prague,
        contract: WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
        request_type: WITHDRAWAL_REQUEST_TYPE,
        name: "withdrawal requests (EIP-7002)",
    },
    Queue {
        since: Fork::Prague,
        contract: CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
        request_type: CONSOLIDATION_REQUEST_TYPE,
        name: "consolidation requests (EIP-7251)",
    },
    Queue {
        since: Fork::Amsterdam,
        contract: BUILDER_DEPOSIT_CONTRACT_ADDRESS,
        request_type: BUILDER_DEPOSIT_REQUEST_TYPE,
        name: "builder deposits (EIP-8282)",
    },
    Queue {
        since: Fork::Amsterdam,
        contract: BUILDER_EXIT_CONTRACT_ADDRESS,
        request_type: BUILDER_EXIT_REQUEST_TYPE,
        name: "builder exits (EIP-8282)",
    },
];

/// Runs before the first transaction: stores the parent's beacon root (EIP-4788) and the parent's
/// hash (EIP-2935).
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

/// Runs after the last transaction: withdrawals, the queues of requests (EIP-7002, EIP-7251,
/// EIP-8282), the beneficiary's reward.
///
/// Before the Merge the miners of a block's uncles are paid too. Their addresses are not in the
/// block's file, so the digest is of a state without those payments.
pub fn after_transactions(block: &Block, state: &mut State) -> Result<Requests, VmError> {
    let env = ExecutionEnv::of(block);
    let requests = requests(&env, state)?;
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

/// Reads the queues of requests. If the state has none of the protocol's contracts, the file holds
/// only what transactions touch; but if it has one of them, the others must be there too.
fn requests(env: &ExecutionEnv, state: &mut State) -> Result<Requests, VmError> {
    let mut requests = Requests::default();
    let queues = || QUEUES.iter().filter(|queue| env.fork() >= queue.since);
    let contracts = queues().map(|queue| queue.contract).chain([HISTORY_STORAGE_ADDRESS]);
    let knows_them = contracts.into_iter().any(|contract| has_code(state, contract));
    for queue in queues() {
        let Queue { contract, name, request_type, .. } = queue;
        if !has_code(state, *contract) {
            if knows_them {
                requests.fault.get_or_insert_with(|| {
                    format!(
                        "the contract for {name}, {contract:#x}, has no code, without which no block of {} is valid; if the chain has it, the file's `pre` lacks it: add the account",
                        env.fork()
                    )
                });
            }
            continue;
        }
        match call(env, state, *contract, Bytes::new())? {
            Some(list) => requests.queues.push((*request_type, list)),
            None => {
                requests.fault.get_or_insert_with(|| {
                    format!("the contract for {name}, {contract:#x}, fails at the end of the block, which makes it invalid")
                });
            }
        }
    }
    Ok(requests)
}

fn has_code(state: &State, contract: Address) -> bool {
    state.account(&contract).is_some_and(|account| account.code_hash != KECCAK_EMPTY)
}

/// Calls the contract and returns its output; `None` if it fails or does not exist.
fn call(
    env: &ExecutionEnv,
    state: &mut State,
    contract: Address,
    input: Bytes,
) -> Result<Option<Bytes>, VmError> {
    if !has_code(state, contract) {
        return Ok(None);
    }
    let Some((changes, answer)) = Executor::without_reads(env, &*state).system_call(contract, input)? else {
        return Ok(None);
    };
    state.apply(&changes);
    Ok(Some(answer))
}
