//! From the bytes of a dump to the frames of its threads.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use minidump::system_info::{Cpu, Os};
use minidump::{
    CodeView, Minidump, MinidumpException, MinidumpMemory, MinidumpModule, MinidumpModuleList,
    MinidumpSystemInfo, MinidumpThread, MinidumpThreadList, MinidumpThreadNames, Module as _, UnifiedMemory,
    UnifiedMemoryList,
};
use minidump_unwind::symbols::debuginfo::DebugInfoSymbolProvider;
use minidump_unwind::{
    CallStack, FileError, FileKind, FillSymbolError, FrameSymbolizer, FrameWalker, StackFrame,
    SymbolProvider, SystemInfo, walk_stack,
};

use super::files::{self, hex};
use super::symbols::Symbols;
use super::{Frame, Lacking, MOST_FRAMES, MOST_THREADS, Places, Stacks, StacksError, Thread};

/// More modules are not looked at. The largest programs load some hundred libraries.
const MOST_MODULES: usize = 2_048;
/// So much of each stack is unwound, from its top. A hostile stack yields a frame for each eight
/// bytes, of more than a kilobyte each while it is unwound: this bounds them to 60 MiB.
const MOST_STACK: usize = 256 << 10;
/// Frames of all threads together, before the others are omitted.
const MOST_FRAMES_IN_ALL: usize = 200_000;

/// A module, with symbols once a frame needs them.
struct Module {
    path: String,
    build_id: Vec<u8>,
    found: files::Found,
    symbols: Mutex<Option<Symbols>>,
    /// A frame lacked a function or a line.
    lacked: Mutex<bool>,
}

/// All modules by their base address, and what unwinds through them.
struct Modules {
    all: BTreeMap<u64, Module>,
    unwinder: DebugInfoSymbolProvider,
}

pub(super) fn all(dump: &[u8], places: &Places) -> Result<Stacks, StacksError> {
    let not_a_dump = |error: minidump::Error| StacksError::NotADump(error.to_string());
    let dump = Minidump::read(dump).map_err(not_a_dump)?;
    let system: MinidumpSystemInfo = dump.get_stream().map_err(not_a_dump)?;
    if system.os != Os::Linux || !matches!(system.cpu, Cpu::X86_64 | Cpu::Arm64) {
        return Err(StacksError::OtherSystem(format!("{} on {}", system.os, system.cpu)));
    }
    let threads: MinidumpThreadList<'_> = dump.get_stream().map_err(not_a_dump)?;
    let names: MinidumpThreadNames = dump.get_stream().unwrap_or_default();
    let in_question = dump.get_stream::<MinidumpException<'_>>().ok().map(|it| it.get_crashing_thread_id());
    let memory = dump.get_memory().unwrap_or_default();
    let recorded: MinidumpModuleList = dump.get_stream().unwrap_or_else(|_| MinidumpModuleList::new());
    let (modules, renamed) = load(&recorded, &system, places);
    let about = SystemInfo {
        os: system.os,
        os_version: None,
        os_build: None,
        cpu: system.cpu,
        cpu_info: None,
        cpu_microcode_version: None,
        cpu_count: 1,
    };

    let mut order: Vec<&MinidumpThread<'_>> = threads.threads.iter().collect();
    order.sort_by_key(|thread| Some(thread.raw.thread_id) != in_question);
    let mut stacks = Stacks::default();
    let mut frames = 0;
    for thread in &order {
        if stacks.threads.len() >= MOST_THREADS || frames >= MOST_FRAMES_IN_ALL {
            break;
        }
        let tid = thread.raw.thread_id;
        let mut unwound = unwound(thread, &system, &about, &memory, &modules, &renamed);
        unwound.in_question = Some(tid) == in_question;
        unwound.name = names.get_name(tid).map(|name| name.into_owned()).unwrap_or_default();
        frames += unwound.frames.len();
        stacks.threads.push(unwound);
    }
    stacks.omitted = order.len() - stacks.threads.len();
    stacks.lacking = modules.lacking();
    Ok(stacks)
}

/// Finds the files of all modules. The second list has them by names that lead to the files that
/// were checked: what the unwinder opens by name is then what was found, and nothing else.
fn load(
    recorded: &MinidumpModuleList,
    system: &MinidumpSystemInfo,
    places: &Places,
) -> (Modules, MinidumpModuleList) {
    let mut all = BTreeMap::new();
    let mut renamed = Vec::new();
    for module in recorded.iter().take(MOST_MODULES) {
        let (base, size) = (module.base_address(), module.raw.size_of_image);
        if base.checked_add(u64::from(size)).is_none() {
            continue;
        }
        let build_id = match &module.codeview_info {
            Some(CodeView::Elf(elf)) => elf.build_id.clone(),
            _ => Vec::new(),
        };
        let found = files::find(&module.name, &build_id, places);
        let name = found.binary.as_ref().map(reopened).unwrap_or_default();
        renamed.push(MinidumpModule::new(base, size, &name));
        let (symbols, lacked) = (Mutex::default(), Mutex::default());
        all.insert(base, Module { path: module.name.clone(), build_id, found, symbols, lacked });
    }
    let renamed = MinidumpModuleList::from_modules(renamed);
    let unwinder = at_once(DebugInfoSymbolProvider::builder().build(system, &renamed));
    (Modules { all, unwinder }, renamed)
}

/// A path that opens this very file.
fn reopened(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn unwound<'a>(
    thread: &MinidumpThread<'a>,
    system: &MinidumpSystemInfo,
    about: &SystemInfo,
    memory: &UnifiedMemoryList<'a>,
    modules: &Modules,
    renamed: &MinidumpModuleList,
) -> Thread {
    let mut unwound = Thread { tid: thread.raw.thread_id, ..Thread::default() };
    let Some(context) = thread.context(system, None) else {
        unwound.cut = true;
        return unwound;
    };
    let mut stack = CallStack::with_context(context.into_owned());
    let top = match thread.stack_memory(memory) {
        Some(UnifiedMemory::Memory(memory)) => Some(memory),
        _ => None,
    };
    let top = top.map(|memory| {
        let bytes = memory.bytes.get(..MOST_STACK).unwrap_or(memory.bytes);
        unwound.cut = bytes.len() < memory.bytes.len();
        let size = bytes.len() as u64;
        MinidumpMemory {
            desc: memory.desc,
            base_address: memory.base_address,
            size,
            bytes,
            endian: memory.endian,
        }
    });
    let top = top.as_ref().map(UnifiedMemory::Memory);
    at_once(walk_stack(0, (), &mut stack, top, renamed, about, modules));
    for frame in &stack.frames {
        if unwound.frames.len() >= MOST_FRAMES {
            unwound.cut = true;
            break;
        }
        modules.add(frame, &mut unwound.frames);
    }
    unwound
}

impl Modules {
    /// Adds a frame, after the frames of the functions that are inlined in it.
    fn add(&self, frame: &StackFrame, into: &mut Vec<Frame>) {
        let base = frame.module.as_ref().map(|module| module.base_address());
        let module = base.and_then(|base| self.all.get(&base));
        let outer = Frame {
            address: frame.instruction,
            module: module.map(|module| module.path.clone()),
            offset: base.map_or(0, |base| frame.instruction.wrapping_sub(base)),
            function: frame.function_name.clone().filter(|name| !name.is_empty()),
            file: frame.source_file_name.clone(),
            line: frame.source_line.filter(|line| *line != 0),
            inlined: false,
            trust: frame.trust.as_str(),
        };
        if let Some(module) = module
            && (outer.function.is_none() || outer.line.is_none())
        {
            *module.lacked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        }
        for inner in &frame.inlines {
            into.push(Frame {
                function: Some(inner.function_name.clone()).filter(|name| !name.is_empty()),
                file: inner.source_file_name.clone(),
                line: inner.source_line,
                inlined: true,
                ..outer.clone()
            });
        }
        into.push(outer);
    }

    fn lacking(&self) -> Vec<Lacking> {
        let lacked = self.all.values().filter(|module| {
            !module.found.why.is_empty() && *module.lacked.lock().unwrap_or_else(PoisonError::into_inner)
        });
        lacked
            .map(|module| Lacking {
                module: module.path.clone(),
                build_id: hex(&module.build_id),
                why: module.found.why.clone(),
            })
            .collect()
    }
}

#[async_trait]
impl SymbolProvider for Modules {
    async fn fill_symbol(
        &self,
        module: &(dyn minidump::Module + Sync),
        frame: &mut (dyn FrameSymbolizer + Send),
    ) -> Result<(), FillSymbolError> {
        let base = module.base_address();
        let module = self.all.get(&base).ok_or(FillSymbolError {})?;
        if module.found.binary.is_none() && module.found.debug.is_none() {
            return Err(FillSymbolError {});
        }
        let mut symbols = module.symbols.lock().unwrap_or_else(PoisonError::into_inner);
        let symbols = symbols
            .get_or_insert_with(|| Symbols::load(module.found.binary.as_ref(), module.found.debug.as_ref()));
        let offset = frame.get_instruction().wrapping_sub(base);
        let mut lines = symbols.look_up(offset);
        let Some(outer) = lines.pop() else {
            // Without any table of names, nothing can be said about an address.
            return if symbols.is_empty() { Err(FillSymbolError {}) } else { Ok(()) };
        };
        frame.set_function(outer.function.as_deref().unwrap_or_default(), base, 0);
        if let Some(file) = &outer.file {
            frame.set_source_file(file, outer.line.unwrap_or(0), base);
        }
        // From the outside in.
        for inner in lines.iter().rev() {
            let function = inner.function.as_deref().unwrap_or_default();
            frame.add_inline_frame(function, inner.file.as_deref(), inner.line);
        }
        Ok(())
    }

    async fn walk_frame(
        &self,
        module: &(dyn minidump::Module + Sync),
        walker: &mut (dyn FrameWalker + Send),
    ) -> Option<()> {
        self.unwinder.walk_frame(module, walker).await
    }

    async fn get_file_path(
        &self,
        _module: &(dyn minidump::Module + Sync),
        _file_kind: FileKind,
    ) -> Result<PathBuf, FileError> {
        Err(FileError::NotFound)
    }
}

/// The result of a future that never waits: the library is asynchronous for those who fetch symbols
/// from a server. [`Stacks::of`] reports a panic.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for something"),
    }
}
