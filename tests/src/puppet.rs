//! A target of the harness's own that does to its threads, and to itself, what no executor does: it
//! loses a thread without notice, puts another in its place, forks, runs another program. The
//! program `puppet` takes its orders over a loopback port, line by line, as an executor does
//! through its fault port.

mod act;
pub mod nursery;
mod owed;
mod restored;
mod stage;
mod waits;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use act::Puppet;
pub use nursery::Nursery;
pub use stage::Stage;
pub(crate) use waits::Wait;

use crate::faults;
use crate::wait;

/// Name of the registered thread that works.
pub const THREAD: &str = "exec-s0";

/// Name of a second registered thread and of a channel, if they exist.
pub const DOUBLE: &str = "double";

/// If set, a puppet has a fault socket, and one more thread for it.
const FAULTS: &str = "SHARD_TESTS_FAULTS";

/// If set, a puppet begins with a piece of work that it finishes when it is told to `go` on.
pub const STUCK: &str = "SHARD_TESTS_STUCK";

/// Path of a puppet's fault socket, if it has one.
fn fault_socket(segment: &Path) -> PathBuf {
    segment.with_extension("faults")
}

/// How long an answer may take: it is written as soon as the order is read.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The puppet's answer to an order.
#[derive(Clone, Debug)]
pub struct Answer(String);

impl Answer {
    /// A number in the answer, such as a thread id.
    #[track_caller]
    pub fn number(&self, name: &str) -> i32 {
        let values = self.0.split_whitespace().filter_map(|word| word.split_once('='));
        let found =
            values.into_iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok());
        found.unwrap_or_else(|| panic!("no {name} in '{}'", self.0))
    }
}

/// Sends one order and waits for its answer.
#[track_caller]
pub fn order(port: SocketAddr, order: &str) -> Answer {
    let stream = wait::until("the port of the puppet", || TcpStream::connect(port).ok());
    stream.set_read_timeout(Some(ANSWERS_WITHIN)).expect("a timeout");
    Answer(faults::over(&stream, &stream, &[order]).remove(0))
}

/// Sends an order that may cost the process its life: the sidecar may be faster than the answer.
#[track_caller]
pub fn order_unanswered(port: SocketAddr, order: &str) {
    let sent =
        wait::until("the port of the puppet", || TcpStream::connect_timeout(&port, wait::GENEROUS).ok());
    let _ = writeln!(&sent, "{order}");
}

/// Takes orders forever: `obey` receives each line and returns its answer, or why there is none.
fn serve(port: SocketAddr, mut obey: impl FnMut(&[&str]) -> Result<String, String>) -> ! {
    let listener = TcpListener::bind(port).expect("the port is free");
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        let Ok(mut answers) = stream.try_clone() else { continue };
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let words: Vec<_> = line.split(' ').collect();
            let answer = match obey(&words) {
                Ok(answer) => format!("ok {answer}\n"),
                Err(why) => format!("error: {why}\n"),
            };
            if answers.write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
    }
}

/// Runs the program `puppet` as the kind of process that its arguments name.
pub fn run(arguments: &[String]) -> ! {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["target", segment, port] => {
            let faults = std::env::var_os(FAULTS).map(|_| fault_socket(Path::new(segment)));
            let _open = faults.map(|path| shard_heartbeat::faults::serve(&path).expect("a fault socket"));
            Puppet::new(Path::new(segment)).obey(port.parse().expect("an address"))
        }
        ["crowd", segment, threads] => {
            let lanes = shard_heartbeat::SegmentOptions::new("").lanes;
            crate::crowd::be(Path::new(segment), threads.parse().expect("a number"), lanes);
            std::process::exit(0)
        }
        ["churn", segment] => crate::churn::be(Path::new(segment)),
        ["nursery", port] => nursery::run(port.parse().expect("an address")),
        ["stranger", file] => nursery::map(Path::new(file)),
        ["restored", segment, port] => restored::run(Path::new(segment), port.parse().expect("an address")),
        _ => {
            eprintln!(
                "puppet target SEGMENT PORT | crowd SEGMENT THREADS | churn SEGMENT | nursery PORT | stranger FILE | restored SEGMENT PORT"
            );
            std::process::exit(2);
        }
    }
}
