//! Folders in which the sidecar keeps files of its own, and what must hold before it trusts them.
//!
//! Whoever may write a folder can replace any name in it by a link at any moment. So nothing here
//! acts on a path twice. The path to the folder is walked once, one name at a time; everything
//! below it goes through the folder's descriptor. A file is read back only if it belongs to this
//! sidecar's user or to root.
//!
//! Not for the watch loop: every call may take as long as the disk does.

pub mod refusal;
pub mod target_user;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use refusal::Refusal;
use target_user::{TargetUser, User};

/// Evidence may show the contents of the target's memory: for owner and group only.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o750);
/// The mode of a file, for the same reason.
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
/// Write permission of group and others.
const WRITE_OF_OTHERS: u32 = 0o022;
/// As many links as the kernel follows in one path.
const MOST_LINKS: u32 = 40;
/// Our files are never nested deeper than this below a folder that is removed.
const DEEPEST: u32 = 8;

const ON_THE_WAY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Opening a pipe or a device must not block.
const READING: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
/// Never an existing file: somebody else may hold it open.
const NEW: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::APPEND)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Where such a folder is or will be. It is reopened for each operation, to notice if it was
/// replaced, or if it turns out that the target may write it.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    target: Arc<TargetUser>,
}

impl Place {
    /// The folder at `path`, which `target` must not be able to write. Does not touch the disk yet.
    pub const fn new(path: PathBuf, target: Arc<TargetUser>) -> Self {
        Self { path, target }
    }

    /// The folder `name` in it.
    pub fn below(&self, name: &str) -> Self {
        Self { path: self.path.join(name), target: Arc::clone(&self.target) }
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it; `None` if it does not exist.
    ///
    /// # Errors
    /// Any error of the disk, and a [`Refusal`] if it cannot be trusted.
    pub fn open(&self) -> io::Result<Option<OwnFolder>> {
        match walk(&self.path, false, self.target.get().as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Opens it, and creates it and any missing folder on the path to it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn make(&self) -> io::Result<OwnFolder> {
        walk(&self.path, true, self.target.get().as_ref())
    }
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, without a path.
    pub name: OsString,
    /// Its type; links are not followed.
    pub kind: FileType,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A folder found to be trustworthy, held by its descriptor.
#[derive(Debug)]
pub struct OwnFolder {
    fd: OwnedFd,
    /// Only for messages.
    path: PathBuf,
    target: Option<User>,
}

impl AsFd for OwnFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OwnFolder {
    /// Opens the folder `name` in it.
    ///
    /// # Errors
    /// Any error of the disk, and a [`Refusal`] if it is a link or cannot be trusted.
    pub fn folder(&self, name: &str) -> io::Result<Self> {
        let path = self.path.join(name);
        let fd =
            rustix::fs::openat(&self.fd, name, FOLDER, Mode::empty()).map_err(|errno| at(errno, &path))?;
        let target = self.target.clone();
        trust_folder(&fd, &rustix::fs::fstat(&fd)?, &path, Part::Folder, target.as_ref())?;
        Ok(Self { fd, path, target })
    }

    /// Opens the folder `name` in it, and creates it if it does not exist.
    ///
    /// # Errors
    /// As [`Self::folder`].
    pub fn make_folder(&self, name: &str) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.fd, name, FOLDER_MODE) {
            Ok(()) => rustix::fs::fsync(&self.fd)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(at(errno, &self.path.join(name))),
        }
        self.folder(name)
    }

    /// Reads the file `name`; `None` if it does not exist.
    ///
    /// # Errors
    /// Any error of the disk, and a [`Refusal`] if it is not a regular file of at most `largest`
    /// bytes that only the sidecar's user or root may write.
    pub fn read(&self, name: &str, largest: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(name, largest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(largest).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Opens the file `name` for reading; `None` if it does not exist.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn file(&self, name: &str, largest: u64) -> io::Result<Option<File>> {
        let path = self.path.join(name);
        let file = match rustix::fs::openat(&self.fd, name, READING, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(at(errno, &path)),
        };
        trust_file(&rustix::fs::fstat(&file)?, &path, largest)?;
        Ok(Some(file))
    }

    /// Writes the file `name` so that at every moment the old one or the new one is complete on
    /// disk.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn write(&self, name: &str, mut content: &[u8]) -> io::Result<()> {
        self.write_from(name, &mut content)
    }

    /// The same with what `content` gives until its end.
    ///
    /// # Errors
    /// Any error of the disk, and of `content`.
    pub fn write_from(&self, name: &str, content: &mut dyn io::Read) -> io::Result<()> {
        let unfinished = unfinished(name);
        // Left by an earlier life, or made by somebody else.
        self.remove(&unfinished)?;
        let written = self.create(&unfinished).and_then(|mut file| {
            io::copy(content, &mut file)?;
            file.sync_all()?;
            Ok(rustix::fs::renameat(&self.fd, &unfinished, &self.fd, name)?)
        });
        if written.is_err() {
            // The remainder would only take space from the next attempt.
            let _ = self.remove(&unfinished);
        }
        written?;
        self.sync()
    }

    /// Removes what a sidecar that was killed while it wrote these files left of them. Returns
    /// whether the folder is empty now.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn remove_unfinished(&self, names: &[&str]) -> io::Result<bool> {
        let mut empty = true;
        for entry in self.entries()? {
            if names.iter().any(|name| entry.name.as_bytes() == unfinished(name).as_bytes()) {
                self.remove(&entry.name)?;
            } else {
                empty = false;
            }
        }
        Ok(empty)
    }

    /// Creates a file to append to.
    ///
    /// # Errors
    /// Any error of the disk, and if the name exists already.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let created = rustix::fs::openat(&self.fd, name, NEW, FILE_MODE);
        created.map(File::from).map_err(|errno| at(errno, &self.path.join(name)))
    }

    /// Removes the file or link `name`, if it exists.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name.as_ref(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(at(errno, &self.path.join(name.as_ref()))),
        }
    }

    /// Removes the folder `name` with everything in it. Links in it are removed, and what they
    /// point to stays.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn remove_folder(&self, name: &str) -> io::Result<()> {
        remove_all(self.fd.as_fd(), OsStr::new(name), DEEPEST).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.join(name).display()))
        })
    }

    /// Lists the folder.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        entries(self.fd.as_fd())
    }

    /// Metadata of `name`, without following it; `None` if it does not exist.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn look(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Syncs the names in it to disk.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

/// The name of a file until it is complete.
fn unfinished(name: &str) -> String {
    format!(".{name}.new")
}

/// Walks from `/` to `path`, one name at a time, and checks each folder on the way.
fn walk(path: &Path, make: bool, target: Option<&User>) -> io::Result<OwnFolder> {
    let absolute = std::path::absolute(path)?;
    let root = || rustix::fs::openat(CWD, "/", ON_THE_WAY | OFlags::DIRECTORY, Mode::empty());
    let (mut here, mut shown) = (root()?, PathBuf::from("/"));
    let mut left = names(&absolute);
    let mut links = 0;
    trust_folder(&here, &rustix::fs::fstat(&here)?, &shown, Part::OnTheWay, target)?;
    while let Some(name) = left.pop() {
        let next = match rustix::fs::openat(&here, name.as_os_str(), ON_THE_WAY, Mode::empty()) {
            Err(Errno::NOENT) if make => {
                match rustix::fs::mkdirat(&here, name.as_os_str(), FOLDER_MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(at(errno, &shown.join(&name))),
                }
                rustix::fs::openat(&here, name.as_os_str(), ON_THE_WAY, Mode::empty())
            }
            opened => opened,
        };
        let next = next.map_err(|errno| at(errno, &shown.join(&name)))?;
        let stat = rustix::fs::fstat(&next)?;
        shown.push(&name);
        let last = left.is_empty();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink if last => return Err(Refusal::Link(shown).into()),
            FileType::Symlink => {
                // Its owner may redirect it, even in a folder like /tmp.
                trust_owner(&stat, &shown, Part::OnTheWay)?;
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let leads_to = rustix::fs::readlinkat(&next, "", Vec::new())?;
                let leads_to = PathBuf::from(OsStr::from_bytes(leads_to.as_bytes()));
                shown.pop();
                if leads_to.is_absolute() {
                    (here, shown) = (root()?, PathBuf::from("/"));
                }
                left.extend(names(&leads_to));
            }
            FileType::Directory => {
                let part = if last { Part::Folder } else { Part::OnTheWay };
                trust_folder(&next, &stat, &shown, part, target)?;
                here = next;
            }
            _ => return Err(Refusal::NotAFolder(shown).into()),
        }
    }
    let fd = rustix::fs::openat(&here, ".", FOLDER, Mode::empty()).map_err(|errno| at(errno, &shown))?;
    Ok(OwnFolder { fd, path: path.to_owned(), target: target.cloned() })
}

/// The names in a path, last one first.
pub(crate) fn names(path: &Path) -> Vec<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    OnTheWay,
    Folder,
}

fn trust_owner(stat: &Stat, path: &Path, part: Part) -> Result<(), Refusal> {
    let own = rustix::process::geteuid().as_raw();
    let unmapped = part == Part::OnTheWay && shard_heartbeat::is_unmapped(stat.st_uid, Path::new("/proc"));
    if stat.st_uid == own || stat.st_uid == 0 || unmapped {
        return Ok(());
    }
    Err(Refusal::Foreign { path: path.to_owned(), owner: stat.st_uid, own })
}

fn trust_folder(
    fd: &OwnedFd,
    stat: &Stat,
    path: &Path,
    part: Part,
    target: Option<&User>,
) -> Result<(), Refusal> {
    trust_owner(stat, path, part)?;
    let Some(target) = target else { return Ok(()) };
    // In a sticky folder on the way, such as /tmp, only the owner of a name can replace it, and
    // that owner is checked next.
    let sticky = part == Part::OnTheWay && stat.st_mode & libc::S_ISVTX != 0;
    if !sticky && target.may_write(stat, || target_user::has_list(fd.as_fd())) {
        return Err(Refusal::TargetMayWrite { path: path.to_owned(), target: target.uid() });
    }
    Ok(())
}

fn trust_file(stat: &Stat, path: &Path, largest: u64) -> Result<(), Refusal> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::NotAFile(path.to_owned()));
    }
    trust_owner(stat, path, Part::Folder)?;
    if stat.st_mode & WRITE_OF_OTHERS != 0 {
        return Err(Refusal::Writable { path: path.to_owned(), mode: stat.st_mode & 0o7777 });
    }
    if u64::try_from(stat.st_size).is_ok_and(|bytes| bytes <= largest) {
        Ok(())
    } else {
        Err(Refusal::TooLarge { path: path.to_owned(), largest })
    }
}

fn at(errno: Errno, path: &Path) -> io::Error {
    match errno {
        // The kernel's error for a link where none is followed.
        Errno::LOOP => Refusal::Link(path.to_owned()).into(),
        errno => {
            let error = io::Error::from(errno);
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        }
    }
}

fn entries(folder: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for item in Dir::read_from(folder)? {
        let item = item?;
        let name = OsStr::from_bytes(item.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        // If it has just been removed, it is not listed.
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        entries.push(Entry {
            name: name.to_owned(),
            kind: FileType::from_raw_mode(stat.st_mode),
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
        });
    }
    Ok(entries)
}

fn remove_all(folder: BorrowedFd<'_>, name: &OsStr, depth: u32) -> io::Result<()> {
    let inside = match rustix::fs::openat(folder, name, FOLDER, Mode::empty()) {
        Ok(inside) => inside,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    for entry in entries(inside.as_fd())? {
        if entry.kind == FileType::Directory && depth > 0 {
            remove_all(inside.as_fd(), &entry.name, depth - 1)?;
        } else {
            rustix::fs::unlinkat(&inside, entry.name.as_os_str(), AtFlags::empty())?;
        }
    }
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
#[path = "own_folder/tests.rs"]
mod tests;
