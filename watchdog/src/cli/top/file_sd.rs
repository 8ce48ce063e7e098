//! A list of sidecars in the form of Prometheus' `file_sd_configs`, as JSON:
//! `[{"targets": ["127.0.0.1:9611"], "labels": {…}}]`. Labels are not used: a sidecar tells the
//! name of its shard.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shard_watchdog::client::Endpoint;

/// Enough for tens of thousands of targets.
const LONGEST: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
struct Group {
    targets: Vec<String>,
}

/// The file, and which version of it was read last.
#[derive(Debug)]
pub(super) struct FileSd {
    path: PathBuf,
    read: Option<Version>,
}

/// What changes when a file is written or replaced.
type Version = (u64, u64, i64, i64, u64);

impl FileSd {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, read: None }
    }

    /// The sidecars in it, if it has changed.
    ///
    /// # Errors
    /// A sentence, if it cannot be read; it is read again once it has changed.
    pub(super) fn changed(&mut self) -> Result<Option<Vec<Endpoint>>, String> {
        let wrong = |why: &dyn std::fmt::Display| format!("--file-sd {}: {why}", self.path.display());
        // A pipe would have no end.
        let metadata = std::fs::metadata(&self.path).map_err(|error| {
            // The same file may come back, and what is wrong with it is over then.
            self.read = None;
            wrong(&error)
        })?;
        if !metadata.is_file() {
            return Err(wrong(&"not a regular file"));
        }
        let version =
            (metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size());
        if self.read == Some(version) {
            return Ok(None);
        }
        let endpoints = read(&self.path).map_err(|error| wrong(&error));
        self.read = Some(version);
        endpoints.map(Some)
    }
}

fn read(path: &Path) -> Result<Vec<Endpoint>, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(LONGEST + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > LONGEST {
        return Err("longer than 1 MiB".to_owned());
    }
    endpoints(&text)
}

fn endpoints(text: &[u8]) -> Result<Vec<Endpoint>, String> {
    let groups: Vec<Group> = serde_json::from_slice(text).map_err(|error| {
        format!("not a list of targets such as [{{\"targets\": [\"127.0.0.1:9611\"]}}]: {error}")
    })?;
    groups.iter().flat_map(|group| &group.targets).map(|target| endpoint(target)).collect()
}

/// `HOST:PORT`, or an address as `--url` takes it.
fn endpoint(target: &str) -> Result<Endpoint, String> {
    let has_scheme = target.starts_with("unix:") || target.contains("://");
    let url = if has_scheme { target.to_owned() } else { format!("http://{target}") };
    url.parse().map_err(|error| format!("target {target:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<Vec<String>, String> {
        endpoints(text.as_bytes()).map(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn targets_are_hosts_with_ports_or_addresses() {
        let text = r#"[{"targets": ["127.0.0.1:9611", "unix:/run/1.sock"], "labels": {"job": "shards"}},
                       {"targets": ["http://shard-2.shards.svc:9611"]}, {"targets": []}]"#;
        let all = ["http://127.0.0.1:9611", "unix:/run/1.sock", "http://shard-2.shards.svc:9611"];
        assert_eq!(told(text), Ok(all.map(str::to_owned).to_vec()));
        for bad in ["", "{}", "[1]", r#"[{"targets": "a"}]"#, r#"[{"targets": ["https://a"]}]"#] {
            assert!(told(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shards.json");
        let mut file = FileSd::new(path.clone());
        assert!(file.changed().unwrap_err().contains("shards.json"));
        std::fs::write(&path, r#"[{"targets": ["a:1"]}]"#).unwrap();
        assert_eq!(file.changed().unwrap().unwrap().len(), 1);
        assert_eq!(file.changed(), Ok(None));
        std::fs::write(&path, r#"[{"targets": ["a:1", "b:1"]}]"#).unwrap();
        assert_eq!(file.changed().unwrap().unwrap().len(), 2);
        std::fs::write(&path, "half of").unwrap();
        assert!(file.changed().is_err());
        assert_eq!(file.changed(), Ok(None), "told once");
        std::fs::write(&path, r#"[{"targets": ["a:1"]}]"#).unwrap();
        assert!(file.changed().is_ok_and(|found| found.is_some()));
        let away = path.with_extension("away");
        std::fs::rename(&path, &away).unwrap();
        assert!(file.changed().is_err());
        std::fs::rename(&away, &path).unwrap();
        assert_eq!(file.changed().unwrap().unwrap().len(), 1, "it is back, and no other one");
    }
}
