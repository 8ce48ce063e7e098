//! The messages between coordinator and shard, and the limits of their connection.

mod admission;
mod connector;
mod credentials;
mod metered;
mod reread;
mod state;
mod tls;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Server};

use crate::deadline;
use crate::telemetry::counts::Counts;
use crate::vm::{CodecError, MAX_ENCODED_BYTES};

pub use admission::{Admission, AdmissionError, AdmissionOptions};
pub(crate) use connector::Duplex;
pub use credentials::{CredentialError, CredentialOptions, Credentials};
pub(crate) use metered::Metered;
pub use state::{Key, Value};
pub use tls::{CertificateFiles, TlsError};
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

/// Version of the protocol; both ends send theirs first and disconnect if they differ. Version 1
/// did not know of blocks that a watchdog withholds from its shard; version 2 not of blob
/// schedules, slots and gas counted by block.
pub const VERSION: u32 = 3;

/// The most bytes of one message, both ways: the largest possible payload, and room for its
/// envelope.
pub const MAX_MESSAGE: usize = MAX_ENCODED_BYTES + (1 << 20);

/// Messages that may wait for the network in one direction of a stream. A shard has one state
/// request under way and a handful of parts, so a full queue means that the other end has stopped
/// reading.
pub const STREAM_QUEUE: usize = 64;

/// The most keys in one state request: 64 Ki keys with answers fit in a message many times over.
pub const MAX_KEYS: usize = 1 << 16;

/// Why a message from the other end is invalid.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A mandatory field is missing.
    #[error("the message has no {0}")]
    Missing(&'static str),
    /// A field has the wrong number of bytes.
    #[error("{field} has {got} bytes instead of {want}")]
    Length {
        /// Which field.
        field: &'static str,
        /// The number of bytes it should have.
        want: usize,
        /// The number of bytes it has.
        got: usize,
    },
    /// The answers do not fit the request.
    #[error("{0}")]
    Mismatch(String),
    /// A payload cannot be decoded.
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

/// Connects to a shard at `host:port` within [`deadline::CONNECT`], with this crate's limits. The
/// client presents the certificate of `credentials`; the token goes with each call
/// ([`Credentials::call`]).
pub async fn connect(
    address: &str,
    credentials: &Credentials,
    counts: &Arc<Counts>,
) -> Result<wire::shard_client::ShardClient<Channel>, ConnectError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|source| ConnectError::Address { address: address.to_owned(), source })?
        .connect_timeout(deadline::CONNECT)
        .http2_keep_alive_interval(deadline::KEEP_ALIVE)
        .keep_alive_timeout(deadline::KEEP_ALIVE)
        .keep_alive_while_idle(true);
    #[expect(clippy::disallowed_methods, reason = "the next line bounds it")]
    let connecting = endpoint.connect_with_connector(connector::Connector::to(address, credentials, counts));
    let connected = tokio::time::timeout(deadline::CONNECT, connecting).await;
    let channel =
        connected.map_err(|_| ConnectError::Late(deadline::CONNECT))?.map_err(ConnectError::Refused)?;
    Ok(wire::shard_client::ShardClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE))
}

/// Why the connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is malformed.
    #[error("{address:?} is not an address such as 127.0.0.1:7001")]
    Address {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// Nothing listens there, or it refuses.
    #[error("{}", innermost(.0))]
    Refused(#[source] tonic::transport::Error),
    /// No answer in time.
    #[error("no connection within {0:?}")]
    Late(Duration),
}

impl ConnectError {
    /// Whether something listens there that cannot or will not talk to us: a retry helps only once
    /// somebody has acted.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Address { .. } => true,
            Self::Refused(error) => chain(error).any(|error| error.is::<connector::NoTls>()),
            Self::Late(_) => false,
        }
    }
}

/// Whether a shard that answers with `status` is up and refuses: a retry helps only once somebody
/// has acted.
pub fn is_refusal(status: &tonic::Status) -> bool {
    use tonic::Code;
    let by_answer = matches!(
        status.code(),
        Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::Unauthenticated
            | Code::Unimplemented
    );
    by_answer || connector::refused(&words(status)).is_some()
}

/// The cause that a person can act on: transport errors wrap it several times, and the outermost is
/// only "transport error".
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    // Bounded, because nothing guarantees that sources do not form a cycle.
    std::iter::successors(Some(error), |error| error.source()).take(16)
}

/// Why a stream broke, in a few words, with the next step where that is known.
pub fn stream_end(status: &tonic::Status) -> String {
    let words = words(status);
    match connector::refused(&words) {
        Some(hint) => format!("{:?}: {words}: {hint}", status.code()),
        None => format!("{:?}: {words}", status.code()),
    }
}

fn words(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => innermost(source),
        None => status.message().to_owned(),
    }
}
