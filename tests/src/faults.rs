//! Orders faults through an executor's fault port.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wait;

/// Sends each order, one line each, and checks that it was taken. Returns the answers.
#[track_caller]
pub fn order(port: SocketAddr, orders: &[&str]) -> Vec<String> {
    let stream = wait::until("the fault port", || TcpStream::connect(port).ok());
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut answers = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut orders_out = stream;
    let mut all = Vec::new();
    for order in orders {
        writeln!(orders_out, "{order}").expect("the fault port takes orders");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("the fault port answers");
        assert!(answer.starts_with("ok"), "«{order}» was not taken: {answer}");
        all.push(answer.trim_end().to_owned());
    }
    all
}

/// What the process behind the port has counted under that name, such as `results_dropped`.
#[track_caller]
pub fn counter(port: SocketAddr, name: &str) -> u64 {
    let answers = order(port, &["counters"]);
    let line = answers.first().expect("one answer an order");
    let counts = line.split_whitespace().filter_map(|word| word.split_once('='));
    let found = counts.into_iter().find(|(counted, _)| *counted == name).and_then(|(_, n)| n.parse().ok());
    found.unwrap_or_else(|| panic!("no {name} in «{line}»"))
}

/// The time at which a fault fired, if `line` tells of one.
pub fn fired_at(line: &str) -> Option<u64> {
    line.contains("fault ").then_some(())?;
    line.split_once("fired at_monotonic_ns=")?.1.trim().parse().ok()
}
