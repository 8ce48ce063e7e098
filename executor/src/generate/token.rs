//! The token of generated chains: `transfer(address,uint256)` of ERC-20 and nothing else, assembled by hand.
//!
//! In Solidity's terms:
//!
//! ```text
//! mapping(address => uint256) balances;                  // slot 0
//! function transfer(address to, uint256 amount) returns (bool) {
//!     require(balances[msg.sender] >= amount);
//!     balances[msg.sender] -= amount;
//!     balances[to] += amount;
//!     emit Transfer(msg.sender, to, amount);
//!     return true;
//! }
//! ```

use revm::bytecode::opcode::{
    ADD, CALLDATALOAD, CALLER, DUP1, DUP3, EQ, ISZERO, JUMPDEST, JUMPI, KECCAK256, LOG3, LT, MSTORE, PUSH0,
    PUSH1, PUSH4, PUSH32, RETURN, REVERT, SHR, SLOAD, SSTORE, SUB, SWAP1, SWAP2,
};
use revm::primitives::{Address, Bytes, U256, keccak256};

/// First four bytes of keccak("transfer(address,uint256)").
const TRANSFER: [u8; 4] = [0xa9, 0x05, 0x9c, 0xbb];

/// Where the calldata holds `to` and `amount`.
const TO: u8 = 0x04;
const AMOUNT: u8 = 0x24;

/// The slot of an account's balance: keccak(account ‖ 0), each 32 bytes, as Solidity lays a mapping out.
pub(super) fn balance_slot(account: Address) -> U256 {
    keccak256([account.into_word().as_slice(), &[0; 32]].concat()).into()
}

/// Calldata that transfers `amount` to `to`.
pub(super) fn transfer(to: Address, amount: U256) -> Bytes {
    [&TRANSFER[..], to.into_word().as_slice(), &amount.to_be_bytes::<32>()].concat().into()
}

/// The contract's code.
pub(super) fn code() -> Vec<u8> {
    let mut code = Vec::new();
    // Anything but a transfer, or more than the sender has, jumps here; its place is known once the rest is written.
    let mut jumps_to_fail = Vec::new();

    // selector == TRANSFER, else fail
    code.extend([PUSH0, CALLDATALOAD, PUSH1, 0xe0, SHR, PUSH4]);
    code.extend(TRANSFER);
    code.extend([EQ, ISZERO, PUSH1, 0]);
    jumps_to_fail.push(code.len() - 1);
    code.push(JUMPI);

    // [slot of the sender]; memory 32..64 stays zero, which is the mapping's own slot
    code.extend([CALLER, PUSH0, MSTORE, PUSH1, 0x40, PUSH0, KECCAK256]);
    // [amount, has, slot], fail if has < amount
    code.extend([DUP1, SLOAD, PUSH1, AMOUNT, CALLDATALOAD, DUP1, DUP3, LT, PUSH1, 0]);
    jumps_to_fail.push(code.len() - 1);
    code.push(JUMPI);
    // [amount, has, slot] → [has, amount, amount, slot] → [has - amount, amount, slot]; store → [amount, slot]
    // The slot that stays below is of no more use, and popping it would cost more than leaving it.
    code.extend([DUP1, SWAP2, SUB, DUP3, SSTORE]);

    // [slot of the recipient, amount]
    code.extend([PUSH1, TO, CALLDATALOAD, PUSH0, MSTORE, PUSH1, 0x40, PUSH0, KECCAK256]);
    // [had + amount, slot, amount] → store → [amount]
    code.extend([DUP1, SLOAD, DUP3, ADD, SWAP1, SSTORE]);

    // emit Transfer(sender, to, amount): the amount is the data, at memory 0
    code.extend([DUP1, PUSH0, MSTORE, PUSH1, TO, CALLDATALOAD, CALLER, PUSH32]);
    code.extend(keccak256("Transfer(address,address,uint256)"));
    code.extend([PUSH1, 0x20, PUSH0, LOG3]);

    // return true
    code.extend([PUSH1, 1, PUSH0, MSTORE, PUSH1, 0x20, PUSH0, RETURN]);

    let fail = u8::try_from(code.len()).unwrap_or(u8::MAX);
    code.extend([JUMPDEST, PUSH0, DUP1, REVERT]);
    for at in jumps_to_fail {
        if let Some(target) = code.get_mut(at) {
            *target = fail;
        }
    }
    code
}
