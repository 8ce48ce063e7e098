//! What the disk did not take yet. A disk may be full for a minute, and a sidecar without a
//! descriptor: what is known of a kill must survive that.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::incident::Incident;
use crate::incident::folder::Folder;
use crate::incident::id::IncidentId;
use crate::incident::kills::Kills;

use super::IN_MEMORY;

/// Pause between two tries. Each may take as long as the disk does; nobody waits for it.
const PAUSE: Duration = Duration::from_secs(1);
/// A larger file is not held: it would be charged to the sidecar's memory for as long as the disk
/// is full.
const LARGEST_HELD: u64 = 8 << 20;

/// A file beside the document of an incident.
#[derive(Debug)]
pub(super) enum Beside {
    /// One of [`FILES`](crate::incident::folder::FILES).
    Content(&'static str, Vec<u8>),
    /// The minidump.
    Dump(Arc<File>),
    /// The stacks of the minidump.
    Stacks(Arc<File>),
}

impl Beside {
    /// Writes it.
    ///
    /// # Errors
    /// Any error of the disk.
    pub(super) fn write(&self, folder: &mut Folder, id: &IncidentId) -> io::Result<()> {
        match self {
            Self::Content(name, content) => folder.write_beside(id, name, content),
            Self::Dump(dump) => folder.write_dump(id, dump),
            Self::Stacks(stacks) => folder.write_stacks(id, stacks),
        }
    }

    fn can_be_held(&self) -> bool {
        match self {
            Self::Content(..) => true,
            Self::Dump(file) | Self::Stacks(file) => {
                file.metadata().is_ok_and(|known| known.len() <= LARGEST_HELD)
            }
        }
    }
}

/// Documents and files that are tried again. Whoever adds a file sees to it that there are not too
/// many of them.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    documents: VecDeque<Arc<Incident>>,
    files: Vec<(IncidentId, Beside)>,
    tried: Option<Instant>,
}

impl Unwritten {
    /// How long to wait until the next try; `None` if there is nothing to be tried.
    pub(super) fn wait(&self) -> Option<Duration> {
        if self.documents.is_empty() && self.files.is_empty() {
            return None;
        }
        Some(self.tried.map_or(PAUSE, |tried| PAUSE.saturating_sub(tried.elapsed())))
    }

    /// Holds a document in place of its earlier versions. The oldest one makes room.
    pub(super) fn hold(&mut self, incident: Arc<Incident>) {
        self.forget(&incident.id);
        self.documents.push_back(incident);
        if self.documents.len() > IN_MEMORY {
            self.documents.pop_front();
        }
        self.tried.get_or_insert_with(Instant::now);
    }

    /// Whether the document of an incident is held.
    pub(super) fn holds(&self, id: &IncidentId) -> bool {
        self.documents.iter().any(|held| held.id == *id)
    }

    /// A later version of this document was written.
    pub(super) fn forget(&mut self, id: &IncidentId) {
        self.documents.retain(|held| held.id != *id);
    }

    /// Holds a file, unless it is too large. Returns whether it does.
    pub(super) fn hold_file(&mut self, id: IncidentId, file: Beside) -> bool {
        let held = file.can_be_held();
        if held {
            self.files.push((id, file));
            self.tried.get_or_insert_with(Instant::now);
        }
        held
    }

    /// Tries all of them once. Returns how many files are no longer held, and the first error.
    pub(super) fn try_again(&mut self, folder: &mut Folder, kills: &mut Kills) -> (usize, Option<io::Error>) {
        let mut first = None;
        let mut failed = |written: io::Result<()>| match written {
            Ok(()) => false,
            Err(error) => {
                first.get_or_insert(error);
                true
            }
        };
        self.documents.retain(|incident| failed(folder.write(incident).and(kills.add(incident))));
        let before = self.files.len();
        let waiting = &self.documents;
        self.files.retain(|(id, file)| {
            if folder.has(id) {
                return failed(file.write(folder, id));
            }
            // Its document goes first. If that does not wait either, the incident was deleted to
            // keep the limits.
            waiting.iter().any(|incident| incident.id == *id)
        });
        let left = self.documents.is_empty() && self.files.is_empty();
        self.tried = (!left).then(Instant::now);
        (before - self.files.len(), first)
    }
}
