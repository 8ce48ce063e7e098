//! Who may order faults, and what happens to those who send something else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::process::{PATIENCE, Process, Shard, order, wait_until};

const TOKEN: &str = "ZmF1bHRzLWFyZS1mb3I=";

/// What a browser sends when a page from another site makes it submit a form.
const FORM: &str = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\narm exit\r\n";

/// Everything answered to `said` before the connection ends.
fn answers(mut stream: impl Read + Write, said: &str) -> String {
    // The port may have closed the connection to somebody who is not admitted.
    let _ = stream.write_all(said.as_bytes());
    let mut answers = String::new();
    // A connection that is closed with unread data may be reset after the answer.
    let _ = stream.read_to_string(&mut answers);
    answers
}

fn socket(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Starts a shard with this fault port; it need not come up.
fn start(folder: &Path, port: &[&str]) -> Process {
    let heartbeat = folder.join("0.heartbeat");
    let common =
        ["shard", "--id", "0", "--listen", "127.0.0.1:0", "--heartbeat", heartbeat.to_str().unwrap()];
    Process::start(&[&common, port].concat())
}

fn token(folder: &Path) -> String {
    let path = folder.join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_port_that_others_could_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let token = token(at);
    let everybody = at.join("everybody's");
    std::fs::create_dir(&everybody).unwrap();
    std::fs::set_permissions(&everybody, std::fs::Permissions::from_mode(0o777)).unwrap();
    let socket = at.join("faults");
    let (socket, shared) = (socket.to_str().unwrap(), everybody.join("faults"));
    for (port, word) in [
        (&["--faults", "0.0.0.0:0", "--faults-token-file", &token][..], "loopback"),
        (&["--faults", "127.0.0.1:0"], "--faults-token-file"),
        (&["--faults", "127.0.0.1:0", "--faults-token-file", "/dev/null"], "it is a device"),
        (&["--faults", socket, "--faults-token-file", &token], "leave it out"),
        (&["--faults", shared.to_str().unwrap()], "chmod go-w"),
        (&["--faults", "7091"], "neither the path of a socket"),
        (&["--faults-token-file", &token], "--faults"),
    ] {
        let mut shard = start(at, port);
        assert_eq!(shard.wait(), 2, "{port:?}");
        let said = shard.rest().1;
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!Path::new(socket).exists() && !shared.exists());
}

#[test]
fn whoever_says_what_is_no_order_hears_why_and_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let port = folder.path().join("0.faults");
    for wrong in [FORM, "arm everything\narm exit\n", "arm slow 5\narm exit\n", "\narm exit\n", "\u{fffd}\n"]
    {
        let answers = answers(socket(&port), wrong);
        assert!(answers.starts_with("error: ") && answers.lines().count() == 1, "{wrong:?}: {answers}");
    }
    let long = answers(socket(&port), &"x".repeat(4_096));
    assert_eq!(long, "error: an order has at most 512 bytes\n");
    // An order that cannot be carried out here is still an order, so the connection stays open.
    let mut stream = socket(&port);
    stream.write_all(b"arm drop-part\nlist\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("error: drop-part is a fault of the coordinator"));
    assert_eq!(lines.next().unwrap(), "ok: hook on; guard on; armed: none");
    assert_eq!(shard.order("list"), "ok: hook on; guard on; armed: none");
}

#[test]
fn over_tcp_only_who_says_the_token_first_is_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let token = token(folder.path());
    let mut shard = start(folder.path(), &["--faults", "127.0.0.1:0", "--faults-token-file", &token]);
    let port: std::net::SocketAddr = shard
        .wait_for("the fault port", |line| line.split_once("faults on ").and_then(|(_, at)| at.parse().ok()));
    shard.listening();
    let connect = || {
        let stream = TcpStream::connect(port).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let late = format!("list\ntoken {TOKEN}\narm exit\n");
    let shorter = format!("token {}\narm exit\n", &TOKEN[1..]);
    for wrong in [FORM, "list\n", "arm exit\n", "token\narm exit\n", "token \narm exit\n", &late, &shorter] {
        let answers = answers(connect(), wrong);
        assert!(answers.starts_with("error: the first line has to be"), "{wrong:?}: {answers}");
        assert_eq!(answers.lines().count(), 1, "{answers}");
    }
    let right = answers(connect(), &format!("token {TOKEN}\r\nlist\nGET / HTTP/1.1\nlist\n"));
    let lines: Vec<&str> = right.lines().collect();
    assert_eq!(lines[..2], ["ok", "ok: hook on; guard on; armed: none"], "{right}");
    assert!(lines.len() == 3 && lines[2].starts_with("error: "), "{right}");
    assert!(shard.is_running());
}

#[test]
fn the_socket_is_for_its_owner_is_replaced_after_a_kill_and_goes_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("0.faults");
    let mut shard = Shard::start(folder.path(), 0);
    let mode = std::fs::metadata(&port).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut second = start(folder.path(), &["--faults", port.to_str().unwrap()]);
    assert_eq!(second.wait(), 2);
    shard.process.signal(libc::SIGKILL);
    shard.process.wait();
    assert!(port.exists(), "nobody was left to remove it");
    let mut next = Shard::start(folder.path(), 0);
    assert!(next.order("list").starts_with("ok: "));
    next.process.signal(libc::SIGTERM);
    assert_eq!(next.process.wait(), 0);
    assert!(!port.exists());
}

#[test]
fn a_socket_in_use_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("faults");
    let _taken = std::os::unix::net::UnixListener::bind(&port).unwrap();
    let mut shard = start(folder.path(), &["--faults", port.to_str().unwrap()]);
    assert_eq!(shard.wait(), 2);
    let said = shard.rest().1;
    assert!(said.contains("somebody listens for faults on ") && said.contains("another path"), "{said}");
}

/// The socket's mode normally excludes others; here the mode admits everybody.
#[test]
fn another_user_orders_nothing_whatever_the_mode_of_the_socket() {
    if !rustix::process::geteuid().is_root() {
        skipped(
            "another_user_orders_nothing_whatever_the_mode_of_the_socket",
            "needs root, to be another user",
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let port = folder.path().join("0.faults");
    let open =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(folder.path(), 0o755);
    open(&port, 0o666);
    let theirs = std::thread::spawn(move || {
        // SAFETY: the system call takes three numbers and changes only the calling thread, which
        // ends right after this.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
        assert_eq!(changed, 0);
        answers(socket(&port), "arm exit\n")
    });
    assert_eq!(theirs.join().unwrap(), "");
    shard.process.wait_for_words("takes no orders from another user");
    assert_eq!(shard.order("list"), "ok: hook on; guard on; armed: none");
}

/// Records a test that this machine cannot run where `tests/run-all` counts such tests.
fn skipped(name: &str, why: &str) {
    eprintln!("SKIPPED {name}: {why}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/skipped");
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(folder.join(name), format!("{why}\n"));
}

#[test]
fn the_port_of_a_coordinator_is_one_too() {
    let chain = crate::blocks::generated(1, 1);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let port = chain.faults();
    let coordinator =
        crate::process::coordinator(&[&shard], &chain.path, &["--repeat", "0", "--faults", &port]);
    wait_until("the port is there", || UnixStream::connect(&port).is_ok());
    assert_eq!(order(Path::new(&port), "list"), "ok: hook on; guard on; armed: none");
    drop(coordinator);
}
