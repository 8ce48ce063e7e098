//! `incidents/` on disk. Only the journal's thread calls this: any call may take as long as the
//! disk does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::own_folder::{OwnFolder, Place};

use super::Incident;
use super::id::IncidentId;
use super::retention::{self, Traits};

/// The document inside an incident's folder.
pub const DOCUMENT: &str = "incident.json";
/// The observations before the incident, for `replay`.
pub const RECORDING: &str = "recording";
/// What the kernel showed of the process before the first signal, as JSON.
pub const THREADS: &str = "threads.json";
/// The minidump: registers and stacks of the threads.
pub const DUMP: &str = "process.dmp";
/// The stacks of the dump, with function, file and line.
pub const STACKS: &str = "stacks.txt";
/// All files that the folder of an incident may have.
pub const FILES: &[&str] = &[DOCUMENT, THREADS, RECORDING, DUMP, STACKS];

/// The most bytes that a file of this name may have. None of this program's comes near it: a
/// recording has up to 2 MiB. A larger one is foreign.
pub fn largest(name: &str) -> u64 {
    match name {
        DUMP => crate::dump::LARGEST,
        STACKS => crate::stacks::LARGEST_TEXT,
        _ => 8 << 20,
    }
}

/// The same for documents, all of which are read when a sidecar starts.
const LARGEST_DOCUMENT: u64 = 4 << 20;

/// What is known of one incident's folder.
#[derive(Clone, Debug)]
struct Kept {
    bytes: u64,
    traits: Traits,
}

/// The folder of all incidents.
#[derive(Debug)]
pub struct Folder {
    place: Place,
    keep_incidents: usize,
    keep_bytes: u64,
    kept: BTreeMap<IncidentId, Kept>,
}

/// What was found at the start.
#[derive(Debug, Default)]
pub struct Found {
    /// Documents that could be read, oldest first.
    pub incidents: Vec<Incident>,
    /// Folders that look like incidents but whose document could not be read, each with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl Folder {
    /// The folder below `evidence`, with its limits. Does not access the disk yet.
    pub fn new(evidence: &Place, keep_incidents: u32, keep_bytes: u64) -> Self {
        Self {
            place: evidence.below("incidents"),
            keep_incidents: usize::try_from(keep_incidents).unwrap_or(usize::MAX),
            keep_bytes,
            kept: BTreeMap::new(),
        }
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Reads what earlier runs of the sidecar left. A missing folder counts as empty.
    ///
    /// # Errors
    /// If the folder exists and cannot be listed.
    pub fn load(&mut self) -> io::Result<Found> {
        let mut found = Found::default();
        let Some(incidents) = self.place.open()? else { return Ok(found) };
        for entry in incidents.entries()? {
            let Some(id) = entry.name.to_str().and_then(IncidentId::parse) else { continue };
            // Links are not followed: foreign files must neither be read nor, later, deleted.
            if entry.kind != FileType::Directory {
                continue;
            }
            let path = self.path().join(id.as_str());
            let opened = incidents.folder(id.as_str());
            // Of an incident that never reached the disk, nothing is left but an empty folder.
            if opened.as_ref().is_ok_and(|folder| folder.remove_unfinished(FILES).unwrap_or(false))
                && incidents.remove_folder(id.as_str()).is_ok()
            {
                continue;
            }
            let bytes = opened.as_ref().map_or(0, size_of);
            match opened.and_then(|folder| read_document(&folder)) {
                Ok(incident) if incident.id == id => {
                    self.kept.insert(id, Kept { bytes, traits: Traits::of(&incident) });
                    found.incidents.push(incident);
                }
                Ok(incident) => {
                    found.unreadable.push((path, format!("it calls itself {}", incident.id)));
                    self.kept.insert(id, Kept { bytes, traits: Traits::UNREADABLE });
                }
                Err(error) => {
                    found.unreadable.push((path, error.to_string()));
                    self.kept.insert(id, Kept { bytes, traits: Traits::UNREADABLE });
                }
            }
        }
        found.incidents.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Writes the document so that at every moment the old or the new one is complete on disk.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn write(&mut self, incident: &Incident) -> io::Result<()> {
        let mut document = serde_json::to_vec_pretty(incident)?;
        document.push(b'\n');
        self.write_file(&incident.id, DOCUMENT, &document, Traits::of(incident))
    }

    /// Writes another of the [`FILES`] of an incident in the same way, beside its document. The
    /// first one of its name stays: it is of the time before the first signal, and a later one is
    /// made only if the incident goes on under another sidecar.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn write_beside(&mut self, id: &IncidentId, name: &str, content: &[u8]) -> io::Result<()> {
        if self.place.make()?.make_folder(id.as_str())?.look(name)?.is_some() {
            return Ok(());
        }
        let traits = self.kept.get(id).map_or(Traits::UNREADABLE, |kept| kept.traits.clone());
        self.write_file(id, name, content, traits)
    }

    /// Copies the minidump of an incident from its beginning, in the same way. Not through memory:
    /// a dump may have tens of MiB.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn write_dump(&mut self, id: &IncidentId, dump: &File) -> io::Result<()> {
        let mut from = dump;
        from.rewind()?;
        let traits = self.kept.get(id).map_or(Traits::UNREADABLE, |kept| kept.traits.clone());
        let folder = self.place.make()?.make_folder(id.as_str())?;
        // Those are of an earlier dump, if there are any.
        folder.remove(STACKS)?;
        folder.write_from(DUMP, &mut from.take(largest(DUMP)))?;
        self.kept.insert(id.clone(), Kept { bytes: size_of(&folder), traits });
        Ok(())
    }

    /// Opens the minidump of an incident; `None` if it has none.
    ///
    /// # Errors
    /// Any error of the disk, and a folder or file that cannot be trusted.
    pub fn dump(&self, id: &IncidentId) -> io::Result<Option<File>> {
        let Some(incidents) = self.place.open()? else { return Ok(None) };
        match incidents.folder(id.as_str()) {
            Ok(folder) => folder.file(DUMP, largest(DUMP)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copies the stacks of an incident's minidump from their beginning, unless a person has looked
    /// them up meanwhile, or the incident was deleted.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn write_stacks(&mut self, id: &IncidentId, stacks: &File) -> io::Result<()> {
        let Some(traits) = self.kept.get(id).map(|kept| kept.traits.clone()) else { return Ok(()) };
        let mut from = stacks;
        from.rewind()?;
        let folder = self.place.make()?.make_folder(id.as_str())?;
        if folder.look(STACKS)?.is_none() {
            folder.write_from(STACKS, &mut from.take(largest(STACKS)))?;
            self.kept.insert(id.clone(), Kept { bytes: size_of(&folder), traits });
        }
        Ok(())
    }

    /// Whether an incident is on disk, as far as its document could be read or written.
    pub fn has(&self, id: &IncidentId) -> bool {
        self.kept.contains_key(id)
    }

    /// Reads one of the [`FILES`] of an incident; `None` if there is none of that name.
    ///
    /// # Errors
    /// Any error of the disk, and a folder or file that cannot be trusted.
    pub fn read(&self, id: &IncidentId, name: &str) -> io::Result<Option<Vec<u8>>> {
        // The name becomes part of a path.
        let Some(name) = FILES.iter().find(|known| **known == name) else { return Ok(None) };
        let Some(incidents) = self.place.open()? else { return Ok(None) };
        match incidents.folder(id.as_str()) {
            Ok(folder) => folder.read(name, largest(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_file(&mut self, id: &IncidentId, name: &str, content: &[u8], traits: Traits) -> io::Result<()> {
        let folder = self.place.make()?.make_folder(id.as_str())?;
        folder.write(name, content)?;
        self.kept.insert(id.clone(), Kept { bytes: size_of(&folder), traits });
        Ok(())
    }

    /// Deletes closed incidents until the limits hold: repeats first, then the oldest
    /// ([`retention`]). Returns the number of deleted incidents.
    ///
    /// # Errors
    /// If one cannot be deleted. It is dropped from the list all the same, or every later step
    /// would try again.
    pub fn prune(&mut self) -> io::Result<u64> {
        let mut deleted = 0;
        let mut failed = None;
        loop {
            let bytes: u64 = self.kept.values().map(|kept| kept.bytes).sum();
            if self.kept.len() <= self.keep_incidents && bytes <= self.keep_bytes {
                break;
            }
            // The latest one stays even if it alone exceeds the limit: it is the one that people
            // need.
            let retained = self.kept.iter().map(|(id, kept)| (id, &kept.traits));
            let Some(next) = retention::next_to_delete(retained).cloned() else { break };
            self.kept.remove(&next);
            let removed = self
                .place
                .open()
                .and_then(|incidents| incidents.map_or(Ok(()), |incidents| delete(&incidents, &next)));
            match removed {
                Ok(()) => deleted += 1,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(deleted), Err)
    }
}

/// Deletes an incident, its document last: a sidecar that is killed meanwhile leaves an incident
/// that the next one can read, and deletes again.
fn delete(incidents: &OwnFolder, id: &IncidentId) -> io::Result<()> {
    if let Ok(folder) = incidents.folder(id.as_str()) {
        let files = folder.entries()?.into_iter().filter(|entry| entry.kind != FileType::Directory);
        for file in files.filter(|file| file.name != DOCUMENT) {
            folder.remove(&file.name)?;
        }
    }
    incidents.remove_folder(id.as_str())
}

fn read_document(folder: &OwnFolder) -> io::Result<Incident> {
    let text = folder.read(DOCUMENT, LARGEST_DOCUMENT)?;
    let text = text.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no document"))?;
    Ok(serde_json::from_slice(&text)?)
}

/// Bytes of the files in one incident's folder, which contains no folders.
fn size_of(folder: &OwnFolder) -> u64 {
    folder.entries().map_or(0, |entries| entries.iter().map(|entry| entry.bytes).sum())
}
