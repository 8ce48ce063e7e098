//! A host of the test's own: namespaces whose root is this machine's below a layer of their own,
//! unified cgroups, and as the first process the real systemd with its journal and a bus. The test
//! copies and runs there, at the real paths, what the deployment's README says to copy and run;
//! nothing of it reaches this machine.
//!
//! The network is the machine's, so that a test can query the programs it started. No unit of the
//! machine is known there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Signal, getuid};

use crate::process::{Process, binary};
use crate::wait;

/// Source of a host's units, below the root of the project.
const DEPLOY: &str = "watchdog/deploy";

/// Prefix of a host's cgroup name; the pid of its test follows.
const GROUP: &str = "shard-test-host-";

/// Seconds that a program on the host may take: `systemctl` waits for whatever its unit waits for.
const RUNS_AT_MOST: &str = "60";

/// Exists while systemd runs on this machine.
const BOOTED: &str = "/run/systemd/system";

/// Moves this shell into a cgroup of its own and continues in new namespaces, whose cgroup root is
/// that cgroup. `$1`: the group. `$2`: the script to continue with. `$3`, `$4`: its arguments. It
/// ends with the test: `unshare` alone ignores SIGTERM.
const OUTSIDE: &str = r#"
mkdir "$1" && echo $$ >"$1/cgroup.procs"
exec setpriv --pdeathsig KILL \
    unshare --pid --mount --cgroup --ipc --uts --fork --kill-child=KILL bash -ec "$2" inside "$3" "$4"
"#;

/// Builds the root, and becomes systemd. `$1`: the test's folder, which is mounted there too. `$2`:
/// a layer above this machine's, if any.
const INSIDE: &str = r#"
mount --make-rprivate /
mkdir -p "$1/host" && mount -t tmpfs tmpfs "$1/host" && cd "$1/host" && mkdir above work root
# In the memory of this host: a layer may not lie inside another one.
[ -z "$2" ] || cp -a "$2" layer
mount -t overlay overlay -o "lowerdir=${2:+$1/host/layer:}/,upperdir=above,workdir=work" root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs var/lib
mount -t tmpfs -o mode=755 tmpfs var/log
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm && mount -t tmpfs -o mode=1777 tmpfs dev/shm
mknod -m 666 dev/null c 1 3; mknod -m 666 dev/zero c 1 5; mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8; mknod -m 666 dev/urandom c 1 9; mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
mkdir -p "./$1" && mount --bind "$1" "./$1"

rm -rf etc/systemd && mkdir -p etc/systemd/system etc/systemd/journald.conf.d run/empty
echo 0123456789abcdef0123456789abcdef >etc/machine-id
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitIntervalSec=0\n' >etc/systemd/journald.conf.d/test.conf
for unit in sysinit basic sockets network multi-user shutdown; do
    printf '[Unit]\nDefaultDependencies=no\n' >"etc/systemd/system/$unit.target"
done
cd usr/lib/systemd/system
cp systemd-journald.service systemd-journald.socket dbus.service dbus.socket "$OLDPWD/etc/systemd/system"
cd "$OLDPWD"
# What a test installs as a package is known there.
rm -rf usr/lib/systemd/system && mkdir usr/lib/systemd/system
printf '[Unit]\nDefaultDependencies=no\nWants=systemd-journald.service dbus.service\n' >etc/systemd/system/up.target

pivot_root . . && umount -l . && cd /
export container=test SYSTEMD_UNIT_PATH=/etc/systemd/system:/usr/lib/systemd/system
export SYSTEMD_GENERATOR_PATH=/run/empty SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/empty
exec /usr/lib/systemd/systemd --system --unit=up.target --show-status=no
"#;

/// Which systemd the host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The machine's own: 252 on Debian 12.
    Machine,
    /// 257, of Debian 13, with its own C library, installed by `bash tests/tools`.
    Trixie,
}

impl Release {
    /// The layer above this machine's files.
    fn layer(self) -> Option<PathBuf> {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/trixie");
        (self == Self::Trixie).then_some(tools)
    }
}

/// A running host. Dropping it ends it with everything that runs on it.
#[derive(Debug)]
pub struct Host {
    process: Option<Process>,
    /// Pid of its systemd, as this machine numbers it.
    pid: i32,
    group: PathBuf,
}

impl Host {
    /// Why no host can run here; `None` if one can.
    pub fn impossible(release: Release) -> Option<String> {
        let has_overlay = || {
            fs::read_to_string("/proc/filesystems")
                .is_ok_and(|all| all.lines().any(|line| line.ends_with("\toverlay")))
        };
        let reason = if !getuid().is_root() {
            "it takes root to make namespaces and mounts"
        } else if !Path::new("/usr/lib/systemd/systemd").is_file() {
            "systemd is not installed (apt-get install systemd)"
        } else if !Path::new("/usr/lib/systemd/system/dbus.service").is_file() {
            "there is no bus, without which systemctl cannot freeze a unit (apt-get install dbus)"
        } else if Path::new(BOOTED).exists() {
            "this machine runs systemd itself, and a second one is not started beside it"
        } else if unified().is_none() {
            "there are no cgroups of version 2 mounted"
        } else if !has_overlay() {
            "this kernel has no overlay file system"
        } else if release.layer().is_some_and(|layer| !layer.join("version").is_file()) {
            "systemd 257 is not there (bash tests/tools)"
        } else {
            return None;
        };
        Some(reason.to_owned())
    }

    /// Starts a host and waits until it is up. `folder` is the test's.
    #[track_caller]
    pub fn start(folder: &Path, release: Release) -> Self {
        let all = unified().expect("asked before");
        remove_left_over(&all);
        let group = all.join(format!("{GROUP}{}-{release:?}", std::process::id()));
        let layer = release.layer().map(|layer| layer.canonicalize().expect("the layer is there"));
        let mut command = Command::new("bash");
        command.args(["-ec", OUTSIDE, "outside"]).arg(&group).arg(INSIDE).arg(folder);
        command.arg(layer.map(|layer| layer.join("root")).unwrap_or_default());
        let process = Process::start("host", command);
        let outside = process.pid();
        let pid = wait::until("systemd of the host", || {
            let children = fs::read_to_string(format!("/proc/{outside}/task/{outside}/children")).ok()?;
            let pid = children.split_whitespace().next()?.parse::<i32>().ok()?;
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (comm.trim() == "systemd").then_some(pid)
        });
        let host = Self { process: Some(process), pid, group };
        wait::until("the host to be up", || {
            let up = host
                .run("systemctl", &["is-active", "up.target", "systemd-journald.service", "dbus.service"]);
            up.status.success().then_some(())
        });
        host
    }

    /// Installs what the deployment's README describes, with its own commands, and returns the
    /// folder in which they ran.
    #[track_caller]
    pub fn install(&self, folder: &Path) -> Deployed {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let tree = folder.join("project");
        let built = tree.join("target/release");
        fs::create_dir_all(&built).expect("a folder");
        for program in ["shard-executor", "shard-watchdog"] {
            let (from, to) = (binary(program), built.join(program));
            // A hard link where possible: a program with its symbols is large.
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).expect("a program");
        }
        let mut copy = Command::new("cp");
        copy.arg("-r").arg("--parents").arg(DEPLOY).arg(&tree).current_dir(&project);
        assert!(copy.status().expect("cp").success());
        let readme = fs::read_to_string(project.join(DEPLOY).join("systemd/README.md")).expect("the README");
        let deployed = Deployed { tree, readme };
        self.shell(&deployed.in_project(&deployed.commands("## Install", 0)));
        deployed
    }

    /// Runs a program on the host. It fails if it takes too long.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", RUNS_AT_MOST, "nsenter", "--target", &self.pid.to_string()]);
        command
            .args(["--pid", "--mount", "--ipc", "--uts", "--cgroup", "--", program])
            .args(arguments)
            .env("SYSTEMD_PAGER", "")
            .env("LC_ALL", "C.UTF-8");
        command.output().expect("nsenter is part of every Debian")
    }

    /// Runs these commands as root and returns their output. They must succeed.
    #[track_caller]
    pub fn shell(&self, commands: &str) -> String {
        let output = self.run("bash", &["-euc", commands]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let erred = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}\n{}: {said}{erred}\n{}", output.status, self.journal());
        said
    }

    /// One property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        let output = self.run("systemctl", &["show", "--property", property, "--value", unit]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Waits until a property of a unit has this value.
    #[track_caller]
    pub fn wait_for(&self, unit: &str, property: &str, wanted: &str) {
        wait::until(&format!("{property}={wanted} of {unit}"), || {
            (self.property(unit, property) == wanted).then_some(())
        });
    }

    /// Pid of a unit's main process, as this machine numbers it.
    #[track_caller]
    pub fn main_pid(&self, unit: &str) -> i32 {
        let inside = wait::until(&format!("the main process of {unit}"), || {
            self.property(unit, "MainPID").parse::<i32>().ok().filter(|pid| *pid > 0)
        });
        self.outside(inside).unwrap_or_else(|| panic!("{inside} has gone"))
    }

    /// Translates a pid of the host into this machine's.
    fn outside(&self, inside: i32) -> Option<i32> {
        let procs = fs::read_dir("/proc").ok()?;
        let pids = procs.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let of_host = namespace(self.pid)?;
        pids.into_iter().find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let innermost = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .and_then(|pids| pids.split_whitespace().next_back()?.parse::<i32>().ok());
            innermost == Some(inside) && namespace(*pid).as_ref() == Some(&of_host)
        })
    }

    /// A path of the host, as this machine reaches it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Writes a file on the host, creating missing folders.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Adds a drop-in to a unit.
    #[track_caller]
    pub fn drop_in(&self, unit: &str, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{unit}.d/{name}.conf"), text);
        self.shell("systemctl daemon-reload");
    }

    /// The journal so far: all of it, or one unit's.
    pub fn journal_of(&self, unit: Option<&str>) -> String {
        let of: Vec<&str> = unit.map_or_else(Vec::new, |unit| vec!["-u", unit]);
        let arguments: Vec<&str> = ["--no-pager", "-o", "cat", "-q"].into_iter().chain(of).collect();
        String::from_utf8_lossy(&self.run("journalctl", &arguments).stdout).into_owned()
    }

    /// The whole journal so far.
    pub fn journal(&self) -> String {
        self.journal_of(None)
    }

    /// Waits for a line in a unit's journal that contains `words`.
    #[track_caller]
    pub fn told(&self, unit: &str, words: &str) -> String {
        wait::until(&format!("'{words}' in the journal of {unit}"), || {
            self.journal_of(Some(unit)).lines().find(|line| line.contains(words)).map(str::to_owned)
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.journal();
            let lines: Vec<_> = journal.lines().collect();
            eprintln!("--- the host's journal:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        // Everything in its pid namespace ends with it.
        if let Some(process) = self.process.take() {
            process.signal(Signal::KILL);
        }
        let gone = || !self.group.exists() || remove(&self.group);
        if std::thread::panicking() {
            // A second panic would hide the first. The next host removes whatever remains.
            let _ = (0..100).any(|_| {
                gone() || {
                    std::thread::sleep(Duration::from_millis(10));
                    false
                }
            });
        } else {
            wait::until("the cgroups of the host to be empty", || gone().then_some(()));
        }
    }
}

/// An installation on a host.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// The copy of the project that it was installed from.
    pub tree: PathBuf,
    readme: String,
}

impl Deployed {
    /// The commands in the README below this heading, in the code block of this number.
    #[track_caller]
    pub fn commands(&self, heading: &str, block: usize) -> String {
        let (_, section) = self.readme.split_once(&format!("\n{heading}\n")).expect("the heading is there");
        let section = section.split("\n## ").next().unwrap_or_default();
        let found = section.split("```sh\n").nth(block + 1).and_then(|rest| rest.split("```").next());
        found.unwrap_or_else(|| panic!("no block {block} below {heading}")).to_owned()
    }

    /// The same commands, run in the folder of the project.
    pub fn in_project(&self, commands: &str) -> String {
        format!("cd '{}'\n{commands}", self.tree.display())
    }

    /// The same commands, run in the folder of the units.
    pub fn in_units(&self, commands: &str) -> String {
        format!("cd '{}/{DEPLOY}/systemd'\n{commands}", self.tree.display())
    }
}

/// Where cgroups of version 2 are mounted, beside version 1 or alone.
fn unified() -> Option<PathBuf> {
    let places = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
    places.into_iter().find(|place| place.join("cgroup.controllers").is_file())
}

/// Removes the cgroups of tests that were killed; the processes in them died with them.
fn remove_left_over(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let of = name.to_str().and_then(|name| name.strip_prefix(GROUP)?.split('-').next());
        if of.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path());
        }
    }
}

/// Removes a cgroup and those in it, innermost first.
fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok()
}
