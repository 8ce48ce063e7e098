//! Checks again and again whether the target still maps its segment, through a descriptor of its
//! `maps` that stays open: by one query about the address of the mapping (Linux 6.11), else by
//! reading all of it. Both can hang behind an operation on the target's memory, so a thread with no
//! other task does this (`inquiry`), never the watch loop.
//!
//! The descriptor belongs to the memory that the process had when it was opened. When the process
//! runs another program, that memory ends, and so do the answers.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use shard_heartbeat::FileId;

use crate::clock::Monotonic;
use crate::probe::mapped::Mapped;

use super::mapping::{self, Found, MAPS_LIMIT};

/// How often all of `maps` is read, where the kernel cannot be queried about one address: reading
/// takes the lock of the target's memory for a while.
const READ_EVERY: Duration = Duration::from_secs(1);

/// The asking side.
#[derive(Debug)]
pub(super) struct KeptMaps {
    process: OwnedFd,
    maps: File,
    found: Found,
    one_place: bool,
    asked: Monotonic,
    mapped: Arc<Mapped>,
}

/// The result of one reading of `maps`.
enum Reading {
    /// The file is mapped here.
    Found(Found),
    /// The file is not mapped.
    Nothing,
    /// There is no memory, or it cannot be read.
    Untold,
}

impl KeptMaps {
    /// Opens `maps` and reads it for the first time. `None` if that does not show that the process
    /// maps the file.
    pub(super) fn open(
        process: BorrowedFd<'_>,
        file: FileId,
        path: &Path,
        mapped: &Arc<Mapped>,
        now: Monotonic,
    ) -> Option<Self> {
        let process = process.try_clone_to_owned().ok()?;
        let mut maps = open(&process).ok()?;
        let Reading::Found(found) = read(&mut maps, |lines| mapping::find_at(lines, file, path)) else {
            return None;
        };
        mapped.tell(now, || Some(true));
        Some(Self { process, maps, found, one_place: true, asked: now, mapped: Arc::clone(mapped) })
    }

    /// Whether anybody still wants the answers.
    pub(super) fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.mapped) > 1
    }

    /// Checks, if it is due. Returns whether the loop must learn the answer at once.
    pub(super) fn ask(&mut self, now: Monotonic, every: Duration) -> bool {
        let every = if self.one_place { every } else { READ_EVERY };
        // A little early, so that a wake-up just before the due time already checks.
        let due = self.asked.plus(every - every / 8);
        if self.mapped.is_lost() || now < due && !self.mapped.is_wanted() {
            return false;
        }
        self.asked = now;
        let mapped = Arc::clone(&self.mapped);
        mapped.tell(now, || self.answer())
    }

    fn answer(&mut self) -> Option<bool> {
        if self.one_place {
            match query(&self.maps, self.found.start) {
                Ok(found) if found == Some(self.found.shown) => return Some(true),
                Err(Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => self.one_place = false,
                Ok(_) | Err(_) => {}
            }
        }
        // Twice before it counts as lost: the mapping may move while `maps` is read.
        for _ in 0..2 {
            match read_again(&mut self.maps, self.found) {
                Reading::Found(found) => {
                    self.found = found;
                    return Some(true);
                }
                Reading::Nothing => {}
                Reading::Untold => return self.answer_of_another_memory(),
            }
        }
        Some(false)
    }

    /// The memory that was adopted has ended. There may be a new one, of another program.
    fn answer_of_another_memory(&mut self) -> Option<bool> {
        let mut maps = open(&self.process).ok()?;
        match read_again(&mut maps, self.found) {
            Reading::Found(found) => {
                (self.maps, self.found) = (maps, found);
                Some(true)
            }
            Reading::Nothing => Some(false),
            Reading::Untold => None,
        }
    }
}

fn open(process: &OwnedFd) -> Result<File, Errno> {
    rustix::fs::openat(process, "maps", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(File::from)
}

fn read_again(maps: &mut File, before: Found) -> Reading {
    read(maps, |lines| mapping::find_again(lines, before.shown))
}

fn read(maps: &mut File, find: impl FnOnce(&mut dyn Iterator<Item = Vec<u8>>) -> Option<Found>) -> Reading {
    if maps.rewind().is_err() {
        return Reading::Untold;
    }
    let (mut lines, mut failed) = (0_u64, false);
    let mut read = BufReader::new(maps.take(MAPS_LIMIT)).split(b'\n').map_while(|line| {
        failed |= line.is_err();
        lines += u64::from(line.is_ok());
        line.ok()
    });
    let found = find(&mut read);
    drop(read);
    let complete = maps.stream_position().is_ok_and(|at| at < MAPS_LIMIT);
    match found {
        Some(found) => Reading::Found(found),
        None if lines > 0 && !failed && complete => Reading::Nothing,
        None => Reading::Untold,
    }
}

/// `struct procmap_query` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct ProcmapQuery {
    size: u64,
    flags: u64,
    address: u64,
    found: [u64; 5],
    inode: u64,
    device: [u32; 2],
    sizes: [u32; 2],
    addresses: [u64; 2],
}

const _: () = assert!(size_of::<ProcmapQuery>() == 104);
/// `PROCMAP_QUERY`: `_IOWR('f', 17, struct procmap_query)`.
const PROCMAP_QUERY: libc::c_ulong = (3 << 30) | (104 << 16) | ((b'f' as libc::c_ulong) << 8) | 17;

/// Device and inode of the file that is mapped at `address`, as `maps` shows them; `None` if
/// nothing is mapped there.
fn query(maps: &File, address: u64) -> Result<Option<mapping::Shown>, Errno> {
    let mut ask = ProcmapQuery { size: 104, address, ..ProcmapQuery::default() };
    // SAFETY: the ioctl reads and writes at most `size` bytes of a structure of that size, which
    // outlives the call; it gets no other address to write to, and changes nothing in the process.
    let answer = unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY, &raw mut ask) };
    if answer == 0 {
        let [major, minor] = ask.device;
        return Ok(Some(mapping::Shown { device: (major, minor), inode: ask.inode }));
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO) {
        Errno::NOENT => Ok(None),
        errno => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::mm::{MapFlags, ProtFlags};

    use super::*;
    use crate::probe::mapped::Standing;

    const SIZE: usize = 4_096;

    fn id(file: &File) -> FileId {
        let stat = rustix::fs::fstat(file).unwrap();
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        FileId { dev_major: major, dev_minor: minor, inode: stat.st_ino }
    }

    /// A file that this process maps, and then unmaps.
    fn told(one_place: bool) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE as u64).unwrap();
        // SAFETY: a new mapping at an address of the kernel's choice, which nobody reads or writes
        // through.
        let at = unsafe {
            let rights = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(std::ptr::null_mut(), SIZE, rights, MapFlags::SHARED, file.as_file(), 0)
        };
        let at = at.unwrap();
        let process = File::open("/proc/self").unwrap();
        let mapped = Arc::new(Mapped::default());
        let now = crate::clock::now();
        let id = id(file.as_file());
        let mut kept = KeptMaps::open(process.as_fd(), id, file.path(), &mapped, now).unwrap();
        kept.one_place &= one_place;
        assert_eq!(kept.answer(), Some(true));
        // Removing the file's name changes nothing: the file itself is mapped.
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(kept.answer(), Some(true));
        // SAFETY: nobody uses the mapping made above.
        unsafe { rustix::mm::munmap(at, SIZE) }.unwrap();
        let later = now.plus(Duration::from_secs(2));
        assert!(kept.ask(later, Duration::from_millis(250)), "the loop has to hear of that");
        assert_eq!(mapped.standing(later), Standing::Lost);
    }

    #[test]
    fn a_mapping_that_goes_is_seen_by_its_place_and_by_reading_all_of_them() {
        told(true);
        told(false);
    }

    #[test]
    fn who_does_not_map_it_is_not_believed_at_first() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let process = File::open("/proc/self").unwrap();
        let mapped = Arc::new(Mapped::default());
        let (id, path) = (id(file.as_file()), Path::new("/nowhere"));
        assert!(KeptMaps::open(process.as_fd(), id, path, &mapped, crate::clock::now()).is_none());
    }
}
