//! The port on which tests order faults: a line in, a line out.
//!
//! It is a unix socket of this user's own, or a TCP port of this machine for those who know a
//! token. Whatever is no order ends the connection: a browser, or whoever else was led here, gets
//! no second line.

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

/// How long a connection may say nothing. A test that keeps one open between faults stays far
/// below.
const SILENCE: Duration = Duration::from_secs(600);

/// How long one may take to say the token: until then it may be anybody's, and takes one of a few
/// places.
const TOKEN_WITHIN: Duration = Duration::from_secs(5);

/// Connections at once: a test needs one, and the port must not be a way to use up descriptors.
const MAX_CONNECTIONS: usize = 16;

/// Between two attempts to accept when accepting fails, as it does while descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortAddress {
    /// A unix socket at this path.
    Socket(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

/// A path has a `/` or stands after `unix:`; anything else is an address.
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

/// Where the port is, and who is let in.
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// Where.
    pub address: PortAddress,
    /// The file with the token that whoever comes over TCP has to know.
    pub token_file: Option<PathBuf>,
}

/// Why the port could not be opened. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Faults are for tests on this machine.
    #[error(
        "the fault port would listen on {0}, which others can reach: give --faults the path of a socket, or a loopback address such as 127.0.0.1:7091"
    )]
    NotLoopback(SocketAddr),
    /// Every program of this machine can reach a TCP port, a browser among them.
    #[error(
        "the fault port would listen on {0}, where every user of this machine could break this process: give --faults the path of a socket, or name a file with a token by --faults-token-file"
    )]
    NoToken(SocketAddr),
    /// A token that nobody would be asked for.
    #[error(
        "--faults-token-file is for a fault port on TCP, and --faults is the socket {0}, which lets in this user and root only: leave it out"
    )]
    TokenForSocket(PathBuf),
    /// The token is not to be had.
    #[error("--faults-token-file: {0}")]
    Token(#[from] TokenError),
    /// The socket is not to be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The address is not to be had.
    #[error(
        "cannot listen for faults on {address}: {source}. Give --faults a free address, or end what listens there"
    )]
    Bind {
        /// Where.
        address: PortAddress,
        /// Why.
        source: io::Error,
    },
}

/// The open port. Its socket is removed with it.
#[derive(Debug)]
pub struct Port {
    address: PortAddress,
    _file: Option<SocketFile>,
}

/// Where it is, after the system has chosen a port if it was to.
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
                // An answer that waits a little is an answer all the same.
                let _ = TcpStream::set_nodelay(&stream, true);
                begin(stream, &places, &faults, Some(Arc::clone(&token)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Whether it is this user or root who connects. Its mode keeps others from the socket; this holds
/// whatever became of that.
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
        // A connection that breaks concerns only the test at its other end.
        let _ = talk(stream, &faults, token.as_deref()).await;
    });
}

async fn talk(stream: impl AsyncRead + AsyncWrite, faults: &Faults, token: Option<&Token>) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::new(read);
    if let Some(token) = token {
        let Said::Line(line) = line(&mut read, MAX_TOKEN_LINE, TOKEN_WITHIN).await? else { return Ok(()) };
        if !line.strip_prefix(b"token ").is_some_and(|claimed| token.is(claimed.trim_ascii())) {
            tracing::warn!("the fault port takes no orders from who does not know the token");
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
            // Whoever says such a thing is not a test, or a test that is wrong: no reason to hear
            // more of it.
            Err(error) => return refuse(write, &error.to_string()).await,
        };
        tied.by_order |= order == Order::Tied;
        let answer = faults.obey(order).unwrap_or_else(|error| format!("error: {error}"));
        write.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

/// A connection that may have asked for what is armed to go with it, however it ends.
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

/// What a connection says next.
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
