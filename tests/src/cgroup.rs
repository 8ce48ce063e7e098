//! A cgroup (version 1) of the test's own, below the root of one controller. Making one needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::wait;

/// Where the controllers are.
const ROOT: &str = "/sys/fs/cgroup";

/// It goes when this is dropped, and what is in it is let go first.
#[derive(Debug)]
pub struct Cgroup {
    controller: PathBuf,
    folder: PathBuf,
}

impl Cgroup {
    /// Makes one for `controller`, such as `freezer`.
    ///
    /// # Errors
    /// If there is no such controller of version 1, or this user may not.
    pub fn make(controller: &str) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = Path::new(ROOT).join(controller);
        if !root.join("cgroup.procs").is_file() {
            return Err(format!("there is no cgroup controller (version 1) at {}", root.display()));
        }
        let name = format!("shard-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = root.join(name);
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { controller: root, folder })
    }

    /// Writes one of its files.
    #[track_caller]
    pub fn set(&self, file: &str, value: &str) {
        let path = self.folder.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{} = {value}: {error}", path.display()));
    }

    /// What one of its files says.
    pub fn get(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default().trim().to_owned()
    }

    /// Takes one thread in.
    #[track_caller]
    pub fn take_thread(&self, tid: i32) {
        self.set("tasks", &tid.to_string());
    }

    /// Takes a process in, with all of its threads.
    #[track_caller]
    pub fn take(&self, pid: i32) {
        self.set("cgroup.procs", &pid.to_string());
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.folder.join("freezer.state"), "THAWED");
        for pid in self.get("cgroup.procs").lines() {
            let _ = fs::write(self.controller.join("cgroup.procs"), pid);
        }
        // It cannot go while something in it is on its way out.
        let gone = || fs::remove_dir(&self.folder).is_ok() || !self.folder.exists();
        if std::thread::panicking() {
            gone();
        } else {
            wait::until("the test's cgroup to be empty", || gone().then_some(()));
        }
    }
}
