//! Which certificates to trust and which to present for an `https://` endpoint: the PEM files that
//! the standard variables name, else what this machine trusts.

use reqwest::blocking::ClientBuilder;
use tonic::transport::ClientTlsConfig;

use super::OtlpError;
use super::settings::{Kind, Route, general, of_kind};

/// The content of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    /// Whether the endpoint uses TLS at all.
    wanted: bool,
    /// The only certificates to trust.
    trusted: Option<Vec<u8>>,
    /// A client certificate and its key.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// Reads the files for a kind and its route. Without `https://` nothing is read.
    pub(super) fn new(kind: Kind, route: &Route) -> Result<Self, OtlpError> {
        let wanted = route.endpoint.is_https();
        if !wanted {
            return Ok(Self { wanted, trusted: None, identity: None });
        }
        let identity = match (file(kind, "CLIENT_CERTIFICATE")?, file(kind, "CLIENT_KEY")?) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => {
                return Err(OtlpError::Half { given: "CLIENT_CERTIFICATE", missing: "CLIENT_KEY" });
            }
            (None, Some(_)) => {
                return Err(OtlpError::Half { given: "CLIENT_KEY", missing: "CLIENT_CERTIFICATE" });
            }
        };
        Ok(Self { wanted, trusted: file(kind, "CERTIFICATE")?, identity })
    }

    /// For HTTP. A client that never uses TLS should not read what this machine trusts: that takes
    /// a MiB and some time, and a container without any such certificates would have no client at
    /// all.
    pub(super) fn client(&self, builder: ClientBuilder) -> Result<ClientBuilder, reqwest::Error> {
        let builder = match &self.trusted {
            Some(pem) => builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem)?),
            None if self.wanted => builder,
            None => builder.tls_certs_only([]),
        };
        Ok(match &self.identity {
            Some((certificate, key)) => {
                let both = [key.as_slice(), b"\n", certificate].concat();
                builder.identity(reqwest::Identity::from_pem(&both)?)
            }
            None => builder,
        })
    }

    /// For gRPC, which uses this only if the endpoint requires TLS.
    pub(super) fn channel(&self) -> ClientTlsConfig {
        let config = match &self.trusted {
            Some(pem) => ClientTlsConfig::new().ca_certificate(tonic::transport::Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match &self.identity {
            Some((certificate, key)) => {
                config.identity(tonic::transport::Identity::from_pem(certificate, key))
            }
            None => config,
        }
    }
}

/// The content of the file that a variable names; the variable of the kind takes precedence over
/// that of all kinds.
fn file(kind: Kind, what: &str) -> Result<Option<Vec<u8>>, OtlpError> {
    for variable in [of_kind(kind, what), general(what)] {
        let Some(path) = std::env::var_os(&variable).filter(|path| !path.is_empty()) else { continue };
        return match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(OtlpError::File { variable, path: path.into(), error }),
        };
    }
    Ok(None)
}
