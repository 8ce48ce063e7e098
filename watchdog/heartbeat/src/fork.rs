//! Nothing survives a fork: what a child finds in place of its parent's segment.
//!
//! `MADV_DONTFORK` leaves a hole in the child, so that it can never beat for its parent, and the
//! mapping in `/proc` identifies the real owner. A child that continues to use the writer, as code
//! after a fork without exec may, would crash in that hole; so a fork handler fills it with private
//! memory. The handler runs in a child in which any lock may be held in any state: it only touches
//! a fixed array of atomics and makes one system call per entry.

use std::io;
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Segments a process can have mapped at once. Usually it is one; tests have several.
pub(crate) const MAPPINGS: usize = 64;

/// Marks an entry that is claimed and not yet filled. No mapping starts there.
const RESERVED: usize = 1;

struct Entry {
    address: AtomicUsize,
    size: AtomicUsize,
}

static ENTRIES: [Entry; MAPPINGS] =
    [const { Entry { address: AtomicUsize::new(0), size: AtomicUsize::new(0) } }; MAPPINGS];

/// A mapping registered with the fork handler until this is dropped.
#[derive(Debug)]
pub(crate) struct ForkGuard(usize);

impl ForkGuard {
    /// Registers a mapping. `Ok(None)` if the list is full.
    ///
    /// The caller keeps the mapping in place until the guard is dropped, and drops the guard
    /// *before* it unmaps: otherwise the child of a fork in between would map over memory that is
    /// something else by then.
    pub(crate) fn enter(address: NonNull<u8>, size: usize) -> io::Result<Option<ForkGuard>> {
        register()?;
        for (index, entry) in ENTRIES.iter().enumerate() {
            if entry.address.compare_exchange(0, RESERVED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                entry.size.store(size, Ordering::Release);
                entry.address.store(address.as_ptr() as usize, Ordering::Release);
                return Ok(Some(ForkGuard(index)));
            }
        }
        Ok(None)
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        ENTRIES[self.0].address.store(0, Ordering::Release);
    }
}

fn register() -> io::Result<()> {
    static ONCE: Once = Once::new();
    static ANSWER: AtomicI32 = AtomicI32::new(0);
    ONCE.call_once(|| {
        // SAFETY: the handler is a function that lives as long as the program.
        let answer = unsafe { pthread_atfork(None, None, Some(in_child)) };
        ANSWER.store(answer, Ordering::Relaxed);
    });
    match ANSWER.load(Ordering::Relaxed) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

type Handler = Option<unsafe extern "C" fn()>;

unsafe extern "C" {
    fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> libc::c_int;
}

unsafe extern "C" fn in_child() {
    for entry in &ENTRIES {
        let address = entry.address.load(Ordering::Acquire);
        if address <= RESERVED {
            continue;
        }
        let size = entry.size.load(Ordering::Acquire);
        // SAFETY: a forked child has one thread, which runs this; MADV_DONTFORK left the range
        // empty, and the entry is cleared before the parent unmaps it, so this replaces no other
        // mapping. mmap is async-signal-safe on Linux.
        unsafe {
            libc::mmap(
                address as *mut libc::c_void,
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            );
        }
    }
}
