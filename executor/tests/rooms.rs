//! No files of the executor use each other in a circle: each can be read with those that it uses,
//! and without those that use it.
//!
//! A file uses another if a path in it, in a `use` or elsewhere, ends at an item of the other; a
//! re-export is followed to the file that has the item. A file that only declares or re-exports its
//! own modules does not use them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A path or the name of a module, segment by segment.
type Segments = Vec<String>;

/// What `use` says in one file.
struct Use {
    reexports: bool,
    path: Segments,
    /// The name that it has in the file.
    name: String,
}

struct File {
    uses: Vec<Use>,
    /// The paths outside of `use`.
    paths: Vec<Segments>,
    /// All names outside of `use`.
    names: BTreeSet<String>,
}

/// Which files use which, both by the names of their modules.
fn graph(files: &BTreeMap<Segments, String>) -> BTreeMap<Segments, BTreeSet<Segments>> {
    let read: BTreeMap<Segments, File> =
        files.iter().map(|(module, source)| (module.clone(), file(module, source, files))).collect();
    let mut graph = BTreeMap::new();
    for (module, file) in &read {
        let is_used = |item: &&Use| {
            let is_below = item.path.starts_with(module) && item.reexports;
            !is_below || file.names.contains(&item.name)
        };
        let used = file.uses.iter().filter(is_used).map(|item| &item.path).chain(&file.paths);
        let mut homes: BTreeSet<Segments> = used.map(|path| home(path, &read)).collect();
        homes.remove(module);
        graph.insert(module.clone(), homes);
    }
    graph
}

fn file(module: &[String], source: &str, files: &BTreeMap<Segments, String>) -> File {
    let tests = source.find("#[cfg(test)]\nmod ").or_else(|| source.find("#[cfg(test)]\n#["));
    let lines = source[..tests.unwrap_or(source.len())].lines();
    let code: String = lines.map(|line| format!("{}\n", line.split("//").next().unwrap())).collect();
    let mut uses = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let (before, tree) = match statement.rfind("use ") {
            // At the beginning of a line, after `pub` at most.
            Some(at) if starts_use(&statement[..at]) => (&statement[..at], &statement[at + 4..]),
            _ => {
                rest += statement;
                continue;
            }
        };
        let line = before.lines().next_back().unwrap_or_default();
        rest += before.strip_suffix(line).unwrap_or(before);
        for (path, name) in leaves(tree.trim_end_matches(';')) {
            if let Some(path) = absolute(module, &path, &uses, files) {
                uses.push(Use { reexports: line.contains("pub"), path, name });
            }
        }
    }
    let all = paths(&rest);
    let names = all.iter().flatten().cloned().collect();
    let longer = all.into_iter().filter(|path| path.len() > 1);
    let paths = longer.filter_map(|path| absolute(module, &path, &uses, files)).collect();
    File { uses, paths, names }
}

/// Whether `use` stands in its place after this text.
fn starts_use(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default().trim();
    line.is_empty() || line == "pub" || (line.starts_with("pub(") && line.ends_with(')'))
}

/// The paths of a `use` tree, each with the name that it gets.
fn leaves(tree: &str) -> Vec<(Segments, String)> {
    let (path, list) = match tree.split_once('{') {
        Some((path, list)) => (path, list.rsplit_once('}').unwrap().0),
        None => {
            let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
            let mut path = segments(path);
            path.retain(|segment| segment != "*");
            if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let name =
                if alias.is_empty() { path.last().cloned().unwrap_or_default() } else { alias.to_owned() };
            return vec![(path, name.trim().to_owned())];
        }
    };
    let (mut depth, mut begin, mut found) = (0, 0, Vec::new());
    for (at, letter) in format!("{list},").char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !list[begin..at].trim().is_empty() {
                    found.extend(leaves(&format!("{path}{}", list[begin..at].trim())));
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn segments(path: &str) -> Segments {
    path.split("::").map(|segment| segment.trim().to_owned()).filter(|segment| !segment.is_empty()).collect()
}

/// Every path and name in `code`.
fn paths(code: &str) -> Vec<Segments> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c| !is_part(c)).map(segments).filter(|path| !path.is_empty()).collect()
}

/// The path from the root of this crate, if it leads to something in it.
fn absolute(
    module: &[String],
    path: &[String],
    uses: &[Use],
    files: &BTreeMap<Segments, String>,
) -> Option<Segments> {
    let first = path.first()?;
    let join = |start: &[String], rest: &[String]| Some([start, rest].concat());
    let child = join(module, &path[..1])?;
    match first.as_str() {
        "crate" | "shard_executor" => join(&[], &path[1..]),
        "self" => join(module, &path[1..]),
        "super" => {
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            join(module.get(..module.len().checked_sub(ups)?)?, &path[ups..])
        }
        _ if files.contains_key(&child) => join(module, path),
        _ => uses.iter().find(|item| item.name == *first).and_then(|item| join(&item.path, &path[1..])),
    }
}

/// The module of the file that has what `path` leads to.
fn home(path: &[String], files: &BTreeMap<Segments, File>) -> Segments {
    let longest = (0..=path.len()).rev().find(|end| files.contains_key(&path[..*end])).unwrap();
    let (module, rest) = path.split_at(longest);
    let reexport = rest
        .first()
        .and_then(|name| files[module].uses.iter().find(|item| item.reexports && item.name == *name));
    match reexport {
        Some(item) => home(&[&item.path, &rest[1..]].concat(), files),
        None => module.to_vec(),
    }
}

/// What is left of a graph when all that is neither in a circle nor between two is gone.
fn circles(mut graph: BTreeMap<Segments, BTreeSet<Segments>>) -> BTreeMap<Segments, BTreeSet<Segments>> {
    loop {
        let before: usize = graph.values().map(|used| 1 + used.len()).sum();
        let used: BTreeSet<Segments> = graph.values().flatten().cloned().collect();
        graph.retain(|module, uses| !uses.is_empty() && used.contains(module));
        let left: BTreeSet<Segments> = graph.keys().cloned().collect();
        graph.values_mut().for_each(|uses| uses.retain(|module| left.contains(module)));
        if graph.values().map(|used| 1 + used.len()).sum::<usize>() == before {
            return graph;
        }
    }
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

fn described(circles: &BTreeMap<Segments, BTreeSet<Segments>>) -> String {
    let pairs = circles.iter().flat_map(|(module, uses)| uses.iter().map(move |used| (module, used)));
    pairs.map(|(module, used)| format!("{} uses {}\n", module.join("::"), used.join("::"))).collect()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    for path in sources(&root) {
        let within = path.strip_prefix(&root).unwrap().with_extension("");
        let mut module = segments(&within.to_str().unwrap().replace('/', "::"));
        module.retain(|segment| segment != "lib");
        files.insert(module, std::fs::read_to_string(path).unwrap());
    }
    let graph = graph(&files);
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 500, "the sources have more paths than this");
    let circles = circles(graph);
    assert!(circles.is_empty(), "these files use each other in a circle:\n{}", described(&circles));
}

#[test]
fn a_circle_is_found_through_reexports_lists_and_paths_and_not_in_tests() {
    let files = [
        ("", "mod a;\nmod b;\nmod c;\nmod d;\npub use a::A;\n"),
        ("a", "use crate::{b::{self, B as Other}, d};\n#[cfg(test)]\nmod tests { use crate::c::C; }\n"),
        ("b", "// crate::d\nfn f() { super::c::go(); }\n"),
        ("c", "use crate::A;\nuse std::fmt;\n"),
        ("d", "fn g() { other_crate::a::go(); }\n"),
    ];
    let files = files.map(|(module, source)| (segments(module), source.to_owned())).into();
    let expected = "a uses b\nb uses c\nc uses a\n";
    assert_eq!(described(&circles(graph(&files))), expected);
}
