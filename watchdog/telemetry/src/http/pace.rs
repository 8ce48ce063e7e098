//! Ends a connection whose client does not read its answer. Time in which a write waits is charged
//! to an allowance, which grows with what the client has read. So a client that reads steadily may
//! read on, and one that stops or trickles is disconnected.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long all writes of a connection together may wait.
const ALLOWED: Duration = Duration::from_secs(4);
/// Written bytes that earn one more second: a rate below that of any network used for shards.
const A_SECOND_EACH: u64 = 64 << 10;

/// A connection with such an allowance.
#[derive(Debug)]
pub(super) struct Paced<Io> {
    io: Io,
    left: Duration,
    /// Written bytes that have earned no allowance yet.
    unpaid: u64,
    /// When the current wait of a write began, and when it must end.
    waits: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<Io> Paced<Io> {
    pub(super) const fn new(io: Io) -> Self {
        Self { io, left: ALLOWED, unpaid: 0, waits: None }
    }

    /// The result of a write, or an error if it has waited for too long.
    fn pace(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(written) => {
                if let Some((since, _)) = self.waits.take() {
                    self.left = self.left.saturating_sub(since.elapsed());
                }
                if let Ok(bytes) = written {
                    self.unpaid += bytes as u64;
                    let seconds = self.unpaid / A_SECOND_EACH;
                    self.unpaid %= A_SECOND_EACH;
                    self.left = ALLOWED.min(self.left + Duration::from_secs(seconds));
                }
                Poll::Ready(written)
            }
            Poll::Pending => {
                let left = self.left;
                let (_, end) =
                    self.waits.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
                ready!(end.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client does not take the answer",
                )))
            }
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Paced<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Paced<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.pace(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.pace(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn pair(left: Duration) -> (Paced<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(1 << 10);
        (Paced { left, ..Paced::new(near) }, far)
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "a test that waits without end is ended by its runner"
        )]
        runtime.block_on(test);
    }

    #[test]
    fn who_takes_nothing_is_ended() {
        run(async {
            let (mut near, far) = pair(Duration::from_millis(20));
            let error = near.write_all(&[0; 4 << 10]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            drop(far);
        });
    }

    #[test]
    fn who_takes_a_byte_now_and_then_is_ended_too() {
        run(async {
            let (mut near, mut far) = pair(Duration::from_millis(60));
            let trickle = tokio::spawn(async move {
                // As long as there is data to read.
                while far.read_u8().await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            let error = near.write_all(&[0; 4 << 10]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            drop(near);
            trickle.abort();
        });
    }

    #[test]
    fn what_was_taken_earns_time() {
        let mut paced = Paced { left: Duration::ZERO, ..Paced::new(()) };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = paced.pace(Poll::Ready(Ok(3 << 16)), &mut cx);
        assert_eq!(paced.left, Duration::from_secs(3));
        let _ = paced.pace(Poll::Ready(Ok(1 << 20)), &mut cx);
        assert_eq!(paced.left, ALLOWED);
    }
}
