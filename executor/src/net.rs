//! What coordinator and shard say to each other, and the limits of the connection they say it on.

mod connector;
mod metered;
mod state;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Server};

use crate::deadline;
use crate::telemetry::counts::Counts;
use crate::vm::{CodecError, MAX_ENCODED_BYTES};

pub(crate) use metered::Metered;
pub use state::{Key, Value};
pub use work::{Work, WorkRef};

/// The messages, generated from `proto/executor.proto`, which documents them.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod wire {
    tonic::include_proto!("shard.executor.v1");
}

/// Version of the protocol; both ends send theirs first and part if they differ. Version 1 knew
/// nothing of blocks that a watchdog keeps from its shard; version 2 nothing of blob schedules,
/// slots and gas that is counted by block.
pub const VERSION: u32 = 3;

/// The most bytes of one message, both ways: the largest payload there can be, and room for what stands around it.
pub const MAX_MESSAGE: usize = MAX_ENCODED_BYTES + (1 << 20);

/// Messages that may wait for the network in one direction of a stream. A shard has one state request under way and a
/// handful of parts, so a full queue means that the other end has stopped reading.
pub const STREAM_QUEUE: usize = 64;

/// The most keys in one state request: 64 Ki keys with their answers fit a message many times over.
pub const MAX_KEYS: usize = 1 << 16;

/// Why a message from the other end is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A field that every such message has is not there.
    #[error("the message has no {0}")]
    Missing(&'static str),
    /// A field with a number of bytes that it cannot have.
    #[error("{field} has {got} bytes instead of {want}")]
    Length {
        /// Which field.
        field: &'static str,
        /// How many it should have.
        want: usize,
        /// How many it has.
        got: usize,
    },
    /// Answers that do not fit what was asked.
    #[error("{0}")]
    Mismatch(String),
    /// A payload that cannot be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// A server with this crate's limits.
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(deadline::KEEP_ALIVE))
        .http2_keepalive_timeout(Some(deadline::KEEP_ALIVE))
}

/// A client for a shard at `host:port`, with this crate's limits, connected within [`deadline::CONNECT`].
pub async fn connect(
    address: &str,
    counts: &Arc<Counts>,
) -> Result<wire::shard_client::ShardClient<Channel>, ConnectError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|source| ConnectError::Address { address: address.to_owned(), source })?
        .connect_timeout(deadline::CONNECT)
        .http2_keep_alive_interval(deadline::KEEP_ALIVE)
        .keep_alive_timeout(deadline::KEEP_ALIVE)
        .keep_alive_while_idle(true);
    #[expect(clippy::disallowed_methods, reason = "the next line bounds it")]
    let connecting = endpoint.connect_with_connector(connector::Connector::to(address, counts));
    let connected = tokio::time::timeout(deadline::CONNECT, connecting).await;
    let channel =
        connected.map_err(|_| ConnectError::Late(deadline::CONNECT))?.map_err(ConnectError::Refused)?;
    Ok(wire::shard_client::ShardClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE))
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not an address.
    #[error("{address:?} is not an address such as 127.0.0.1:7001")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// Nobody there, or unwilling.
    #[error("{}", innermost(.0))]
    Refused(#[source] tonic::transport::Error),
    /// No answer in time.
    #[error("no connection within {0:?}")]
    Late(Duration),
}

/// The cause that a person can act on: transport errors wrap it several times and say only "transport error" outside.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    // Bounded, because nothing promises that sources do not go in a circle.
    for _ in 0..16 {
        match at.source() {
            Some(source) => at = source,
            None => break,
        }
    }
    at.to_string()
}

/// What a broken stream says, in a few words.
pub fn stream_end(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("{:?}: {}", status.code(), innermost(source)),
        None => format!("{:?}: {}", status.code(), status.message()),
    }
}
