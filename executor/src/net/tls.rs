//! Certificates: read from PEM files, and combined into the TLS configuration of a connection.
//!
//! Both ends speak TLS 1.2 or 1.3 with ring, and HTTP/2 on top. No session is resumed: every
//! connection presents its certificate, so that one no longer trusted opens no further connection.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::regular;

/// The most bytes of a PEM file: a bundle of all public authorities has 250 KiB.
const MOST_BYTES: u64 = 1 << 20;

/// The name of HTTP/2 in a handshake.
const HTTP2: &[u8] = b"h2";

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and the intermediates up to the authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Why certificates cannot be used. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}. Name a PEM file that this user may read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file lacks the expected content.
    #[error("{}: holds no {what} in PEM form. Name the file that does", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What it should contain.
        what: &'static str,
    },
    /// Certificate and key cannot be used together.
    #[error("{}: {source}. See that certificate, key and authority are those that belong together", path.display())]
    Unfit {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The authority cannot be used to check clients.
    #[error("{}: {source}. Name the certificate of the authority that signs those of coordinators", path.display())]
    Authority {
        /// The authority's file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::server::VerifierBuilderError,
    },
    /// The thread that reads them cannot be started.
    #[error(
        "cannot start the thread that reads certificates: {0}. The limit on threads is probably reached (ulimit -u)"
    )]
    Start(#[from] io::Error),
}

/// A shard's TLS configuration. `clients`: the authority of the certificates that it requires.
pub(crate) fn server(own: &CertificateFiles, clients: Option<&Path>) -> Result<ServerConfig, TlsError> {
    let unfit = |source| TlsError::Unfit { path: own.certificate.clone(), source };
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?;
    let builder = match clients {
        Some(path) => {
            let roots = Arc::new(authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain(own)?, key(own)?).map_err(unfit)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A coordinator's TLS configuration. `authority`: signs the certificates of shards; `own`: the
/// certificate that the coordinator presents.
pub(crate) fn client(authority: &Path, own: Option<&CertificateFiles>) -> Result<ClientConfig, TlsError> {
    let path = own.map_or(authority, |own| &own.certificate);
    let unfit = |source| TlsError::Unfit { path: path.to_owned(), source };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_root_certificates(authorities(authority)?);
    let mut config = match own {
        Some(own) => builder.with_client_auth_cert(chain(own)?, key(own)?).map_err(unfit)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(path)?);
    if added == 0 { Err(nothing(path, "certificate of an authority")) } else { Ok(roots) }
}

fn chain(own: &CertificateFiles) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(&own.certificate)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(path)?).collect();
    found.ok().filter(|all| !all.is_empty()).ok_or_else(|| nothing(path, "certificate"))
}

fn key(own: &CertificateFiles) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&pem(&own.key)?).map_err(|_| nothing(&own.key, "private key"))
}

fn pem(path: &Path) -> Result<Vec<u8>, TlsError> {
    regular::read(path, MOST_BYTES).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn nothing(path: &Path, what: &'static str) -> TlsError {
    TlsError::Nothing { path: path.to_owned(), what }
}
