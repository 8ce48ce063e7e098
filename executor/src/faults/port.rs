//! The port on which tests order faults: a line in, a line out.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Faults, Order};

/// The most bytes of an order; the longest real one has about 60.
const MAX_LINE: u64 = 512;

/// How long a connection may say nothing. A test that keeps one open between faults stays far below.
const SILENCE: Duration = Duration::from_secs(600);

/// Connections at once: a test needs one, and the port must not be a way to use up descriptors.
const MAX_CONNECTIONS: usize = 16;

/// Between two attempts to accept when accepting fails, as it does while descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Faults are for tests on this machine.
    #[error(
        "the fault port would listen on {0}, which others can reach: give --faults a loopback address such as 127.0.0.1:7091"
    )]
    NotLoopback(SocketAddr),
    /// The system refused.
    #[error(
        "cannot listen for faults on {address}: {source}. Give --faults a free address, or end what listens there"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Opens the port on the given runtime. It returns the address that was bound.
pub fn serve(
    runtime: &tokio::runtime::Handle,
    address: SocketAddr,
    faults: Faults,
) -> Result<SocketAddr, PortError> {
    if !address.ip().is_loopback() {
        return Err(PortError::NotLoopback(address));
    }
    let failed = |source| PortError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let _entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    runtime.spawn(accept(listener, faults));
    Ok(bound)
}

async fn accept(listener: tokio::net::TcpListener, faults: Faults) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let faults = faults.clone();
        tokio::spawn(async move {
            // A connection that breaks concerns only the test at its other end.
            let _ = talk(stream, &faults).await;
            drop(place);
        });
    }
}

async fn talk(mut stream: TcpStream, faults: &Faults) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(MAX_LINE);
        let Ok(got) = tokio::time::timeout(SILENCE, limited.read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if got? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && line.len() as u64 >= MAX_LINE {
            return write.write_all(b"error: an order has at most 512 bytes\n").await;
        }
        let answer = String::from_utf8_lossy(&line).parse::<Order>().and_then(|order| faults.obey(order));
        let answer = answer.unwrap_or_else(|error| format!("error: {error}"));
        write.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}
