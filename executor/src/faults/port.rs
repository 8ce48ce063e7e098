//! The port on which tests order faults: one line in, one line out.
//!
//! It is a unix socket of this user, or a TCP port of this machine for those who know a token. A
//! line that is not an order ends the connection: a browser, or anything else that was led here,
//! gets no second line.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use shard_heartbeat::Peer;
use shard_heartbeat::faults::{SocketError, SocketFile};

use super::{Faults, Order};
use crate::token::{self, Readers, Token, TokenError};

/// The most bytes of an order; the longest real one has about 60.
const MAX_LINE: usize = 512;

/// The most bytes of the line with the token.
const MAX_TOKEN_LINE: usize = token::LONGEST + 16;

/// How long a connection may be silent. Tests that hold one open between faults stay far below.
const SILENCE: Duration = Duration::from_secs(600);

/// How long a client may take to send the token: until then it may be anybody, and takes one of few
/// places.
const TOKEN_WITHIN: Duration = Duration::from_secs(5);

/// The most connections at once: a test needs one, and the port must not exhaust descriptors.
const MAX_CONNECTIONS: usize = 16;

/// Pause between attempts to accept when accepting fails, as when descriptors are exhausted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortAddress {
    /// A unix socket at this path.
    Socket(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

/// A path contains a `/` or follows `unix:`; anything else is an address.
impl FromStr for PortAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Socket(path.into())),
            None if text.contains('/') => Ok(Self::Socket(text.into())),
            _ => text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "{text:?} is neither the path of a socket such as /run/shard/0.faults nor an address such as 127.0.0.1:7091"
                )
            }),
        }
    }
}

impl fmt::Display for PortAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Where the port is, and whom it admits.
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// The address.
    pub address: PortAddress,
    /// File with the token that TCP clients have to know.
    pub token_file: Option<PathBuf>,
}

/// Why the port could not be opened. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The address can be reached from other machines; faults are for tests on this one.
    #[error(
        "the fault port would listen on {0}, which others can reach: give --faults the path of a socket, or a loopback address such as 127.0.0.1:7091"
    )]
    NotLoopback(SocketAddr),
    /// No token for a TCP port, which every program of this machine can reach, even a browser.
    #[error(
        "the fault port would listen on {0}, where every user of this machine could break this process: give --faults the path of a socket, or name a file with a token by --faults-token-file"
    )]
    NoToken(SocketAddr),
    /// A token is given for a socket, where nobody would be asked for it.
    #[error(
        "--faults-token-file is for a fault port on TCP, and --faults is the socket {0}, which lets in this user and root only: leave it out"
    )]
    TokenForSocket(PathBuf),
    /// The token cannot be read.
    #[error("--faults-token-file: {0}")]
    Token(#[from] TokenError),
    /// The socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The address cannot be opened.
    #[error(
        "cannot listen for faults on {address}: {source}. Give --faults a free address, or end what listens there"
    )]
    Bind {
        /// The address.
        address: PortAddress,
        /// Why.
        source: io::Error,
    },
}

/// The open port. Its socket is removed when this is dropped.
#[derive(Debug)]
pub struct Port {
    address: PortAddress,
    _file: Option<SocketFile>,
}

/// The actual address, with the port that the system has chosen if it was to.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// Opens the port on the given runtime.
pub fn serve(
    runtime: &tokio::runtime::Handle,
    options: &PortOptions,
    faults: Faults,
) -> Result<Port, PortError> {
    let failed = |source| PortError::Bind { address: options.address.clone(), source };
    let _entered = runtime.enter();
    match &options.address {
        PortAddress::Socket(path) => {
            if options.token_file.is_some() {
                return Err(PortError::TokenForSocket(path.clone()));
            }
            let (listener, file) = shard_heartbeat::faults::bind(path)?;
            let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
            runtime.spawn(accept_own(listener, faults));
            Ok(Port { address: options.address.clone(), _file: Some(file) })
        }
        PortAddress::Tcp(address) => {
            if !address.ip().to_canonical().is_loopback() {
                return Err(PortError::NotLoopback(*address));
            }
            let file = options.token_file.as_deref().ok_or(PortError::NoToken(*address))?;
            let token = Arc::new(Token::read(file, Readers::Nobody)?);
            let listener = TcpListener::bind(address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            runtime.spawn(accept_with_token(listener, faults, token));
            Ok(Port { address: PortAddress::Tcp(bound), _file: None })
        }
    }
}

async fn accept_own(listener: tokio::net::UnixListener, faults: Faults) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) if is_own(&stream) => begin(stream, &places, &faults, None),
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn accept_with_token(listener: tokio::net::TcpListener, faults: Faults, token: Arc<Token>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without this an answer only arrives a little later.
                let _ = TcpStream::set_nodelay(&stream, true);
                begin(stream, &places, &faults, Some(Arc::clone(&token)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Whether this user or root connects. The socket's mode already excludes others; this check holds
/// even if the mode was changed.
fn is_own(stream: &UnixStream) -> bool {
    let peer = Peer::of(stream);
    let is_own = peer.as_ref().is_ok_and(Peer::is_own_or_root);
    if !is_own {
        tracing::warn!(?peer, "the fault port takes no orders from another user");
    }
    is_own
}

fn begin(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    places: &Arc<Semaphore>,
    faults: &Faults,
    token: Option<Arc<Token>>,
) {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else { return };
    let faults = faults.clone();
    tokio::spawn(async move {
        let _place: OwnedSemaphorePermit = place;
        // A broken connection concerns only the test at its other end.
        let _ = talk(stream, &faults, token.as_deref()).await;
    });
}

async fn talk(stream: impl AsyncRead + AsyncWrite, faults: &Faults, token: Option<&Token>) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::new(read);
    if let Some(token) = token {
        let Said::Line(line) = line(&mut read, MAX_TOKEN_LINE, TOKEN_WITHIN).await? else { return Ok(()) };
        if !line.strip_prefix(b"token ").is_some_and(|claimed| token.is(claimed.trim_ascii())) {
            tracing::warn!("the fault port takes no orders from a client that does not know the token");
            return refuse(write, "the first line has to be `token TOKEN`, with the right one").await;
        }
        write.write_all(b"ok\n").await?;
    }
    let mut tied = Tied { faults, by_order: false };
    loop {
        let line = match line(&mut read, MAX_LINE, SILENCE).await? {
            Said::Line(line) => line,
            Said::TooLong => return refuse(write, "an order has at most 512 bytes").await,
            Said::Nothing => return Ok(()),
        };
        let order = match String::from_utf8_lossy(&line).parse::<Order>() {
            Ok(order) => order,
            // The sender is not a test, or a test that is wrong: no reason to read more from it.
            Err(error) => return refuse(write, &error.to_string()).await,
        };
        tied.by_order |= order == Order::Tied;
        let answer = faults.obey(order).unwrap_or_else(|error| format!("error: {error}"));
        write.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

/// A connection that may have tied what is armed to itself, however it ends.
struct Tied<'a> {
    faults: &'a Faults,
    by_order: bool,
}

impl Drop for Tied<'_> {
    fn drop(&mut self) {
        if self.by_order {
            let _ = self.faults.obey(Order::Disarm);
        }
    }
}

async fn refuse(mut write: impl AsyncWrite + Unpin, why: &str) -> io::Result<()> {
    write.write_all(format!("error: {why}\n").as_bytes()).await?;
    write.shutdown().await
}

/// What was read next from a connection.
enum Said {
    Line(Vec<u8>),
    TooLong,
    Nothing,
}

async fn line(read: &mut (impl AsyncBufReadExt + Unpin), most: usize, within: Duration) -> io::Result<Said> {
    let mut line = Vec::new();
    let mut limited = read.take(most as u64);
    let Ok(got) = tokio::time::timeout(within, limited.read_until(b'\n', &mut line)).await else {
        return Ok(Said::Nothing);
    };
    Ok(match got? {
        0 => Said::Nothing,
        _ if line.last() != Some(&b'\n') && line.len() >= most => Said::TooLong,
        _ => Said::Line(line),
    })
}
