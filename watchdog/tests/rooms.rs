//! Which room of the program may use which other one. A room is a module directly below the crate.
//! Each may use only those that precede it in [`FLOORS`], so that a reader of one need not know
//! anything that is built upon it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// All rooms, from the ground up. `judge`, `observation` and `verdict` are a crate of their own.
const FLOORS: [&str; 40] = [
    // Rooms without opinions.
    "verdict",
    "observation",
    "judge",
    "clock",
    "pause",
    "snapshot",
    "own_folder",
    "config",
    "descriptors",
    "signals",
    "child_end",
    // Rooms that watch, and must wait for nothing.
    "probe",
    "act",
    "recorder",
    "archive",
    "evidence",
    "event",
    "adopt",
    "watch",
    // Rooms that report, and may be slow.
    "dump",
    "stacks",
    "board",
    "incident",
    "telemetry",
    "status_json",
    "symbolizer",
    "feed",
    "relay",
    "http",
    "client",
    "surface",
    // Rooms that start processes, their own or others'.
    "start_limit",
    "fault_socket",
    "beats",
    "supervise",
    "demo",
    // What will not work, before it is needed.
    "preflight",
    // Rooms that a person calls.
    "cli",
    "main",
    "lib",
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|known| *known == room)
}

/// The sources below `folder`, except files that contain only tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found
}

/// The rooms that a source names, its tests left out.
fn named(source: &str) -> BTreeSet<String> {
    let tests = source.find("#[cfg(test)]\nmod ").or_else(|| source.find("#[cfg(test)]\n#["));
    let lines = source[..tests.unwrap_or(source.len())].lines();
    let code = lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut rooms = BTreeSet::new();
    for begins in ["crate::", "shard_watchdog::"] {
        for (at, _) in code.match_indices(begins) {
            if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                continue;
            }
            rooms.extend(first_names(&code[at + begins.len()..]));
        }
    }
    rooms
}

/// The first part of a path: one name, or those of a list in braces.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(list) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut begin, mut names) = (0, 0, Vec::new());
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&list[begin..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&list[begin..at]));
                begin = at + 1;
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn no_room_uses_one_that_stands_on_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for path in sources(&root) {
        let within = path.strip_prefix(&root).unwrap();
        let room = within.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let own = floor(&room).unwrap_or_else(|| panic!("{room} has no place in FLOORS"));
        for other in named(&std::fs::read_to_string(&path).unwrap()) {
            if other != room && floor(&other).is_some_and(|other| other > own) {
                wrong.push(format!("{} uses {other}", within.display()));
            }
        }
        seen.insert(room);
    }
    assert!(wrong.is_empty(), "these arrows run up:\n{}", wrong.join("\n"));
    let crates = ["verdict", "observation", "judge"];
    let gone: Vec<_> =
        FLOORS.iter().filter(|room| !seen.contains(**room) && !crates.contains(room)).collect();
    assert!(gone.is_empty(), "these are no rooms any more: {gone:?}");
}

#[test]
fn what_a_source_names_is_read_off_its_paths() {
    let source = "use crate::act::{budget, ladder};\nuse crate::{clock, probe::{self, task}};\n// crate::cli\n\
                  fn f() { crate::watch::run(); other_crate::http(); }\n#[cfg(test)]\nmod tests { use crate::demo; }\n";
    let expected = ["act", "clock", "probe", "watch"];
    assert_eq!(named(source), expected.map(str::to_owned).into());
}
