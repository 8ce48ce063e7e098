//! Code, made ready to run.

use revm::bytecode::Bytecode;
use revm::primitives::Bytes;

/// Code ready to run: with its jump targets found, and an EIP-7702 designator recognised.
///
/// Old chains hold code that merely begins like a designator; it is treated like any other code.
pub fn analysed(code: &Bytes) -> Bytecode {
    Bytecode::new_raw_checked(code.clone()).unwrap_or_else(|_| Bytecode::new_legacy(code.clone()))
}
