//! The segment on the writer's side: created complete or not at all, mapped, locked, never shared
//! with a child.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::error::CreateError;
use crate::fork::{ForkGuard, MAPPINGS};
use crate::identity;
use crate::layout::{self, Geometry, word};
use crate::lock::{FileLock, LockError};
use crate::quarantine;
use crate::reader::Reader;
use crate::words::Words;
use crate::work::split;

/// Suffix of the file that the writer locks.
pub(crate) const WRITER_LOCK: &str = ".lock";

/// How far in the future an old segment's incarnation may be and still be trusted, in microseconds:
/// an hour covers a clock that was set back, and keeps a damaged file from pushing the number to
/// its maximum.
const CLOCK_SLACK: u64 = 3_600_000_000;

/// A mapped segment; unmapped and unlocked when the last view of it is dropped.
#[derive(Debug)]
struct Mapping {
    address: NonNull<u8>,
    size: usize,
    fork: Option<ForkGuard>,
    _lock: FileLock,
}

// SAFETY: the address is only turned into atomic words, by `Words`, and into an unmapping, when no
// view is left.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        drop(self.fork.take());
        // SAFETY: this range was mapped by `map`, and every view keeps the mapping alive, so none
        // is left. In a forked child it is the private memory that the fork handler put there.
        let _ = unsafe { rustix::mm::munmap(self.address.as_ptr().cast(), self.size) };
    }
}

/// A segment that was created: its words, and the incarnation in its header.
pub(crate) struct Created {
    pub(crate) words: Words,
    pub(crate) incarnation: u64,
}

/// Creates a segment at `path`, replacing any that is there.
pub(crate) fn create(path: &Path, shard: &str, geometry: Geometry) -> Result<Created, CreateError> {
    let Some(name) = path.file_name() else {
        return Err(CreateError::NotAFile { path: path.to_owned() });
    };
    let lock = FileLock::take(path, WRITER_LOCK, None).map_err(|error| match error {
        LockError::Held(pid) => CreateError::Held { path: path.to_owned(), pid },
        LockError::Io(path, source) => CreateError::Io { step: "lock", path, source },
        LockError::Foreign(path, _) => {
            CreateError::Io { step: "lock", path, source: std::io::ErrorKind::PermissionDenied.into() }
        }
    })?;
    let temporary = path.with_file_name(temporary_name(name));
    let made = fill(path, &temporary, lock, shard, geometry);
    if made.is_err() {
        let _ = rustix::fs::unlink(&temporary);
    }
    made
}

fn temporary_name(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    temporary
}

fn fill(
    path: &Path,
    temporary: &Path,
    lock: FileLock,
    shard: &str,
    geometry: Geometry,
) -> Result<Created, CreateError> {
    let failed = |step, path: &Path, errno: Errno| CreateError::Io {
        step,
        path: path.to_owned(),
        source: errno.into(),
    };
    let start_time = identity::process_start_time().map_err(|source| CreateError::Io {
        step: "read",
        path: PathBuf::from("/proc/self/stat"),
        source,
    })?;
    let size = geometry.total_size();
    let file = allocate(temporary, size).map_err(|errno| failed("allocate", temporary, errno))?;
    let words = map(&file, size, lock).map_err(|errno| failed("map", temporary, errno))?;
    let words = words.ok_or(CreateError::TooManySegments { limit: MAPPINGS })?;
    let old = Reader::open(path).ok();
    let incarnation = next_incarnation(old.as_ref());
    if let Some(quarantine) = old.and_then(|old| old.quarantine().ok()) {
        quarantine::take_over(&words, quarantine);
    }
    write_header(&words, shard, geometry, start_time, incarnation);
    rustix::fs::rename(temporary, path).map_err(|errno| failed("rename into place", path, errno))?;
    Ok(Created { words, incarnation })
}

/// Creates a file with all its blocks allocated: a full file system must give an error here, not a
/// SIGBUS at the first beat.
fn allocate(path: &Path, size: usize) -> Result<OwnedFd, Errno> {
    // Removes a file left by a writer that died here; we hold the lock, so it is nobody's.
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, mode)?;
    rustix::fs::fchmod(&file, mode)?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size as u64) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeroes(&file, size)?,
        Err(errno) => return Err(errno),
    }
    Ok(file)
}

fn write_zeroes(file: impl AsFd, size: usize) -> Result<(), Errno> {
    let zeroes = [0; 4096];
    let mut done = 0;
    while done < size {
        let some = &zeroes[..zeroes.len().min(size - done)];
        done += rustix::io::pwrite(&file, some, done as u64)?;
    }
    Ok(())
}

/// Maps the file for this process alone; `None` if this process has too many segments already.
fn map(file: &OwnedFd, size: usize, lock: FileLock) -> Result<Option<Words>, Errno> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // POPULATE: the first beat of a thread should not be a page fault.
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    // SAFETY: a mapping at an address of the kernel's choice replaces no other mapping.
    let address = unsafe { rustix::mm::mmap(std::ptr::null_mut(), size, access, flags, file, 0)? };
    let Some(address) = NonNull::new(address.cast::<u8>()) else { return Err(Errno::NOMEM) };
    let mut mapping = Mapping { address, size, fork: None, _lock: lock };
    // SAFETY: the range is the mapping just made; this advice changes nothing in this process.
    unsafe { rustix::mm::madvise(address.as_ptr().cast(), size, Advice::LinuxDontFork)? };
    let entered = ForkGuard::enter(address, size);
    mapping.fork = entered.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOMEM))?;
    if mapping.fork.is_none() {
        return Ok(None);
    }
    // SAFETY: the mapping is page-aligned, `size` bytes long (a multiple of 8) and zeroed; it stays
    // in place while `mapping` lives, and this process reaches it only through atomic words. Other
    // processes write to it too; that is what atomics on shared memory are for. A file that
    // somebody truncates raises SIGBUS; see ABI.md.
    Ok(Some(unsafe { Words::new(Arc::new(mapping), address.cast::<AtomicU64>(), size / 8) }))
}

/// An incarnation larger than that of the replaced segment. Microseconds of wall time ensure that
/// even when the old file is gone, and they stay exact in JSON, where a double holds 53 bits.
fn next_incarnation(old: Option<&Reader>) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_micros()).unwrap_or(0).max(1);
    match old {
        Some(old) => {
            let next = old.header().incarnation.saturating_add(1);
            if next > now && next - now < CLOCK_SLACK { next } else { now }
        }
        None => now,
    }
}

fn write_header(words: &Words, shard: &str, geometry: Geometry, start_time: u64, incarnation: u64) {
    let put = |offset: usize, value: u64| words[word(offset)].store(value, Ordering::Relaxed);
    put(layout::H_VERSION, layout::VERSION);
    put(layout::H_HEADER_SIZE, layout::HEADER_SIZE as u64);
    put(layout::H_TOTAL_SIZE, geometry.total_size() as u64);
    put(layout::H_THREAD_SLOTS, geometry.thread_slots.into());
    put(layout::H_THREAD_STRIDE, geometry.thread_stride() as u64);
    put(layout::H_THREAD_OFFSET, geometry.thread_offset() as u64);
    put(layout::H_LANES, geometry.lanes.into());
    put(layout::H_CHANNEL_SLOTS, geometry.channel_slots.into());
    put(layout::H_CHANNEL_STRIDE, layout::CHANNEL_STRIDE as u64);
    put(layout::H_CHANNEL_OFFSET, geometry.channel_offset() as u64);
    put(layout::H_PID, std::process::id().into());
    put(layout::H_START_TIME, start_time);
    put(layout::H_INCARNATION, incarnation);
    let [low, high] = split(identity::boot_id());
    put(layout::H_BOOT_ID, low);
    put(layout::H_BOOT_ID + 8, high);
    put(layout::H_SHARD_LEN, shard.len() as u64);
    for (index, bytes) in shard.as_bytes().chunks(8).enumerate() {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        put(layout::H_SHARD + 8 * index, u64::from_le_bytes(padded));
    }
    put(layout::H_STATE, layout::STATE_BOOT);
    fence(Ordering::Release);
    put(layout::H_MAGIC, layout::MAGIC);
}
