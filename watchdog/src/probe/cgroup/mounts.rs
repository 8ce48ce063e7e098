//! What is mounted where, from `/proc/PID/mountinfo` (proc_pid_mountinfo(5)). Read as bytes: one
//! mount whose path is not text must not hide all others.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// At most this many bytes of the file are read: machines with many containers have tens of
/// thousands of mounts.
const LIMIT: u64 = 16 << 20;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The folder of its file system that is visible at `point`. In a cgroup mount, the cgroup.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Type of the file system.
    pub kind: Vec<u8>,
    /// Options of the file system as a whole.
    options: Vec<u8>,
}

/// The mounts of the process whose folder in `/proc` is `proc_dir`, in the order in which they were
/// made. Empty if they cannot be read; malformed lines are skipped.
pub fn read(proc_dir: &Path) -> Vec<Mount> {
    let mut text = Vec::new();
    // Use whatever was read before an error.
    let _ = std::fs::File::open(proc_dir.join("mountinfo"))
        .and_then(|file| file.take(LIMIT).read_to_end(&mut text));
    text.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect()
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        // Any number of optional fields, terminated by a hyphen.
        let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { root: path(root), point: path(point), kind: kind.to_vec(), options: options.to_vec() })
    }

    /// The value of an option of the file system; empty for an option without a value.
    pub fn option(&self, name: &str) -> Option<&[u8]> {
        self.options.split(|byte| *byte == b',').find_map(|option| {
            let rest = option.strip_prefix(name.as_bytes())?;
            if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"=") }
        })
    }
}

/// Blanks, tabs, newlines and backslashes are escaped as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let digits =
            behind.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(u8::is_ascii_digit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_whose_path_is_no_text_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let text: &[u8] = b"31 28 0:5 / /mnt/\xd0\xb8\xd1 rw - ext4 /dev/\xff rw\n\
                            garbage\n32 28 0:29 /a\\040b /sys/fs/cgroup/c\\134d rw shared:4 master:1 - cgroup cgroup rw,cpu,name=x\n";
        std::fs::write(folder.path().join("mountinfo"), text).unwrap();
        let mounts = read(folder.path());
        assert_eq!(mounts.len(), 2, "{mounts:?}");
        assert_eq!(mounts[1].root, Path::new("/a b"));
        assert_eq!(mounts[1].point, Path::new("/sys/fs/cgroup/c\\d"));
        assert_eq!(mounts[1].kind, b"cgroup");
        assert_eq!(mounts[1].option("cpu"), Some(b"".as_slice()));
        assert_eq!(mounts[1].option("name"), Some(b"x".as_slice()));
        assert_eq!(mounts[1].option("cp"), None);
    }

    #[test]
    fn what_cannot_be_read_is_no_mount() {
        assert_eq!(read(Path::new("/nonexistent")), []);
        // Not three digits, or not a byte: taken literally.
        assert_eq!(path(b"/a\\04"), Path::new("/a\\04"));
        assert_eq!(path(b"/a\\999"), Path::new("/a\\999"));
    }
}
