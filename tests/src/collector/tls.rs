//! TLS in front of a collector: certificates from `openssl`, encryption by Python's `ssl`. That is
//! OpenSSL too, so a mistake of ours cannot cancel itself out.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::Process;
use crate::{api, skip, wait};

/// Forwards what arrives encrypted, one thread per connection, HTTP/1.1 and HTTP/2 alike.
const FRONT: &str = r#"
import select, socket, ssl, sys, threading

certificate, key, listen, target = sys.argv[1:5]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.set_alpn_protocols(["h2", "http/1.1"])

def received(stream):
    stream.setblocking(False)
    try:
        return stream.recv(65536)
    except (ssl.SSLWantReadError, BlockingIOError):
        return None
    finally:
        stream.settimeout(10)

def serve(raw):
    raw.settimeout(10)
    try:
        near = context.wrap_socket(raw, server_side=True)
        far = socket.create_connection(("127.0.0.1", int(target)), 10)
        print("a connection over", near.version(), flush=True)
        while True:
            if not near.pending():
                select.select([near, far], [], [])
            for one, other in ((near, far), (far, near)):
                data = received(one)
                if data == b"":
                    return
                if data:
                    other.sendall(data)
    except OSError as error:
        print("refused:", error, flush=True)

with socket.create_server(("127.0.0.1", int(listen))) as server:
    while True:
        raw, _ = server.accept()
        threading.Thread(target=serve, args=(raw,), daemon=True).start()
"#;

/// A TLS front whose certificate authority is unknown to everyone.
#[derive(Debug)]
pub struct TlsFront {
    /// The process, and what it printed about connections.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate (PEM) of the authority that signed the front's own.
    pub authority: PathBuf,
}

impl TlsFront {
    /// Whether its tools are installed. If not, `test` is recorded as skipped; in CI that is a
    /// failure.
    #[track_caller]
    pub fn installed_or_skip(test: &str) -> bool {
        let runs = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        let there = runs(Command::new("openssl").arg("version"))
            && runs(Command::new("python3").args(["-c", "import ssl"]));
        if !there {
            let ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!ci, "CI needs openssl and python3");
            skip::note(
                test,
                "openssl or python3 with ssl is not installed (apt-get install openssl python3)",
            );
        }
        there
    }

    /// Starts it in front of `target`, with its own authority and certificate in `folder`.
    #[track_caller]
    pub fn start(folder: &Path, target: SocketAddr) -> Self {
        let (authority, certificate, key) = certificates(folder);
        let address = api::free_address();
        let mut command = Command::new("python3");
        command.args(["-c", FRONT]).arg(certificate).arg(key);
        command.args([address.port().to_string(), target.port().to_string()]);
        let process = Process::start("TLS", command);
        wait::until("a TLS server that listens", || TcpStream::connect(address).ok());
        Self { process, address, authority }
    }
}

/// An authority's certificate, a server certificate signed by it, and the server's key.
#[track_caller]
fn certificates(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let at = |name: &str| folder.join(name);
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let authority = ["req", "-x509", "-subj", "/CN=nobody knows", "-keyout", "ca.key", "-out", "ca.pem"];
    run(&[&authority[..], &key[..]].concat());
    std::fs::write(at("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").expect("a file");
    let server = ["req", "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr"];
    run(&[&server[..], &key[..5]].concat());
    let signed =
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    run(&[&signed[..], &["-days", "2", "-extfile", "names", "-out", "server.pem"]].concat());
    (at("ca.pem"), at("server.pem"), at("server.key"))
}
