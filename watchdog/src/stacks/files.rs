//! Finds the file of a module and its separate debug information, by build id.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use object::read::{Object as _, ReadCache};

use super::Places;

/// The files of one module.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The module itself: it has what is needed to unwind.
    pub binary: Option<File>,
    /// The file with its debug information, perhaps the same one.
    pub debug: Option<File>,
    /// Why there is no debug information; empty if there is.
    pub why: String,
}

/// What a file is to a module.
struct Look {
    file: File,
    has_lines: bool,
}

/// The name by which the writer calls the code that the kernel maps into each process (vDSO).
const VDSO: &str = "linux-gate.so";
/// It has one or two pages of code and as much data, on every architecture.
const LARGEST_VDSO: u64 = 1 << 20;

/// Bytes of an id that the writer makes up for a module without one. A linker's has 20 unless it is
/// told otherwise.
const MADE_UP: usize = 16;

/// Looks for the files of the module at `path` with that build id, in bytes; empty if it has none.
pub(super) fn find(path: &str, build_id: &[u8], places: &Places) -> Found {
    if path == VDSO {
        let own = vdso().and_then(|file| look_at(file, build_id)).ok().flatten();
        // It never has lines.
        let why = if own.is_some() { "" } else { "it is of another kernel than this one" };
        return Found { why: why.to_owned(), binary: own.map(|look| look.file), debug: None };
    }
    let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(path));
    let mut found = Found::default();
    let mut at_path = None;
    for candidate in candidates(path, build_id, places) {
        let is_path = candidate == path;
        match look(&candidate, build_id) {
            Ok(Some(look)) => {
                let named_debug = candidate.extension().is_some_and(|end| end == "debug");
                if found.debug.is_none() && look.has_lines {
                    found.debug = look.file.try_clone().ok();
                }
                if found.binary.is_none() && !named_debug {
                    found.binary = Some(look.file);
                }
            }
            Ok(None) if is_path => at_path = Some("the file there now has another build id".to_owned()),
            Err(error) if is_path => at_path = Some(format!("the file there cannot be read: {error}")),
            Ok(None) | Err(_) => {}
        }
        if found.debug.is_some() && found.binary.is_some() {
            break;
        }
    }
    if found.debug.is_none() {
        found.why = match (&found.binary, at_path) {
            (Some(_), _) => "it has no debug information, and no separate file with it was found".to_owned(),
            (None, Some(why)) => why,
            (None, None) => "no file with this build id was found".to_owned(),
        };
    }
    found
}

/// Where its files may be, the best first.
fn candidates(path: &Path, build_id: &[u8], places: &Places) -> Vec<PathBuf> {
    let within = path.strip_prefix("/").unwrap_or(path);
    let name = path.file_name().unwrap_or_default();
    let debug = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".debug");
        PathBuf::from(name)
    };
    let by_id = build_id
        .split_first()
        .map(|(first, rest)| Path::new(".build-id").join(format!("{first:02x}")).join(hex(rest)));
    let mut all = vec![path.to_owned()];
    for folder in places.symbols.iter().chain([&places.debug]) {
        if let Some(by_id) = &by_id {
            all.push(folder.join(debug(by_id)));
            all.push(folder.join(by_id));
        }
        all.extend([folder.join(within), debug(&folder.join(within))]);
        all.extend([folder.join(name), debug(&folder.join(name))]);
    }
    all.push(debug(path));
    if let Some(parent) = path.parent() {
        all.push(debug(&parent.join(".debug").join(name)));
    }
    all
}

/// Opens a file and checks that it belongs to the module. `Ok(None)` if it is of another one.
fn look(path: &Path, build_id: &[u8]) -> io::Result<Option<Look>> {
    // The path comes from the dump: a pipe or a device there must not block.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    look_at(OpenOptions::new().read(true).custom_flags(flags).open(path)?, build_id)
}

fn look_at(file: File, build_id: &[u8]) -> io::Result<Option<Look>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let cache = ReadCache::new(file.try_clone()?);
    let object = object::File::parse(&cache).map_err(io::Error::other)?;
    let theirs = object.build_id().ok().flatten();
    let belongs = match theirs {
        Some(theirs) => theirs == build_id,
        // Then the writer has made one up.
        None => build_id.is_empty() || build_id.len() == MADE_UP,
    };
    if !belongs {
        return Ok(None);
    }
    let has_lines = object.section_by_name(".debug_line").is_some();
    Ok(Some(Look { file, has_lines }))
}

/// A copy of this process's own vDSO: the same code as in any process of this kernel. Threads that
/// ask for the time often stand in it.
fn vdso() -> io::Result<File> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let range = maps.lines().find(|line| line.ends_with("[vdso]")).and_then(|line| line.split(' ').next());
    let (begin, end) = range.and_then(|range| range.split_once('-')).ok_or(io::ErrorKind::NotFound)?;
    let number = |digits| u64::from_str_radix(digits, 16).map_err(io::Error::other);
    let (begin, end) = (number(begin)?, number(end)?);
    let mut code = vec![0; usize::try_from((end - begin).min(LARGEST_VDSO)).unwrap_or(0)];
    File::open("/proc/self/mem")?.read_exact_at(&mut code, begin)?;
    let mut file = File::from(rustix::fs::memfd_create(VDSO, rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(&code)?;
    Ok(file)
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_looked_at_by_build_id_and_by_name() {
        let places = Places { symbols: vec![PathBuf::from("/s")], debug: PathBuf::from("/d") };
        let all = candidates(Path::new("/usr/bin/executor"), &[0xab, 0xcd, 0x01], &places);
        for expected in [
            "/usr/bin/executor",
            "/s/.build-id/ab/cd01.debug",
            "/s/executor",
            "/s/usr/bin/executor",
            "/d/.build-id/ab/cd01.debug",
            "/d/usr/bin/executor.debug",
            "/usr/bin/executor.debug",
            "/usr/bin/.debug/executor.debug",
        ] {
            assert!(all.contains(&PathBuf::from(expected)), "{expected}: {all:?}");
        }
    }

    #[test]
    fn the_kernels_own_code_is_that_of_this_process() {
        let cache = ReadCache::new(vdso().unwrap());
        let object = object::File::parse(&cache).unwrap();
        let id = object.build_id().unwrap().unwrap();
        let nowhere = Places { symbols: Vec::new(), debug: PathBuf::from("/nonexistent") };
        assert!(find(VDSO, id, &nowhere).binary.is_some());
        assert!(find(VDSO, &[1; 20], &nowhere).binary.is_none());
    }

    #[test]
    fn a_program_with_another_build_id_is_told_as_such_and_pipes_do_not_block() {
        let own = std::env::current_exe().unwrap();
        let none = Places { symbols: Vec::new(), debug: PathBuf::from("/nonexistent") };
        let found = find(own.to_str().unwrap(), &[1; 20], &none);
        assert!(found.binary.is_none() && found.debug.is_none());
        assert!(found.why.contains("another build id"), "{}", found.why);
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let found = find(pipe.to_str().unwrap(), &[1; 20], &none);
        assert!(found.why.contains("not a regular file"), "{}", found.why);
        let found = find("/nonexistent/program", &[1; 20], &none);
        assert!(found.why.contains("cannot be read"), "{}", found.why);
    }
}
