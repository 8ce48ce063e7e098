//! What a coordinator presents to shards, and what it requires of them.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tonic::metadata::MetadataValue;

use super::admission::{AUTHORIZATION, BEARER, TokenOrStart, token};
use super::reread::Reread;
use super::tls::{self, CertificateFiles, TlsError};
use crate::token::{Token, TokenError};

/// A coordinator's credentials, as configured.
#[derive(Clone, Debug, Default)]
pub struct CredentialOptions {
    /// The authority that signs the certificates of shards; `None`: no TLS.
    pub ca: Option<PathBuf>,
    /// Its own certificate, for shards that ask for one.
    pub certificate: Option<CertificateFiles>,
    /// The name in the shards' certificates, if it is not the host in their addresses.
    pub name: Option<String>,
    /// The file with the token, for shards that ask for one.
    pub token_file: Option<PathBuf>,
}

/// Why a coordinator does not start. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// TLS options are given without an authority to trust.
    #[error(
        "--tls-cert, --tls-key and --tls-name need the authority that shards are checked by: give --tls-ca as well"
    )]
    NoAuthority,
    /// The name is neither a host's name nor an address.
    #[error(
        "--tls-name {0:?} is neither the name of a host nor an address: give the one in the shards' certificates"
    )]
    Name(String),
    /// Certificates cannot be used.
    #[error("--tls-ca, --tls-cert, --tls-key: {0}")]
    Tls(#[from] TlsError),
    /// The token cannot be used.
    #[error("--token-file: {0}")]
    Token(#[from] TokenError),
    /// The thread that reads the token cannot be started.
    #[error(
        "cannot start the thread that reads --token-file: {0}. The limit on threads is probably reached (ulimit -u)"
    )]
    Start(#[from] std::io::Error),
}

impl From<TokenOrStart> for CredentialError {
    fn from(error: TokenOrStart) -> Self {
        match error {
            TokenOrStart::Token(error) => Self::Token(error),
            TokenOrStart::Start(error) => Self::Start(error),
        }
    }
}

/// A coordinator's credentials, as the files currently are. By default none, over plain TCP.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    tls: Option<Reread<ClientConfig>>,
    name: Option<ServerName<'static>>,
    token: Option<Reread<Token>>,
}

impl Credentials {
    /// Reads the files that `options` name.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn open(options: CredentialOptions) -> Result<Self, CredentialError> {
        let CredentialOptions { ca, certificate, name, token_file } = options;
        if ca.is_none() && (certificate.is_some() || name.is_some()) {
            return Err(CredentialError::NoAuthority);
        }
        let name =
            name.map(|name| ServerName::try_from(name.clone()).map_err(|_| CredentialError::Name(name)));
        let tls = ca.map(|ca| {
            let own = certificate.iter().flat_map(|own| [&own.certificate, &own.key]);
            let files = own.chain([&ca]).cloned().collect();
            let read = move || tls::client(&ca, certificate.as_ref());
            Reread::start("the certificates of this coordinator", files, read)
        });
        let token = token_file.map(token);
        Ok(Self { tls: tls.transpose()?, name: name.transpose()?, token: token.transpose()? })
    }

    /// The TLS configuration for the next connection to `host`, and the name that its certificate
    /// must have; `None`: it is not encrypted.
    pub(super) fn tls(&self, host: &str) -> Option<(Arc<ClientConfig>, Result<ServerName<'static>, String>)> {
        let config = self.tls.as_ref()?.now();
        let name = match &self.name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())
                .map_err(|_| format!("no certificate can be for {host:?}: give --tls-name")),
        };
        Some((config, name))
    }

    /// A request with `message`, and with the token if there is one.
    pub fn call<T>(&self, message: T) -> tonic::Request<T> {
        let mut call = tonic::Request::new(message);
        if let Some(token) = &self.token
            // Visible ASCII characters, which are allowed in such a value.
            && let Ok(mut value) = MetadataValue::try_from(format!("{BEARER}{}", token.now().as_str()))
        {
            value.set_sensitive(true);
            call.metadata_mut().insert(AUTHORIZATION, value);
        }
        call
    }
}
