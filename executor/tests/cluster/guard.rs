//! The process guards itself: a lost thread or a panic ends it, with a reason, an exit code and
//! last words, in bounded time.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use shard_heartbeat::{Reader, WatchdogBeat};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::blocks;
use crate::process::{PATIENCE, Shard, assert_verified, coordinator, shards, wait_until};

const THREAD_LOST: i32 = 14;
const PANICKED: i32 = 12;

fn last_words(folder: &Path, shard: u16) -> String {
    let reader = Reader::open(&folder.join(format!("{shard}.heartbeat"))).unwrap();
    reader.last_words().unwrap().map(|words| words.text).unwrap_or_default()
}

/// Shard 1 loses a thread, names it and ends with code 14; the other shard executes its part.
fn a_lost_thread_ends_the_process(order: &str, thread: &str) {
    let chain = blocks::generated(2, 60);
    let folder = tempfile::tempdir().unwrap();
    let mut shards = shards(folder.path(), 2);
    shards[1].arm(order);
    let both: Vec<_> = shards.iter().collect();
    let mut coordinator = coordinator(&both, &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(shards[1].process.wait(), THREAD_LOST);
    let said = shards[1].process.rest().1;
    assert!(said.contains(thread) && said.contains("has ended"), "{said}");
    let words = last_words(folder.path(), 1);
    assert!(words.contains(thread), "{words}");
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert_eq!(assert_verified(&coordinator.rest().0, &chain), 2);
}

#[test]
fn a_lost_executor_thread_ends_the_process() {
    a_lost_thread_ends_the_process("arm exit after 3 transactions", "thread exec-s1");
}

#[test]
fn a_lost_sending_thread_ends_the_process() {
    a_lost_thread_ends_the_process("arm send-exit", "thread send-s1");
}

#[test]
fn a_panic_leaves_its_reason_place_and_work_in_the_segment() {
    let chain = blocks::generated(1, 60);
    let folder = tempfile::tempdir().unwrap();
    let mut shards = shards(folder.path(), 2);
    shards[1].arm("arm panic after 3 transactions");
    let both: Vec<_> = shards.iter().collect();
    let mut coordinator = coordinator(&both, &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(shards[1].process.wait(), PANICKED);
    let words = last_words(folder.path(), 1);
    let mut lines = words.lines();
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("thread exec-s1 panicked at ") && first.contains("armed this panic"),
        "{words}"
    );
    assert!(first.contains(".rs:"), "where: {words}");
    let second = lines.next().unwrap();
    assert!(second.starts_with("in flight: ") && second.ends_with("attempt 0, on exec-s1"), "{words}");
    assert!(
        words.lines().count() > 2,
        "and the first frames of a backtrace, or that it took too long: {words}"
    );
    let said = shards[1].process.rest().1;
    assert!(said.contains("armed this panic") && said.contains("in flight: "), "{said}");
    assert_eq!(coordinator.wait(), 0);
}

#[test]
fn a_panic_ends_the_process_though_nobody_reads_its_log() {
    let chain = blocks::generated(1, 60);
    let folder = tempfile::tempdir().unwrap();
    let mut shards = vec![Shard::start(folder.path(), 0)];
    // An unread pipe stands for a log collector that has stopped. It has room for the fault's own
    // line, but not for a backtrace.
    let (_unread, full) = full_pipe_but_for_a_page();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    shards.push(Shard::start_with(folder.path(), 1, anywhere, |command| {
        command.stderr(Stdio::from(full));
    }));
    shards[1].arm("arm panic after 3 transactions");
    let both: Vec<_> = shards.iter().collect();
    let mut coordinator = coordinator(&both, &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(shards[1].process.wait(), PANICKED);
    assert!(last_words(folder.path(), 1).contains("armed this panic"));
    assert_eq!(coordinator.wait(), 0);
}

fn full_pipe_but_for_a_page() -> (std::io::PipeReader, std::os::fd::OwnedFd) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let writer = std::os::fd::OwnedFd::from(writer);
    let before = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, before | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'.'; 4_096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, before).unwrap();
    std::io::Read::read_exact(&mut reader, &mut [0; 4_096]).unwrap();
    (reader, writer)
}

/// A sidecar's beat in the segment, until this is dropped.
struct Beating {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Beating {
    fn start(segment: &Path) -> Self {
        let mut beat = WatchdogBeat::claim(segment).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(20))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let _ = beat.beat();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The statuses that the standard health service reports of `service` from now on, until it ends.
fn health(shard: &Shard, service: &'static str) -> std::sync::mpsc::Receiver<ServingStatus> {
    let (told, tells) = std::sync::mpsc::channel();
    let address = format!("http://{}", shard.address);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut client =
                HealthClient::new(Channel::from_shared(address).unwrap().connect().await.unwrap());
            let request = HealthCheckRequest { service: service.to_owned() };
            let mut statuses = client.watch(request).await.unwrap().into_inner();
            while let Ok(Some(status)) = statuses.message().await {
                if told.send(status.status()).is_err() {
                    return;
                }
            }
        });
    });
    tells
}

#[test]
fn health_says_serving_then_not_serving_before_a_lost_thread_ends_the_process() {
    let chain = blocks::generated(1, 60);
    let folder = tempfile::tempdir().unwrap();
    let mut shard = Shard::start(folder.path(), 0);
    let _watchdog = Beating::start(&folder.path().join("0.heartbeat"));
    let whole = health(&shard, "");
    let service = health(&shard, "shard.executor.v1.Shard");
    for status in [&whole, &service] {
        assert_eq!(status.recv_timeout(PATIENCE), Ok(ServingStatus::Serving));
    }
    shard.arm("arm exit after 3 transactions");
    let mut coordinator = coordinator(&[&shard], &chain.path, &["--block-deadline", "10s"]);
    for status in [&whole, &service] {
        assert_eq!(status.recv_timeout(PATIENCE), Ok(ServingStatus::NotServing));
    }
    assert_eq!(shard.process.wait(), THREAD_LOST);
    assert_eq!(coordinator.wait(), 3, "nobody was left to execute it");
    let told = coordinator.rest().1;
    assert!(told.contains("block") && told.contains("thread exec-s0"), "it heard why: {told}");
}

#[test]
fn a_shard_that_stops_in_order_stops_serving() {
    let folder = tempfile::tempdir().unwrap();
    let mut shard = Shard::start(folder.path(), 0);
    let whole = health(&shard, "");
    assert_eq!(whole.recv_timeout(PATIENCE), Ok(ServingStatus::Serving));
    shard.process.signal(libc::SIGTERM);
    assert_eq!(shard.process.wait(), 0);
}

#[test]
fn without_guard_and_hook_the_process_lives_on_without_its_thread() {
    let chain = blocks::generated(1, 60);
    let folder = tempfile::tempdir().unwrap();
    let mut shard = Shard::start(folder.path(), 0);
    shard.arm("guard off");
    shard.arm("arm exit after 3 transactions");
    let mut coordinator = coordinator(&[&shard], &chain.path, &["--block-deadline", "2s"]);
    assert_eq!(coordinator.wait(), 3);
    assert!(shard.process.is_running());
    shard.arm("guard on");
    assert_eq!(shard.process.wait(), THREAD_LOST, "it is found as soon as anybody looks");
}

#[test]
fn a_lost_coordinating_thread_ends_the_coordinator() {
    let chain = blocks::generated(2, 60);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let more = ["--repeat", "0", "--faults", &chain.faults(), "--arm", "arm exit"];
    let mut coordinator = coordinator(&[&shard], &chain.path, &more);
    assert_eq!(coordinator.wait(), THREAD_LOST);
    let said = coordinator.rest().1;
    assert!(said.contains("thread coord has ended"), "{said}");
}

#[test]
fn what_the_network_threads_do_not_read_shows_in_the_segment() {
    let chain = blocks::generated(1, 60);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let segment = folder.path().join("0.heartbeat");
    let unread = || crate::process::depth(&segment, "net-in");
    let mut first = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(first.wait(), 0);
    wait_until("all is read", || unread() == 0);
    shard.arm("arm net-block");
    let mut second = coordinator(&[&shard], &chain.path, &["--block-deadline", "2s"]);
    assert_eq!(second.wait(), 3);
    wait_until("bytes wait in the kernel", || unread() > 0);
    assert!(crate::process::is_working(&segment, "net-s0"), "a blocked network thread is at work");
}
