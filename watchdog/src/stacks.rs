//! Turns a minidump into the stacks of its threads, with function, file and line.
//!
//! A dump is untrusted: the target may have shaped every byte of its stacks, names and paths. So
//! this runs in the command line and in processes of its own, never in the sidecar; everything that
//! is read is bounded; and a file that the dump names is used only if it is a regular file with the
//! build id of the module.

mod files;
mod names;
pub mod read;
mod symbols;
mod text;
mod unwind;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use serde::Serialize;

/// No text of stacks is larger, in bytes: 4,000 threads of 20 frames.
pub const LARGEST_TEXT: u64 = 8 << 20;
/// At most so many threads are unwound. Systems with more exist; nobody reads their stacks.
pub const MOST_THREADS: usize = 4_096;
/// At most so many frames are kept of each thread: enough for a deep recursion to show itself.
pub const MOST_FRAMES: usize = 256;

/// Where symbols are looked for, besides at the path of each module.
#[derive(Clone, Debug)]
pub struct Places {
    /// Folders that a person has named, first: with files by build id (`.build-id/ab/cdef.debug`),
    /// by name, or by the whole path.
    pub symbols: Vec<PathBuf>,
    /// Where distributions put separate debug information.
    pub debug: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { symbols: Vec::new(), debug: PathBuf::from("/usr/lib/debug") }
    }
}

/// The stacks of all threads of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stacks {
    /// The thread that the dump is about first, the others in the order of the dump.
    pub threads: Vec<Thread>,
    /// How many more threads the dump has, beyond the limits.
    pub omitted: usize,
    /// Modules whose frames lack a function or a line, with the reason.
    pub lacking: Vec<Lacking>,
}

/// The stack of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// Thread id.
    pub tid: u32,
    /// The kernel's name of it; empty if unknown.
    pub name: String,
    /// The dump is about this one.
    pub in_question: bool,
    /// The innermost first.
    pub frames: Vec<Frame>,
    /// There are more frames, or more of the stack than was unwound.
    pub cut: bool,
}

/// One frame of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// The address of the instruction; of a caller, an address within its call.
    pub address: u64,
    /// Path of the program or library, as the process saw it.
    pub module: Option<String>,
    /// Offset of the address in the module.
    pub offset: u64,
    /// Name of the function, demangled.
    pub function: Option<String>,
    /// Source file, as the compiler was told.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// The compiler has put this function into its caller, the next frame.
    pub inlined: bool,
    /// How the frame was found: `context`, `cfi`, `frame_pointer`, or `scan`, which is a guess.
    pub trust: &'static str,
}

/// A module that lacks symbols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lacking {
    /// Path of the program or library, as the process saw it.
    pub module: String,
    /// Its build id in hexadecimal digits; empty if it has none.
    pub build_id: String,
    /// What is missing.
    pub why: String,
}

/// Why a dump has no stacks.
#[derive(Debug, thiserror::Error)]
pub enum StacksError {
    /// It is not a minidump.
    #[error("it is not a minidump: {0}")]
    NotADump(String),
    /// Another kind of processor or system.
    #[error(
        "it is of a system whose stacks cannot be unwound here ({0}); only Linux on x86-64 and arm64 can"
    )]
    OtherSystem(String),
    /// Something in it has led to a panic.
    #[error("it is malformed: unwinding it failed")]
    Panicked,
}

impl Stacks {
    /// Unwinds all threads of `dump` and looks up their frames.
    ///
    /// # Errors
    /// If `dump` is not a minidump of a system that is known here.
    pub fn of(dump: &[u8], places: &Places) -> Result<Self, StacksError> {
        // The libraries are robust against malformed input, but nobody has proven it.
        catch_unwind(AssertUnwindSafe(|| unwind::all(dump, places))).unwrap_or(Err(StacksError::Panicked))
    }

    /// The name of a function as it is in each build of a program: without hashes and numbers of
    /// the compiler.
    pub fn in_each_build(function: &str) -> String {
        names::in_each_build(function)
    }

    /// The thread that the dump is about.
    pub fn in_question(&self) -> Option<&Thread> {
        self.threads.first().filter(|thread| thread.in_question)
    }

    /// Where that thread stands, in one line.
    pub fn headline(&self) -> Option<String> {
        self.in_question().map(text::headline)
    }

    /// The stacks for a person, at most [`LARGEST_TEXT`] bytes.
    pub fn to_text(&self) -> String {
        text::of(self)
    }
}

impl Thread {
    /// The innermost frame in code of the process's own project: neither of a library nor of a
    /// dependency. Only frames that were really found count, not those that were guessed.
    pub fn own_frame(&self) -> Option<&Frame> {
        self.own_frames().next()
    }

    fn own_frames(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(|frame| frame.is_own() && frame.trust != "scan")
    }

    /// The functions of the innermost own frames, at most `most`, as they are called in each build
    /// of the program: without hashes and numbers of the compiler. A function that calls itself
    /// counts once.
    pub fn own_functions(&self, most: usize) -> Vec<String> {
        let named = self.own_frames().filter_map(|frame| frame.function.as_deref());
        let mut functions: Vec<String> = named.map(names::in_each_build).collect();
        functions.dedup();
        functions.truncate(most);
        functions
    }
}

impl Frame {
    /// Whether its source file belongs to the project that was compiled, as far as paths tell: the
    /// standard library is compiled as `/rustc/…`, dependencies below a folder of Cargo's, and the
    /// C library of Debian by paths that begin with a dot.
    pub fn is_own(&self) -> bool {
        const FOREIGN: [&str; 6] = [
            "/rustc/",
            "/library/core/",
            "/library/alloc/",
            "/library/std/",
            "/registry/src/",
            "/git/checkouts/",
        ];
        let Some(file) = self.file.as_deref() else { return false };
        self.function.is_some() && !file.starts_with('.') && !FOREIGN.iter().any(|part| file.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str, trust: &'static str) -> Frame {
        Frame { function: Some(function.to_owned()), file: Some(file.to_owned()), trust, ..Frame::default() }
    }

    #[test]
    fn the_own_frame_is_neither_of_a_library_nor_a_guess() {
        let frames = vec![
            frame("syscall", "../sysdeps/unix/syscall.S", "cfi"),
            frame("std::thread::park", "/rustc/0123/library/std/src/thread/mod.rs", "cfi"),
            frame("recv", "/root/.cargo/registry/src/index/channel/src/lib.rs", "cfi"),
            frame("guessed", "executor/src/other.rs", "scan"),
            frame("run_part", "executor/src/part.rs", "cfi"),
        ];
        let thread = Thread { frames, ..Thread::default() };
        assert_eq!(thread.own_frame().unwrap().function.as_deref(), Some("run_part"));
    }

    #[test]
    fn what_is_no_dump_is_refused_with_its_reason() {
        for garbage in [&b""[..], b"MDMP", &[0xff; 4_096]] {
            let error = Stacks::of(garbage, &Places::default()).unwrap_err();
            assert!(matches!(error, StacksError::NotADump(_)), "{error}");
        }
    }
}
