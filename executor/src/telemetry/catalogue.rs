//! Every metric of the executor, declared once: the coordinator exports some, shards export others,
//! each under its own `shard`.

pub mod story;

use shard_telemetry::metric::{Kind, Unit, one, words};

use super::counts::{Late, Outcome, SIGNALS, Useless};

/// The value of the label `shard` for a coordinator.
pub const COORDINATOR: &str = "coordinator";

macro_rules! labels_of {
    ($enum:ident) => {
        || $enum::ALL.iter().map(|value| value.label()).collect()
    };
}

// From a small block in one process to a few times a block's default deadline of 5 s.
const BLOCK: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 30.0];

shard_telemetry::catalogue! {
    BLOCKS: "shard_executor_blocks_total", Kind::Counter, Unit::Count("{block}"),
        [words("outcome", labels_of!(Outcome))],
        "Blocks that the coordinator finished: as their header says, otherwise, or not within retries and deadline.";
    BLOCK_SECONDS: "shard_executor_block_seconds", Kind::Histogram(BLOCK), Unit::Seconds, [],
        "From the beginning of a block at the coordinator to its outcome.";
    TRANSACTIONS: "shard_executor_transactions_total", Kind::Counter, Unit::Count("{transaction}"), [],
        "Transactions executed by a shard, retries included; at the coordinator: those of verified blocks.";
    REEXECUTED: "shard_executor_reexecuted_transactions_total", Kind::Counter, Unit::Count("{transaction}"), [],
        "Transactions that the coordinator executed again, because a shard had read what an earlier one changed.";
    AGAIN: "shard_executor_later_round_transactions_total", Kind::Counter, Unit::Count("{transaction}"), [],
        "Transactions that the coordinator sent to shards again, in a round after the first.";
    HELPED: "shard_executor_helped_transactions_total", Kind::Counter, Unit::Count("{transaction}"), [],
        "Transactions of a shard's parts that a helper thread had executed ahead; none without --threads.";
    RETRIES: "shard_executor_retries_total", Kind::Counter, Unit::Count("{part}"), [],
        "Parts that the coordinator dispatched again.";
    QUARANTINED: "shard_executor_quarantined_blocks_total", Kind::Counter, Unit::Count("{block}"), [],
        "Blocks that the coordinator withholds from shards, because several shards died of them.";
    STATE_REQUESTS: "shard_executor_state_requests_total", Kind::Counter, Unit::Count("{request}"), [],
        "Requests for state that a shard sent; at the coordinator: that it answered.";
    NETWORK_BYTES: "shard_executor_network_bytes_total", Kind::Counter, Unit::Bytes,
        [words("direction", || vec!["sent", "received"])],
        "Bytes on the connections between coordinator and shards.";
    DEADLINES_MISSED: "shard_executor_deadlines_missed_total", Kind::Counter, Unit::Count("{deadline}"),
        [words("step", labels_of!(Late))],
        "Deadlines that passed: of a state request or a part in a shard, of a part or a block at the coordinator.";
    MESSAGES_DISCARDED: "shard_executor_messages_discarded_total", Kind::Counter, Unit::Count("{message}"),
        [words("reason", labels_of!(Useless))],
        "Messages of another block, attempt or incarnation, that could not be understood, or whose receiver was gone.";
    WATCHDOG_AGE: "shard_executor_watchdog_age_seconds", Kind::Gauge, Unit::Seconds, [],
        "Time since the sidecar last beat into the heartbeat segment. Absent if none ever did: the shard is not watched.";
    TELEMETRY_DROPPED: "shard_executor_telemetry_dropped_total", Kind::Counter, Unit::Count("{item}"),
        [words("signal", || SIGNALS.iter().map(|signal| signal.label()).collect())],
        "Telemetry that was dropped because a collector or a client was too slow, or a collector refused it.";
    BUILD_INFO: "shard_executor_build_info", Kind::Gauge, Unit::Flag, [one("version")],
        "Always 1.";
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_say_kind_and_unit_and_no_label_has_values_without_end() {
        assert_eq!(shard_telemetry::metric::complaints(super::ALL), Vec::<String>::new());
    }
}
