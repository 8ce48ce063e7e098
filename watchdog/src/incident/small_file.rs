//! Small files that outlive the sidecar: read within a bound and through no link, written so that the old or the new one is whole at
//! every moment.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// As that of evidence.
const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;
/// What is kept in such files stays far below this.
const LARGEST: u64 = 64 << 10;

/// Reads `name` in `folder`; `None` if there is none.
///
/// # Errors
/// Whatever the disk says, and if it is somebody else's, or not what it should be.
pub fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> io::Result<Option<T>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(folder.join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(io::Error::other("it is no small regular file"));
    }
    if metadata.uid() != own && metadata.uid() != 0 || metadata.mode() & 0o002 != 0 {
        return Err(io::Error::other("others than the sidecar's user may write it"));
    }
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Writes `name` in `folder`, which is made if it is not there.
///
/// # Errors
/// Whatever the disk says.
pub fn write<T: Serialize>(folder: &Path, name: &str, content: &T) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(content)?;
    text.push(b'\n');
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    let unfinished = folder.join(format!(".{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&unfinished)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&unfinished, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// Removes `name` in `folder`, if it is there.
///
/// # Errors
/// Whatever the disk says.
pub fn remove(folder: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(folder.join(name)) {
        Ok(()) => File::open(folder)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_was_written_is_read_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("new");
        assert_eq!(read::<Vec<u32>>(&inside, "a.json").unwrap(), None);
        write(&inside, "a.json", &vec![1, 2]).unwrap();
        write(&inside, "a.json", &vec![3]).unwrap();
        assert_eq!(read::<Vec<u32>>(&inside, "a.json").unwrap(), Some(vec![3]));
        remove(&inside, "a.json").unwrap();
        remove(&inside, "a.json").unwrap();
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0);
    }

    #[test]
    fn links_folders_large_files_and_those_that_others_may_write_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::write(at.join("real"), "[1]").unwrap();
        symlink(at.join("real"), at.join("link")).unwrap();
        fs::create_dir(at.join("folder")).unwrap();
        fs::write(at.join("large"), vec![b' '; 100_000]).unwrap();
        fs::write(at.join("open"), "[1]").unwrap();
        fs::set_permissions(at.join("open"), fs::Permissions::from_mode(0o666)).unwrap();
        fs::write(at.join("garbage"), "[1").unwrap();
        for name in ["link", "folder", "large", "open", "garbage"] {
            assert!(read::<Vec<u32>>(at, name).is_err(), "{name}");
        }
    }
}
