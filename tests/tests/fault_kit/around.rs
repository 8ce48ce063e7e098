//! Faults around a process: its disk, segment, clock and descriptors, and its sidecar's peers.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shard_tests::fault_kit::{self, Fault};
use shard_tests::process::Process;
use shard_tests::puppet::{Stage, THREAD};
use shard_tests::sidecar::Settings;
use shard_tests::{api, wait};

use super::{loses_its_thread, made, unharmed, version_1};

/// A time in which a sidecar that is wrong about its target would show it: more than its threshold.
const WHILE: Duration = Duration::from_millis(1_500);

#[test]
fn fill_disk_moves_no_detection_time_and_what_it_wrote_is_gone_afterwards() {
    let test = "fill_disk_moves_no_detection_time_and_what_it_wrote_is_gone_afterwards";
    if !fault_kit::has(test, &[("unshare", "util-linux")]) {
        return;
    }
    let stage = Stage::start_on_a_small_disk(&Settings::default());
    let pid = stage.sidecar.pid();
    let evidence = stage.sidecar.evidence.to_str().unwrap();
    let target = ["--pid", &pid.to_string(), "--folder", evidence, "--for", "5m"];
    let small = fault_kit::refused("fill-disk", &[&target[..], &["--at-most", "1M"]].concat());
    assert!(small.contains("free, and --at-most is 1M"), "{small}");
    let fault = Fault::begin("fill-disk", &target);
    let seen = PathBuf::from(format!("/proc/{}/root{evidence}", stage.sidecar.pid()));
    let full = fs::write(seen.join("one-more"), [7; 8192]).map_err(|error| error.kind());
    assert_eq!(full, Err(std::io::ErrorKind::StorageFull));
    let lost = loses_its_thread(&stage.sidecar);
    assert_eq!(lost["status"], "recovered");
    fault.undo();
    let seen = PathBuf::from(format!("/proc/{}/root{evidence}", stage.sidecar.pid()));
    assert!(!seen.join(format!("shard-fault-{pid}")).exists());
    fs::write(seen.join("one-more"), [7; 8192]).unwrap();
}

/// What cannot be undone is reported with the manual remedy, and exit code 3.
#[test]
fn what_cannot_be_undone_is_told_with_what_to_do_by_hand_and_tried_again_by_undo() {
    let test = "what_cannot_be_undone_is_told_with_what_to_do_by_hand_and_tried_again_by_undo";
    if !fault_kit::has(test, &[("unshare", "util-linux")]) {
        return;
    }
    let stage = Stage::start_on_a_small_disk(&Settings::default());
    let pid = stage.sidecar.pid();
    let evidence = stage.sidecar.evidence.to_str().unwrap();
    let mut fault =
        Fault::begin("fill-disk", &["--pid", &pid.to_string(), "--folder", evidence, "--for", "5m"]);
    let file = PathBuf::from(format!("/proc/{pid}/root{evidence}/shard-fault-{pid}"));
    fs::remove_file(&file).unwrap();
    // What removes a file does not remove a folder.
    fs::create_dir(&file).unwrap();
    fault.process.signal(Signal::TERM);
    assert_eq!(fault.process.wait("its end").code(), Some(3));
    let said = wait::until("its last line", || fault.process.all_lines()).join("\n");
    assert!(
        said.contains("NOT UNDONE") && said.contains(&format!("    rm {evidence}/shard-fault-{pid}")),
        "{said}"
    );
    fs::remove_dir(&file).unwrap();
    let undone = fault_kit::run("undo", fault_kit::command("undo", &["--pid", &pid.to_string()]));
    assert_eq!(undone.code, Some(0), "{}", undone.said);
    assert!(undone.said.contains("an earlier run (fill-disk)"), "{}", undone.said);
}

#[test]
fn slow_disk_limits_the_target_alone_and_moves_no_detection_time() {
    let test = "slow_disk_limits_the_target_alone_and_moves_no_detection_time";
    if !version_1(test, "blkio") {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let fault =
        Fault::begin("slow-disk", &["--pid", &pid.to_string(), "--folder", "/var/tmp", "--for", "5m"]);
    let limit = fs::read_to_string(made("blkio", pid).join("blkio.throttle.write_bps_device")).unwrap();
    assert!(limit.trim_end().ends_with(" 65536"), "{limit}");
    let inside = fs::read_to_string(made("blkio", pid).join("cgroup.procs")).unwrap();
    assert_eq!(inside.trim(), pid.to_string());
    unharmed(&stage.sidecar, pid);
    loses_its_thread(&stage.sidecar);
    fault.undo();
    assert!(!made("blkio", pid).exists());
}

#[test]
fn tear_segment_harms_nobody_and_the_segment_comes_back() {
    let test = "tear_segment_harms_nobody_and_the_segment_comes_back";
    if !fault_kit::has(test, &[]) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let segment = &stage.sidecar.heartbeat;
    let inode = || fs::metadata(segment).map(|file| file.ino()).ok();
    let pid = stage.sidecar.pid();
    let was = inode();
    for how in ["remove", "truncate", "garbage"] {
        let fault = Fault::begin("tear-segment", &["--pid", &pid.to_string(), "--how", how, "--for", "5m"]);
        assert_ne!(inode(), was, "{how}");
        wait::holds_for(WHILE, &format!("alive, not {:?}", stage.sidecar.status()), || {
            stage.sidecar.status().is_none_or(|status| {
                let verdict = status["verdict"].as_str().unwrap_or_default();
                status["pid"] == pid && !["condemned", "dying", "dead"].contains(&verdict)
            })
        });
        fault.undo();
        assert_eq!(inode(), was, "{how}");
    }
    unharmed(&stage.sidecar, pid);
    // If a restart has put a segment there, that one counts.
    let fault = Fault::begin("tear-segment", &["--pid", &pid.to_string(), "--for", "5m"]);
    loses_its_thread(&stage.sidecar);
    let new = inode();
    fault.undo();
    assert_eq!(inode(), new);
    let around = fs::read_dir(segment.parent().unwrap()).unwrap().filter_map(Result::ok);
    let left: Vec<_> = around.map(|one| one.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("shard-fault")), "{left:?}");
}

#[test]
fn jump_clock_starts_a_process_that_is_watched_as_any_other() {
    let test = "jump_clock_starts_a_process_that_is_watched_as_any_other";
    if !fault_kit::has(test, &[("unshare", "util-linux")]) {
        return;
    }
    let script = fault_kit::folder().join("jump-clock");
    let words = [script.to_str().unwrap(), "--boottime", "10h", "--monotonic", "3h", "--for", "5m", "--"];
    let stage = Stage::start_inside(&words, &Settings::default());
    let offsets = || fs::read_to_string(format!("/proc/{}/timens_offsets", stage.sidecar.pid())).unwrap();
    assert!(offsets().contains("36000") && offsets().contains("10800"), "{}", offsets());
    loses_its_thread(&stage.sidecar);
    assert!(offsets().contains("36000"), "its restart, too");
}

#[test]
fn exhaust_descriptors_leaves_no_room_for_one_more_and_gives_it_back() {
    let test = "exhaust_descriptors_leaves_no_room_for_one_more_and_gives_it_back";
    if !fault_kit::has(test, &[("prlimit", "util-linux")]) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let limit = || {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
        line.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap()
    };
    let was = limit();
    let fault = Fault::begin("exhaust-descriptors", &["--pid", &pid.to_string(), "--for", "5m"]);
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    assert!(limit() <= open && open < was, "{} of {open}", limit());
    // The target cannot answer: that is no stall.
    stage.order_unanswered("rename unheard");
    unharmed(&stage.sidecar, pid);
    fault.undo();
    assert_eq!(limit(), was);
    stage.order("rename heard");
    unharmed(&stage.sidecar, pid);
}

/// The sidecar itself has no descriptor left, so it cannot ask which threads still live in a
/// process that lost one.
#[test]
fn exhaust_descriptors_of_the_sidecar_ends_with_a_kill_once_it_has_some() {
    let test = "exhaust_descriptors_of_the_sidecar_ends_with_a_kill_once_it_has_some";
    if !fault_kit::has(test, &[("prlimit", "util-linux"), ("perl", "perl-base")]) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let fault = Fault::begin("exhaust-descriptors", &["--pid", &stage.watchdog().to_string(), "--for", "5m"]);
    let arguments = ["--pid", &pid.to_string(), "--thread", THREAD];
    assert_eq!(fault_kit::run("kill-thread", fault_kit::command("kill-thread", &arguments)).code, Some(0));
    fault.undo();
    let incident = stage.sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert_ne!(stage.sidecar.wait_for("healthy")["pid"], pid);
}

/// The target is slowed: 64 KiB at a time past the kernel's cache, one piece a second.
#[test]
fn slow_disk_makes_what_is_written_wait() {
    let test = "slow_disk_makes_what_is_written_wait";
    if !version_1(test, "blkio") {
        return;
    }
    let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    let write =
        "while dd if=/dev/zero of=\"$1\" bs=64k count=1 oflag=direct 2>/dev/null; do echo written; done";
    let mut command = Command::new("sh");
    command.args(["-c", write, "write"]).arg(file.path());
    let writer = Process::start("writer", command);
    let pieces = |count| wait::until("pieces written", || (writer.line_count() >= count).then_some(()));
    pieces(1);
    let pid = writer.pid().to_string();
    let fault = Fault::begin("slow-disk", &["--pid", &pid, "--folder", "/var/tmp", "--for", "5m"]);
    let began = Instant::now();
    // One was begun before the limit, and one may go ahead of its time.
    pieces(writer.line_count() + 4);
    assert!(began.elapsed() >= Duration::from_millis(1_800), "{:?}", began.elapsed());
    fault.undo();
    pieces(writer.line_count() + 1);
}

#[test]
fn flood_http_asks_again_and_again_and_holds_connections_without_a_word() {
    let test = "flood_http_asks_again_and_again_and_holds_connections_without_a_word";
    if !fault_kit::has(test, &[("perl", "perl-base")]) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/page", listener.local_addr().unwrap());
    let fault = Fault::begin("flood-http", &["--url", &url, "--connections", "4", "--for", "5m"]);
    let next = |patience| {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream
    };
    // Script and guard each check whether anything is there.
    for _ in 0..2 {
        assert_eq!(next(wait::GENEROUS).read(&mut [0]).unwrap(), 0);
    }
    let silent: Vec<_> = (0..4).map(|_| next(Duration::from_millis(50))).collect();
    assert!(silent.iter().all(|mut stream| stream.read(&mut [0]).is_err()), "they neither speak nor end");
    // Twice as many as ask at once.
    for _ in 0..8 {
        let mut line = [0; 14];
        next(wait::GENEROUS).read_exact(&mut line).unwrap();
        assert_eq!(&line, b"GET /page HTTP");
    }
    fault.undo();
}

#[test]
fn flood_http_moves_no_detection_time_and_hang_collector_neither() {
    let test = "flood_http_moves_no_detection_time_and_hang_collector_neither";
    if !fault_kit::has(test, &[("perl", "perl-base")]) {
        return;
    }
    let collector = api::free_address();
    let append = format!("[otlp]\nendpoint = \"http://{collector}\"\ninterval = \"100ms\"\n");
    let stage = Stage::start(&Settings { append, ..Settings::default() });
    let hung = Fault::begin("hang-collector", &["--listen", &collector.to_string(), "--for", "5m"]);
    let url = format!("http://{}/metrics", stage.sidecar.http);
    let flood = Fault::begin("flood-http", &["--url", &url, "--connections", "8", "--for", "5m"]);
    let pid = stage.sidecar.pid();
    let arguments = ["--pid", &pid.to_string(), "--thread", THREAD];
    assert_eq!(fault_kit::run("kill-thread", fault_kit::command("kill-thread", &arguments)).code, Some(0));
    let incident = stage.sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    flood.undo();
    hung.undo();
    stage.sidecar.wait_for("healthy");
    // Nothing listens there any more.
    assert!(TcpStream::connect_timeout(&collector, wait::GENEROUS).is_err());
}
