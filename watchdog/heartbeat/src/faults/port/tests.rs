//! Who may give orders, and what happens to clients that send anything else.

use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Only a broken build waits this long.
const GENEROUS: Duration = Duration::from_secs(60);

fn served() -> (tempfile::TempDir, Port, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faults");
    let port = serve_points(&path, Box::leak(Box::new(Points::new()))).unwrap();
    (folder, port, path)
}

#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
fn connected(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(GENEROUS)).unwrap();
    stream
}

/// Sends `said`, closes the sending side and returns all answers.
fn answers(mut stream: UnixStream, said: &[u8]) -> String {
    // A connection that was refused may be closed by now.
    let _ = stream.write_all(said);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    // A connection closed with unread data in it may be reset after the answer.
    let _ = stream.read_to_end(&mut answers);
    String::from_utf8_lossy(&answers).into_owned()
}

#[test]
fn orders_are_answered_line_by_line_and_the_socket_goes_with_the_port() {
    let (_folder, port, path) = served();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let said = b"list\narm hang at x\r\nlist\nstruck\ndisarm\nlist\n";
    let expected = "ok: held: 0; armed: none\nok\nok: held: 0; armed: hang at x once for 10m\nok: struck: none\nok\nok: held: 0; armed: none\n";
    assert_eq!(answers(connected(&path), said), expected);
    drop(port);
    assert!(!path.exists());
}

#[test]
fn whoever_says_what_is_no_order_hears_why_and_nothing_more() {
    let (_folder, _port, path) = served();
    for wrong in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\narm end\r\n"[..],
        b"\narm end\n",
        b"arm everything\narm end\n",
        b"\0\0\0\n",
        b"\xff\xfe\n",
        b"arm slow 5\narm end\n",
    ] {
        let answers = answers(connected(&path), wrong);
        assert!(answers.starts_with("error: ") && answers.lines().count() == 1, "{answers}");
    }
    let long = answers(connected(&path), &[b'x'; 4_096]);
    assert_eq!(long, "error: an order has at most 512 bytes\n");
    let long = answers(connected(&path), &[&b"list"[..], &[b' '; 600], b"\n"].concat());
    assert_eq!(long, "error: an order has at most 512 bytes\n");
    // An unfinished line is not an order.
    assert_eq!(answers(connected(&path), b"arm end"), "");
    assert_eq!(answers(connected(&path), b"list\n"), "ok: held: 0; armed: none\n");
}

#[test]
fn what_is_tied_goes_with_its_connection() {
    let (_folder, _port, path) = served();
    let listed = || answers(connected(&path), b"list\n");
    let mut stream = connected(&path);
    stream.write_all(b"tied\narm hang at x\n").unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    assert_eq!((lines.next().unwrap(), lines.next().unwrap()), ("ok".to_owned(), "ok".to_owned()));
    assert!(listed().contains("hang at x"));
    drop((lines, stream));
    let began = Instant::now();
    while listed() != "ok: held: 0; armed: none\n" {
        assert!(began.elapsed() < GENEROUS);
    }
    // Without `tied` the fault stays armed.
    assert_eq!(answers(connected(&path), b"arm hang at x\n"), "ok\n");
    assert!(listed().contains("hang at x"));
}

#[test]
fn those_who_take_every_place_and_say_nothing_cost_no_more_than_their_places() {
    let (_folder, _port, path) = served();
    let mut silent: Vec<UnixStream> = (0..MOST_CONNECTIONS).map(|_| connected(&path)).collect();
    let mut next = connected(&path);
    next.write_all(b"list\n").unwrap();
    // Once one closes, the waiting connection is served.
    silent.pop();
    let mut answer = String::new();
    BufReader::new(next).read_line(&mut answer).unwrap();
    assert_eq!(answer, "ok: held: 0; armed: none\n");
}

#[test]
fn who_never_reads_its_answers_is_let_go() {
    let (_folder, _port, path) = served();
    let mut deaf = connected(&path);
    deaf.set_write_timeout(Some(GENEROUS)).unwrap();
    // At some point the answers fill its buffer, the connection is closed, and it can write no
    // more.
    let began = Instant::now();
    while deaf.write_all(&b"list\n".repeat(100)).is_ok() {
        assert!(began.elapsed() < GENEROUS);
    }
    assert_eq!(answers(connected(&path), b"list\n"), "ok: held: 0; armed: none\n");
}

/// Normally the socket's mode keeps others out; here the mode lets everybody in.
#[test]
fn another_user_orders_nothing_whatever_the_mode_of_the_socket() {
    // Only root can become another user. CI is root.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (folder, _port, path) = served();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let (told, hears) = std::sync::mpsc::channel();
    let theirs = path.clone();
    std::thread::spawn(move || {
        // SAFETY: the system call takes three numbers and changes the calling thread alone, which
        // ends with this.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
        assert_eq!(changed, 0);
        told.send(answers(connected(&theirs), b"arm end\n")).unwrap();
    });
    assert_eq!(hears.recv_timeout(GENEROUS).unwrap(), "");
    assert_eq!(answers(connected(&path), b"list\n"), "ok: held: 0; armed: none\n");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_do_more_than_be_refused(said in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2_000)) {
        let (_folder, _port, path) = served();
        let answers = answers(connected(&path), &said);
        proptest::prop_assert!(answers.lines().all(|line| line.starts_with("error: ")), "{}", answers);
        proptest::prop_assert!(answers.lines().count() <= 1, "{}", answers);
    }
}
