//! The real systemd, as the first process of namespaces of its own, with only the units of a test.
//!
//! It sees its own pids, mounts and cgroups; the network is the machine's, so that a test reaches
//! what it started. It gets one folder of units and no generators: nothing that the machine would
//! start at boot is started here.

use std::path::Path;
use std::process::{Command, Output};

use rustix::process::{Signal, getuid};

use crate::process::Process;
use crate::wait;

const SYSTEMD: &str = "/usr/lib/systemd/systemd";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Moves this shell into a cgroup of its own in every hierarchy that permits it, and continues in
/// new namespaces rooted there. `cpuset` does not permit it, and systemd has no use for it.
const OUTSIDE: &str = r#"
for procs in /sys/fs/cgroup/*/cgroup.procs; do
    group=${procs%/*}/$1
    mkdir "$group" && echo $$ >"$group/cgroup.procs" || rmdir "$group" || true
done 2>/dev/null
exec setpriv --pdeathsig KILL unshare --pid --mount --cgroup --fork --kill-child=KILL bash -ec "$2" inside "$3"
"#;

/// Mounts what a booting system has, and becomes systemd with the units of folder `$1`.
const INSIDE: &str = r#"
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/systemd /run/empty
mount -t cgroup -o none,name=systemd systemd /sys/fs/cgroup/systemd
export container=test SYSTEMD_UNIT_PATH="$1"
export SYSTEMD_GENERATOR_PATH=/run/empty SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/empty
exec /usr/lib/systemd/systemd --system --unit=all.target --log-target=console --show-status=no
"#;

/// A running systemd. Dropping it ends it with everything that it started.
#[derive(Debug)]
pub struct Systemd {
    process: Option<Process>,
    /// As this machine numbers it.
    pid: i32,
    name: String,
}

impl Systemd {
    /// Why systemd cannot run here; `None` if it can.
    pub fn impossible() -> Option<String> {
        if !getuid().is_root() {
            return Some("it takes root to make namespaces and mounts".to_owned());
        }
        if !Path::new(SYSTEMD).is_file() {
            return Some("systemd is not installed (apt-get install systemd)".to_owned());
        }
        if Path::new("/run/systemd/system").exists() {
            return Some(
                "this machine runs systemd itself, and a second one is not started beside it".to_owned(),
            );
        }
        let named = Path::new(CGROUPS).join("systemd/cgroup.procs");
        (!named.is_file()).then(|| format!("there is no cgroup hierarchy (version 1) at {CGROUPS}/systemd"))
    }

    /// Starts systemd with these units (name, text), all of which it starts, and waits until it is
    /// up. `folder` is the test's.
    #[track_caller]
    pub fn start(folder: &Path, units: &[(&str, String)]) -> Self {
        let at = folder.join("units");
        std::fs::create_dir(&at).expect("a folder of the test's own");
        for (unit, text) in units {
            let text = format!("[Unit]\nDefaultDependencies=no\n{text}");
            std::fs::write(at.join(unit), text).expect("the unit can be written");
        }
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        let all = format!("[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\nWants={}\n", names.join(" "));
        std::fs::write(at.join("all.target"), all).expect("the unit can be written");
        let name = format!("shard-test-systemd-{}", std::process::id());
        let mut command = Command::new("bash");
        command.args(["-ec", OUTSIDE, "outside", &name, INSIDE]).arg(&at);
        let process = Process::start("systemd", command);
        let outside = process.pid();
        let pid = wait::until("systemd", || {
            let children =
                std::fs::read_to_string(format!("/proc/{outside}/task/{outside}/children")).ok()?;
            let pid = children.split_whitespace().next()?.parse::<i32>().ok()?;
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (comm.trim() == "systemd").then_some(pid)
        });
        let systemd = Self { process: Some(process), pid, name };
        wait::until("systemd to be up", || {
            let output = systemd.run("systemctl", &["is-active", "all.target"]);
            output.status.success().then_some(())
        });
        systemd
    }

    /// Runs a program in its namespaces, where it is the first process and its mounts are in place.
    #[track_caller]
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--pid", "--mount", "--"]).arg(program);
        command.args(arguments).output().expect("nsenter is part of every Debian")
    }

    /// Pid of systemd, as this machine numbers it.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// One property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        let output = self.run("systemctl", &["show", "--property", property, "--value", unit]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // Everything in its pid namespace ends with it. `unshare` ignores SIGTERM, so that would
        // only cost a wait.
        if let Some(process) = self.process.take() {
            process.signal(Signal::KILL);
        }
        let Ok(hierarchies) = std::fs::read_dir(CGROUPS) else { return };
        for hierarchy in hierarchies.flatten() {
            let group = hierarchy.path().join(&self.name);
            let gone = || !group.exists() || remove(&group);
            if std::thread::panicking() {
                gone();
            } else {
                wait::until("the cgroups of systemd to be empty", || gone().then_some(()));
            }
        }
    }
}

/// Removes a cgroup and those in it, innermost first.
fn remove(group: &Path) -> bool {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    std::fs::remove_dir(group).is_ok()
}
