//! Opens the connection to a shard: TCP, and TLS on top if the coordinator has certificates.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use super::credentials::Credentials;
use super::metered::Metered;
use crate::telemetry::counts::Counts;

/// A connection, encrypted or not.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// How long to wait for the shard's first bytes. In TLS 1.3 our part of the handshake ends before
/// the other end has seen our certificate. If it refuses the certificate, the next bytes contain
/// the reason; otherwise they are the settings of HTTP/2. A server need not send those first, so
/// this wait ends well before [`crate::deadline::CONNECT`].
const FIRST_WORD: Duration = Duration::from_millis(250);

/// Connects to one fixed address, whatever address it is called with.
pub(super) struct Connector {
    address: String,
    credentials: Credentials,
    counts: Arc<Counts>,
}

impl Connector {
    pub(super) fn to(address: &str, credentials: &Credentials, counts: &Arc<Counts>) -> Self {
        Self { address: address.to_owned(), credentials: credentials.clone(), counts: Arc::clone(counts) }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Duplex>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, counts) = (self.address.clone(), Arc::clone(&self.counts));
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let tls = self.credentials.tls(host);
        Box::pin(async move {
            let stream = Metered::new(tcp(&address).await?, counts);
            let Some((config, name)) = tls else {
                return Ok(TokioIo::new(Box::new(stream) as Box<dyn Duplex>));
            };
            let name = name.map_err(NoTls)?;
            let encrypted = TlsConnector::from(config).connect(name, stream).await;
            let mut encrypted = encrypted.map_err(|error| NoTls(in_words(&error)))?;
            if let Ok(Err(error)) = tokio::time::timeout(FIRST_WORD, encrypted.fill_buf()).await {
                return Err(NoTls(in_words(&error)).into());
            }
            Ok(TokioIo::new(Box::new(encrypted) as Box<dyn Duplex>))
        })
    }
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    #[expect(
        clippy::disallowed_methods,
        reason = "net::connect, the only one to use this connector, bounds the whole attempt"
    )]
    let stream = TcpStream::connect(address).await?;
    // While a local shard restarts, the system may assign its port to the very connection that
    // tries to reach it. TCP allows that, and the shard would then find its address taken.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"));
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Why a handshake failed, with the next step.
#[derive(Debug, thiserror::Error)]
#[error("no TLS: {0}")]
pub(super) struct NoTls(String);

fn in_words(error: &io::Error) -> String {
    use rustls::Error::InvalidCertificate;

    let words = error.to_string();
    let hint = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "give the name in its certificate by --tls-name",
        Some(InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "give --tls-ca the authority that signed its certificate"
        }
        Some(InvalidCertificate(_)) => "give the shard another certificate",
        _ => refused(&words)
            .unwrap_or("it may not speak TLS: give it --tls-cert and --tls-key, or leave out --tls-ca"),
    };
    format!("{words}: {hint}")
}

/// The next step, if `words` mean that a shard refuses our certificate. They may arrive late,
/// through HTTP/2, which forwards only the words.
pub(super) fn refused(words: &str) -> Option<&'static str> {
    let (_, alert) = words.split_once("received fatal alert: ")?;
    Some(if alert.starts_with("CertificateRequired") {
        "it asks for a certificate: give --tls-cert and --tls-key"
    } else {
        "it refuses this certificate: --tls-cert has to be signed by its --tls-client-ca, and be in force"
    })
}
