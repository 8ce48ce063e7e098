//! Answers to the shards' requests for the state before the block.

use crate::net::{Key, MAX_KEYS, Value, WireError, wire};
use crate::vm::StateView;

/// The answer to one request, or why it is refused.
pub(super) fn answer(
    request: &wire::StateRequest,
    state: &dyn StateView,
) -> Result<wire::StateReply, WireError> {
    if request.keys.len() > MAX_KEYS {
        let reason = format!("{} keys in one request, at most {MAX_KEYS} are allowed", request.keys.len());
        return Err(WireError::Mismatch(reason));
    }
    let one = |key: &wire::StateKey| Ok(look_up(&Key::try_from(key)?, state).into());
    let values = request.keys.iter().map(one).collect::<Result<_, WireError>>()?;
    Ok(wire::StateReply { tag: request.tag, id: request.id, values })
}

/// The state is this process's own and complete, so what cannot be found does not exist.
fn look_up(key: &Key, state: &dyn StateView) -> Value {
    match *key {
        Key::Account(address) => Value::Account(state.account(address).ok().flatten()),
        Key::Slot(address, slot) => Value::Slot(state.storage(address, slot).unwrap_or_default()),
        Key::Code(hash) => Value::Code(state.code(hash).ok().map(|code| code.original_bytes())),
        Key::BlockHash(number) => Value::BlockHash(state.block_hash(number).ok()),
    }
}
