//! The scripts in `tests/faults`, run as an operator runs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::process::Process;
use crate::{skip, wait};

/// What a script prints once its fault holds.
const BROKEN: &str = ": broken: ";

/// The folder of the scripts.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("faults")
}

/// The names of all scripts that break something, sorted.
#[track_caller]
pub fn names() -> Vec<String> {
    let all = std::fs::read_dir(folder()).expect("the folder of faults").filter_map(Result::ok);
    let names = all.filter_map(|one| one.file_name().into_string().ok());
    // `matrix` runs the others and breaks nothing by itself.
    let mut names: Vec<_> = names.filter(|name| !name.contains('.') && name != "matrix").collect();
    names.sort();
    names
}

/// The command that runs one script.
pub fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(folder().join(name));
    command.args(arguments);
    command
}

/// How a script ended, and everything it printed.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output and standard error.
    pub said: String,
}

/// Runs a command to its end.
#[track_caller]
pub fn run(name: &str, command: Command) -> Ended {
    let mut process = Process::start(name, command);
    let code = process.wait(&format!("the end of {name}")).code();
    let said = wait::until("its last line", || process.all_lines()).join("\n");
    Ended { code, said }
}

/// Runs a script that must refuse, and returns its output.
#[track_caller]
pub fn refused(name: &str, arguments: &[&str]) -> String {
    let ended = run(name, command(name, arguments));
    assert_eq!(ended.code, Some(2), "{name} {arguments:?}: {}", ended.said);
    assert!(!ended.said.contains(BROKEN), "refused, and broken all the same: {}", ended.said);
    ended.said
}

/// A fault that holds. It is undone when this is dropped.
#[derive(Debug)]
pub struct Fault {
    /// The process of the script.
    pub process: Process,
}

impl Fault {
    /// Runs a script, and waits until its fault holds.
    #[track_caller]
    pub fn begin(name: &str, arguments: &[&str]) -> Self {
        let mut process = Process::start(name, command(name, arguments));
        wait::until(&format!("{name} to break"), || {
            if process.lines().iter().any(|line| line.contains(BROKEN)) {
                return Some(());
            }
            let ended = process.ended();
            assert!(ended.is_none(), "{name} ended: {ended:?}: {}", process.lines().join("\n"));
            None
        });
        Self { process }
    }

    /// Pid of the process that undoes the fault if this one is killed.
    #[track_caller]
    pub fn guard(&self) -> i32 {
        let states = Path::new("/run/shard-faults");
        let own = format!("{} ", self.process.pid());
        let runners = std::fs::read_dir(states).expect("where runs write down what to undo");
        let runner = runners
            .filter_map(|state| std::fs::read_to_string(state.ok()?.path().join("runner")).ok())
            .find(|runner| runner.starts_with(&own))
            .expect("what this one has written down");
        let guard = runner.lines().nth(1).and_then(|line| line.split(' ').next()?.parse().ok());
        guard.expect("its guard")
    }

    /// Has the script undo its fault, and waits until it has.
    #[track_caller]
    pub fn undo(mut self) {
        self.process.signal(Signal::TERM);
        let code = self.process.wait("the fault to be undone").code();
        let said = wait::until("its last line", || self.process.all_lines()).join("\n");
        assert_eq!(code, Some(143), "{said}");
        assert!(said.ends_with(": undone"), "{said}");
    }
}

/// Whether these programs are installed. If not, `test` is recorded as skipped; in CI it fails.
#[track_caller]
pub fn has(test: &str, programs: &[(&str, &str)]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
    let missing: Vec<_> = programs
        .iter()
        .filter(|(program, _)| !folders.iter().any(|folder| folder.join(program).is_file()))
        .map(|(_, package)| *package)
        .collect();
    let why = if !rustix::process::getuid().is_root() {
        "it needs root".to_owned()
    } else if missing.is_empty() {
        return true;
    } else {
        format!("not installed: apt-get install {}", missing.join(" "))
    };
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
    skip::note(test, &why);
    false
}
