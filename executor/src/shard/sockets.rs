//! The bytes that wait in the kernel for the network threads: the receive queues of all
//! connections, as one channel `net-in` whose unit is bytes. A network thread that stops reading
//! shows there, whatever the rest of the process does.
//!
//! The main thread queries the kernel in its regular checks; the network threads only count what
//! they read.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use shard_heartbeat::ChannelBeat;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::threads;
use crate::net::Metered;
use crate::telemetry::counts::Counts;

/// Every open connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Sockets(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    connections: Vec<Arc<Connection>>,
    /// Bytes read on connections that are closed by now.
    before: u64,
}

#[derive(Debug)]
struct Connection {
    descriptor: RawFd,
    read: AtomicU64,
}

impl Sockets {
    /// Includes a connection in the count until it is dropped.
    pub(super) fn count(&self, stream: TcpStream, counts: Arc<Counts>) -> Counted {
        let descriptor = stream.as_raw_fd();
        let connection = Arc::new(Connection { descriptor, read: AtomicU64::new(0) });
        self.lock().connections.push(Arc::clone(&connection));
        Counted { stream: Metered::new(stream, counts), connection, sockets: self.clone() }
    }

    /// Publishes how many bytes have arrived and how many were read. What a connection left unread
    /// when it closed counts as neither.
    pub(super) fn publish(&self, channel: &ChannelBeat) {
        let open = self.lock();
        let mut read = open.before;
        let mut waiting = 0;
        for connection in &open.connections {
            read += connection.read.load(Ordering::Relaxed);
            // SAFETY: a connection is taken out under this lock before its descriptor is closed, so
            // it is open.
            let descriptor = unsafe { BorrowedFd::borrow_raw(connection.descriptor) };
            // A socket that cannot be queried counts as empty.
            waiting += rustix::io::ioctl_fionread(descriptor).unwrap_or(0);
        }
        drop(open);
        channel.counted(read + waiting, read);
    }

    fn close(&self, connection: &Arc<Connection>) {
        let mut open = self.lock();
        open.connections.retain(|other| !Arc::ptr_eq(other, connection));
        open.before += connection.read.load(Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Held for a few system calls that do not wait. Plain numbers are intact whatever happened
        // to the thread that held them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection whose bytes are counted as they are read.
#[derive(Debug)]
pub(super) struct Counted {
    stream: Metered<TcpStream>,
    connection: Arc<Connection>,
    sockets: Sockets,
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Before the stream is dropped, and its descriptor closed.
        self.sockets.close(&self.connection);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        let more = into.filled().len() - before;
        if more > 0 {
            self.connection.read.fetch_add(more as u64, Ordering::Relaxed);
            threads::progress();
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
