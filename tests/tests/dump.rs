//! The evidence helper: a dump has every thread, holds no secret, and whatever becomes of the
//! helper, the target runs on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use minidump::{Minidump, MinidumpException, MinidumpLinuxEnviron, MinidumpThreadList, MinidumpThreadNames};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use shard_tests::process::{Process, binary};
use shard_tests::stack_target::{self, SECRET, StackTarget, THREAD};
use shard_tests::{skip, wait};
use shard_watchdog::dump::client::{DumpError, Dumped, Helper};
use shard_watchdog::dump::helper::FAIL_AT;
use shard_watchdog::dump::permission::Missing;
use shard_watchdog::dump::wire::{Refusal, Request};

/// Longer than any dump takes, for a request that is to succeed.
const AMPLE: Duration = Duration::from_secs(30);

fn helper_by(mut words: Vec<String>, fail_at: Option<String>) -> Helper {
    words.push(binary("shard-watchdog").display().to_string());
    words.push("evidence-helper".to_owned());
    Helper::new(move || {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if let Some(fail_at) = &fail_at {
            command.env(FAIL_AT, fail_at);
        }
        command
    })
}

fn helper() -> Helper {
    helper_by(Vec::new(), None)
}

fn request(target: &StackTarget) -> Request {
    Request {
        pid: target.process.pid(),
        start_time: target.start_time(),
        tid: target.tid,
        time_limit: Duration::from_secs(10),
        most_threads: 1_000,
    }
}

fn dump(helper: &mut Helper, target: &StackTarget) -> Result<Dumped, DumpError> {
    helper.dump(&request(target), Instant::now() + AMPLE)
}

fn bytes(mut dumped: Dumped) -> Vec<u8> {
    let mut bytes = Vec::new();
    dumped.file.rewind().unwrap();
    dumped.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, dumped.account.bytes);
    bytes
}

#[track_caller]
fn refused(result: Result<Dumped, DumpError>) -> Refusal {
    match result {
        Err(DumpError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_dump_has_every_thread_with_its_stack_and_no_secret() {
    let target = StackTarget::start(20);
    let mut helper = helper();
    helper.start().unwrap();
    let dumped = dump(&mut helper, &target).unwrap();
    assert_eq!(dumped.account.threads_before as usize, target.expected_threads());
    let bytes = bytes(dumped);
    let dump = Minidump::read(&bytes[..]).unwrap();
    let threads: MinidumpThreadList<'_> = dump.get_stream().unwrap();
    assert_eq!(threads.threads.len(), target.expected_threads());
    let memory = dump.get_memory().unwrap();
    for thread in &threads.threads {
        assert!(thread.stack_memory(&memory).is_some_and(|stack| stack.size() > 0), "{thread:?}");
    }
    let in_question: MinidumpException<'_> = dump.get_stream().unwrap();
    assert_eq!(in_question.get_crashing_thread_id(), target.tid.cast_unsigned());
    let names: MinidumpThreadNames = dump.get_stream().unwrap();
    assert_eq!(names.get_name(target.tid.cast_unsigned()).as_deref(), Some(THREAD));
    dump.get_stream::<MinidumpLinuxEnviron<'_>>().unwrap_err();
    assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "a secret is in the dump");
    target.goes_on();
    // The same helper serves the next request, too.
    self::dump(&mut helper, &target).unwrap();
    target.goes_on();
}

/// At each step at which the writer writes, the target stands still.
#[test]
fn whenever_the_helper_dies_the_target_runs_on() {
    let target = StackTarget::start(4);
    let mut deaths = 0;
    for step in 0.. {
        assert!(step < 1_000, "it never gets through");
        let mut helper = helper_by(Vec::new(), Some(format!("die:{step}")));
        match dump(&mut helper, &target) {
            Ok(_) => break,
            Err(DumpError::HelperDied { left_stopped: false }) => deaths += 1,
            other => panic!("at step {step}: {other:?}"),
        }
        target.goes_on();
    }
    assert!(deaths > 10, "{deaths}");
}

#[test]
fn whenever_the_helper_hangs_it_is_ended_and_the_target_runs_on() {
    let target = StackTarget::start(4);
    for step in [0, 1, 2, 10, 20] {
        let mut helper = helper_by(Vec::new(), Some(format!("hang:{step}")));
        let late = helper.dump(&request(&target), Instant::now() + Duration::from_millis(400));
        assert!(matches!(late, Err(DumpError::TooLate { left_stopped: false })), "step {step}: {late:?}");
        target.goes_on();
        assert!(helper.settle());
    }
}

/// Between its steps, too: while it stops the threads one by one.
#[test]
fn whenever_the_helper_is_killed_the_target_runs_on() {
    let target = StackTarget::start(60);
    let (mut died, mut done) = (0, 0);
    for round in 0..60_u64 {
        let mut helper = helper();
        helper.start().unwrap();
        let pid = Pid::from_raw(helper.pid().unwrap().cast_signed()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let killer = std::thread::spawn(move || {
            // From its start to well after the end of a dump, in an order that is not even.
            std::thread::sleep(Duration::from_micros(round * 7_919 % 60 * 1_500));
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        });
        match dump(&mut helper, &target) {
            Ok(_) => done += 1,
            Err(DumpError::HelperDied { left_stopped: false }) => died += 1,
            other => panic!("round {round}: {other:?}"),
        }
        target.goes_on();
        killer.join().unwrap();
    }
    assert!(died > 0, "none died in the middle, {done} got through");
}

#[test]
fn a_target_that_was_stopped_before_stays_stopped() {
    let target = StackTarget::start(2);
    target.process.signal(Signal::STOP);
    wait::until("a stopped target", || (target.state() == 'T').then_some(()));
    let mut helper = helper();
    let refusal = refused(dump(&mut helper, &target));
    assert!(matches!(refusal, Refusal::Stopped(_)), "{refusal}");
    let before = target.process.line_count();
    assert_eq!(target.state(), 'T');
    target.process.signal(Signal::CONT);
    target.goes_on();
    assert!(target.process.line_count() >= before);
}

#[test]
fn a_target_that_somebody_traces_is_left_to_them() {
    let target = StackTarget::start(2);
    let tid = target.tid;
    let (seized, is_seized) = std::sync::mpsc::channel();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    // The kernel detaches when the thread that traces ends.
    let tracer = std::thread::spawn(move || {
        // SAFETY: the call touches no memory of ours.
        let answer = unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, 0, 0) };
        let error = std::io::Error::last_os_error();
        seized.send(if answer == 0 { Ok(()) } else { Err(error) }).unwrap();
        let _ = is_done.recv();
    });
    is_seized.recv().unwrap().unwrap();
    let mut helper = helper();
    let refusal = refused(dump(&mut helper, &target));
    assert!(matches!(refusal, Refusal::Traced { tracer, .. } if tracer > 0), "{refusal}");
    drop(done);
    tracer.join().unwrap();
    target.goes_on();
}

#[test]
fn who_has_ended_or_is_another_process_is_told() {
    let mut target = StackTarget::start(1);
    let mut helper = helper();
    let other = Request { start_time: target.start_time() + 1, ..request(&target) };
    let error = helper.dump(&other, Instant::now() + AMPLE).unwrap_err();
    assert!(
        matches!(error, DumpError::Target(_)) && error.to_string().contains("started at tick"),
        "{error}"
    );
    let ended = request(&target);
    target.process.signal(Signal::KILL);
    target.process.wait("the end of the target");
    let error = helper.dump(&ended, Instant::now() + AMPLE).unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");
}

#[test]
fn a_target_of_too_many_threads_is_not_stopped() {
    let target = StackTarget::start(4);
    let mut helper = helper();
    let few = Request { most_threads: 3, ..request(&target) };
    let refusal = refused(helper.dump(&few, Instant::now() + AMPLE));
    let threads = target.expected_threads().try_into().unwrap();
    assert_eq!(refusal, Refusal::TooManyThreads { threads, most: 3 });
    target.goes_on();
}

#[test]
fn a_helper_that_died_while_idle_is_replaced_but_not_without_end() {
    let target = StackTarget::start(1);
    let mut helper = helper();
    for _ in 0..5 {
        helper.start().unwrap();
        let pid = Pid::from_raw(helper.pid().unwrap().cast_signed()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        dump(&mut helper, &target).unwrap();
        pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
        let mut ends = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut ends, None).unwrap();
    }
    let error = dump(&mut helper, &target).unwrap_err();
    assert!(matches!(error, DumpError::GivenUp), "{error}");
    target.goes_on();
}

#[test]
fn a_helper_outlives_sigterm_and_ends_with_its_sidecar() {
    let kind = SocketType::SEQPACKET;
    let (ours, theirs): (OwnedFd, OwnedFd) =
        rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let mut command = Command::new(binary("shard-watchdog"));
    let mut child = command.arg("evidence-helper").stdin(Stdio::from(theirs)).spawn().unwrap();
    drop(command);
    let pid = child.id();
    let ignored = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        (mask & (1 << (libc::SIGTERM - 1)) != 0).then_some(())
    };
    wait::until("a helper that ignores SIGTERM", ignored);
    rustix::process::kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert!(child.try_wait().unwrap().is_none());
    drop(ours);
    let status = wait::until("the end of the helper", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn it_is_hidden_and_refuses_to_be_called_by_hand() {
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("evidence-helper");
    let mut process = Process::start("helper by hand", command);
    assert_eq!(process.wait("its end").code(), Some(2));
    let all = shard_watchdog::cli::definition();
    let hidden = all.get_subcommands().find(|command| command.get_name() == "evidence-helper");
    assert!(hidden.is_some_and(clap::Command::is_hide_set));
}

/// Runs a program as user 65534, without capabilities.
fn as_nobody() -> Vec<String> {
    let words =
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all", "--"];
    words.map(str::to_owned).into()
}

fn may_become_others(name: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    skip::note(name, "needs root, to become other users");
    false
}

#[test]
fn a_target_of_another_user_is_told_with_the_way_out() {
    if !may_become_others("dump_of_another_user") {
        return;
    }
    let nobody = as_nobody();
    let mut command = Command::new(&nobody[0]);
    command.args(&nobody[1..]).arg(stack_target::program());
    let target = StackTarget::start_by(command, 2, &[]);
    let without = ["setpriv", "--bounding-set", "-sys_ptrace", "--"];
    let mut helper = helper_by(without.map(str::to_owned).into(), None);
    let refusal = refused(dump(&mut helper, &target));
    let told = refusal.to_string();
    let missing = Missing::OtherUser { theirs: 65_534, ours: 0 };
    assert_eq!(refusal, Refusal::NoPermission { pid: target.process.pid(), missing });
    assert!(told.contains("run the sidecar as user 65534"), "{told}");
    target.goes_on();
}

#[test]
fn a_target_that_is_not_dumpable_is_told_with_the_way_out() {
    if !may_become_others("dump_of_one_not_dumpable") {
        return;
    }
    let nobody = as_nobody();
    let mut command = Command::new(&nobody[0]);
    command.args(&nobody[1..]).arg(stack_target::program());
    let target = StackTarget::start_by(command, 2, &["--hide"]);
    let mut helper = helper_by(as_nobody(), None);
    let refusal = refused(dump(&mut helper, &target));
    let missing = Missing::NotDumpable;
    assert_eq!(refusal, Refusal::NoPermission { pid: target.process.pid(), missing });
    assert!(refusal.to_string().contains("PR_SET_DUMPABLE to 1"), "{refusal}");
    target.goes_on();
}
