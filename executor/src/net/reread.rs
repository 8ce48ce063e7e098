//! The content of files, read again whenever they change: a process lives for months, a certificate
//! for days.
//!
//! A thread of its own does all the reading, so that a disk that does not answer delays nothing
//! else.

use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the files are checked. Certificates are renewed hours before they expire, so a second
/// more or less does not matter.
const LOOK: Duration = Duration::from_secs(1);

/// The current content of some files.
#[derive(Debug)]
pub(crate) struct Reread<T>(Arc<Mutex<Arc<T>>>);

impl<T> Clone for Reread<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + Sync + 'static> Reread<T> {
    /// Reads `files` with `read`, and again whenever one of them has changed. A later version that
    /// cannot be used is reported in the log under the name `what`, and changes nothing.
    ///
    /// # Errors
    /// If they cannot be read now, or the thread cannot be started.
    pub(crate) fn start<E>(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, E> + Send + 'static,
    ) -> Result<Self, E>
    where
        E: Display + From<std::io::Error>,
    {
        // Taken before the files are read: a change in between is then read again.
        let prints = prints(&files);
        let this = Self(Arc::new(Mutex::new(Arc::new(read()?))));
        let held = Arc::downgrade(&this.0);
        let mut state = State { prints, trouble: None };
        std::thread::Builder::new().name("net-files".to_owned()).spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                // Nobody uses the content any more.
                let Some(held) = held.upgrade() else { return };
                let Some(read) = state.look(what, &files, &read) else { continue };
                *held.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
            }
        })?;
        Ok(this)
    }

    /// The current content.
    pub(crate) fn now(&self) -> Arc<T> {
        // Locked only while a pointer is copied.
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What distinguishes one version of a file from the next.
type Print = Option<(u64, u64, u64, i64, i64)>;

fn prints(files: &[PathBuf]) -> Vec<Print> {
    let print = |path: &PathBuf| {
        // By path every time: a renewal may replace the file, or redirect a link.
        let at = std::fs::metadata(Path::new(path)).ok()?;
        Some((at.dev(), at.ino(), at.size(), at.mtime(), at.mtime_nsec()))
    };
    files.iter().map(print).collect()
}

struct State {
    prints: Vec<Print>,
    /// Why the last attempt to read failed. It is repeated until it succeeds: of two files, one may
    /// be renewed a moment before the other.
    trouble: Option<String>,
}

impl State {
    /// The new content, if a file has changed.
    fn look<T, E: Display>(
        &mut self,
        what: &'static str,
        files: &[PathBuf],
        read: &impl Fn() -> Result<T, E>,
    ) -> Option<T> {
        let prints = prints(files);
        if prints == self.prints && self.trouble.is_none() {
            return None;
        }
        self.prints = prints;
        match read() {
            Ok(read) => {
                self.trouble = None;
                tracing::info!(what, "read again, and in force from now on");
                Some(read)
            }
            Err(error) => {
                let error = error.to_string();
                if self.trouble.as_ref() != Some(&error) {
                    tracing::warn!(
                        what,
                        error,
                        "changed and cannot be used; what was read before stays in force"
                    );
                }
                self.trouble = Some(error);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(path: &Path) -> Result<u32, std::io::Error> {
        std::fs::read_to_string(path)?.trim().parse().map_err(std::io::Error::other)
    }

    #[test]
    fn a_change_is_seen_once_and_what_cannot_be_used_is_tried_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let files = [path.clone()];
        let read = || number(&path);
        let mut state = State { prints: prints(&files), trouble: None };
        let mut look = || state.look("a number", &files, &read);
        assert_eq!(look(), None, "nothing has changed");
        // Replaces the file as renewals do: its timestamps need not change.
        let replace = |text: &str| {
            std::fs::write(folder.path().join("new"), text).unwrap();
            std::fs::rename(folder.path().join("new"), &path).unwrap();
        };
        replace("22");
        assert_eq!((look(), look()), (Some(22), None));
        replace("no number");
        assert_eq!((look(), look()), (None, None));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(look(), None);
        replace("333");
        assert_eq!((look(), look()), (Some(333), None));
    }
}
