//! What the executor exports besides metrics: the trace of each block.

use shard_telemetry::story::{Attribute, Bound, Span, attribute};

/// Every attribute.
pub const ATTRIBUTES: &[Attribute] = &[
    attribute("shard", Bound::One, "Who tells it: a shard's number, or `coordinator`."),
    attribute("block.number", Bound::Unbounded, "The block; the work key in the heartbeat."),
    attribute("block.transactions", Bound::Unbounded, "Its transactions."),
    attribute("block.outcome", Bound::Words, "`verified`, `wrong` or `failed`, as in the metrics."),
    attribute("block.reexecuted", Bound::Unbounded, "Transactions that were executed again in order."),
    attribute("block.retries", Bound::Unbounded, "Parts that were dispatched again."),
    attribute(
        "round.number",
        Bound::Words,
        "0: on the shards, each part on its own. From 1: on the shards again, for what was stale. The last: in block order on the coordinator.",
    ),
    attribute("part.number", Bound::Unbounded, "Which part of the block."),
    attribute("part.attempt", Bound::Unbounded, "Which attempt at it, from 0."),
    attribute("part.shard", Bound::Unbounded, "The shard that it was given to."),
    attribute("part.transactions", Bound::Unbounded, "Its transactions."),
];

/// Every span, in the order in which they begin.
pub const SPANS: &[Span] = &[
    Span {
        name: "block",
        meaning: "The root, by the coordinator: from the beginning of a block to its verdict. An error unless it was verified.",
        attributes: &[
            "shard",
            "block.number",
            "block.transactions",
            "block.outcome",
            "block.reexecuted",
            "block.retries",
        ],
    },
    Span {
        name: "round",
        meaning: "One way through the block: on the shards, perhaps again for what turned out stale, and the last one in order on the coordinator.",
        attributes: &["shard", "round.number"],
    },
    Span {
        name: "part",
        meaning: "One attempt at one part, from its dispatch to its result; an error if it was lost, late or wrong. Its ids go with \
                  the message, and into the heartbeat of whoever executes it: an incident of the sidecar links to it.",
        attributes: &["shard", "part.number", "part.attempt", "part.shard", "part.transactions"],
    },
    Span {
        name: "execute",
        meaning: "The same in the shard, under `part`: from taking it up to handing its result over.",
        attributes: &["shard", "block.number", "part.number", "part.attempt", "part.transactions"],
    },
];
