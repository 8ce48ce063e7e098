//! Network faults: in the target's own namespace, never in the host's.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use shard_tests::fault_kit::{self, Fault};
use shard_tests::puppet::Stage;
use shard_tests::sidecar::Settings;
use shard_tests::wait;

use super::unharmed;

/// A puppet in a network namespace of its own.
fn apart() -> Stage {
    let inside = ["unshare", "--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "inside"];
    Stage::start_inside(&inside, &Settings::default())
}

/// The result of `ask`, called in the network namespace of `pid`.
#[track_caller]
fn inside<T: Send + 'static>(pid: i32, ask: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, answer) = std::sync::mpsc::channel();
    let ask = move || {
        let namespace = fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
            .unwrap();
        let _ = told.send(ask());
    };
    std::thread::Builder::new().name("inside".to_owned()).spawn(ask).unwrap();
    answer.recv_timeout(wait::GENEROUS).unwrap()
}

/// Whether a connection there succeeds, with enough patience for a slow machine.
fn connects(to: SocketAddr, patience: Duration) -> bool {
    TcpStream::connect_timeout(&to, patience).is_ok()
}

#[test]
fn drop_packets_cuts_a_network_of_its_own_and_mends_it_also_when_killed() {
    let test = "drop_packets_cuts_a_network_of_its_own_and_mends_it_also_when_killed";
    if !fault_kit::has(test, &[("nft", "nftables"), ("ip", "iproute2")]) {
        return;
    }
    let stage = apart();
    let (pid, port) = (stage.sidecar.pid(), stage.port);
    let short = Duration::from_millis(300);
    assert!(inside(pid, move || connects(port, wait::GENEROUS)));
    let fault = Fault::begin("drop-packets", &["--pid", &pid.to_string(), "--for", "5m"]);
    assert!(!inside(pid, move || connects(port, short)));
    let second = fault_kit::refused("drop-name-server", &["--pid", &pid.to_string()]);
    assert!(second.contains("is at work on this target"), "{second}");
    // A sidecar that watches it by its segment needs no network.
    unharmed(&stage.sidecar, pid);
    fault.undo();
    assert!(inside(pid, move || connects(port, wait::GENEROUS)));

    let arguments = ["--pid", &pid.to_string(), "--port", &port.port().to_string(), "--for", "5m"];
    let fault = Fault::begin("drop-packets", &arguments);
    assert!(!inside(pid, move || connects(port, short)));
    fault.process.signal(Signal::KILL);
    assert!(inside(pid, move || connects(port, wait::GENEROUS)));
    unharmed(&stage.sidecar, pid);
}

#[test]
fn drop_name_server_drops_questions_to_name_servers_and_nothing_else() {
    let test = "drop_name_server_drops_questions_to_name_servers_and_nothing_else";
    if !fault_kit::has(test, &[("nft", "nftables"), ("ip", "iproute2")]) {
        return;
    }
    let stage = apart();
    let (pid, port) = (stage.sidecar.pid(), stage.port);
    // Whether something sent to this port arrives.
    let comes_in = move |to: u16, patience: Duration| {
        inside(pid, move || {
            let there = UdpSocket::bind(("127.0.0.1", to)).unwrap();
            there.set_read_timeout(Some(patience)).unwrap();
            let from = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
            // A packet dropped on its way out is refused to the sender.
            let sent = from.send_to(b"?", ("127.0.0.1", to)).is_ok();
            sent && there.recv(&mut [0]).is_ok()
        })
    };
    assert!(comes_in(53, wait::GENEROUS));
    let fault = Fault::begin("drop-name-server", &["--pid", &pid.to_string(), "--for", "5m"]);
    assert!(!comes_in(53, Duration::from_millis(300)));
    assert!(comes_in(54, wait::GENEROUS));
    assert!(inside(pid, move || connects(port, wait::GENEROUS)));
    unharmed(&stage.sidecar, pid);
    fault.undo();
    assert!(comes_in(53, wait::GENEROUS));
}

#[test]
fn delay_packets_has_them_wait_for_their_turn() {
    let test = "delay_packets_has_them_wait_for_their_turn";
    if !fault_kit::has(test, &[("tc", "iproute2"), ("ip", "iproute2")]) {
        return;
    }
    /// Beyond the initial burst (66,000 bytes), this much at a megabit a second takes at least half
    /// a second.
    const BYTES: usize = 66_000 + 65_536;
    let stage = apart();
    let pid = stage.sidecar.pid();
    let takes = move || {
        inside(pid, || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut from =
                TcpStream::connect_timeout(&listener.local_addr().unwrap(), wait::GENEROUS).unwrap();
            let (mut to, _) = listener.accept().unwrap();
            let began = Instant::now();
            let write = move || from.write_all(&[7; BYTES]).unwrap();
            std::thread::Builder::new().spawn(write).unwrap();
            to.set_read_timeout(Some(wait::GENEROUS)).unwrap();
            to.read_exact(&mut [0; BYTES]).unwrap();
            began.elapsed()
        })
    };
    let fault = Fault::begin("delay-packets", &["--pid", &pid.to_string(), "--rate", "1Mbit", "--for", "5m"]);
    let slow = takes();
    assert!(slow >= Duration::from_millis(400), "{slow:?}");
    unharmed(&stage.sidecar, pid);
    fault.undo();
    // The other way needs a part of the kernel that not every kernel has; without it the script
    // says so.
    let command = fault_kit::command(
        "delay-packets",
        &["--pid", &pid.to_string(), "--delay", "50ms", "--for", "100ms"],
    );
    let ended = fault_kit::run("delay-packets", command);
    assert!(
        ended.code == Some(0) || ended.code == Some(2) && ended.said.contains("modprobe sch_netem"),
        "{ended:?}"
    );
}

#[test]
fn a_network_that_is_the_hosts_is_left_alone() {
    let test = "a_network_that_is_the_hosts_is_left_alone";
    if !fault_kit::has(test, &[("nft", "nftables"), ("tc", "iproute2")]) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid().to_string();
    for name in ["drop-packets", "delay-packets", "drop-name-server"] {
        let said = fault_kit::refused(name, &["--pid", &pid]);
        assert!(said.contains("shares the network of the host"), "{said}");
    }
}
