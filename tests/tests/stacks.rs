//! From a dump to stacks with function, file and line: with symbols, stripped, and stripped with
//! the debug information elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use shard_tests::process::binary;
use shard_tests::stack_target::{self, CALLED_FROM, SPINS, StackTarget, THREAD, WAITS, WAITS_IN};
use shard_watchdog::dump::client::Helper;
use shard_watchdog::dump::wire::Request;
use shard_watchdog::stacks::{Frame, Places, Stacks, Thread};

/// No debug information but what a test brings.
fn nowhere() -> Places {
    Places { symbols: Vec::new(), debug: PathBuf::from("/nonexistent") }
}

#[track_caller]
fn dump(target: &StackTarget) -> Vec<u8> {
    let program = binary("shard-watchdog");
    let mut helper = Helper::new(move || {
        let mut command = Command::new(&program);
        command.arg("evidence-helper");
        command
    });
    let request = Request {
        pid: target.process.pid(),
        start_time: target.start_time(),
        tid: target.tid,
        time_limit: Duration::from_secs(10),
        most_threads: 1_000,
    };
    let mut dumped = helper.dump(&request, Instant::now() + Duration::from_secs(30)).unwrap();
    let mut bytes = Vec::new();
    dumped.file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn names(thread: &Thread) -> Vec<&str> {
    thread.frames.iter().filter_map(|frame| frame.function.as_deref()).collect()
}

fn frame<'a>(thread: &'a Thread, function: &str) -> &'a Frame {
    let named = |frame: &&Frame| frame.function.as_deref().is_some_and(|name| name.ends_with(function));
    thread.frames.iter().find(named).unwrap_or_else(|| panic!("no {function} in {:#?}", names(thread)))
}

#[track_caller]
fn shows_the_functions(stacks: &Stacks) {
    let spins = &stacks.threads[0];
    assert!(spins.in_question && spins.name == THREAD, "{spins:?}");
    let own = frame(spins, SPINS);
    assert!(own.file.as_deref().unwrap().ends_with("tests/src/stack_target.rs"), "{own:?}");
    assert!(own.line.is_some() && own.trust != "scan", "{own:?}");
    assert_eq!(spins.own_frame(), Some(own), "{:#?}", spins.frames);
    assert!(frame(spins, CALLED_FROM).line.is_some());
    let waiting: Vec<_> = stacks.threads.iter().filter(|thread| thread.name.starts_with(WAITS)).collect();
    assert_eq!(waiting.len(), 3);
    for thread in waiting {
        frame(thread, WAITS_IN);
    }
    let text = stacks.to_text();
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("thread exec-s0 (tid ") && first.contains(SPINS), "{first}");
    assert!(first.contains(CALLED_FROM), "{first}");
}

#[test]
fn the_function_that_spins_is_shown_with_file_and_line() {
    let target = StackTarget::start(3);
    let stacks = Stacks::of(&dump(&target), &nowhere()).unwrap();
    shows_the_functions(&stacks);
    let program = stack_target::program().display().to_string();
    assert!(stacks.lacking.iter().all(|lacking| lacking.module != program), "{:?}", stacks.lacking);
}

#[test]
fn a_stripped_program_is_shown_by_its_debug_file_and_without_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (program, debug) = (folder.path().join("stripped"), folder.path().join("elsewhere"));
    let id = stack_target::stripped(&program, &debug);
    let target = StackTarget::start_by(Command::new(&program), 3, &[]);
    let dump = dump(&target);

    let without = Stacks::of(&dump, &nowhere()).unwrap();
    let lacking = without.lacking.iter().find(|lacking| Path::new(&lacking.module) == program).unwrap();
    assert_eq!(lacking.build_id, id);
    let text = without.to_text();
    assert!(text.contains(&format!("symbols are missing: {} (build id {id})", program.display())), "{text}");
    assert!(!text.contains(SPINS) && text.contains("stripped+0x"), "{text}");

    let by_id = folder.path().join("symbols/.build-id").join(&id[..2]);
    std::fs::create_dir_all(&by_id).unwrap();
    std::fs::rename(&debug, by_id.join(format!("{}.debug", &id[2..]))).unwrap();
    let places = Places { symbols: vec![folder.path().join("symbols")], ..nowhere() };
    shows_the_functions(&Stacks::of(&dump, &places).unwrap());

    // A file of that name with another build id is not taken.
    let replaced = folder.path().join("replaced");
    std::fs::create_dir(&replaced).unwrap();
    std::fs::copy(binary("puppet"), replaced.join("stripped")).unwrap();
    let places = Places { symbols: vec![replaced], ..nowhere() };
    assert!(!Stacks::of(&dump, &places).unwrap().to_text().contains("puppet"));
}

#[test]
fn a_dump_that_was_tampered_with_gives_stacks_or_an_error() {
    let target = StackTarget::start(1);
    let whole = dump(&target);
    let mut random = 7_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap()
    };
    for round in 0..12 {
        let mut dump = whole.clone();
        for _ in 0..20 {
            let at = next() % dump.len();
            dump[at] = next().to_le_bytes()[0];
        }
        // The lists of threads and modules stand close to the beginning.
        let at = next() % 4_096.min(dump.len());
        dump[at] = 0xff;
        if round % 4 == 0 {
            dump.truncate(next() % whole.len());
        }
        if let Ok(stacks) = Stacks::of(&dump, &nowhere()) {
            assert!(stacks.to_text().len() < 8 << 20);
        }
    }
}

#[test]
fn the_command_prints_the_stacks_and_leaves_them_with_the_incident() {
    const ID: &str = "20261129T061028931Z-7834";
    let target = StackTarget::start(3);
    let evidence = tempfile::tempdir().unwrap();
    let folder = evidence.path().join("incidents").join(ID);
    std::fs::create_dir_all(&folder).unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../watchdog/fuzz/kept/kept_file/incident");
    // The first byte says which kind of file it is.
    std::fs::write(folder.join("incident.json"), &std::fs::read(kept).unwrap()[1..]).unwrap();
    std::fs::write(folder.join("process.dmp"), dump(&target)).unwrap();
    let symbolize = |id: &str| {
        let mut command = Command::new(binary("shard-watchdog"));
        command.args(["incidents", "symbolize", id, "--directory"]).arg(evidence.path());
        command.output().unwrap()
    };
    let output = symbolize("latest");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains(SPINS),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(std::fs::read_to_string(folder.join("stacks.txt")).unwrap(), text);
    assert_eq!(symbolize("20261129T061028931Z-0000").status.code(), Some(4));
}
