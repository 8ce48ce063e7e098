//! The long-term recordings of one shard on the disk: one file a day and life of the sidecar,
//! within a limit of days and bytes. Only the archive's thread comes here: any call may take as
//! long as the disk does.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::FileType;

use crate::config::RecorderConfig;
use crate::own_folder::target_user::TargetUser;
use crate::own_folder::{OwnFolder, Place};

/// A file takes at most this part of all bytes, so that the oldest one can go without most of the
/// past.
const LARGEST_SHARE: u64 = 8;
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// What stands between the shard and `.recording` in a name: digits for `0`, the rest as it is.
const SHAPE: &[u8] = b"00000000T000000000Z";

/// The folder.
#[derive(Debug)]
pub(super) struct Shelf {
    place: Place,
    prefix: String,
    keep_days: u32,
    keep_bytes: u64,
    /// Names and sizes, oldest first.
    files: VecDeque<(String, u64)>,
    open: Option<(File, i64)>,
    /// Files deleted so far to keep the limits.
    pub(super) removed: u64,
}

impl Shelf {
    /// Touches nothing yet.
    pub(super) fn new(config: &RecorderConfig, shard: &str, target: Arc<TargetUser>) -> Self {
        // A shard's label may hold a slash; the name of a file may not.
        let plain = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' };
        Self {
            place: Place::new(config.directory.clone(), target),
            prefix: format!("{}.", shard.chars().map(plain).collect::<String>()),
            keep_days: config.keep_days,
            keep_bytes: config.keep_bytes,
            files: VecDeque::new(),
            open: None,
            removed: 0,
        }
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        self.place.path()
    }

    /// Files on it, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.files.len() as u64, self.files.iter().map(|(_, bytes)| bytes).sum())
    }

    /// Finds what earlier lives of the sidecar left.
    ///
    /// # Errors
    /// If the folder cannot be made or listed.
    pub(super) fn load(&mut self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in self.place.make()?.entries()? {
            let Some(name) = entry.name.to_str().filter(|name| self.is_ours(name)) else { continue };
            // Not a link: somebody else's files are not ours to delete.
            if entry.kind == FileType::RegularFile {
                files.push((name.to_owned(), entry.bytes));
            }
        }
        files.sort();
        self.files = files.into();
        self.open = None;
        Ok(())
    }

    fn is_ours(&self, name: &str) -> bool {
        let middle = name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_suffix(".recording"));
        middle.is_some_and(|middle| {
            let fits = |(byte, shape): (u8, &u8)| {
                if *shape == b'0' { byte.is_ascii_digit() } else { byte == *shape }
            };
            middle.len() == SHAPE.len() && middle.bytes().zip(SHAPE).all(fits)
        })
    }

    fn name(&self, at: Timestamp) -> String {
        format!("{}{}.recording", self.prefix, at.strftime("%Y%m%dT%H%M%S%3fZ"))
    }

    /// Appends `part` to the file of the day of `now`; a new file begins with `beginning`.
    ///
    /// # Errors
    /// Whatever the disk says. The file is closed then: nothing is ever written behind a part that
    /// may be half there.
    pub(super) fn append(&mut self, now: Timestamp, beginning: &[u8], part: &[u8]) -> io::Result<()> {
        let folder = self.place.make().inspect_err(|_| self.open = None)?;
        let day = now.as_second().div_euclid(24 * 3_600);
        let bytes = self.files.back().map_or(0, |(_, bytes)| *bytes);
        let full = bytes.saturating_add(part.len() as u64) > self.keep_bytes / LARGEST_SHARE;
        if self.open.as_ref().is_some_and(|(_, of)| *of != day || full) {
            self.close();
        }
        self.prune(&folder, now, part.len() as u64 + beginning.len() as u64);
        let written = if self.open.is_some() { Ok(()) } else { self.begin(&folder, now, day, beginning) };
        let written = written.and_then(|()| self.write(part));
        if written.is_err() && self.open.take().is_some() {
            self.drop_empty(&folder, beginning.len() as u64);
        }
        written
    }

    /// A file with nothing but its beginning is no use to anybody, and a full disk would get
    /// another one at each try.
    fn drop_empty(&mut self, folder: &OwnFolder, beginning: u64) {
        if let Some((name, _)) = self.files.pop_back_if(|(_, bytes)| *bytes == beginning) {
            let _ = folder.remove(name);
        }
    }

    fn begin(&mut self, folder: &OwnFolder, now: Timestamp, day: i64, beginning: &[u8]) -> io::Result<()> {
        let name = self.name(now);
        let mut file = folder.create(&name)?;
        if let Err(error) = file.write_all(beginning) {
            // Nobody can read it: it would only count as one more file.
            let _ = folder.remove(&name);
            return Err(error);
        }
        self.files.push_back((name, beginning.len() as u64));
        self.open = Some((file, day));
        Ok(())
    }

    fn write(&mut self, part: &[u8]) -> io::Result<()> {
        let Some(((file, _), (_, bytes))) = self.open.as_mut().zip(self.files.back_mut()) else {
            return Ok(());
        };
        file.write_all(part)?;
        *bytes = bytes.saturating_add(part.len() as u64);
        Ok(())
    }

    /// Brings the present file to the disk and ends it.
    pub(super) fn close(&mut self) {
        if let Some((file, _)) = self.open.take() {
            // What the disk does not take now it has refused to others before: nothing is left to
            // try.
            let _ = file.sync_all();
        }
    }

    /// Deletes the oldest files until `more` bytes have room, and those that are over for longer
    /// than may be.
    fn prune(&mut self, folder: &OwnFolder, now: Timestamp, more: u64) {
        let oldest = now.checked_sub(DAY.saturating_mul(self.keep_days)).map(|oldest| self.name(oldest));
        loop {
            let bytes: u64 = self.files.iter().map(|(_, bytes)| bytes).sum();
            // A file was over when the next one began.
            let over = |next: &(String, u64)| oldest.as_ref().is_ok_and(|oldest| next.0 < *oldest);
            let too_old = self.files.get(1).is_some_and(over);
            if !too_old && bytes.saturating_add(more) <= self.keep_bytes {
                return;
            }
            // The one that is being written stays.
            if self.files.len() <= usize::from(self.open.is_some()) {
                return;
            }
            let Some((name, _)) = self.files.pop_front() else { return };
            match folder.remove(&name) {
                Ok(()) => self.removed += 1,
                Err(error) => tracing::warn!(name, %error, "an old recording cannot be deleted"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn shelf(folder: &Path, keep_days: u32, keep_bytes: u64) -> Shelf {
        let config = RecorderConfig { directory: folder.join("recordings"), keep_days, keep_bytes };
        let mut shelf = Shelf::new(&config, "a/1", Arc::default());
        shelf.load().unwrap();
        shelf
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn names(shelf: &Shelf) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(shelf.directory())
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn each_day_has_a_file_and_old_days_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = shelf(folder.path(), 2, 1 << 20);
        fs::write(shelf.directory().join("a_1.20200101T000000000Z.notes"), "theirs").unwrap();
        for (time, part) in [
            ("2026-11-21T00:00:01Z", b"1"),
            ("2026-11-21T23:59:59Z", b"2"),
            ("2026-11-22T00:00:00Z", b"3"),
            ("2026-11-23T12:00:00Z", b"4"),
            ("2026-11-24T12:00:00Z", b"5"),
        ] {
            shelf.append(at(time), b"H", part).unwrap();
        }
        assert_eq!(
            names(&shelf),
            [
                "a_1.20200101T000000000Z.notes",
                "a_1.20261122T000000000Z.recording",
                "a_1.20261123T120000000Z.recording",
                "a_1.20261124T120000000Z.recording"
            ]
        );
        assert_eq!((shelf.removed, shelf.size()), (1, (3, 6)));
        assert_eq!(fs::read(shelf.directory().join("a_1.20261123T120000000Z.recording")).unwrap(), b"H4");
    }

    #[test]
    fn the_oldest_go_when_the_bytes_are_spent_and_never_the_one_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = shelf(folder.path(), 30, 800);
        for second in 0..40 {
            let now = Timestamp::from_second(1_700_000_000 + second).unwrap();
            shelf.append(now, b"H", &[7; 49]).unwrap();
        }
        let (files, bytes) = shelf.size();
        assert!(bytes <= 800 && files <= 8 && bytes >= 700, "{files} {bytes}");
        assert!(shelf.removed > 0);
        // A part larger than all of it is the user's own mistake; it is written all the same,
        // alone.
        shelf.append(Timestamp::from_second(1_700_000_100).unwrap(), b"H", &[7; 900]).unwrap();
        assert_eq!(shelf.size().0, 1);
    }

    #[test]
    fn another_life_finds_what_is_there_and_begins_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let now = at("2026-11-22T10:00:00Z");
        shelf(folder.path(), 7, 1 << 20).append(now, b"H", b"1").unwrap();
        let mut second = shelf(folder.path(), 7, 1 << 20);
        assert_eq!(second.size(), (1, 2));
        second.append(at("2026-11-22T10:00:01Z"), b"H", b"2").unwrap();
        assert_eq!(names(&second).len(), 2);
    }
}
