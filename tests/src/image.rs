//! A container image, unpacked by `umoci` and run by `runc` as Kubernetes would run it with our
//! manifests: not root, no capabilities, a read-only root, `/tmp` and `/run/shard` in memory. Its
//! network is a loopback of its own, with a name server that knows one name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::released::done;

/// Seconds that a container may run.
const RUNS_AT_MOST: &str = "120";

/// Three names: one known only to the name server, one only to `/etc/hosts`, and one to neither.
pub const BY_NAME_SERVER: &str = "by-name-server.test";
/// See [`BY_NAME_SERVER`].
pub const BY_HOSTS_FILE: &str = "by-hosts-file.test";
/// See [`BY_NAME_SERVER`].
pub const BY_NOBODY: &str = "by-nobody.test";

/// Starts a name server on loopback, and becomes `sys.argv[1:]`. It ends with its pid namespace.
const SERVE: &str = r#"
import os, socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
if os.fork():
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    question, sender = server.recvfrom(512)
    known = question[12:].startswith(b"\x0eby-name-server\x04test\x00")
    # Its address, and no IPv6 one; of anything else, that there is no such name.
    answer = known and question[-4:-2] == b"\x00\x01"
    head = question[:2] + (b"\x81\x80" if known else b"\x81\x83") + question[4:6] + bytes([0, answer, 0, 0, 0, 0])
    tail = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x7f\x00\x00\x01" if answer else b""
    server.sendto(head + question[12:] + tail, sender)
"#;

/// An unpacked image.
#[derive(Debug)]
pub struct Image {
    bundle: PathBuf,
    folder: PathBuf,
    runs: std::cell::Cell<u32>,
}

impl Image {
    /// Unpacks the archive of the image with this tag into a folder of the test's own.
    #[track_caller]
    pub fn unpack(archive: &Path, tag: &str, folder: &Path) -> Self {
        let (layout, bundle) = (folder.join("layout"), folder.join("bundle"));
        fs::create_dir_all(&layout).expect("a folder of the test's own");
        let text = |path: &Path| path.to_str().expect("a path of the test's own").to_owned();
        done("tar", &["--extract", "--file", &text(archive), "--directory", &text(&layout)]);
        done("umoci", &["unpack", "--image", &format!("{}:{tag}", text(&layout)), &text(&bundle)]);
        fs::write(folder.join("hosts"), format!("127.0.0.1 localhost {BY_HOSTS_FILE}\n")).expect("a file");
        fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n").expect("a file");
        Self { bundle, folder: folder.to_path_buf(), runs: std::cell::Cell::new(0) }
    }

    /// The root of its file system.
    pub fn root(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// The runtime configuration generated from the image.
    #[track_caller]
    pub fn config(&self) -> Value {
        let text = fs::read_to_string(self.bundle.join("config.json")).expect("umoci wrote it");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Runs the image's entry point with these arguments until it ends.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut config = self.config();
        config["process"]["terminal"] = json!(false);
        let args = config["process"]["args"].as_array_mut().expect("an entry point");
        args.extend(arguments.iter().map(|argument| json!(argument)));
        for set in config["process"]["capabilities"].as_object_mut().expect("sets").values_mut() {
            *set = json!([]);
        }
        config["root"]["readonly"] = json!(true);
        // Use the network namespace of whoever starts it: a loopback.
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.retain(|namespace| namespace["type"] != "network");
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        for memory in ["/tmp", "/run/shard"] {
            let options = ["nosuid", "nodev", "mode=1777"];
            mounts.push(
                json!({ "destination": memory, "type": "tmpfs", "source": "tmpfs", "options": options }),
            );
        }
        for file in ["hosts", "resolv.conf"] {
            let (source, to) = (self.folder.join(file), format!("/etc/{file}"));
            mounts.push(
                json!({ "destination": to, "type": "bind", "source": source, "options": ["bind", "ro"] }),
            );
        }
        // Changed in a copy: the next run starts from the image's own again.
        let number = self.runs.replace(self.runs.get() + 1);
        let bundle = self.folder.join(format!("run-{number}"));
        fs::create_dir(&bundle).expect("a folder of the test's own");
        config["root"]["path"] = json!(self.root());
        fs::write(bundle.join("config.json"), config.to_string()).expect("a file");

        // Everything it starts is in a pid namespace, which ends with the test.
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "--pid",
            "--mount",
            "--mount-proc",
            "--fork",
        ]);
        command.args([
            "--kill-child=KILL",
            "python3",
            "-c",
            SERVE,
            "timeout",
            "--kill-after=5",
            RUNS_AT_MOST,
        ]);
        command
            .arg("runc")
            .arg("--root")
            .arg(self.folder.join("runc"))
            .args(["run", "--bundle"])
            .arg(&bundle);
        command.arg(format!("shard-test-image-{}-{number}", std::process::id()));
        command.output().expect("setpriv is part of every Debian")
    }
}
