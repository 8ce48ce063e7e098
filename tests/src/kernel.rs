//! Another kernel than this machine's: User Mode Linux, which is a whole kernel in one program and
//! boots in seconds, without root and without KVM. What it runs is a folder of static and copied
//! programs, packed as the kernel's first file system (`tests/kernels/initramfs`).

mod told;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub use told::Told;

use crate::process::binary;
use crate::skip;

/// What an initramfs is made with, and what a kernel is booted with.
const TOOLS: [(&str, &str); 3] =
    [("/usr/bin/busybox", "busybox-static"), ("/usr/bin/cpio", "cpio"), ("/usr/bin/strip", "binutils")];
/// Memory of the machine. It is a file that grows as it is used.
const MEMORY: &str = "mem=3000M";
/// A scenario takes a quarter of that on a machine that has nothing else to do.
const AT_MOST: Duration = Duration::from_secs(240);

/// The Debian whose User Mode Linux it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debian {
    /// 12: Linux 6.1, installed.
    Bookworm,
    /// 13: Linux 6.12, in `target/tools`.
    Trixie,
    /// Whatever is the newest today, in `target/tools`.
    Sid,
}

impl Debian {
    /// Where its kernel is, and how to get it.
    fn kernel(self) -> (PathBuf, &'static str) {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/uml");
        let unpacked = |suite: &str| tools.join(suite).join("root/usr/bin/linux.uml");
        match self {
            Self::Bookworm => (PathBuf::from("/usr/bin/linux.uml"), "apt-get install user-mode-linux"),
            Self::Trixie => (unpacked("trixie"), "bash tests/tools"),
            Self::Sid => (unpacked("sid"), "bash tests/tools"),
        }
    }

    /// Boots it with these programs of ours, runs the scenario of that name in `tests/kernels`, and
    /// gives what that printed. `None`: it cannot be run here, which is noted for `test`.
    ///
    /// In CI nothing may be missing. One thing is nobody's fault here all the same: sid's kernel is
    /// another one tomorrow, and if that does not boot at all, or ends in a panic of its own, it
    /// says nothing of the sidecar.
    #[track_caller]
    pub fn run(self, test: &str, programs: &[&str], scenario: &str) -> Option<Told> {
        let (kernel, get) = self.kernel();
        let missing = TOOLS.into_iter().find(|(program, _)| !Path::new(program).is_file());
        let why = match missing {
            Some((_, package)) => Some(format!("not installed: apt-get install {package}")),
            None if !kernel.is_file() => Some(format!("there is no {}: {get}", kernel.display())),
            None => None,
        };
        if let Some(why) = why {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
            skip::note(test, &why);
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let archive = folder.path().join("initramfs");
        pack(programs, &archive);
        let told = Told::new(&boot(&kernel, &archive, folder.path(), scenario));
        if self == Self::Sid && told.failed_by_itself() {
            skip::note(test, &format!("sid's kernel of today does not run here:\n{}", told.text()));
            return None;
        }
        assert_eq!(told.of(&format!("END {scenario}")).next(), Some("0"), "{}", told.text());
        Some(told)
    }
}

#[track_caller]
fn pack(programs: &[&str], archive: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/initramfs");
    let packed = Command::new(script).arg(archive).args(programs.iter().map(|name| binary(name))).status();
    assert!(packed.expect("a shell").success(), "the first file system could not be packed");
}

#[track_caller]
fn boot(kernel: &Path, archive: &Path, folder: &Path, scenario: &str) -> String {
    let console = folder.join("console");
    let mut kernel = Command::new(kernel)
        .arg(MEMORY)
        .arg(format!("initrd={}", archive.display()))
        .args(["rdinit=/init", "con=null", "con0=fd:0,fd:1", "quiet"])
        .arg(format!("scenarios={scenario}"))
        // Where the file that is its memory lies, and what it keeps of itself.
        .env("TMPDIR", folder)
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&console).expect("a file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the kernel starts");
    let began = Instant::now();
    while kernel.try_wait().expect("a child").is_none() {
        if began.elapsed() > AT_MOST {
            // It ends its own processes with it.
            let _ = kernel.kill();
            let _ = kernel.wait();
            panic!("the kernel did not halt within {AT_MOST:?}:\n{}", said(&console));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    said(&console)
}

fn said(console: &Path) -> String {
    String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).into_owned()
}
