//! The long-term recordings of one shard on disk: one file per day and life of the sidecar, within
//! a limit of days and bytes. Only the archive's thread uses it: any call may take as long as the
//! disk does.

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

/// A file takes at most this fraction of all bytes (an eighth), so that deleting the oldest leaves
/// most of the past.
const LARGEST_SHARE: u64 = 8;
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// The part of a file name between the shard and `.recording`; `0` stands for any digit.
const SHAPE: &[u8] = b"00000000T000000000Z";

/// The folder of recordings.
#[derive(Debug)]
pub(super) struct Shelf {
    place: Place,
    prefix: String,
    keep_days: u32,
    keep_bytes: u64,
    /// File names and sizes, oldest first.
    files: VecDeque<(String, u64)>,
    open: Option<(File, i64)>,
    /// Files deleted so far to stay within the limits.
    pub(super) removed: u64,
}

impl Shelf {
    /// Does not touch the disk yet.
    pub(super) fn new(config: &RecorderConfig, shard: &str, target: Arc<TargetUser>) -> Self {
        // A shard's label may contain a slash; a file name may not.
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

    /// Path of the folder.
    pub(super) fn directory(&self) -> &Path {
        self.place.path()
    }

    /// Number of files, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.files.len() as u64, self.files.iter().map(|(_, bytes)| bytes).sum())
    }

    /// Finds the files of earlier lives of the sidecar.
    ///
    /// # Errors
    /// If the folder cannot be created or listed.
    pub(super) fn load(&mut self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in self.place.make()?.entries()? {
            let Some(name) = entry.name.to_str().filter(|name| self.is_ours(name)) else { continue };
            // No links: others' files are not ours to delete.
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

    /// Appends `part` to the file for the day of `now`; a new file begins with `beginning`.
    ///
    /// # Errors
    /// Any error of the disk. The file is then closed: nothing is ever written after a part that
    /// may be incomplete.
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

    /// Removes a file that has only its beginning: it is useless, and a full disk would get another
    /// one at each attempt.
    fn drop_empty(&mut self, folder: &OwnFolder, beginning: u64) {
        if let Some((name, _)) = self.files.pop_back_if(|(_, bytes)| *bytes == beginning) {
            let _ = folder.remove(name);
        }
    }

    fn begin(&mut self, folder: &OwnFolder, now: Timestamp, day: i64, beginning: &[u8]) -> io::Result<()> {
        let name = self.name(now);
        let mut file = folder.create(&name)?;
        if let Err(error) = file.write_all(beginning) {
            // It is unreadable and would only count as one more file.
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

    /// Syncs the current file to disk and closes it.
    pub(super) fn close(&mut self) {
        if let Some((file, _)) = self.open.take() {
            // If this fails, there is nothing left to try.
            let _ = file.sync_all();
        }
    }

    /// Deletes the oldest files until `more` bytes fit, and every file that was completed too long
    /// ago.
    fn prune(&mut self, folder: &OwnFolder, now: Timestamp, more: u64) {
        let oldest = now.checked_sub(DAY.saturating_mul(self.keep_days)).map(|oldest| self.name(oldest));
        loop {
            let bytes: u64 = self.files.iter().map(|(_, bytes)| bytes).sum();
            // A file was completed when the next one began.
            let over = |next: &(String, u64)| oldest.as_ref().is_ok_and(|oldest| next.0 < *oldest);
            let too_old = self.files.get(1).is_some_and(over);
            if !too_old && bytes.saturating_add(more) <= self.keep_bytes {
                return;
            }
            // The file being written stays.
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
        // A part larger than the whole limit is a configuration mistake; it is written all the
        // same, alone.
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
