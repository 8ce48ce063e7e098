//! Accepts connections and limits what each may cost: their number, the time for a request to
//! arrive and to be answered, and the life of a connection.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::dropped::{Dropped, Signal};

use super::pace::Paced;
use super::seats::{Asked, Seat, Seats};

/// A scraper, a few probes and a few people use ten. Each costs some 10 KiB and a descriptor.
pub const CONNECTIONS: usize = 64;
/// A request's first lines fit into one packet, so a client that takes this long holds the
/// connection on purpose. This also ends idle connections, for which clients are prepared: they
/// repeat the request. Together with the time for an answer it is less than ten seconds.
const HEADERS_WITHIN: Duration = Duration::from_secs(4);
/// Every answer is made from memory in milliseconds; Prometheus' own default for a scrape is 10 s.
/// A body must arrive within this time too.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A client that reads one byte a minute must not hold a connection for ever.
const CONNECTION_STAYS: Duration = Duration::from_secs(300);
/// Extra time for an answer in progress when the connection must end.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// A connection that has to go is only waiting, so its task ends at once.
const GOES_WITHIN: Duration = Duration::from_secs(1);
/// Accepting fails when descriptors run out; retrying at once would only burn CPU.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);
/// Limit of the first lines and headers of a request.
const MOST_HEADER_BYTES: usize = 16 << 10;
/// Limit of the body of a request that may have one: a sentence and a few numbers.
const MOST_BODY_BYTES: usize = 8 << 10;

/// A source of connections.
pub trait Accept {
    /// The stream of a connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection, and its peer.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

/// The peer of a connection. Every request carries it as an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client at this address.
    Address(SocketAddr),
    /// A process of this user on this machine, according to the kernel; `None` if the kernel does
    /// not say.
    User(Option<u32>),
}

impl Peer {
    fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.ip()),
            Self::User(_) => None,
        }
    }
}

impl Accept for TcpListener {
    type Io = tokio::net::TcpStream;
    async fn next(&self) -> io::Result<(Self::Io, Peer)> {
        let (stream, address) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, Peer::Address(address)))
    }
}

impl Accept for UnixListener {
    type Io = tokio::net::UnixStream;
    async fn next(&self) -> io::Result<(Self::Io, Peer)> {
        let stream = self.accept().await?.0;
        let user = stream.peer_cred().ok().map(|peer| peer.uid());
        Ok((stream, Peer::User(user)))
    }
}

/// Tells whoever makes a long answer that its connection is about to end. Every request carries it
/// as an extension.
#[derive(Clone, Debug, Default)]
pub struct Ending(Option<watch::Receiver<bool>>);

impl Ending {
    /// Waits until the connection is to end: then there are a few seconds left. Without a
    /// connection, as in tests, never.
    pub async fn begins(&mut self) {
        if let Some(ending) = &mut self.0 {
            // If the other end is gone, so is the connection.
            let _ = ending.wait_for(|ending| *ending).await;
        } else {
            std::future::pending::<()>().await;
        }
    }
}

/// The limits of one listener, and how long it is served.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Connections at once. A further one takes the place of the one that has waited longest for
    /// its client, and that one is counted.
    pub connections: usize,
    /// Becomes true at the end.
    pub stop: watch::Receiver<bool>,
    /// Counts connections that had to go, were refused, or ended because their client was slow.
    pub dropped: Arc<Dropped>,
}

/// Serves `router` on `listener` until asked to stop.
pub async fn serve(listener: impl Accept, router: Router, bounds: Bounds) {
    let Bounds { connections, mut stop, dropped } = bounds;
    let seats = Seats::new(connections);
    let mut refused = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.next() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Logged once per series of failures: it may be retried ten times a second for
                // hours.
                if !std::mem::replace(&mut refused, true) {
                    tracing::warn!(event = "accept_failed", %error, "HTTP: no connection can be accepted: {error}");
                }
                tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
                continue;
            }
        };
        refused = false;
        let seat = match seats.ask(peer.ip()) {
            Asked::Room(seat) => seat,
            Asked::Instead(seat, gone) => {
                dropped.add(Signal::Http, 1);
                // The old connection is closed as its task ends. Without this wait a flood of new
                // ones could hold more descriptors than there are seats.
                if let Some(gone) = gone {
                    let _ = tokio::time::timeout(GOES_WITHIN, gone).await;
                }
                seat
            }
            Asked::Full => {
                dropped.add(Signal::Http, 1);
                continue;
            }
        };
        let number = seat.number();
        let task =
            tokio::spawn(connection(io, peer, router.clone(), stop.clone(), seat, Arc::clone(&dropped)));
        seats.served_by(number, task);
    }
}

async fn connection(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    mut stop: watch::Receiver<bool>,
    seat: Seat,
    dropped: Arc<Dropped>,
) {
    let router = TowerToHyperService::new(router);
    let (ends, ending) = watch::channel(false);
    let ending = Ending(Some(ending));
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(ending.clone());
        let answer = router.call(request);
        let seat = &seat;
        async move {
            seat.is_answered(true);
            let answer = answer.await;
            seat.is_answered(false);
            answer
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(MOST_HEADER_BYTES)
        .serve_connection(TokioIo::new(Paced::new(io)), service);
    let mut served = pin!(served);
    tokio::select! {
        // An error of one connection concerns only its client.
        served = &mut served => {
            if served.is_err_and(|error| is_slow_reader(&error)) {
                dropped.add(Signal::Http, 1);
            }
            return;
        }
        () = tokio::time::sleep(CONNECTION_STAYS) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    ends.send_replace(true);
    served.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_ANSWER, served).await;
}

/// Whether a connection ended because its client did not take the answer.
fn is_slow_reader(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// Refuses bodies, and answers in time or reports that it could not.
pub async fn limit(request: Request, next: Next) -> Result<Response, Infallible> {
    let headers = request.headers();
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_body {
        return Ok((StatusCode::PAYLOAD_TOO_LARGE, "no request takes a body here\n").into_response());
    }
    let (parts, _) = request.into_parts();
    Ok(in_time(next.run(Request::from_parts(parts, Body::empty()))).await)
}

/// The same for requests that may have a small body. The body is read completely, within the time
/// for the answer, before the request is processed.
pub async fn limit_with_body(request: Request, next: Next) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    let answer = async {
        match to_bytes(body, MOST_BODY_BYTES).await {
            Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
            Err(_) => {
                let why = format!("a body here has at most {MOST_BODY_BYTES} bytes, and comes whole\n");
                (StatusCode::PAYLOAD_TOO_LARGE, why).into_response()
            }
        }
    };
    Ok(in_time(answer).await)
}

async fn in_time(answer: impl Future<Output = Response>) -> Response {
    tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(|_| {
        (StatusCode::SERVICE_UNAVAILABLE, "the answer took too long; try again\n").into_response()
    })
}
