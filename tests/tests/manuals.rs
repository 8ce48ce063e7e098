//! Man pages and completions are complete, readable and loadable.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use shard_tests::{manuals, skip};

/// Any date will do.
const DATE: &str = "2026-11-29";

/// All of them, in a folder that ends with the test.
fn written() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let files = manuals::write(folder.path(), DATE).unwrap();
    (folder, files)
}

#[allow(
    clippy::disallowed_methods,
    reason = "a formatter and a shell end, and the runner ends a test that does not"
)]
fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Whether `program` is here; if not, the test is noted as skipped, and in CI it fails.
fn has(test: &str, program: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return true;
    }
    let why = format!("{program} is not installed (apt-get install {package})");
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs it: {why}");
    skip::note(test, &why);
    false
}

#[test]
fn every_subcommand_has_a_page_and_every_flag_stands_on_it_with_its_help() {
    let (folder, files) = written();
    let mut pages = 0;
    for (name, command) in manuals::programs().into_iter().flat_map(manuals::commands) {
        let page = folder.path().join(format!("man/man1/{name}.1"));
        assert!(files.contains(&page), "{name} has no page");
        let text = std::fs::read_to_string(&page).unwrap();
        let about = command.get_about().expect("a sentence on what it does").to_string();
        assert!(!about.trim().is_empty(), "{name}");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION"] {
            assert!(text.contains(&format!(".SH {section}\n")), "{name} has no {section}");
        }
        for argument in manuals::arguments(&command) {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.trim().len() > 5, "{name}: {:?} has no help", argument.get_id());
            // As roff escapes them.
            let roff = |text: &str| text.replace('-', "\\-").replace('\'', "\\*(Aq");
            let begins: Vec<&str> = help.split_whitespace().take(3).collect();
            let begins = roff(&begins.join(" "));
            assert!(
                text.contains(&begins),
                "the help of {:?} is not on the page of {name}",
                argument.get_id()
            );
            if let Some(flag) = argument.get_long() {
                let flag = roff(&format!("--{flag}"));
                assert!(text.contains(&flag), "{flag} is not on the page of {name}");
            }
        }
        pages += 1;
    }
    // Two programs; fewer than a dozen and a half means that subcommands were lost on the way.
    assert!(pages > 17, "{pages} pages");
}

#[test]
fn pages_have_the_sections_that_scripts_and_people_look_for() {
    let (folder, _) = written();
    let read = |name: &str| std::fs::read_to_string(folder.path().join("man/man1").join(name)).unwrap();
    let status = read("shard-watchdog-status.1");
    assert!(status.contains(".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\nhealthy or excused\n"), "{status}");
    assert!(status.contains(".SH EXAMPLES\n.RS 4\n.nf\nshard\\-watchdog status\n"), "{status}");
    assert!(status.starts_with(".ie") && status.contains(&format!(".TH shard-watchdog-status 1 {DATE} ")));
    let whole = read("shard-watchdog.1");
    assert!(whole.contains("shard\\-watchdog\\-run(1)"), "{whole}");
    assert_eq!(whole.matches(".ds Aq").count(), 2, "one preamble: {whole}");
}

#[test]
fn man_renders_every_page_without_a_warning() {
    if !has("man_renders_every_page_without_a_warning", "man", "man-db") {
        return;
    }
    let (_folder, files) = written();
    for page in files.iter().filter(|file| file.extension().is_some_and(|end| end == "1")) {
        // In plain ASCII, so that any locale shows it.
        assert!(std::fs::read(page).unwrap().is_ascii(), "{}", page.display());
        let mut man = Command::new("man");
        // The usual width of a terminal: too long a line is a warning too.
        man.args(["--warnings=w", "--local-file"]).arg(page).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        let Output { status, stdout, stderr } = run(&mut man);
        let told = String::from_utf8_lossy(&stderr);
        assert!(status.success() && told.is_empty(), "{}: {told}", page.display());
        let shown = String::from_utf8_lossy(&stdout);
        assert!(shown.contains("SYNOPSIS"), "{}: {shown}", page.display());
    }
}

/// What bash offers for the last of these words.
fn completed(script: &Path, words: &[&str]) -> Vec<String> {
    /// Loads the script as a shell with `set -u` would, asks it which function completes the first
    /// word, and calls that as readline does.
    const ASK: &str = r#"
        set -u
        source "$1"
        shift
        found=$(complete -p "$1")
        [[ $found =~ -F\ ([^ ]+) ]]
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        "${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-ec", ASK, "complete"]).arg(script).args(words);
    let Output { status, stdout, stderr } = run(&mut bash);
    assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_loads_the_completions_and_offers_subcommands_flags_and_values() {
    let (folder, _) = written();
    let script = |name| folder.path().join("bash-completion/completions").join(name);
    let watchdog = script("shard-watchdog");
    assert_eq!(completed(&watchdog, &["shard-watchdog", "sup"]), ["supervise"]);
    let flags = completed(&watchdog, &["shard-watchdog", "run", "--"]);
    assert!(flags.contains(&"--config".to_owned()), "{flags:?}");
    let values = completed(&watchdog, &["shard-watchdog", "run", "--thread-events", ""]);
    assert_eq!(values, ["pidfd", "poll"]);
    let faults = completed(&watchdog, &["shard-watchdog", "demo", "--fault", "dead"]);
    assert_eq!(faults, ["deadlock"]);
    let executor = script("shard-executor");
    assert_eq!(completed(&executor, &["shard-executor", "coo"]), ["coordinator"]);
    let flags = completed(&executor, &["shard-executor", "shard", "--hea"]);
    assert_eq!(flags, ["--heartbeat"]);
}
