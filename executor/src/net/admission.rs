//! Who may give a shard work: on loopback anybody who can reach it, elsewhere those who have a
//! certificate or know a token.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::reread::Reread;
use super::tls::{self, CertificateFiles, TlsError};
use crate::token::{Readers, Token, TokenError};

/// The metadata key under which a coordinator sends the token, and the word before it, as in HTTP.
pub(super) const AUTHORIZATION: &str = "authorization";
pub(super) const BEARER: &str = "Bearer ";

/// Who may connect, as configured.
#[derive(Clone, Debug, Default)]
pub struct AdmissionOptions {
    /// The shard's own certificate; `None`: it does not use TLS.
    pub certificate: Option<CertificateFiles>,
    /// The authority whose certificates coordinators have to present.
    pub client_ca: Option<PathBuf>,
    /// The file with the token that coordinators have to know.
    pub token_file: Option<PathBuf>,
    /// Whether anybody may connect, on purpose.
    pub insecure: bool,
}

/// Why a shard does not listen. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// Others can reach the address, and nothing excludes them.
    #[error(
        "{0} can be reached from other machines, and anybody there could give this shard work: ask coordinators for a certificate (--tls-cert, --tls-key and --tls-client-ca) or for a token (--token-file), listen on a loopback address such as 127.0.0.1:7001, or say --insecure if that is what you mean"
    )]
    Open(SocketAddr),
    /// There is an authority for checking clients, but no certificate of the shard's own.
    #[error("--tls-client-ca needs a certificate of the shard's own: give --tls-cert and --tls-key as well")]
    NoCertificate,
    /// Certificates cannot be used.
    #[error("--tls-cert, --tls-key, --tls-client-ca: {0}")]
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

/// Who may connect, according to the current content of the files.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    tls: Option<Reread<ServerConfig>>,
    token: Option<Reread<Token>>,
}

impl Admission {
    /// Reads the files that `options` name, for a shard that is to listen at `listen`.
    ///
    /// # Errors
    /// If they cannot be used, or anybody from anywhere would be admitted.
    pub fn open(options: AdmissionOptions, listen: SocketAddr) -> Result<Self, AdmissionError> {
        let AdmissionOptions { certificate, client_ca, token_file, insecure } = options;
        let elsewhere = !listen.ip().to_canonical().is_loopback();
        if client_ca.is_some() && certificate.is_none() {
            return Err(AdmissionError::NoCertificate);
        }
        match (&client_ca, &token_file) {
            (None, None) if elsewhere && !insecure => return Err(AdmissionError::Open(listen)),
            (None, None) if elsewhere => {
                tracing::warn!(%listen, "anybody who can reach this address can give this shard work (--insecure)");
            }
            (None, Some(_)) if elsewhere && certificate.is_none() => {
                tracing::warn!(%listen, "the token crosses the network unencrypted, and whoever listens there can read it: give the shard --tls-cert and --tls-key as well");
            }
            _ => {}
        }
        let tls = certificate.map(|own| {
            let files = [Some(&own.certificate), Some(&own.key), client_ca.as_ref()];
            let files = files.into_iter().flatten().cloned().collect();
            let read = move || tls::server(&own, client_ca.as_deref());
            Reread::start("the certificates of this shard", files, read)
        });
        let token = token_file.map(|file| token(file).map_err(AdmissionError::from));
        Ok(Self { tls: tls.transpose()?, token: token.transpose()? })
    }

    /// The TLS configuration for the next connection; `None`: it is not encrypted.
    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.as_ref().map(Reread::now)
    }

    /// Checks that a call's metadata has the token, if one is required.
    ///
    /// # Errors
    /// The answer to a call without the right token.
    pub(crate) fn check(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let Some(token) = &self.token else { return Ok(()) };
        let said = metadata.get(AUTHORIZATION).map(|value| value.as_bytes());
        match said.map(|said| said.strip_prefix(BEARER.as_bytes())) {
            None => {
                Err(Status::unauthenticated("this shard asks for a token: give the coordinator --token-file"))
            }
            Some(Some(said)) if token.now().is(said) => Ok(()),
            Some(_) => Err(Status::unauthenticated(
                "the token is wrong: --token-file of the coordinator and of the shard have to say the same",
            )),
        }
    }
}

/// The token in `file`, updated after each change.
pub(super) fn token(file: PathBuf) -> Result<Reread<Token>, TokenOrStart> {
    Reread::start("the token", vec![file.clone()], move || {
        Token::read(&file, Readers::Group).map_err(TokenOrStart::Token)
    })
}

/// Why the token cannot be read, or not be watched for changes.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenOrStart {
    #[error(transparent)]
    Token(TokenError),
    #[error(transparent)]
    Start(#[from] std::io::Error),
}

impl From<TokenOrStart> for AdmissionError {
    fn from(error: TokenOrStart) -> Self {
        match error {
            TokenOrStart::Token(error) => Self::Token(error),
            TokenOrStart::Start(error) => Self::Start(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(listen: &str, options: AdmissionOptions) -> Result<Admission, AdmissionError> {
        Admission::open(options, listen.parse().unwrap())
    }

    #[test]
    fn an_open_address_is_refused_unless_that_is_meant() {
        for loopback in ["127.0.0.1:7001", "127.8.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert!(open(loopback, AdmissionOptions::default()).is_ok(), "{loopback}");
        }
        for elsewhere in ["0.0.0.0:0", "[::]:0", "192.0.2.7:7001", "[::ffff:192.0.2.7]:0"] {
            let error = open(elsewhere, AdmissionOptions::default()).unwrap_err().to_string();
            for option in ["--tls-client-ca", "--token-file", "--insecure"] {
                assert!(error.contains(option), "{error}");
            }
            assert!(open(elsewhere, AdmissionOptions { insecure: true, ..Default::default() }).is_ok());
        }
    }

    #[test]
    fn a_token_is_asked_for_where_there_is_one() {
        use std::os::unix::fs::PermissionsExt;

        let call = |said: Option<&str>| {
            let mut metadata = MetadataMap::new();
            if let Some(said) = said {
                metadata.insert(AUTHORIZATION, said.parse().unwrap());
            }
            metadata
        };
        assert!(Admission::default().check(&call(None)).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let options = AdmissionOptions { token_file: Some(file), ..Default::default() };
        let admission = open("0.0.0.0:0", options).unwrap();
        assert!(admission.check(&call(Some("Bearer 0123456789abcdef"))).is_ok());
        for wrong in [None, Some("Bearer 0123456789abcdeF"), Some("Bearer "), Some("0123456789abcdef")] {
            let status = admission.check(&call(wrong)).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{wrong:?}");
            assert!(status.message().contains("--token-file"), "{status}");
        }
    }
}
