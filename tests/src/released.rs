//! What `watchdog/deploy/release` produces, for tests: from the static programs if there are any,
//! otherwise from those of the dev profile, which are packed in the same way.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::binary;
use crate::skip;

/// Names the folder with the static programs that `watchdog/deploy/release --only programs` built.
pub const SHIPPED: &str = "SHARD_SHIPPED";

/// Seconds that a tool may take on a busy machine.
const RUNS_AT_MOST: &str = "240";

/// Runs a tool to its end, for at most `RUNS_AT_MOST`.
#[track_caller]
pub fn run(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    // It ends with this thread, and then cleans up after itself.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "timeout", "--kill-after=5", RUNS_AT_MOST]);
    command.arg(program).args(arguments);
    command.envs(variables.iter().copied());
    command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Runs a tool that must succeed. Returns its standard output.
#[track_caller]
pub fn done(program: &str, arguments: &[&str]) -> String {
    let output = run(Path::new(program), arguments, &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let erred = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{said}{erred}", output.status);
    said
}

/// The folder of the static programs, if they were built.
pub fn shipped() -> Option<PathBuf> {
    std::env::var_os(SHIPPED).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// Whether all these programs are here. If not, `test` is recorded as skipped; in CI it fails.
#[track_caller]
pub fn has(test: &str, programs: &[(&str, &str)]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing: Vec<_> = programs.iter().filter(|(program, _)| !there(program)).collect();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/cyclonedx/version");
    let why = match missing.as_slice() {
        [] if tools.is_file() => return true,
        [] => "cyclonedx-python-lib is not there (bash tests/tools)".to_owned(),
        [(program, package), ..] => format!("{program} is not installed (apt-get install {package})"),
    };
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs it: {why}");
    skip::note(test, &why);
    false
}

/// Makes artifacts of these kinds in `out`, quickly, with these variables.
#[track_caller]
pub fn release(out: &Path, kinds: &[&str], variables: &[(&str, &str)]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../watchdog/deploy/release");
    let programs = shipped().unwrap_or_else(|| {
        binary("shard-watchdog").parent().map(Path::to_path_buf).expect("a program stands in a folder")
    });
    let manuals = binary("manuals");
    let text = |path: &Path| path.to_str().expect("a path of the test's own").to_owned();
    let (out, programs, manuals) = (text(out), text(&programs), text(&manuals));
    let mut arguments = vec!["--out", &out, "--bin-dir", &programs, "--manuals", &manuals, "--level", "1"];
    arguments.extend(kinds.iter().flat_map(|kind| ["--only", kind]));
    let output = run(&script, &arguments, variables);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}
