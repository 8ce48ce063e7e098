//! Small files that outlive the sidecar, in its evidence directory.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::own_folder::Place;

/// The content of such files stays far below this.
const LARGEST: u64 = 64 << 10;
/// The same for near misses, of which each has some KiB.
const LARGER: u64 = 1 << 20;

/// Reads `name` in `evidence`; `None` if there is none.
///
/// # Errors
/// Any error of the disk, or if the file belongs to another user or has the wrong content.
pub fn read<T: DeserializeOwned>(evidence: &Place, name: &str) -> io::Result<Option<T>> {
    read_up_to(evidence, name, LARGEST)
}

/// The same for a file with evidence in it.
///
/// # Errors
/// As [`read`].
pub fn read_larger<T: DeserializeOwned>(evidence: &Place, name: &str) -> io::Result<Option<T>> {
    read_up_to(evidence, name, LARGER)
}

fn read_up_to<T: DeserializeOwned>(evidence: &Place, name: &str, bytes: u64) -> io::Result<Option<T>> {
    let Some(folder) = evidence.open()? else { return Ok(None) };
    let Some(text) = folder.read(name, bytes)? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Writes `name` in `evidence`, which is created if it does not exist. At every moment the old or
/// the new file is complete.
///
/// # Errors
/// Any error of the disk.
pub fn write<T: Serialize>(evidence: &Place, name: &str, content: &T) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(content)?;
    text.push(b'\n');
    evidence.make()?.write(name, &text)
}

/// Removes what a sidecar that was killed while it wrote these files left of them.
///
/// # Errors
/// Any error of the disk.
pub fn remove_unfinished(evidence: &Place, names: &[&str]) -> io::Result<()> {
    let Some(folder) = evidence.open()? else { return Ok(()) };
    folder.remove_unfinished(names).map(|_| ())
}

/// Removes `name` in `evidence`, if it exists.
///
/// # Errors
/// Any error of the disk.
pub fn remove(evidence: &Place, name: &str) -> io::Result<()> {
    let Some(folder) = evidence.open()? else { return Ok(()) };
    folder.remove(name)?;
    folder.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::Arc;

    #[test]
    fn what_was_written_is_read_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let inside = Place::new(folder.path().join("new"), Arc::default());
        assert_eq!(read::<Vec<u32>>(&inside, "a.json").unwrap(), None);
        write(&inside, "a.json", &vec![1, 2]).unwrap();
        write(&inside, "a.json", &vec![3]).unwrap();
        assert_eq!(read::<Vec<u32>>(&inside, "a.json").unwrap(), Some(vec![3]));
        remove(&inside, "a.json").unwrap();
        remove(&inside, "a.json").unwrap();
        assert_eq!(fs::read_dir(inside.path()).unwrap().count(), 0);
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
        fs::set_permissions(at.join("open"), fs::Permissions::from_mode(0o660)).unwrap();
        fs::write(at.join("garbage"), "[1").unwrap();
        let place = Place::new(at.to_owned(), Arc::default());
        for name in ["link", "folder", "large", "open", "garbage"] {
            assert!(read::<Vec<u32>>(&place, name).is_err(), "{name}");
        }
    }
}
