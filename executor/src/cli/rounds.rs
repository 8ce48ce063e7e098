//! The limit of a flag that two subcommands have.

/// The most rounds. Each takes a round trip to every shard; what is not settled by then is settled
/// faster in order.
pub(crate) const MOST_ROUNDS: i64 = 16;
