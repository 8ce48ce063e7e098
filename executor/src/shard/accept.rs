//! Connections to a shard, from the kernel to the gRPC server: counted, encrypted if it has a
//! certificate, and HTTP/2.
//!
//! Whoever connects may send anything, or nothing. Each connection is examined in a task of its
//! own, for a bounded time, so that none delays the next. There are no more of them than places,
//! and one that serves no coordinator is closed after a time, or when another needs its place.

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

/// The most connections at once. A coordinator has one, and so has each client of the health
/// service; more must not be a way to exhaust the process's descriptors.
const MOST: usize = 128;

/// How long a newcomer waits until the connection that makes room has closed its descriptor: its
/// task only has to be woken. If that takes longer, there is one connection too many for a moment.
const MAKE_ROOM: Duration = Duration::from_millis(50);

/// Pause between attempts to accept when accepting fails, as when descriptors are exhausted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a refused client may take to read the reason. A socket that is closed with unread data
/// in it is reset, and the reason may be lost on the way.
const LINGER: Duration = Duration::from_millis(250);

/// The least time between two log lines about connections that failed: others decide how many there
/// are.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The first bytes of an HTTP/2 connection (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS connection, where HTTP/2 has a `P`.
const TLS_HANDSHAKE: u8 = 0x16;

/// The listener's side of accepting.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) admission: Admission,
    pub(super) sockets: Sockets,
    pub(super) counts: Arc<Counts>,
}

impl Door {
    /// The future that accepts, which ends when nobody takes connections any more, and the stream
    /// of connections.
    pub(super) fn open(self) -> (impl Future<Output = ()> + Send, ReceiverStream<io::Result<Accepted>>) {
        // As large as there are places: a connection that has a place always finds room.
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
            // Without this an answer only arrives a little later.
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

/// What has already been read from a connection.
type Head = Vec<u8>;

/// Checks that `stream` speaks this shard's protocol; if not, why, unless it was only a probe.
async fn greet(
    mut stream: Counted,
    tls: Option<Arc<ServerConfig>>,
) -> Result<(Box<dyn Duplex>, Head), Option<String>> {
    if let Some(config) = tls {
        return match TlsAcceptor::from(config).accept(stream).into_fallible().await {
            Ok(stream) => Ok((Box::new(stream), Head::new())),
            // A probe for an open port sends nothing and closes.
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

/// Ends a connection so that the last message still arrives.
async fn part(mut stream: Counted) {
    let end = async {
        if stream.shutdown().await.is_ok() {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    };
    let _ = tokio::time::timeout(LINGER, end).await;
}

/// Logs failed connections, but not every one.
#[derive(Default)]
struct Teller(Mutex<Option<Instant>>);

impl Teller {
    fn tell(&self, peer: SocketAddr, why: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
            *last = Some(Instant::now());
            drop(last);
            tracing::warn!(%peer, why, "a connection was closed before a coordinator was served on it; others in the next 10 s are not logged");
        }
    }
}

/// A connection that speaks HTTP/2.
pub(super) struct Accepted {
    head: Head,
    /// How many bytes of the head were read a second time.
    given: usize,
    stream: Box<dyn Duplex>,
    /// Lives as long as the stream: the next connection waits for both to be dropped.
    over: Over,
    ended: bool,
    place: Place,
}

impl Accepted {
    /// Polled before all else, so that the task that serves the connection is woken when it has to
    /// go, whatever it waits for, and ends it.
    ///
    /// # Errors
    /// If the connection has to go.
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
