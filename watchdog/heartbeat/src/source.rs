//! The file behind a segment, opened and read without trusting it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::ReadError;
use crate::header::{HEADER_WORDS, Header};

/// Identifies a file in the terms of `/proc/PID/maps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Major number of the device.
    pub dev_major: u32,
    /// Minor number of the device.
    pub dev_minor: u32,
    /// Inode.
    pub inode: u64,
}

impl FileId {
    fn of(stat: &rustix::fs::Stat) -> FileId {
        let device = stat.st_dev;
        FileId {
            dev_major: rustix::fs::major(device),
            dev_minor: rustix::fs::minor(device),
            inode: stat.st_ino,
        }
    }
}

/// Who may change the file of a segment, and who may replace it, as of when the segment was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Custody {
    /// User id of the file's owner.
    pub uid: u32,
    /// Mode of the file, without its type.
    pub mode: u32,
    /// Number of hard links; 0 if the name by which it was opened was its only one and has been
    /// removed.
    pub links: u64,
    /// User id of the owner of the folder in which it was opened.
    pub folder_uid: u32,
    /// Mode of that folder, without its type.
    pub folder_mode: u32,
}

impl Custody {
    fn of(file: &Stat, folder: &Stat) -> Custody {
        let mode = |stat: &Stat| Mode::from_raw_mode(stat.st_mode).as_raw_mode();
        Custody {
            uid: file.st_uid,
            mode: mode(file),
            links: links(file),
            folder_uid: folder.st_uid,
            folder_mode: mode(folder),
        }
    }
}

/// The link count, whose type differs between architectures.
#[allow(clippy::useless_conversion, reason = "it is none where the number has 32 bits")]
fn links(file: &Stat) -> u64 {
    u64::from(file.st_nlink)
}

/// An open segment with a checked header.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: OwnedFd,
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) id: FileId,
    pub(crate) custody: Custody,
}

impl Source {
    /// Opens a segment with `access` and checks its header.
    pub(crate) fn open(path: &Path, access: OFlags) -> Result<Source, ReadError> {
        let failed =
            |step| move |errno: Errno| ReadError::Io { step, path: path.to_owned(), source: errno.into() };
        let not_regular = || ReadError::NotRegular { path: path.to_owned() };
        // The type is checked before opening, because opening a device or a pipe can have side
        // effects, and again after, because the file may have been replaced.
        let name = path.file_name().ok_or_else(not_regular)?;
        // The folder is opened once, so that what is reported about it is about the one in which
        // the file was opened.
        let within = path.parent().filter(|within| !within.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(within, flags, Mode::empty()).map_err(failed("open"))?;
        let of_folder = rustix::fs::fstat(&folder).map_err(failed("stat"))?;
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("open"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_regular());
        }
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::openat(&folder, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP => not_regular(),
            errno => failed("open")(errno),
        })?;
        let stat = rustix::fs::fstat(&file).map_err(failed("stat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_regular());
        }
        let mut words = [0; HEADER_WORDS];
        read_words(&file, 0, &mut words, path)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let header = Header::check(&words, size, path)?;
        let custody = Custody::of(&stat, &of_folder);
        Ok(Source { file, path: path.to_owned(), header, id: FileId::of(&stat), custody })
    }

    /// Fills `words` from byte `offset` on.
    pub(crate) fn read(&self, offset: usize, words: &mut [u64]) -> Result<(), ReadError> {
        read_words(&self.file, offset, words, &self.path)
    }

    /// Whether the path still leads to this file.
    pub(crate) fn is_current(&self) -> Result<bool, ReadError> {
        match rustix::fs::statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileId::of(&stat) == self.id),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(ReadError::Io { step: "stat", path: self.path.clone(), source: errno.into() }),
        }
    }
}

fn read_words(file: &OwnedFd, offset: usize, words: &mut [u64], path: &Path) -> Result<(), ReadError> {
    // Reads into aligned words, so that the kernel copies each of them whole. SAFETY: `u64` has no
    // padding and every byte pattern is a valid one; the slice covers exactly the words' bytes.
    let bytes =
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), size_of_val(words)) };
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pread(file, &mut bytes[done..], (offset + done) as u64) {
            Ok(0) => {
                let wanted = (offset + bytes.len()) as u64;
                return Err(ReadError::Truncated { path: path.to_owned(), wanted });
            }
            Ok(some) => done += some,
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(ReadError::Io { step: "read", path: path.to_owned(), source: errno.into() });
            }
        }
    }
    for word in words {
        *word = u64::from_le(*word);
    }
    Ok(())
}
