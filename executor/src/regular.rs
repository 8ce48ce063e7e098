//! Files whose path comes from outside. The path may name anything: only a regular file is opened,
//! and opening never waits.
//!
//! A pipe, a terminal or a device delivers whatever it likes, for as long as it likes. Some devices
//! act as soon as they are opened.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens the regular file at `path` for reading.
///
/// # Errors
/// If there is none, or it is of another kind, which the error names.
pub fn open(path: &Path) -> io::Result<File> {
    // Checked before opening: opening a device can have effects.
    check(std::fs::metadata(path)?.file_type())?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // Another file may have taken its place meanwhile; opening that without waiting did no harm.
    check(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads the regular file at `path`, of at most `most` bytes.
///
/// # Errors
/// If it cannot be opened or read, or is larger, even if it grows while it is read.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it holds more than {most} bytes")));
    }
    Ok(bytes)
}

fn check(kind: FileType) -> io::Result<()> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("link")).unwrap();
        for (path, said) in [
            (at("pipe"), "it is a pipe"),
            (at("socket"), "it is a socket"),
            (at("link"), "it is a device"),
            ("/dev/tty".into(), "it is a device"),
            (at("loop"), "symbolic links"),
            (folder.path().to_owned(), "directory"),
            (at("absent"), "No such file"),
        ] {
            let error = open(&path).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("link to it")).unwrap();
        assert_eq!(read(&at("link to it"), 4).unwrap(), b"text");
        assert!(read(&at("file"), 3).unwrap_err().to_string().contains("more than 3 bytes"));
    }
}
