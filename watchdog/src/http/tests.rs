//! Tests over a real socket, byte by byte, which a well-behaved client would not allow.

#![expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::board::sample;
use crate::clock::WallAnchor;
use crate::surface::{self, SurfaceHandle};
use crate::telemetry::dropped::{Dropped, Signal};

struct Server {
    surface: SurfaceHandle,
    _events: tokio::sync::mpsc::Sender<crate::event::Event>,
    _folder: tempfile::TempDir,
    address: SocketAddr,
    dropped: Arc<Dropped>,
}

fn server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let mut config = sample::config(folder.path());
    config.http.listen = Some("127.0.0.1:0".parse().unwrap());
    config.http.hosts = ["shard-0.shards.svc", "*.example"].map(|host| host.parse().unwrap()).to_vec();
    let dropped = Arc::new(Dropped::default());
    let (events, receiver) = tokio::sync::mpsc::channel(1);
    let surface = surface::start_without_log(
        &config,
        receiver,
        WallAnchor::now(),
        Arc::clone(&dropped),
        None,
        Arc::default(),
    )
    .unwrap();
    let address = surface.addresses().listen.unwrap();
    Server { surface, _events: events, _folder: folder, address, dropped }
}

fn say(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn first_line(answer: &str) -> &str {
    answer.lines().next().unwrap_or("")
}

#[test]
fn a_rebound_name_is_refused() {
    let server = server();
    for host in ["evil.test", "127.0.0.1.evil.test", "10.0.0.1"] {
        let answer =
            say(&server, &format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        assert_eq!(first_line(&answer), "HTTP/1.1 421 Misdirected Request", "{host}");
        assert!(answer.contains("http.hosts") && answer.contains(&format!("[\"{host}\"]")), "{answer}");
    }
    let absolute = "GET http://evil.test/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(first_line(&say(&server, absolute)), "HTTP/1.1 421 Misdirected Request");
    for given in ["shard-0.shards.svc:9611", "SHARD-0.shards.svc.", "a.b.example"] {
        let answer = say(&server, &format!("GET / HTTP/1.1\r\nHost: {given}\r\nConnection: close\r\n\r\n"));
        assert_eq!(first_line(&answer), "HTTP/1.1 200 OK", "{given}");
    }
    let fine = say(&server, "GET / HTTP/1.1\r\nHost: localhost:1234\r\nConnection: close\r\n\r\n");
    assert_eq!(first_line(&fine), "HTTP/1.1 200 OK");
}

#[test]
fn a_request_names_one_host_unless_it_is_too_old_to() {
    let server = server();
    let bad = "HTTP/1.1 400 Bad Request";
    assert_eq!(first_line(&say(&server, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n")), bad);
    let two = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(first_line(&say(&server, two)), bad);
    assert!(first_line(&say(&server, "GET /livez HTTP/1.0\r\n\r\n")).ends_with("200 OK"));
}

#[test]
fn bodies_and_other_methods_are_refused() {
    let server = server();
    let body = "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    assert_eq!(first_line(&say(&server, body)), "HTTP/1.1 413 Payload Too Large");
    let post = "POST /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(first_line(&say(&server, post)), "HTTP/1.1 405 Method Not Allowed");
}

#[test]
fn connections_beyond_the_limit_take_the_place_of_the_oldest_and_are_counted() {
    let server = server();
    let held: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let began = Instant::now();
    while server.dropped.get(Signal::Http) < 16 {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", server.dropped.get(Signal::Http));
        std::thread::sleep(Duration::from_millis(5));
    }
    for stream in &held {
        let _ = stream.shutdown(Shutdown::Both);
    }
    drop(held);
    let began = Instant::now();
    loop {
        let answer = say(&server, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        if first_line(&answer) == "HTTP/1.1 200 OK" {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

/// Reads until the other end is closed. Returns whether that happened within a limit that suffices
/// on any busy machine.
fn is_ended(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn idle_connections_keep_nobody_out() {
    let server = server();
    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let request = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for _ in 0..5 {
        assert_eq!(first_line(&say(&server, request)), "HTTP/1.1 200 OK");
    }
    assert!(server.dropped.get(Signal::Http) >= 36, "{}", server.dropped.get(Signal::Http));
    drop(idle);
}

#[test]
fn a_request_that_comes_byte_by_byte_is_ended() {
    let server = server();
    let mut slow = TcpStream::connect(server.address).unwrap();
    let mut beats = slow.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        while beats.write_all(b"G").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    // Within one request: a header that never ends.
    slow.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    assert!(is_ended(&mut slow));
    let _ = slow.shutdown(Shutdown::Both);
    trickle.join().unwrap();
}

#[test]
fn a_connection_that_stays_idle_after_an_answer_is_ended() {
    let server = server();
    let mut idle = TcpStream::connect(server.address).unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(is_ended(&mut idle));
}

#[test]
fn who_asks_on_and_reads_no_answer_is_ended() {
    let server = server();
    let mut deaf = TcpStream::connect(server.address).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // The answers fit until the buffers of both ends are full. Then the server waits, and then it
    // closes the connection.
    let error = loop {
        if let Err(error) = deaf.write_all(request) {
            break error;
        }
    };
    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the connection was still there");
}

#[test]
fn a_stream_whose_client_does_not_keep_up_is_ended_and_counted() {
    let server = server();
    let mut deaf = TcpStream::connect(server.address).unwrap();
    deaf.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut bytes = [0; 64];
    deaf.read_exact(&mut bytes).unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK"));
    let began = Instant::now();
    while server.dropped.get(Signal::Http) == 0 {
        server.surface.tell_reload(true);
        assert!(began.elapsed() < Duration::from_secs(60), "it was never ended");
    }
    assert!(is_ended(&mut deaf));
    let answer = say(&server, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(first_line(&answer), "HTTP/1.1 200 OK");
}

#[test]
fn metrics_are_in_the_text_format_that_prometheus_asks_for() {
    let server = server();
    let answer = say(&server, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(answer.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("# TYPE shard_watchdog_verdict gauge"));
}

fn get(server: &Server, path: &str, headers: &str) -> String {
    say(server, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n"))
}

const BROWSER: &str = "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n";

#[test]
fn browsers_get_the_page_and_others_the_paths() {
    let server = server();
    let page = get(&server, "/", BROWSER).to_lowercase();
    assert!(
        page.contains("content-type: text/html; charset=utf-8") && page.contains("<!doctype html>"),
        "{page}"
    );
    for plain in
        [get(&server, "/", ""), get(&server, "/", "Accept: */*\r\n"), get(&server, "/paths", BROWSER)]
    {
        assert!(plain.to_lowercase().contains("content-type: text/plain; charset=utf-8"), "{plain}");
        assert!(plain.contains("GET /api/v1/history"), "{plain}");
    }
    assert!(page.contains("vary: accept"), "a cache must not mix the two up");
}

#[test]
fn every_answer_confines_a_browser() {
    let server = server();
    for path in ["/", "/page.css", "/page.js", "/api/v1/status", "/api/v1/history", "/metrics", "/nothing"] {
        let answer = get(&server, path, BROWSER).to_lowercase();
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "x-frame-options: deny\r\n",
        ] {
            assert!(answer.contains(header), "{path} lacks {header}: {answer}");
        }
    }
}

#[test]
fn the_page_is_small_and_has_nothing_inline() {
    let server = server();
    let part = |path: &str| get(&server, path, BROWSER).split_once("\r\n\r\n").unwrap().1.to_owned();
    let [page, style, script] = ["/", "/page.css", "/page.js"].map(part);
    let bytes = page.len() + style.len() + script.len();
    assert!(bytes <= 40 << 10, "{bytes} bytes");
    for inline in ["<style", "style=", "onclick", "onload", "<script>"] {
        assert!(!page.contains(inline), "{inline}");
    }
    for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
        assert!(!script.contains(sink), "{sink}");
    }
}

#[test]
fn history_after_no_entry_is_a_bad_request() {
    let server = server();
    for good in ["/api/v1/history", "/api/v1/history?after=3", "/api/v1/history?other=x"] {
        assert_eq!(first_line(&get(&server, good, "")), "HTTP/1.1 200 OK", "{good}");
    }
    for bad in ["?after=x", "?after=-1", "?after="] {
        assert_eq!(
            first_line(&get(&server, &format!("/api/v1/history{bad}"), "")),
            "HTTP/1.1 400 Bad Request",
            "{bad}"
        );
    }
}
