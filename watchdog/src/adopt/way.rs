//! The path to a segment: no other user may be able to change a folder or a link on it, or the
//! sidecar could be led to another file between two observations.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::own_folder::names;

/// Mode bits that let group and others change the contents of a folder.
const WRITABLE: u32 = 0o022;
/// In a folder with this bit, nobody can rename or remove another user's files.
const STICKY: u32 = 0o1000;
/// As many links as the kernel follows in one path.
const MOST_LINKS: u32 = 40;

/// A part of the path that another user can change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Group or others may write the folder.
    Open { path: String, mode: u32 },
    /// A folder or a link belongs to another user.
    Owner { path: String, owner: u32 },
}

/// Walks from `/` to `folder`, one name at a time. It ignores what it cannot walk: opening the file
/// reports the reason.
pub(super) fn check(folder: &Path, trusted: impl Fn(u32) -> bool) -> Result<(), Way> {
    let Ok(absolute) = std::path::absolute(folder) else { return Ok(()) };
    let mut left = names(&absolute);
    let mut shown = PathBuf::from("/");
    let Ok(mut here) = open_root() else { return Ok(()) };
    let mut links = 0;
    while let Some(name) = left.pop() {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(next) = rustix::fs::openat(&here, name.as_os_str(), flags, Mode::empty()) else {
            return Ok(());
        };
        let Ok(stat) = rustix::fs::fstat(&next) else { return Ok(()) };
        shown.push(&name);
        let path = || shown.display().to_string();
        if !trusted(stat.st_uid) {
            return Err(Way::Owner { path: path(), owner: stat.st_uid });
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            links += 1;
            let Ok(leads_to) = rustix::fs::readlinkat(&next, "", Vec::new()) else { return Ok(()) };
            if links > MOST_LINKS {
                return Ok(());
            }
            let leads_to = PathBuf::from(OsString::from_vec(leads_to.into_bytes()));
            shown.pop();
            if leads_to.is_absolute() {
                let Ok(root) = open_root() else { return Ok(()) };
                (here, shown) = (root, PathBuf::from("/"));
            }
            left.extend(names(&leads_to));
            continue;
        }
        if is_open(&stat) {
            return Err(Way::Open { path: path(), mode: stat.st_mode & 0o7777 });
        }
        here = next;
    }
    Ok(())
}

fn open_root() -> Result<rustix::fd::OwnedFd, Errno> {
    rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

const fn is_open(stat: &Stat) -> bool {
    stat.st_mode & WRITABLE != 0 && stat.st_mode & STICKY == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_on_the_way_that_others_may_write_is_named() {
        let top = tempfile::tempdir().unwrap();
        let (up, run) = (top.path().join("up"), top.path().join("up/run"));
        std::fs::create_dir_all(&run).unwrap();
        assert_eq!(check(&run, |_| true), Ok(()));
        std::fs::set_permissions(&up, std::fs::Permissions::from_mode(0o777)).unwrap();
        let path = up.display().to_string();
        assert_eq!(check(&run, |_| true), Err(Way::Open { path, mode: 0o777 }));
        std::fs::set_permissions(&up, std::fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(check(&run, |_| true), Ok(()));
    }

    #[test]
    fn where_a_link_leads_is_walked_too_and_it_must_be_nobody_elses() {
        let top = tempfile::tempdir().unwrap();
        let (real, link) = (top.path().join("real"), top.path().join("link"));
        std::fs::create_dir_all(real.join("run")).unwrap();
        symlink("real", &link).unwrap();
        assert_eq!(check(&link.join("run"), |_| true), Ok(()));
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(check(&link.join("run"), |_| true), Err(Way::Open { .. })));
        let told = check(&link.join("run"), |_| false);
        assert!(matches!(told, Err(Way::Owner { .. })), "{told:?}");
        // A circular path and a missing one are left to whoever opens the file.
        symlink("circle", top.path().join("circle")).unwrap();
        assert_eq!(check(&top.path().join("circle"), |_| true), Ok(()));
        assert_eq!(check(&top.path().join("nowhere"), |_| true), Ok(()));
    }
}
