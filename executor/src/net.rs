//! What coordinator and shard say to each other, and the limits of the connection they say it on.

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

use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Server};

use crate::deadline;
use crate::telemetry::counts::Counts;
use crate::vm::{CodecError, MAX_ENCODED_BYTES};

pub use admission::{Admission, AdmissionError, AdmissionOptions};
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

/// Version of the protocol; both ends send theirs first and part if they differ. Version 1 knew
/// nothing of blocks that a watchdog keeps from its shard; version 2 nothing of blob schedules,
/// slots and gas that is counted by block.
pub const VERSION: u32 = 3;

/// The most bytes of one message, both ways: the largest payload there can be, and room for what
/// stands around it.
pub const MAX_MESSAGE: usize = MAX_ENCODED_BYTES + (1 << 20);

/// Messages that may wait for the network in one direction of a stream. A shard has one state
/// request under way and a handful of parts, so a full queue means that the other end has stopped
/// reading.
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

/// A connection, encrypted or not.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A server with this crate's limits.
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(deadline::KEEP_ALIVE))
        .http2_keepalive_timeout(Some(deadline::KEEP_ALIVE))
}

/// A client for a shard at `host:port`, with this crate's limits, connected within
/// [`deadline::CONNECT`]. It shows the certificate of `credentials`; the token goes with each call
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

impl ConnectError {
    /// Whether somebody is there who cannot or will not speak with us: trying again helps only once
    /// somebody has acted.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Address { .. } => true,
            Self::Refused(error) => chain(error).any(|error| error.is::<connector::NoTls>()),
            Self::Late(_) => false,
        }
    }
}

/// Whether a shard that answers so is there and refuses: trying again helps only once somebody has
/// acted.
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

/// The cause that a person can act on: transport errors wrap it several times and say only
/// "transport error" outside.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    // Bounded, because nothing promises that sources do not go in a circle.
    std::iter::successors(Some(error), |error| error.source()).take(16)
}

/// What a broken stream says, in a few words, and the next step where that is known.
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
