//! A file system of the test's own, on a file, that can be frozen. Whoever writes to it then waits,
//! as on a disk that does not answer, and no signal ends that wait. It is thawed and unmounted
//! whatever happens to the test.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::wait;

/// Room for a segment and some files; `mkfs.ext4` needs a few MiB for itself.
const BYTES: u64 = 32 << 20;

/// Waits until its standard input ends, which also happens when the test is killed, then thaws and
/// unmounts.
const GUARD: &str = "cat >/dev/null; fsfreeze -u \"$0\" 2>/dev/null; umount -l \"$0\"";

/// A mounted file system.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
    guard: Child,
    /// The guard's standard input; `None` once the guard is to act.
    alive: Option<ChildStdin>,
    /// Holds the file and the mount point.
    _folder: tempfile::TempDir,
}

impl Disk {
    /// Creates and mounts one.
    ///
    /// # Errors
    /// If this user lacks permission, or a tool or the kernel's loop devices are missing.
    pub fn mount() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("it takes root to mount a file system".to_owned());
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (image, place) = (folder.path().join("image"), folder.path().join("disk"));
        fs::create_dir(&place).expect("a mount point");
        fs::File::create(&image).and_then(|file| file.set_len(BYTES)).expect("a file of zeros");
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place))?;
        let mut guard = Command::new("sh");
        // Its own process group: ending the test's group does not end the guard.
        guard.args(["-c", GUARD]).arg(&place).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        let mut guard = guard.spawn().expect("a shell");
        let alive = guard.stdin.take();
        Ok(Self { place, guard, alive, _folder: folder })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// Freezes it: writers wait for as long as the result lives.
    pub fn freeze(&self) -> Frozen<'_> {
        run(Command::new("fsfreeze").arg("-f").arg(&self.place)).expect("a file system that can be frozen");
        Frozen(self)
    }
}

/// A disk that does not answer until this is dropped. A process that hangs in it cannot be ended
/// before that.
#[derive(Debug)]
pub struct Frozen<'a>(&'a Disk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run(Command::new("fsfreeze").arg("-u").arg(&self.0.place)).expect("a frozen file system");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.alive.take());
        // The folder is removed next, and the file with it.
        wait::until("the guard of a disk", || self.guard.try_wait().ok().flatten());
    }
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{name} is not installed (apt-get install e2fsprogs mount util-linux)"))
        }
        Err(error) => Err(format!("{name}: {error}")),
    }
}
