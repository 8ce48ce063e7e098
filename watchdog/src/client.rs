//! A small HTTP client for the commands that query a sidecar, over TCP or its unix socket. Every
//! call has a deadline, and answers have a maximum size.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The status of 4,096 threads is about one MiB; no answer of a sidecar comes near this.
const LARGEST_ANSWER: usize = 16 << 20;

/// The address of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `http://host:port` with an optional path prefix.
    Tcp {
        /// `host:port`
        authority: String,
        /// The path prefix, without a trailing slash.
        prefix: String,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

/// `--url` that cannot be parsed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a sidecar's address: say http://HOST:PORT or unix:/PATH.sock")]
pub struct EndpointError {
    text: String,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || EndpointError { text: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(PathBuf::from(path))) } else { Err(wrong()) };
        }
        let uri: hyper::Uri = text.parse().map_err(|_| wrong())?;
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(80);
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self::Tcp { authority: format!("{}:{port}", authority.host()), prefix })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { authority, prefix } => write!(f, "http://{authority}{prefix}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No process listens there, or the connection failed.
    #[error("{endpoint} cannot be reached: {error}")]
    Unreachable {
        /// The sidecar that was queried.
        endpoint: Endpoint,
        /// The error of the operating system.
        error: io::Error,
    },
    /// No complete answer came in time.
    #[error("{endpoint} did not answer within {} s", within.as_secs_f64())]
    Late {
        /// The sidecar that was queried.
        endpoint: Endpoint,
        /// The time limit that expired.
        within: Duration,
    },
    /// The answer is not HTTP, or is too large.
    #[error("{endpoint} does not answer as a sidecar does: {reason}")]
    Garbled {
        /// The sidecar that was queried.
        endpoint: Endpoint,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// An answer of any status code.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// The request to send.
#[derive(Clone, Copy, Debug, Default)]
struct Question<'a> {
    path: &'a str,
    /// With a body the request is an order: POST instead of GET.
    body: Option<&'a str>,
    token: Option<&'a str>,
}

/// Requests `path` of `endpoint` and waits at most `within`, including name resolution and
/// connecting.
///
/// # Errors
/// If no complete answer comes in time. An answer with any status code is no error.
pub fn get(endpoint: &Endpoint, path: &str, within: Duration) -> Result<Answer, ClientError> {
    send(endpoint, Question { path, ..Question::default() }, within)
}

/// Sends an order, with the bearer token if there is one.
///
/// # Errors
/// As [`get`].
pub fn post(
    endpoint: &Endpoint,
    path: &str,
    body: &str,
    token: Option<&str>,
    within: Duration,
) -> Result<Answer, ClientError> {
    send(endpoint, Question { path, body: Some(body), token }, within)
}

fn send(endpoint: &Endpoint, question: Question<'_>, within: Duration) -> Result<Answer, ClientError> {
    let unreachable = |error| ClientError::Unreachable { endpoint: endpoint.clone(), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    #[expect(clippy::disallowed_methods, reason = "the future is a timeout")]
    let answer = runtime.block_on(async {
        let late = |_| ClientError::Late { endpoint: endpoint.clone(), within };
        tokio::time::timeout(within, ask(endpoint, question)).await.map_err(late)?
    });
    // A name lookup may still be running, on a thread that cannot be interrupted.
    runtime.shutdown_background();
    answer
}

#[expect(clippy::disallowed_methods, reason = "send, its only caller, bounds the whole of it")]
async fn ask(endpoint: &Endpoint, question: Question<'_>) -> Result<Answer, ClientError> {
    let unreachable = |error| ClientError::Unreachable { endpoint: endpoint.clone(), error };
    match endpoint {
        Endpoint::Tcp { authority, prefix } => {
            let stream = TcpStream::connect(authority.as_str()).await.map_err(unreachable)?;
            let path = format!("{prefix}{}", question.path);
            talk(endpoint, stream, authority, Question { path: &path, ..question }).await
        }
        Endpoint::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
            talk(endpoint, stream, "localhost", question).await
        }
    }
}

async fn talk<S>(
    endpoint: &Endpoint,
    stream: S,
    host: &str,
    question: Question<'_>,
) -> Result<Answer, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let garbled = |reason: String| ClientError::Garbled { endpoint: endpoint.clone(), reason };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| garbled(error.to_string()))?;
    tokio::spawn(connection);
    let Question { path, body, token } = question;
    let mut request = if body.is_some() { Request::post(path) } else { Request::get(path) };
    request = request.header(header::HOST, host).header(header::CONNECTION, "close");
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = Full::new(Bytes::from(body.unwrap_or_default().to_owned()));
    let request = request.body(body).map_err(|error| garbled(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| garbled(error.to_string()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
    Ok(Answer { status, body: body.map_err(|error| garbled(error.to_string()))?.to_bytes() })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    #[test]
    fn addresses_are_understood_or_refused_with_an_example() {
        let tcp = |text: &str| text.parse::<Endpoint>().unwrap().to_string();
        assert_eq!(tcp("http://127.0.0.1:9611"), "http://127.0.0.1:9611");
        assert_eq!(tcp("http://[::1]:9611/"), "http://[::1]:9611");
        assert_eq!(tcp("http://host/behind/proxy/"), "http://host:80/behind/proxy");
        assert_eq!(tcp("unix:/run/s.sock"), "unix:/run/s.sock");
        assert_eq!(tcp("unix:///run/s.sock"), "unix:/run/s.sock");
        for text in
            ["", "9611", "localhost:9611", "https://host", "unix:s.sock", "http://u:p@host", "http://h?q"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    fn endpoint(listener: &TcpListener) -> Endpoint {
        format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
    }

    #[test]
    fn a_server_that_never_answers_costs_the_deadline_and_no_more() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let began = Instant::now();
        let error = get(&endpoint(&silent), "/", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, ClientError::Late { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn nobody_there_is_said_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = endpoint(&listener);
        drop(listener);
        let error = get(&endpoint, "/", Duration::from_secs(3)).unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    }

    #[test]
    fn what_is_not_http_is_said_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = endpoint(&listener);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]);
            stream.write_all(b"SSH-2.0-OpenSSH\r\n").unwrap();
        });
        let error = get(&endpoint, "/", Duration::from_secs(3)).unwrap_err();
        server.join().unwrap();
        assert!(matches!(error, ClientError::Garbled { .. }), "{error}");
    }
}
