//! The proof that a process maps a segment: its `maps` shows the same inode on the same device.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use shard_heartbeat::FileId;

use crate::probe::task::TaskDir;

/// At most this much of `maps` is read: a hostile process may map millions of separate pages.
pub(super) const MAPS_LIMIT: u64 = 64 << 20;

/// How a process maps the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// Shared and writable, as its writer does.
    Writes,
    /// In any other way.
    Reads,
}

/// A file as `maps` shows it. On some file systems (btrfs, overlay) `stat` gives another device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Major and minor number of the device.
    pub(super) device: (u32, u32),
    /// Inode number.
    pub(super) inode: u64,
}

/// Where the segment was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// How it is mapped there.
    pub(super) how: Mapping,
    /// Address of its first byte.
    pub(super) start: u64,
    /// The file mapped there.
    pub(super) shown: Shown,
}

/// How the process of that folder maps `file`, whose path is `path`; `None` if it does not.
pub(super) fn of(dir: &TaskDir, file: FileId, path: &Path) -> Result<Option<Mapping>, Errno> {
    Ok(find_at(dir.lines("maps", MAPS_LIMIT)?, file, path).map(|found| found.how))
}

/// Where the process with these lines of `maps` maps `file`.
pub(super) fn find_at(lines: impl Iterator<Item = Vec<u8>>, file: FileId, path: &Path) -> Option<Found> {
    let full = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    // This is how the kernel writes a newline in a path; it changes nothing else.
    let full: Vec<u8> = full.as_os_str().as_bytes().iter().flat_map(escaped).copied().collect();
    let device = (file.dev_major, file.dev_minor);
    find(lines, Shown { device, inode: file.inode }, Some(&full))
}

/// Where a process now maps the file that its `maps` showed as `shown` before. No path is used: a
/// file that was unlinked or renamed since is still mapped, and looking up a path uses a file
/// system, which can hang.
pub(super) fn find_again(lines: impl Iterator<Item = Vec<u8>>, shown: Shown) -> Option<Found> {
    find(lines, shown, None)
}

/// On file systems that show another device in `maps` than in `stat` (btrfs, overlay), a file is
/// recognized by inode and path, if a path is given.
fn find(lines: impl Iterator<Item = Vec<u8>>, sought: Shown, path: Option<&[u8]>) -> Option<Found> {
    let device = format!("{:02x}:{:02x}", sought.device.0, sought.device.1);
    let inode = sought.inode.to_string();
    let mut found = None;
    for line in lines {
        let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
        let (place, rights) = (fields.next(), fields.next());
        let (its_device, its_inode) = (fields.nth(1), fields.next());
        if its_inode != Some(inode.as_bytes()) {
            continue;
        }
        if its_device != Some(device.as_bytes()) && !path.is_some_and(|path| line.ends_with(path)) {
            continue;
        }
        let Some((start, device)) = place.and_then(first_address).zip(its_device.and_then(numbers)) else {
            continue;
        };
        let shown = Shown { device, inode: sought.inode };
        if rights.is_some_and(|rights| rights.get(1) == Some(&b'w') && rights.get(3) == Some(&b's')) {
            return Some(Found { how: Mapping::Writes, start, shown });
        }
        found = Some(Found { how: Mapping::Reads, start, shown });
    }
    found
}

/// The first number of `7f00-7f10`.
fn first_address(place: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(place).ok()?.split('-').next()?, 16).ok()
}

/// Both numbers of `08:1f`.
fn numbers(device: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
    Some((u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?))
}

fn escaped(byte: &u8) -> &[u8] {
    if *byte == b'\n' { b"\\012" } else { std::slice::from_ref(byte) }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    const FILE: FileId = FileId { dev_major: 0, dev_minor: 0x1f, inode: 42 };

    fn lines(maps: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        maps.split(|byte| *byte == b'\n').map(<[u8]>::to_vec)
    }

    fn found(maps: &[u8], path: &[u8]) -> Option<Mapping> {
        let found = find_at(lines(maps), FILE, Path::new(OsStr::from_bytes(path)))?;
        assert_eq!((found.start, found.shown.inode), (0x7f00, 42));
        Some(found.how)
    }

    #[test]
    fn the_inode_and_the_device_are_the_proof_and_the_rights_say_who_writes() {
        let line = |rights: &str, device: &str, inode: u32, path: &str| {
            format!("7f00-7f10 {rights} 00000000 {device} {inode}                  {path}\n").into_bytes()
        };
        assert_eq!(found(&line("rw-s", "00:1f", 42, "/run/0"), b"/run/0"), Some(Mapping::Writes));
        assert_eq!(found(&line("r--s", "00:1f", 42, "/run/0"), b"/run/0"), Some(Mapping::Reads));
        assert_eq!(found(&line("rw-p", "00:1f", 42, "/run/0"), b"/run/0"), Some(Mapping::Reads));
        let both = [line("r--s", "00:1f", 42, "/run/0"), line("rw-s", "00:1f", 42, "/run/0")].concat();
        assert_eq!(found(&both, b"/run/0"), Some(Mapping::Writes));
        assert_eq!(found(&line("rw-s", "00:20", 42, "/run/0"), b"/run/0"), Some(Mapping::Writes), "btrfs");
        assert_eq!(found(&line("rw-s", "00:20", 42, "/run/1"), b"/run/0"), None);
        assert_eq!(found(&line("rw-s", "00:1f", 43, "/run/0"), b"/run/0"), None);
        assert_eq!(found(b"", b"/run/0"), None);
    }

    #[test]
    fn what_was_found_is_found_again_after_it_was_unlinked_or_renamed_whatever_stat_says_of_its_device() {
        let before = b"7f00-7f10 rw-s 00000000 00:20 42   /nowhere/0\n";
        let shown = find_at(lines(before), FILE, Path::new("/nowhere/0")).unwrap().shown;
        for after in ["00:20 42   /nowhere/0 (deleted)", "00:20 42   /nowhere/1", "00:20 42   /nowhere/0"] {
            let after = format!("7e00-7e10 rw-s 00000000 {after}\n").into_bytes();
            let expected = Found { how: Mapping::Writes, start: 0x7e00, shown };
            assert_eq!(find_again(lines(&after), shown), Some(expected));
        }
        for other in ["00:20 43   /nowhere/0", "00:1f 42   /nowhere/0"] {
            let other = format!("7e00-7e10 rw-s 00000000 {other}\n").into_bytes();
            assert_eq!(find_again(lines(&other), shown), None, "the name makes it no other file");
        }
    }

    #[test]
    fn a_path_that_is_no_text_neither_hides_the_segment_nor_is_mistaken() {
        let other = b"7e00-7e10 r-xp 00000000 08:01 7   /opt/\xd0\xb8\xd1\n\xff\xff\n".as_slice();
        let ours = b"7f00-7f10 rw-s 00000000 00:20 42   /run/a b/\xff\\012x\n".as_slice();
        assert_eq!(found(&[other, ours].concat(), b"/run/a b/\xff\nx"), Some(Mapping::Writes));
        assert_eq!(found(&[other, ours].concat(), b"/run/a b/\xfe\nx"), None);
    }
}
