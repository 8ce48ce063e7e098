//! Function, file and line of an address, from the files of one module.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use addr2line::Context;
use gimli::{EndianArcSlice, RunTimeEndian};
use object::read::{
    Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, ReadCache, SymbolKind,
};

/// No name of a function or file is longer: generics nest, and nobody reads on.
const LONGEST_NAME: usize = 400;
/// Inlined functions at one address. Deep chains of iterators have a dozen.
const MOST_INLINED: usize = 32;

/// A place in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// The symbols of one module.
pub(super) struct Symbols {
    lines: Option<Context<EndianArcSlice<RunTimeEndian>>>,
    /// Functions by address: begin, end, name. From the symbol table.
    names: Vec<(u64, u64, String)>,
    /// The address in the file at which the module begins.
    base: u64,
}

impl Symbols {
    /// Reads what is needed from both files.
    pub fn load(binary: Option<&File>, debug: Option<&File>) -> Self {
        let mut symbols = Self { lines: None, names: Vec::new(), base: 0 };
        // They are the same file unless debug information was split off.
        let apart = debug.filter(|debug| binary.is_none_or(|binary| !is_same(binary, debug)));
        for file in [binary, apart].into_iter().flatten() {
            // Whatever cannot be read is missing.
            let _ = symbols.add_names(file);
        }
        symbols.names.sort();
        symbols.lines = debug.and_then(|file| lines(file).ok());
        symbols
    }

    fn add_names(&mut self, file: &File) -> io::Result<()> {
        let cache = ReadCache::new(file.try_clone()?);
        let object = object::File::parse(&cache).map_err(io::Error::other)?;
        if let Some(first) = object.segments().map(|segment| segment.address()).min() {
            self.base = first & !0xfff;
        }
        for symbol in object.symbols().chain(object.dynamic_symbols()) {
            let (begin, size) = (symbol.address(), symbol.size());
            if symbol.kind() == SymbolKind::Text
                && size > 0
                && let Ok(name) = symbol.name()
            {
                self.names.push((begin, begin.saturating_add(size), name.to_owned()));
            }
        }
        Ok(())
    }

    /// Whether it knows nothing at all.
    pub const fn is_empty(&self) -> bool {
        self.lines.is_none() && self.names.is_empty()
    }

    /// What stands at that offset in the module, the innermost inlined function first. Empty if
    /// nothing is known.
    pub fn look_up(&self, offset: u64) -> Vec<Line> {
        let address = offset.wrapping_add(self.base);
        let mut found = self.by_lines(address).unwrap_or_default();
        found.truncate(MOST_INLINED);
        let outer = found.last().and_then(|line| line.function.as_deref());
        if outer.is_none_or(|name| !has_path(name))
            && let Some(name) = self.by_names(address)
            && (outer.is_none() || has_path(&name))
        {
            match found.last_mut() {
                Some(line) => line.function = Some(name),
                None => found.push(Line { function: Some(name), ..Line::default() }),
            }
        }
        found
    }

    fn by_lines(&self, address: u64) -> Option<Vec<Line>> {
        let mut frames = self.lines.as_ref()?.find_frames(address).skip_all_loads().ok()?;
        let mut found = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|name| name.demangle().ok());
            let location = frame.location;
            found.push(Line {
                function: function.map(|name| shortened(&name)),
                file: location.as_ref().and_then(|at| at.file).map(shortened),
                line: location.and_then(|at| at.line),
            });
            if found.len() > MOST_INLINED {
                break;
            }
        }
        Some(found)
    }

    fn by_names(&self, address: u64) -> Option<String> {
        let after = self.names.partition_point(|(begin, ..)| *begin <= address);
        let (_, _, name) =
            self.names.get(..after)?.iter().rev().take(8).find(|(_, end, _)| address < *end)?;
        Some(shortened(&addr2line::demangle_auto(name.as_str().into(), None)))
    }
}

fn is_same(one: &File, other: &File) -> bool {
    let of = |file: &File| file.metadata().ok().map(|found| (found.dev(), found.ino()));
    of(one).is_some_and(|one| of(other) == Some(one))
}

/// The line tables of a file.
fn lines(file: &File) -> io::Result<Context<EndianArcSlice<RunTimeEndian>>> {
    let cache = ReadCache::new(file.try_clone()?);
    let object = object::File::parse(&cache).map_err(io::Error::other)?;
    let endian = if object.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let load = |id: gimli::SectionId| -> Result<_, gimli::Error> {
        let section = object.section_by_name(id.name());
        let data = section.and_then(|section| section.uncompressed_data().ok()).unwrap_or_default();
        Ok(EndianArcSlice::new(Arc::from(&*data), endian))
    };
    let sections = gimli::Dwarf::load(load).map_err(io::Error::other)?;
    Context::from_dwarf(sections).map_err(io::Error::other)
}

/// Whether a name says in which module or class the function is. Line tables alone
/// (`debug = "line-tables-only"`) do not, and the symbol table does.
fn has_path(name: &str) -> bool {
    name.starts_with('<') || name.split('<').next().is_some_and(|path| path.contains("::"))
}

fn shortened(name: &str) -> String {
    if name.len() <= LONGEST_NAME {
        return name.to_owned();
    }
    format!("{}…", &name[..name.floor_char_boundary(LONGEST_NAME)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn stands_here() -> u64 {
        std::hint::black_box(7)
    }

    #[test]
    fn a_function_of_this_program_is_found_with_its_file() {
        let own = File::open(std::env::current_exe().unwrap()).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = std::env::current_exe().unwrap();
        let first = maps.lines().find(|line| line.ends_with(path.to_str().unwrap())).unwrap();
        let begin = u64::from_str_radix(first.split('-').next().unwrap(), 16).unwrap();
        let symbols = Symbols::load(Some(&own), Some(&own));
        let found = symbols.look_up(stands_here as fn() -> u64 as usize as u64 - begin);
        let line = found.last().unwrap();
        // The build of the tests has line tables alone.
        assert!(line.function.as_deref().unwrap().ends_with("symbols::tests::stands_here"), "{found:?}");
        assert!(line.file.as_deref().unwrap().ends_with("stacks/symbols.rs"), "{found:?}");
        assert!(line.line.is_some() && stands_here() == 7);
        assert_eq!(symbols.look_up(u64::MAX / 2), []);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = shortened(&"ä".repeat(LONGEST_NAME));
        assert!(name.len() <= LONGEST_NAME + 4 && name.ends_with('…'));
    }
}
