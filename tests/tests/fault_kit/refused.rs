//! Which processes the scripts do not touch, and what they print instead; and what the scripts
//! consist of.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use shard_tests::fault_kit::{self, Fault};
use shard_tests::process::Process;
use shard_tests::puppet::Nursery;
use shard_tests::{skip, wait};

/// A target to break: a process of the harness's own that does nothing.
fn idler() -> Process {
    let mut command = Command::new("sleep");
    command.arg("120");
    Process::start("idler", command)
}

/// The arguments that each script needs besides its target, which is never broken here.
fn arguments(name: &str, pid: &str) -> Vec<String> {
    let more: &[&str] = match name {
        "kill-thread" | "freeze-thread" => &["--thread", pid],
        "memory-high" => &["--memory", "64M"],
        "fill-disk" | "slow-disk" => &["--folder", "/var/tmp"],
        "tear-segment" => &["--segment", "/var/tmp/none"],
        _ => &[],
    };
    ["--pid", pid].iter().chain(more).map(|word| (*word).to_owned()).collect()
}

#[track_caller]
fn refused(name: &str, arguments: &[String]) -> String {
    fault_kit::refused(name, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The scripts that take a --pid.
fn of_a_process() -> Vec<String> {
    let others = ["flood-http", "hang-collector", "jump-clock", "plan", "random", "undo"];
    fault_kit::names().into_iter().filter(|name| !others.contains(&name.as_str())).collect()
}

#[test]
fn each_script_refuses_process_1_itself_nobody_and_nonsense() {
    let own = std::process::id().to_string();
    let idler = idler();
    for name in of_a_process() {
        for (pid, why) in [
            ("1", "process 1 is everybody's"),
            (own.as_str(), "is this script or has started it"),
            // Above the highest pid that a kernel gives.
            ("4194305", "there is no process 4194305"),
            ("12x", "is no process id"),
            ("-1", "is no process id"),
        ] {
            let said = refused(&name, &arguments(&name, pid));
            assert!(said.contains(why), "{name} {pid}: {said}");
        }
        let pid = idler.pid().to_string();
        for (more, why) in [
            (["--for", "2h"], "no fault lasts longer"),
            (["--for", "0s"], "is no duration"),
            (["--for", "soon"], "is no duration"),
            (["--nonsense", "1"], "there is no option --nonsense"),
        ] {
            let said = refused(&name, &[arguments(&name, &pid), more.map(str::to_owned).to_vec()].concat());
            // A fault that is over at once has no duration.
            assert!(said.contains(why) || said.contains("--for has no meaning here"), "{name}: {said}");
        }
    }
    let kernel = Path::new("/proc/2/comm");
    if fs::read_to_string(kernel).is_ok_and(|comm| comm.trim() == "kthreadd") {
        let said = fault_kit::refused("stop-process", &["--pid", "2"]);
        assert!(said.contains("a thread of the kernel"), "{said}");
    }
    let (thread, id) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _ = thread.send(rustix::thread::gettid().as_raw_nonzero().get());
        let _ = ended.recv_timeout(wait::GENEROUS);
    });
    let tid = id.recv_timeout(wait::GENEROUS).unwrap().to_string();
    let said = fault_kit::refused("stop-process", &["--pid", &tid]);
    assert!(said.contains(&format!("{tid} is a thread of process {own}")), "{said}");
    drop(end);
}

#[test]
fn a_dry_run_of_each_script_shows_its_header_and_breaks_nothing() {
    let test = "a_dry_run_of_each_script_shows_its_header_and_breaks_nothing";
    if !fault_kit::has(test, &[("nft", "nftables"), ("tc", "iproute2"), ("perl", "perl-base")]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let segment = folder.path().join("0.heartbeat");
    fs::write(&segment, "SHRDBEAT").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "sleep", "120"]);
    let target = Process::start("target", command);
    let pid = target.pid().to_string();
    // It is in its own namespace once it runs its program.
    wait::until("the target", || {
        fs::read_to_string(format!("/proc/{pid}/comm")).ok().filter(|comm| comm.trim() == "sleep")
    });
    let before = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for name in fault_kit::names() {
        let help = fault_kit::run(&name, fault_kit::command(&name, &["--help"]));
        assert_eq!(help.code, Some(0), "{name}: {}", help.said);
        let header = help.said.trim();
        assert!(
            header.starts_with(&name) && header.contains("Does:  ") && header.contains("Needs: "),
            "{header}"
        );
        if matches!(name.as_str(), "plan" | "random" | "undo") {
            continue;
        }
        assert!(header.contains("Seen:  ") && header.contains("Row:   "), "{header}");
        let words: Vec<String> = match name.as_str() {
            "flood-http" => continue,
            "hang-collector" => vec![],
            "jump-clock" => vec!["--".to_owned(), "true".to_owned()],
            "tear-segment" => {
                vec!["--pid".into(), pid.clone(), "--segment".into(), segment.display().to_string()]
            }
            "fill-disk" => vec!["--pid".into(), pid.clone(), "--folder".into(), "/proc".into()],
            _ => arguments(&name, &pid),
        };
        let words: Vec<_> = ["--dry-run"].into_iter().chain(words.iter().map(String::as_str)).collect();
        let dry = fault_kit::run(&name, fault_kit::command(&name, &words));
        // It reports what this machine cannot do, and how to change that.
        let cannot = match name.as_str() {
            "memory-high" => "have no controller memory",
            "delay-packets" => "modprobe sch_netem",
            "fill-disk" => "may not be written",
            _ => "",
        };
        if dry.code == Some(2) && !cannot.is_empty() {
            assert!(dry.said.contains(cannot), "{}", dry.said);
            continue;
        }
        assert_eq!(dry.code, Some(0), "{name}: {}", dry.said);
        assert!(dry.said.starts_with(header) && dry.said.contains("\n  would "), "{}", dry.said);
    }
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(), before);
    assert_eq!(fs::read_to_string(&segment).unwrap(), "SHRDBEAT");
    let left = Path::new("/run/shard-faults");
    let left = fs::read_dir(left).map(|all| all.filter_map(Result::ok).map(|one| one.file_name()).collect());
    let left: Vec<_> = left.unwrap_or_default();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(&format!("{pid}-"))), "{left:?}");
}

/// Row 50: the target ends, and another process gets its pid before the fault is undone.
#[test]
fn whoever_gets_the_pid_of_a_dead_target_is_not_touched() {
    let test = "whoever_gets_the_pid_of_a_dead_target_is_not_touched";
    if !fault_kit::has(test, &[("unshare", "util-linux")]) {
        return;
    }
    let nursery = match Nursery::open() {
        Ok(nursery) => nursery,
        Err(why) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
            return skip::note(test, &why);
        }
    };
    let sleep = Path::new("/bin/sleep");
    nursery.next(300);
    let target = nursery.start(sleep, &["120"]);
    let script = fault_kit::folder().join("stop-process");
    let fault = nursery.start(&script, &["--pid", &target.to_string(), "--for", "5m"]);
    nursery.process.line("the fault to hold", 0, |line| line.contains("broken").then_some(()));
    nursery.signal(target, "KILL");
    wait::until("its end", || (!nursery.is_alive(target)).then_some(()));
    nursery.next(target);
    assert_eq!(nursery.start(sleep, &["121"]), target, "its pid is given out again");
    // A stranger that something else stopped: undoing would continue it, and that would be the
    // wrong process.
    nursery.signal(target, "STOP");
    nursery.signal(fault, "TERM");
    nursery.process.line("the fault to be over", 0, |line| line.contains("undone").then_some(()));
    wait::until("the script's end", || (!nursery.is_alive(fault)).then_some(()));
    let children = fs::read_to_string(format!("/proc/{}/task/{0}/children", nursery.process.pid())).unwrap();
    let nurse = children.split_whitespace().next().unwrap().to_owned();
    let children = fs::read_to_string(format!("/proc/{nurse}/task/{nurse}/children")).unwrap();
    let stopped = children.split_whitespace().filter(|pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        line.contains("(sleep) T")
    });
    assert_eq!(stopped.count(), 1, "it is stopped as before");
}

/// A folder in which anybody can run the kit, whoever may read the project's own.
fn for_anybody() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for file in fs::read_dir(fault_kit::folder()).unwrap().filter_map(Result::ok) {
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

#[test]
fn a_missing_privilege_is_one_sentence_with_the_way_to_it() {
    let test = "a_missing_privilege_is_one_sentence_with_the_way_to_it";
    if !fault_kit::has(test, &[("setpriv", "util-linux")]) {
        return;
    }
    /// The user nobody, on every machine.
    const NOBODY: [&str; 4] = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let kit = for_anybody();
    let as_nobody = |name: &str, arguments: &[String]| {
        let mut command = Command::new("setpriv");
        command.args(NOBODY).arg(kit.path().join(name)).args(arguments).env_remove("XDG_RUNTIME_DIR");
        fault_kit::run(name, command)
    };
    let roots = idler();
    let mut command = Command::new("setpriv");
    command.args(NOBODY).args(["sleep", "120"]);
    let nobodys = Process::start("idler", command);
    let own = nobodys.pid().to_string();
    wait::until("the idler to be nobody's", || {
        fs::read_to_string(format!("/proc/{own}/comm")).ok().filter(|comm| comm.trim() == "sleep")
    });
    for (name, pid, why) in [
        (
            "stop-process",
            roots.pid().to_string(),
            "belongs to another user: run this as that user, or as root",
        ),
        ("starve", own.clone(), "needs CAP_SYS_NICE: run it as root"),
        ("drop-packets", own.clone(), "needs CAP_SYS_ADMIN: run it as root"),
        ("freeze-cgroup", own.clone(), "may not be written by this user: run this as root"),
    ] {
        let ended = as_nobody(name, &arguments(name, &pid));
        assert_eq!(ended.code, Some(2), "{name}: {}", ended.said);
        assert!(ended.said.contains(why) && ended.said.lines().count() == 1, "{name}: {}", ended.said);
    }
    // What its own user may do needs no further privilege.
    let words = ["--pid", &own, "--for", "100ms"].map(str::to_owned);
    let ended = as_nobody("stop-process", &words);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
}

#[test]
fn a_missing_program_is_one_sentence_with_its_package() {
    let test = "a_missing_program_is_one_sentence_with_its_package";
    if !fault_kit::has(test, &[]) {
        return;
    }
    let idler = idler();
    for (name, program, package) in [
        ("kill-thread", "perl", "perl-base"),
        ("drop-packets", "nft", "nftables"),
        ("delay-packets", "tc", "iproute2"),
    ] {
        // All tools but one.
        let without = tempfile::tempdir().unwrap();
        for folder in ["/bin", "/usr/bin", "/sbin", "/usr/sbin"] {
            let all = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            for one in all.filter(|one| one.file_name() != program) {
                // A name may occur in two of them.
                let _ = symlink(one.path(), without.path().join(one.file_name()));
            }
        }
        let words = arguments(name, &idler.pid().to_string());
        let mut command = fault_kit::command(name, &words.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("PATH", without.path());
        let ended = fault_kit::run(name, command);
        assert_eq!(ended.code, Some(2), "{}", ended.said);
        assert_eq!(ended.said, format!("{name}: it needs {program}: apt-get install {package}"));
    }
    // Without perl a signal is sent right after a check; everything else is the same.
    let without = tempfile::tempdir().unwrap();
    for folder in ["/bin", "/usr/bin"] {
        let all = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        for one in all.filter(|one| !one.file_name().to_string_lossy().starts_with("perl")) {
            let _ = symlink(one.path(), without.path().join(one.file_name()));
        }
    }
    let mut command =
        fault_kit::command("stop-process", &["--pid", &idler.pid().to_string(), "--for", "100ms"]);
    command.env("PATH", without.path());
    assert_eq!(fault_kit::run("stop-process", command).code, Some(0));
}

#[test]
fn a_stopped_target_and_a_traced_thread_are_refused() {
    let test = "a_stopped_target_and_a_traced_thread_are_refused";
    if !fault_kit::has(test, &[("perl", "perl-base")]) {
        return;
    }
    let idler = idler();
    let pid = idler.pid().to_string();
    idler.signal(Signal::STOP);
    wait::until("its stop", || (super::state(idler.pid(), idler.pid()) == Some('T')).then_some(()));
    for name in ["stop-process", "kill-thread"] {
        let said = refused(name, &arguments(name, &pid));
        assert!(said.contains("is stopped") && said.contains(&format!("kill -CONT {pid}")), "{said}");
    }
    idler.signal(Signal::CONT);
    let fault = Fault::begin("freeze-thread", &["--pid", &pid, "--thread", &pid, "--for", "5m"]);
    let said = refused("kill-thread", &arguments("kill-thread", &pid));
    assert!(said.contains("it has a tracer already"), "{said}");
    fault.undo();
}

/// By Debian's shellcheck. Exceptions are in `.shellcheckrc` or beside the line, with the reason.
#[test]
fn shellcheck_finds_nothing() {
    if !fault_kit::has("shellcheck_finds_nothing", &[("shellcheck", "shellcheck")]) {
        return;
    }
    let folder = fault_kit::folder();
    let shared = fs::read_dir(&folder).unwrap().filter_map(|one| one.ok()?.file_name().into_string().ok());
    let shared = shared.filter(|name| name.ends_with(".sh"));
    let mut command = Command::new("shellcheck");
    // Its sources are named relative to the project's folder.
    command
        .arg("--external-sources")
        .arg(folder.join("matrix"))
        .args(fault_kit::names().into_iter().chain(shared).map(|name| folder.join(name)));
    command.current_dir(folder.join("../.."));
    let ended = fault_kit::run("shellcheck", command);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
}

/// The table for choosing a fault has all of them, and each can be run.
#[test]
fn the_readme_names_each_script_and_each_can_be_run() {
    let readme = fs::read_to_string(fault_kit::folder().join("README.md")).unwrap();
    for name in fault_kit::names() {
        assert!(readme.contains(&format!("| `{name}")), "{name} is not in the tables of the README");
        let mode = fs::metadata(fault_kit::folder().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name}");
    }
}
