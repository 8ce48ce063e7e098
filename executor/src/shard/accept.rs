//! Connections to a shard, from the kernel to the gRPC server: counted, encrypted where it has a
//! certificate, and HTTP/2.
//!
//! Whoever connects may say anything, or nothing. Each connection is looked at in a task of its
//! own, for a bounded time, so that none holds up the next; there are no more of them than places;
//! and one on which no coordinator is served goes in time, or when another needs its place.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::places::{Asked, Holder, Place, Places};
use super::sockets::{Counted, Sockets};
use crate::deadline;
use crate::net::{Admission, Duplex};
use crate::telemetry::counts::Counts;

/// Connections at once. A coordinator has one, and so has each who asks for the health; more must
/// not be a way to use up the descriptors of the process.
const MOST: usize = 128;

/// How long a newcomer waits for the descriptor of the one that makes room: its task has only to be
/// woken. On a machine where that takes longer there is one connection more for a moment.
const MAKE_ROOM: Duration = Duration::from_millis(50);

/// Between two attempts to accept when accepting fails, as it does while descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long whoever was refused may take to read why. Closed with something unread in it, a socket
/// is reset, and the reason may be lost on the way.
const LINGER: Duration = Duration::from_millis(250);

/// At least so long between two lines of log on connections that came to nothing: others decide how
/// many there are.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS connection, where HTTP/2 has a `P`.
const TLS_HANDSHAKE: u8 = 0x16;

/// Where connections come in.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) admission: Admission,
    pub(super) sockets: Sockets,
    pub(super) counts: Arc<Counts>,
}

impl Door {
    /// The work of accepting, which ends when nobody takes connections any more, and the
    /// connections.
    pub(super) fn open(self) -> (impl Future<Output = ()> + Send, ReceiverStream<io::Result<Accepted>>) {
        // As many as there are places, so that there is always room for one that has a place.
        let (ready, connections) = mpsc::channel(MOST);
        (self.accept(ready), ReceiverStream::new(connections))
    }

    async fn accept(self, ready: mpsc::Sender<io::Result<Accepted>>) {
        let places = Places::new(MOST);
        let teller = Arc::new(Teller::default());
        loop {
            let accepted = tokio::select! {
                () = ready.closed() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let place = match places.ask(peer) {
                Asked::Room(place) => place,
                Asked::Instead(place, other) => {
                    teller.tell(
                        other.peer(),
                        "somebody else needed its place, and no coordinator was served on it",
                    );
                    // Otherwise a flood would hold more descriptors than there are places.
                    let _ = tokio::time::timeout(MAKE_ROOM, other.gone()).await;
                    place
                }
                Asked::Full => {
                    teller.tell(peer, "there are as many connections as there may be");
                    continue;
                }
            };
            // An answer that waits a little is an answer all the same.
            let _ = TcpStream::set_nodelay(&stream, true);
            let stream = self.sockets.count(stream, Arc::clone(&self.counts));
            let (tls, ready, teller) = (self.admission.tls(), ready.clone(), Arc::clone(&teller));
            tokio::spawn(async move {
                let mut over: Over = Box::pin(place.over());
                let greeted = tokio::select! {
                    greeted = tokio::time::timeout(deadline::HELLO, greet(stream, tls)) => greeted,
                    () = &mut over => return,
                };
                match greeted {
                    Ok(Ok((stream, head))) => {
                        let accepted = Accepted { head, given: 0, stream, over, ended: false, place };
                        // Fails only if nobody takes connections any more.
                        let _ = ready.try_send(Ok(accepted));
                    }
                    Ok(Err(Some(why))) => teller.tell(peer, &why),
                    Ok(Err(None)) => {}
                    Err(_) => teller.tell(peer, "it said too little for too long"),
                }
            });
        }
    }
}

/// Resolves when a connection has to go.
type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What was read of a connection already.
type Head = Vec<u8>;

/// Finds out whether `stream` speaks what this shard speaks; if not, why, unless it only knocked.
async fn greet(
    mut stream: Counted,
    tls: Option<Arc<ServerConfig>>,
) -> Result<(Box<dyn Duplex>, Head), Option<String>> {
    if let Some(config) = tls {
        return match TlsAcceptor::from(config).accept(stream).into_fallible().await {
            Ok(stream) => Ok((Box::new(stream), Head::new())),
            // A probe that asks whether the port is open says nothing and goes.
            Err((error, _)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(None),
            Err((error, stream)) => {
                part(stream).await;
                Err(Some(format!("no TLS: {error}")))
            }
        };
    }
    let mut head = vec![0; PREFACE.len()];
    let mut read = 0;
    while read < PREFACE.len() {
        let more = stream.read(head.get_mut(read..).unwrap_or_default()).await;
        read += match more {
            Ok(0) | Err(_) => return Err(None),
            Ok(more) => more,
        };
        if head.get(..read) != PREFACE.get(..read) {
            part(stream).await;
            let why = match head.first() {
                Some(&TLS_HANDSHAKE) => "it speaks TLS, and this shard was given no --tls-cert",
                _ => "it does not speak HTTP/2",
            };
            return Err(Some(why.to_owned()));
        }
    }
    Ok((Box::new(stream), head))
}

/// Ends a connection so that what was said last gets through.
async fn part(mut stream: Counted) {
    let end = async {
        if stream.shutdown().await.is_ok() {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    };
    let _ = tokio::time::timeout(LINGER, end).await;
}

/// Tells of connections that came to nothing, and not of each.
#[derive(Default)]
struct Teller(Mutex<Option<Instant>>);

impl Teller {
    fn tell(&self, peer: SocketAddr, why: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
            *last = Some(Instant::now());
            drop(last);
            tracing::warn!(%peer, why, "a connection was closed before a coordinator was served on it; others in the next 10 s are not told");
        }
    }
}

/// A connection that speaks HTTP/2.
pub(super) struct Accepted {
    head: Head,
    /// How much of the head was read a second time.
    given: usize,
    stream: Box<dyn Duplex>,
    /// Kept as long as the stream: the next one waits for both to be dropped.
    over: Over,
    ended: bool,
    place: Place,
}

impl Accepted {
    /// Asked before all else, so that the task that serves the connection is woken when it has to
    /// go, whatever it waits for, and ends it.
    ///
    /// # Errors
    /// The connection has to go.
    fn stays(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.ended = self.ended || self.over.as_mut().poll(context).is_ready();
        if !self.ended {
            return Ok(());
        }
        let why = "no coordinator is served on this connection";
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, why))
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.stays(context)?;
        let rest = this.head.get(this.given..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, into);
        }
        let now = rest.get(..into.remaining()).unwrap_or(rest);
        into.put_slice(now);
        this.given += now.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stays(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stays(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stays(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stays(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Accepted {
    type ConnectInfo = Holder;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.place.holder()
    }
}
