//! `incidents/` on disk. Only the journal's thread calls this: any call may take as long as the
//! disk does.

use std::collections::BTreeMap;
use std::io;
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
/// No document of this program comes near this; a larger file is foreign.
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

    /// Writes the recording of an incident in the same way, beside its document.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn write_recording(&mut self, id: &IncidentId, recording: &[u8]) -> io::Result<()> {
        let traits = self.kept.get(id).map_or(Traits::UNREADABLE, |kept| kept.traits.clone());
        self.write_file(id, RECORDING, recording, traits)
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
            let removed = self.place.open().and_then(|incidents| {
                incidents.map_or(Ok(()), |incidents| incidents.remove_folder(next.as_str()))
            });
            match removed {
                Ok(()) => deleted += 1,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(deleted), Err)
    }
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
