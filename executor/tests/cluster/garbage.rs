//! What arrives at a shard's port need not come from a coordinator, nor from anybody with good
//! intentions.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread::JoinHandle;

use shard_executor::net::{self, Credentials, MAX_MESSAGE, wire};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::blocks;
use crate::process::{PATIENCE, Process, Shard, assert_verified, coordinator, coordinator_with, events};

/// The preface of HTTP/2, and the empty settings frame that belongs to it.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// As many connections as a shard has places.
const PLACES: usize = 128;

/// A shard at work for a coordinator.
struct AtWork {
    _folder: tempfile::TempDir,
    chain: blocks::Chain,
    shard: Shard,
    coordinator: Process,
}

impl AtWork {
    fn begin() -> Self {
        let chain = blocks::generated(2, 20);
        let folder = tempfile::tempdir().unwrap();
        let shard = Shard::start(folder.path(), 0);
        let more = ["--block-deadline", "60s", "--repeat", "0"];
        let mut coordinator = coordinator(&[&shard], &chain.path, &more);
        coordinator.wait_for_event("block");
        Self { _folder: folder, chain, shard, coordinator }
    }

    /// Asserts that the coordinator was not disturbed, and that the shard serves the next one.
    fn assert_undisturbed(mut self) {
        self.coordinator.wait_for_event("block");
        self.coordinator.signal(libc::SIGTERM);
        assert_eq!(self.coordinator.wait(), 0, "{}", self.coordinator.rest().1);
        let lines = self.coordinator.rest().0;
        for trouble in ["shard_lost", "retry"] {
            assert!(events(&lines, trouble).is_empty(), "{lines:?}");
        }
        let mut next = coordinator(&[&self.shard], &self.chain.path, &["--block-deadline", "60s"]);
        assert_eq!(next.wait(), 0, "{}", next.rest().1);
        assert_eq!(assert_verified(&next.rest().0, &self.chain), 2);
        assert_eq!(self.shard.order("list"), "ok: hook on; guard on; armed: none");
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits until the shard ends the connection.
fn ends(mut stream: TcpStream) {
    let mut some = [0; 4_096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("it is not ended: {error}"),
        }
    }
}

/// Connects, and does what HTTP/2 demands of a client and nothing more: answers settings and pings.
/// It has a place when this returns; the thread ends when the shard closes the connection.
fn stranger(to: SocketAddr) -> JoinHandle<()> {
    let mut stream = connect(to);
    stream.write_all(HTTP2).unwrap();
    assert!(answer(&mut stream), "the shard begins with its settings");
    std::thread::spawn(move || while answer(&mut stream) {})
}

/// Reads one frame of HTTP/2 (RFC 9113, 4.1) and acknowledges it if it demands that; returns
/// whether the connection is still open.
fn answer(stream: &mut TcpStream) -> bool {
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const ACKNOWLEDGED: u8 = 1;
    let mut head = [0; 9];
    match stream.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no ping in {PATIENCE:?}"),
        Err(_) => return false,
    }
    let [high, middle, low, kind, flags, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    if stream.read_exact(&mut payload).is_err() {
        return false;
    }
    let answered = match kind {
        _ if flags & ACKNOWLEDGED != 0 => Ok(()),
        SETTINGS => stream.write_all(&[0, 0, 0, SETTINGS, ACKNOWLEDGED, 0, 0, 0, 0]),
        PING => stream.write_all(&[&[0, 0, 8, PING, ACKNOWLEDGED, 0, 0, 0, 0], &payload[..]].concat()),
        _ => Ok(()),
    };
    answered.is_ok()
}

/// Waits until the shard ends a connection that only watches its health.
fn health_watch_ends(shard: SocketAddr) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let watched = async {
        let channel = Channel::from_shared(format!("http://{shard}")).unwrap().connect().await.unwrap();
        let answers = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap();
        let mut answers = answers.into_inner();
        while let Ok(Some(_)) = answers.message().await {}
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, watched).await }).expect("it is ended");
}

/// Waits until the shard has ended the connections of all of them.
fn all_ended(strangers: Vec<JoinHandle<()>>) {
    for stranger in strangers {
        crate::process::wait_until("a stranger's connection is ended", || stranger.is_finished());
        stranger.join().unwrap();
    }
}

/// Meaningless bytes, the same on every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn whatever_is_no_http2_is_ended_and_disturbs_nobody() {
    let at_work = AtWork::begin();
    let mut openings: Vec<Vec<u8>> = (1..=20).map(|seed| noise(seed, 1 << 14)).collect();
    openings.extend((1..=20).map(|seed| [HTTP2, &noise(seed, 1 << 14)].concat()));
    openings.push(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec());
    // The head of a TLS 1.3 handshake.
    openings.push([&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise(7, 600)].concat());
    openings.push(HTTP2[..10].to_vec());
    openings.push(Vec::new());
    for opening in openings {
        let mut stream = connect(at_work.shard.address);
        // The shard may end the connection before everything is written.
        let _ = stream.write_all(&opening);
        ends(stream);
    }
    at_work.assert_undisturbed();
}

#[test]
fn who_speaks_http2_and_says_nothing_is_ended_too() {
    let at_work = AtWork::begin();
    let mut silent = connect(at_work.shard.address);
    silent.write_all(HTTP2).unwrap();
    // This client answers no ping.
    ends(silent);
    at_work.assert_undisturbed();
}

#[test]
fn more_connections_than_there_are_places_cost_only_themselves() {
    let at_work = AtWork::begin();
    let held: Vec<TcpStream> = (0..300).map(|_| connect(at_work.shard.address)).collect();
    for stream in held {
        ends(stream);
    }
    at_work.assert_undisturbed();
}

/// How a stream ends that begins with `first`, or with nothing.
fn stream(shard: &Shard, first: Option<wire::down::Message>) -> tonic::Status {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ended = async {
        let (down, stream) = mpsc::channel(1);
        if let Some(first) = first {
            down.try_send(wire::Down { message: Some(first) }).unwrap();
        }
        let address = shard.address.to_string();
        let client = net::connect(&address, &Credentials::default(), &Default::default()).await.unwrap();
        let mut client = client.max_encoding_message_size(usize::MAX);
        client.serve(ReceiverStream::new(stream)).await.expect_err("no session")
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, ended).await }).expect("it is answered")
}

#[test]
fn a_stream_without_a_hello_or_with_too_much_is_refused() {
    let at_work = AtWork::begin();
    let status = stream(&at_work.shard, None);
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "no hello in time"));
    let status = stream(
        &at_work.shard,
        Some(wire::down::Message::Cancel(wire::Cancel { sequence: 1, finished_blocks: 0 })),
    );
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let hello = wire::CoordinatorHello { incarnation: 1, version: net::VERSION + 1 };
    let status = stream(&at_work.shard, Some(wire::down::Message::Hello(hello)));
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let work = vec![0; MAX_MESSAGE + 1];
    let status =
        stream(&at_work.shard, Some(wire::down::Message::Run(wire::RunPart { work, ..Default::default() })));
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    at_work.assert_undisturbed();
}

#[test]
fn strangers_that_hold_every_place_do_not_keep_the_coordinator_out() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), blocks::generated(1, 5));
    let token = folder.path().join("token");
    std::fs::write(&token, "c2hhcmQtZXhlY3V0b3It").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let with_token = ["--token-file", token.to_str().unwrap()];
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let shard = Shard::start_with(folder.path(), 0, anywhere, |shard| {
        shard.args(with_token);
    });
    let strangers: Vec<_> = (0..PLACES).map(|_| stranger(shard.address)).collect();
    let mut coordinator =
        coordinator_with(&[&shard], &chain.path, &["--block-deadline", "60s"], |coordinator| {
            coordinator.args(with_token);
        });
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert_eq!(assert_verified(&coordinator.rest().0, &chain), 1);
    drop(shard);
    all_ended(strangers);
}

#[test]
fn who_is_not_admitted_is_ended_in_time_and_the_served_coordinator_is_not() {
    let at_work = AtWork::begin();
    let shard = at_work.shard.address;
    let alone = stranger(shard);
    health_watch_ends(shard);
    all_ended(vec![alone]);
    // By now the coordinator is by far the oldest; each of the second half displaces a stranger.
    all_ended((0..2 * PLACES).map(|_| stranger(shard)).collect());
    at_work.assert_undisturbed();
}
