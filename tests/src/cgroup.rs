//! A cgroup of the test's own, below the root of one version 1 controller or of version 2. Creating
//! one needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::wait;

/// Where the controllers are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// Removed when dropped, after releasing the processes in it.
#[derive(Debug)]
pub struct Cgroup {
    controller: PathBuf,
    folder: PathBuf,
}

impl Cgroup {
    /// Creates one for `controller`, such as `freezer`.
    ///
    /// # Errors
    /// If there is no such version 1 controller, or this user lacks permission.
    pub fn make(controller: &str) -> Result<Self, String> {
        let root = Path::new(ROOT).join(controller);
        if !root.join("cgroup.procs").is_file() {
            return Err(format!("there is no cgroup controller (version 1) at {}", root.display()));
        }
        Self::below(root)
    }

    /// Creates one of version 2, even where version 1 is mounted too.
    ///
    /// # Errors
    /// If version 2 is missing or cannot freeze (before Linux 5.2), or this user lacks permission.
    pub fn unified() -> Result<Self, String> {
        let roots = [Path::new(ROOT).join("unified"), PathBuf::from(ROOT)];
        let root = roots.into_iter().find(|root| root.join("cgroup.controllers").is_file());
        let cgroup = Self::below(root.ok_or_else(|| format!("there are no cgroups (version 2) in {ROOT}"))?)?;
        if !cgroup.folder.join("cgroup.freeze").is_file() {
            return Err("its cgroups (version 2) cannot be frozen".to_owned());
        }
        Ok(cgroup)
    }

    fn below(root: PathBuf) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("shard-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = root.join(name);
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { controller: root, folder })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes `value` to one of the cgroup's files.
    #[track_caller]
    pub fn set(&self, file: &str, value: &str) {
        let path = self.folder.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{} = {value}: {error}", path.display()));
    }

    /// The content of one of the cgroup's files; empty if it cannot be read.
    pub fn get(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default().trim().to_owned()
    }

    /// Moves one thread into the cgroup.
    #[track_caller]
    pub fn take_thread(&self, tid: i32) {
        self.set("tasks", &tid.to_string());
    }

    /// Moves a process into the cgroup, with all of its threads.
    #[track_caller]
    pub fn take(&self, pid: i32) {
        self.set("cgroup.procs", &pid.to_string());
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.folder.join("freezer.state"), "THAWED");
        let _ = fs::write(self.folder.join("cgroup.freeze"), "0");
        for pid in self.get("cgroup.procs").lines() {
            let _ = fs::write(self.controller.join("cgroup.procs"), pid);
        }
        // The cgroup cannot be removed while something in it is still exiting.
        let gone = || fs::remove_dir(&self.folder).is_ok() || !self.folder.exists();
        if std::thread::panicking() {
            gone();
        } else {
            wait::until("the test's cgroup to be empty", || gone().then_some(()));
        }
    }
}
