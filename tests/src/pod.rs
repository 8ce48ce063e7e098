//! A pod, as a kubelet and a container runtime would create it: namespaces that the containers
//! share, a mount namespace for each, a read-only root, a user without capabilities, and the
//! volumes of the manifest. It runs exactly what the built manifest says, so that the programs
//! themselves prove its paths, ports and arguments.
//!
//! The seccomp profile is missing: its text belongs to the container runtime.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::process::{Process, binary};
use crate::{skip, wait};

/// The pod's first process: it sets up the network and the volume in memory, and reaps.
const PAUSE: &str = r#"
mount --make-rprivate /
mount -t proc proc /proc
ip link set lo up
mount -t tmpfs -o size=16m,mode=0777 run "$1/run"
echo the pod is there
while :; do sleep 1000 & wait; done
"#;

/// Mounts what the manifest requests over a root that nobody can write, and becomes the container's
/// command. Arguments: `NAME=VALUE…`, `VOLUME:PATH…`, then the command, each list ended by `--`.
const CONTAINER: &str = r#"
programs=$1; volumes=$2; shift 2
mount --make-rprivate /
for folder in /run /etc /var/lib; do mount -t tmpfs -o mode=0755 none "$folder"; done
mkdir /run/bin
for program in shard-watchdog shard-executor; do
    touch "/run/bin/$program"
    mount --bind "$programs/$program" "/run/bin/$program"
done
while [ "$1" != -- ]; do export "$1"; shift; done; shift
while [ "$1" != -- ]; do
    mkdir -p "${1#*:}"; mount --bind "$volumes/${1%%:*}" "${1#*:}"; shift
done; shift
for folder in / /run /etc /var/lib; do mount -o remount,bind,ro "$folder"; done
PATH=/run/bin:$PATH exec setpriv --reuid "$uid" --regid "$gid" --groups "$gid" --no-new-privs --inh-caps=-all \
    --bounding-set=-all -- "$@"
"#;

/// A running pod. Dropping it ends it with everything that runs in it.
#[derive(Debug)]
pub struct Pod {
    spec: Value,
    volumes: PathBuf,
    labels: BTreeMap<String, String>,
    pause: Option<Process>,
    /// Pid of its first process, as this machine numbers it.
    pid: i32,
}

impl Pod {
    /// Whether a pod can run here. If not, `test` is recorded as skipped; in CI that is a failure.
    #[track_caller]
    pub fn possible(test: &str) -> bool {
        let made =
            Command::new("unshare").args(["--net", "--ipc", "--pid", "--mount", "--fork", "true"]).output();
        let why = if !rustix::process::getuid().is_root() {
            "it takes root to make namespaces and mounts"
        } else if !made.is_ok_and(|output| output.status.success()) {
            "this kernel or sandbox allows no namespaces"
        } else {
            return true;
        };
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI makes pods: {why}");
        skip::note(test, why);
        false
    }

    /// Starts pod number `index` of the built `StatefulSet`, with the files of its volumes `config`
    /// and `token`. No container runs yet.
    #[track_caller]
    pub fn start(folder: &Path, set: &Value, index: u32, config: &str) -> Self {
        let spec = set["spec"]["template"]["spec"].clone();
        let volumes = folder.join("volumes");
        for volume in ["run", "evidence", "config", "token"] {
            let path = volumes.join(volume);
            fs::create_dir_all(&path).expect("a folder of the test's own");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("its mode");
        }
        fs::write(volumes.join("config/watchdog.toml"), config).expect("the config");
        let token = volumes.join("token/token");
        fs::write(&token, "sixteen-or-more-visible-characters\n").expect("the token");
        let mode = spec["volumes"].as_array().into_iter().flatten().find(|volume| volume["name"] == "token");
        let mode = mode.and_then(|volume| volume["secret"]["defaultMode"].as_u64()).expect("its mode");
        fs::set_permissions(&token, fs::Permissions::from_mode(u32::try_from(mode).expect("a mode")))
            .expect("its mode");
        let id = |key: &str| {
            let id = spec["securityContext"][key].as_u64().and_then(|id| u32::try_from(id).ok());
            id.unwrap_or_else(|| panic!("no {key}"))
        };
        std::os::unix::fs::chown(&token, None, Some(id("fsGroup"))).expect("its group");
        // Not in the manifest: a fault port requires a folder that nobody else may write.
        let faults = volumes.join("faults");
        fs::create_dir(&faults).expect("a folder of the test's own");
        fs::set_permissions(&faults, fs::Permissions::from_mode(0o700)).expect("its mode");
        std::os::unix::fs::chown(&faults, Some(id("runAsUser")), Some(id("runAsGroup"))).expect("its owner");

        let mut command = Command::new("unshare");
        command.args(["--net", "--ipc", "--uts", "--pid", "--mount", "--fork", "--kill-child=KILL"]);
        command.args(["bash", "-ec", PAUSE, "pause"]).arg(&volumes);
        let pause = Process::start("pause", command);
        pause.line("its network and volumes", 0, |line| line.contains("the pod is there").then_some(()));
        let pid = child_of(pause.pid());
        let index = index.to_string();
        let labels = BTreeMap::from([
            ("metadata.labels['apps.kubernetes.io/pod-index']".to_owned(), index.clone()),
            ("metadata.name".to_owned(), format!("shard-{index}")),
            ("metadata.namespace".to_owned(), "shards".to_owned()),
            ("spec.nodeName".to_owned(), "node".to_owned()),
        ]);
        Self { spec, volumes, labels, pause: Some(pause), pid }
    }

    /// The container of this name in the manifest.
    #[track_caller]
    pub fn container(&self, name: &str) -> &Value {
        let all = ["initContainers", "containers"].into_iter().filter_map(|kind| self.spec[kind].as_array());
        all.flatten().find(|container| container["name"] == name).expect("a container of that name")
    }

    /// Starts a container as its runtime would, with `more` arguments. Unless the manifest shares
    /// the pid namespace, the container gets its own.
    #[track_caller]
    pub fn run(&self, name: &str, more: &[&str]) -> Process {
        let container = self.container(name);
        let mut command = self.enter(&["--net", "--ipc", "--uts", "--pid", "--mount"]);
        command.args(["unshare", "--mount"]);
        if self.spec["shareProcessNamespace"] != true {
            command.args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
        }
        let programs = binary("shard-watchdog");
        command.args(["bash", "-ec", CONTAINER, name]).arg(programs.parent().expect("a folder"));
        command.arg(&self.volumes);
        let context = &self.spec["securityContext"];
        command.args([format!("uid={}", context["runAsUser"]), format!("gid={}", context["runAsGroup"])]);
        command.args(self.variables(container)).arg("--");
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            command.arg(format!("{}:{}", text(&mount["name"]), text(&mount["mountPath"])));
        }
        command.args(["faults:/run/faults", "--"]);
        for word in ["command", "args"].into_iter().filter_map(|key| container[key].as_array()).flatten() {
            command.arg(text(word));
        }
        command.args(more);
        Process::start(name, command)
    }

    /// Ends a container as the kubelet finally does, and waits for it.
    #[track_caller]
    pub fn kill(&self, mut container: Process) {
        self.signal(&container, Signal::KILL);
        container.wait("the end of the container");
    }

    /// Signals the first process of a container.
    #[track_caller]
    pub fn signal(&self, container: &Process, signal: Signal) {
        // The process started here is `nsenter`; its child is the program, or the first process of
        // the program's pid namespace.
        let mut program = child_of(container.pid());
        if self.spec["shareProcessNamespace"] != true {
            program = child_of(program);
        }
        let pid = rustix::process::Pid::from_raw(program).expect("a pid");
        // Not reaped before its parent above has ended, so the pid is still its own.
        rustix::process::kill_process(pid, signal).expect("a process of ours");
    }

    /// `NAME=VALUE` of each variable of the container, with references to the pod and to earlier
    /// variables resolved.
    fn variables(&self, container: &Value) -> Vec<String> {
        let mut known: Vec<(String, String)> = Vec::new();
        for variable in container["env"].as_array().into_iter().flatten() {
            let field = &variable["valueFrom"]["fieldRef"]["fieldPath"];
            let value = match field.as_str() {
                Some(field) => self.labels.get(field).expect("a field that the downward API has").clone(),
                None => known.iter().fold(text(&variable["value"]).to_owned(), |value, (name, known)| {
                    value.replace(&format!("$({name})"), known)
                }),
            };
            known.push((text(&variable["name"]).to_owned(), value));
        }
        known.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// A `nsenter` command into these namespaces of the pod.
    pub fn enter(&self, kinds: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string()]).args(kinds).arg("--");
        command
    }

    /// Runs `ask` in the pod's network.
    #[track_caller]
    pub fn within<T: Send>(&self, ask: impl FnOnce() -> T + Send) -> T {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.pid)).expect("the pod's network");
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                // Affects only this thread, which ends after `ask`.
                let network = std::os::fd::AsFd::as_fd(&network);
                move_into_link_name_space(network, Some(LinkNameSpaceType::Network)).expect("root may enter");
                ask()
            });
            asking.join().expect("an answer")
        })
    }

    /// The folder of a volume on this machine's disk.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.volumes.join(name)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // All other processes end with its first.
        if let Some(pause) = &mut self.pause {
            pause.signal(Signal::KILL);
            pause.wait("the end of the pod");
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The first child of one of our own processes.
#[track_caller]
fn child_of(pid: i32) -> i32 {
    wait::until("a child", || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}
