//! Opening the TCP connection to a shard.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use super::metered::Metered;
use crate::telemetry::counts::Counts;

/// Connects to one address, whatever it is asked for.
pub(super) struct Connector {
    address: String,
    counts: Arc<Counts>,
}

impl Connector {
    pub(super) fn to(address: &str, counts: &Arc<Counts>) -> Self {
        Self { address: address.to_owned(), counts: Arc::clone(counts) }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Metered<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, counts) = (self.address.clone(), Arc::clone(&self.counts));
        Box::pin(async move {
            #[expect(
                clippy::disallowed_methods,
                reason = "net::connect, the only one to use this connector, bounds the whole attempt"
            )]
            let stream = TcpStream::connect(address).await?;
            // While a local shard restarts, the system may lend its port to the very connection that tries to reach it. TCP
            // allows that, and the shard would then find its address taken.
            if stream.local_addr()? == stream.peer_addr()? {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"));
            }
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(Metered::new(stream, counts)))
        })
    }
}
