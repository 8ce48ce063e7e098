//! `incidents/` on the disk. Only the journal's thread comes here: any call may take as long as the disk does.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Incident;
use super::id::IncidentId;
use super::retention::{self, Traits};

/// The document inside an incident's folder.
pub const DOCUMENT: &str = "incident.json";
/// What was seen before it, for `replay`.
pub const RECORDING: &str = "recording";
/// No document of ours comes near this; a larger file is somebody else's.
const LARGEST_DOCUMENT: u64 = 4 << 20;
/// Evidence may show what the target held in memory: for its owner and group alone.
const FOLDER_MODE: u32 = 0o750;
/// The same for a file.
const FILE_MODE: u32 = 0o640;

/// What is known of one incident's folder.
#[derive(Clone, Debug)]
struct Kept {
    bytes: u64,
    traits: Traits,
}

/// The folder of all incidents.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keep_incidents: usize,
    keep_bytes: u64,
    kept: BTreeMap<IncidentId, Kept>,
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct Found {
    /// Documents that could be read, oldest first.
    pub incidents: Vec<Incident>,
    /// Folders that look like incidents and whose document could not be read, each with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl Folder {
    /// The folder under `evidence`, with its limits. Touches nothing yet.
    pub fn new(evidence: &Path, keep_incidents: u32, keep_bytes: u64) -> Self {
        Self {
            path: evidence.join("incidents"),
            keep_incidents: usize::try_from(keep_incidents).unwrap_or(usize::MAX),
            keep_bytes,
            kept: BTreeMap::new(),
        }
    }

    /// Where the incidents are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what earlier lives of the sidecar left. A folder that is absent is empty.
    ///
    /// # Errors
    /// If the folder is there and cannot be listed.
    pub fn load(&mut self) -> io::Result<Found> {
        let mut found = Found::default();
        let listing = match fs::read_dir(&self.path) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        for item in listing.flatten() {
            let Some(id) = item.file_name().to_str().and_then(IncidentId::parse) else { continue };
            // Not through a link: somebody else's files are not ours to read, and later not ours to delete.
            if !item.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = item.path();
            let bytes = size_of(&path);
            match read_document(&path.join(DOCUMENT)) {
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

    /// Writes the document so that at every moment the old one or the new one is whole on the disk.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn write(&mut self, incident: &Incident) -> io::Result<()> {
        let mut document = serde_json::to_vec_pretty(incident)?;
        document.push(b'\n');
        self.write_file(&incident.id, DOCUMENT, &document, Traits::of(incident))
    }

    /// Writes the recording of an incident in the same way, beside its document.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn write_recording(&mut self, id: &IncidentId, recording: &[u8]) -> io::Result<()> {
        let traits = self.kept.get(id).map_or(Traits::UNREADABLE, |kept| kept.traits.clone());
        self.write_file(id, RECORDING, recording, traits)
    }

    fn write_file(&mut self, id: &IncidentId, name: &str, content: &[u8], traits: Traits) -> io::Result<()> {
        let folder = self.path.join(id.as_str());
        let is_new = !folder.is_dir();
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&folder)?;
        // Its next version, until it is whole.
        let unfinished = folder.join(format!(".{name}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, folder.join(name))?;
        File::open(&folder)?.sync_all()?;
        if is_new {
            File::open(&self.path)?.sync_all()?;
        }
        self.kept.insert(id.clone(), Kept { bytes: size_of(&folder), traits });
        Ok(())
    }

    /// Deletes closed incidents until the limits hold: repeats first, then the oldest
    /// ([`retention`]). Returns how many.
    ///
    /// # Errors
    /// If one cannot be deleted; it is forgotten all the same, or it would be tried again at every
    /// step.
    pub fn prune(&mut self) -> io::Result<u64> {
        let mut deleted = 0;
        let mut failed = None;
        loop {
            let bytes: u64 = self.kept.values().map(|kept| kept.bytes).sum();
            if self.kept.len() <= self.keep_incidents && bytes <= self.keep_bytes {
                break;
            }
            // The latest one stays even if it alone is too large: it is what people come for.
            let retained = self.kept.iter().map(|(id, kept)| (id, &kept.traits));
            let Some(next) = retention::next_to_delete(retained).cloned() else { break };
            self.kept.remove(&next);
            match fs::remove_dir_all(self.path.join(next.as_str())) {
                Ok(()) => deleted += 1,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(deleted), Err)
    }
}

fn read_document(path: &Path) -> io::Result<Incident> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let mut text = Vec::new();
    file.take(LARGEST_DOCUMENT).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Bytes of the files in one incident's folder, which has no folders inside.
fn size_of(folder: &Path) -> u64 {
    let Ok(listing) = fs::read_dir(folder) else { return 0 };
    listing.flatten().filter_map(|item| item.metadata().ok()).map(|metadata| metadata.len()).sum()
}
