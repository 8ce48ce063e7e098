//! What a machine must have for a row. A row that cannot run is reported as skipped; in CI it
//! fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, geteuid, getrlimit};

use crate::{faketime, process};

/// One requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The user is root.
    Root,
    /// A program, and the Debian package that contains it.
    Program(&'static str, &'static str),
    /// A version 1 cgroup controller, and root.
    Controller(&'static str),
    /// Version 2 cgroups that can be frozen, and root.
    Unified,
    /// Namespaces of these kinds, as `unshare` names them.
    Namespaces(&'static [&'static str]),
    /// Permission to choose the next process id of a pid namespace, which takes root.
    ChosenPids,
    /// Core files of any size are written.
    Cores,
    /// The library that gives programs a different wall clock.
    FakeTime,
}

impl Need {
    /// Why the requirement is not met, with the remedy; `None` if it is met.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!geteuid().is_root()).then(|| "it needs root".to_owned()),
            Self::Program(program, package) => (!is_installed(program))
                .then(|| format!("{program} is not installed: apt-get install {package}")),
            Self::Controller(controller) => {
                let there = Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").is_file();
                let why = || format!("there is no cgroup controller {controller} of version 1");
                if there { Self::Root.missing() } else { Some(why()) }
            }
            Self::Unified => {
                let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
                let there = roots.iter().any(|root| Path::new(root).join("cgroup.controllers").is_file());
                if there {
                    Self::Root.missing()
                } else {
                    Some("there are no cgroups of version 2".to_owned())
                }
            }
            Self::Namespaces(kinds) => refused_by_unshare(kinds),
            Self::ChosenPids => Self::Root.missing().or_else(|| {
                let last = "/proc/sys/kernel/ns_last_pid";
                (!Path::new(last).exists()).then(|| format!("this kernel has no {last}"))
            }),
            Self::Cores => {
                let limited = getrlimit(Resource::Core).maximum.is_some();
                limited
                    .then(|| "the hard limit for cores is not unlimited: ulimit -Hc".to_owned())
                    .or_else(|| Self::Root.missing())
            }
            Self::FakeTime => faketime::library()
                .is_none()
                .then(|| "libfaketime is not installed: apt-get install libfaketime".to_owned()),
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

fn refused_by_unshare(kinds: &[&str]) -> Option<String> {
    let mut command = Command::new("unshare");
    command.args(kinds).arg("true");
    let mut tried = process::Process::start("unshare", command);
    let status = tried.wait("the end of unshare");
    (!status.success()).then(|| format!("unshare {}: {}", kinds.join(" "), tried.lines().join(" ")))
}
