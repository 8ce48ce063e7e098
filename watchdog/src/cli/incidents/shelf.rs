//! Where incidents are read from: a running sidecar, or the folder that one has left.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use shard_watchdog::client::{self, Answer, Endpoint};
use shard_watchdog::evidence::Evidence;
use shard_watchdog::incident::folder::{DOCUMENT, FILES, THREADS, largest};
use shard_watchdog::incident::id::IncidentId;
use shard_watchdog::incident::near_miss::{self, NearMiss};
use shard_watchdog::incident::{Incident, Summary};
use shard_watchdog::own_folder::Place;

use super::super::address::Address;
use super::super::{BAD_INPUT, plain};
use super::{NO_SUCH_INCIDENT, Which};

const DIRECTORY: &str = "SHARD_WATCHDOG_DIRECTORY";
/// Exit code when no sidecar answers, as of `status`.
const UNREACHABLE: u8 = 3;
/// A sidecar reads a recording from its disk, which may be slow after an incident.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where to look for incidents.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// Read from this folder, evidence.directory in the config, instead of asking a sidecar
    /// [env: SHARD_WATCHDOG_DIRECTORY]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["socket", "url"])]
    directory: Option<PathBuf>,
    #[command(flatten)]
    address: Address,
}

/// Incidents, and where they are.
#[derive(Debug)]
pub(super) enum Shelf {
    /// A sidecar's memory and its disk.
    Sidecar(Endpoint),
    /// The folder `incidents` of an evidence directory.
    Folder(PathBuf),
}

/// What a list has found.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// The newest first.
    pub incidents: Vec<Summary>,
    /// Near misses, the newest first.
    pub near_misses: Vec<NearMiss>,
    /// Folders whose document cannot be read, each with the reason.
    pub unreadable: Vec<String>,
}

/// Why a command ends, with its exit code.
#[derive(Debug)]
pub(super) struct Failed {
    /// The exit code.
    pub code: u8,
    /// What happened, where, and what to do next.
    pub why: String,
}

impl Failed {
    pub(super) const fn input(why: String) -> Self {
        Self { code: BAD_INPUT, why }
    }
}

#[derive(Debug, Deserialize)]
struct List {
    incidents: Vec<Summary>,
}

#[derive(Debug, Default, Deserialize)]
struct Near {
    near_misses: Vec<NearMiss>,
}

impl Source {
    /// The folder that one flag has named.
    #[cfg(test)]
    pub(super) const fn of_folder(directory: PathBuf) -> Self {
        Self { directory: Some(directory), address: Address::new(None, None) }
    }

    /// A flag beats a variable, and a folder beats a sidecar.
    pub(super) fn shelf(&self) -> Result<Shelf, Failed> {
        let variable = std::env::var_os(DIRECTORY).filter(|text| !text.is_empty()).map(PathBuf::from);
        match self.directory.clone().or(variable.filter(|_| !self.address.is_given())) {
            Some(directory) => Shelf::folder(&directory),
            None => self.address.endpoint().map(Shelf::Sidecar).map_err(Failed::input),
        }
    }
}

impl Shelf {
    fn folder(directory: &Path) -> Result<Self, Failed> {
        // A folder without incidents yet has no folder for them.
        match fs::metadata(directory) {
            Ok(found) if found.is_dir() => Ok(Self::Folder(directory.join("incidents"))),
            Ok(_) => Err(Failed::input(format!(
                "{}: is a file. Give --directory the folder that is evidence.directory in the config",
                directory.display()
            ))),
            Err(error) => Err(unreadable(directory, &error)),
        }
    }

    /// Whose incidents these are, for a message.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Sidecar(endpoint) => endpoint.to_string(),
            Self::Folder(path) => path.display().to_string(),
        }
    }

    /// All of them, the newest first.
    pub(super) fn list(&self) -> Result<Listed, Failed> {
        match self {
            Self::Sidecar(endpoint) => {
                let answer = ask(endpoint, "/api/v1/incidents")?;
                let list: List = understood(endpoint, &answer.body)?;
                // An older sidecar has none.
                let answer = client::get(endpoint, "/api/v1/near-misses", ANSWER_WITHIN);
                let answer = answer.map_err(|error| unreached(&error))?;
                let near: Near = match answer.status.is_success() {
                    true => understood(endpoint, &answer.body)?,
                    false => Near::default(),
                };
                let (incidents, near_misses) = (list.incidents, near.near_misses);
                Ok(Listed { incidents, near_misses, unreadable: Vec::new() })
            }
            Self::Folder(path) => {
                let mut listed = Listed::default();
                for id in ids(path)? {
                    match read(&path.join(id.as_str()).join(DOCUMENT), largest(DOCUMENT)) {
                        Ok(Some(bytes)) => match serde_json::from_slice::<Incident>(&bytes) {
                            Ok(incident) => listed.incidents.push(Summary::from(&incident)),
                            Err(error) => listed.unreadable.push(format!("{id}: {error}")),
                        },
                        Ok(None) => listed.unreadable.push(format!("{id}: it has no {DOCUMENT}")),
                        Err(error) => listed.unreadable.push(format!("{id}: {error}")),
                    }
                }
                let path = path.with_file_name(near_miss::NAME);
                let near = read(&path, largest(near_miss::NAME)).and_then(|bytes| match bytes {
                    Some(bytes) => Ok(serde_json::from_slice::<Near>(&bytes)?),
                    None => Ok(Near::default()),
                });
                match near {
                    // The file has the newest last.
                    Ok(near) => listed.near_misses = near.near_misses.into_iter().rev().collect(),
                    Err(error) => listed.unreadable.push(format!("{}: {error}", path.display())),
                }
                Ok(listed)
            }
        }
    }

    /// The id of the incident that is meant.
    pub(super) fn id(&self, which: &Which) -> Result<IncidentId, Failed> {
        let latest = match (which, self) {
            (Which::Id(id), _) => return Ok(id.clone()),
            (Which::Latest, Self::Sidecar(_)) => self.list()?.incidents.into_iter().next().map(|i| i.id),
            // Its document need not be readable.
            (Which::Latest, Self::Folder(path)) => ids(path)?.into_iter().next(),
        };
        latest.ok_or_else(|| Failed {
            code: NO_SUCH_INCIDENT,
            why: format!("there is no incident at {}", self.place()),
        })
    }

    /// The document of one incident, as it is and understood.
    pub(super) fn document(&self, id: &IncidentId) -> Result<(Vec<u8>, Incident), Failed> {
        let bytes = self.file(id, DOCUMENT)?.ok_or_else(|| self.none(id))?;
        let incident = serde_json::from_slice(&bytes).map_err(|error| {
            Failed::input(format!("{id} at {}: its {DOCUMENT} cannot be read: {error}", self.place()))
        })?;
        Ok((bytes, incident))
    }

    /// What the kernel showed of the process; `None` if nothing was gathered.
    pub(super) fn evidence(&self, id: &IncidentId) -> Result<Option<Evidence>, Failed> {
        let Some(bytes) = self.file(id, THREADS)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failed::input(format!("{id} at {}: its {THREADS} cannot be read: {error}", self.place()))
        })
    }

    /// One of the files of an incident, one of [`FILES`]; `None` if it has none of that name, or
    /// does not exist.
    pub(super) fn file(&self, id: &IncidentId, name: &str) -> Result<Option<Vec<u8>>, Failed> {
        match self {
            Self::Sidecar(endpoint) => {
                let path = if name == DOCUMENT {
                    format!("/api/v1/incidents/{id}")
                } else {
                    format!("/api/v1/incidents/{id}/{name}")
                };
                let answer =
                    client::get(endpoint, &path, ANSWER_WITHIN).map_err(|error| unreached(&error))?;
                if answer.status == 404 {
                    return Ok(None);
                }
                successful(endpoint, answer).map(|answer| Some(answer.body.to_vec()))
            }
            Self::Folder(path) => {
                let path = path.join(id.as_str()).join(name);
                read(&path, largest(name)).map_err(|error| unreadable(&path, &error))
            }
        }
    }

    /// Writes one of the files of an incident. A sidecar takes none; nothing happens then.
    ///
    /// # Errors
    /// Any error of the disk, and if others could replace the folder or the file.
    pub(super) fn write(&self, id: &IncidentId, name: &str, content: &[u8]) -> io::Result<()> {
        let Self::Folder(path) = self else { return Ok(()) };
        let incidents = Place::new(path.clone(), Arc::default()).open()?;
        let incidents = incidents.ok_or(io::ErrorKind::NotFound)?;
        incidents.folder(id.as_str())?.write(name, content)
    }

    /// The names of the files that an incident may have.
    pub(super) const fn names() -> &'static [&'static str] {
        FILES
    }

    fn none(&self, id: &IncidentId) -> Failed {
        let more = match self {
            Self::Sidecar(_) => {
                " A sidecar answers for its latest incidents; --directory reads all that are on disk"
            }
            Self::Folder(_) => "",
        };
        Failed {
            code: NO_SUCH_INCIDENT,
            why: format!("{} has no incident {id}; incidents list shows which it has.{more}", self.place()),
        }
    }
}

/// The ids of all incidents in a folder, the newest first.
fn ids(path: &Path) -> Result<Vec<IncidentId>, Failed> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(path, &error))?;
        // Links are not followed: what they lead to is not evidence.
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(id) = entry.file_name().to_str().and_then(IncidentId::parse)
        {
            ids.push(id);
        }
    }
    ids.sort_by(|a, b| b.cmp(a));
    Ok(ids)
}

/// A file of an incident; `None` if it does not exist. Whoever owns the evidence may put anything
/// in its place, and root may be reading: no link is followed, nothing is waited for, and the size
/// is bounded.
fn read(path: &Path, largest: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file: File = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if found.len() > largest {
        return Err(io::Error::other(format!("it has {} bytes, more than any evidence", found.len())));
    }
    let mut bytes = Vec::new();
    file.take(largest).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn unreadable(path: &Path, error: &io::Error) -> Failed {
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "Evidence is for its owner and group only: run this as one of them, or as root"
        }
        io::ErrorKind::NotFound => {
            "Give --directory the folder that is evidence.directory in the config; a sidecar makes it when it has \
             something to keep"
        }
        _ => "Give --directory the folder that is evidence.directory in the config",
    };
    Failed::input(format!("{}: cannot be read: {error}. {next}", path.display()))
}

fn ask(endpoint: &Endpoint, path: &str) -> Result<Answer, Failed> {
    let answer = client::get(endpoint, path, ANSWER_WITHIN).map_err(|error| unreached(&error))?;
    successful(endpoint, answer)
}

fn unreached(error: &client::ClientError) -> Failed {
    Failed {
        code: UNREACHABLE,
        why: format!(
            "{error}. Is the sidecar running, and is this its http.listen or http.socket? --directory DIR reads what it has \
             left on disk"
        ),
    }
}

fn successful(endpoint: &Endpoint, answer: Answer) -> Result<Answer, Failed> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    let said = plain(String::from_utf8_lossy(&answer.body).trim());
    Err(Failed {
        code: UNREACHABLE,
        why: format!(
            "{endpoint} answers {} to a question for its incidents: {said}. The public address has none: use http.listen \
             or http.socket",
            answer.status
        ),
    })
}

fn understood<'a, T: Deserialize<'a>>(endpoint: &Endpoint, body: &'a [u8]) -> Result<T, Failed> {
    serde_json::from_slice(body).map_err(|error| Failed {
        code: UNREACHABLE,
        why: format!(
            "{endpoint} answers with something other than incidents: {error}. Check --url, and that both are of one version"
        ),
    })
}
