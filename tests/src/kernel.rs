//! A different kernel from this machine's: User Mode Linux, which is a whole kernel in one program
//! and boots in seconds, without root and without KVM. It runs a folder of static and copied
//! programs, packed as the kernel's first file system (`tests/kernels/initramfs`).

mod told;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub use told::Told;

use crate::process::binary;
use crate::skip;

/// Tools that make an initramfs and boot a kernel, with their packages.
const TOOLS: [(&str, &str); 3] =
    [("/usr/bin/busybox", "busybox-static"), ("/usr/bin/cpio", "cpio"), ("/usr/bin/strip", "binutils")];
/// The kernel's memory: a file that grows as it is used.
const MEMORY: &str = "mem=3000M";
/// Four times what a scenario takes on an otherwise idle machine.
const AT_MOST: Duration = Duration::from_secs(240);

/// The Debian release that the User Mode Linux comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debian {
    /// 12: Linux 6.1, installed.
    Bookworm,
    /// 13: Linux 6.12, in `target/tools`.
    Trixie,
    /// The newest at the time, in `target/tools`.
    Sid,
}

impl Debian {
    /// The path of its kernel, and how to get it.
    fn kernel(self) -> (PathBuf, &'static str) {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/uml");
        let unpacked = |suite: &str| tools.join(suite).join("root/usr/bin/linux.uml");
        match self {
            Self::Bookworm => (PathBuf::from("/usr/bin/linux.uml"), "apt-get install user-mode-linux"),
            Self::Trixie => (unpacked("trixie"), "bash tests/tools"),
            Self::Sid => (unpacked("sid"), "bash tests/tools"),
        }
    }

    /// Boots the kernel with these programs of ours, runs the scenario of that name in
    /// `tests/kernels`, and returns its output. `None` if it cannot run here, which is recorded for
    /// `test`.
    ///
    /// In CI nothing may be missing. One failure is tolerated even there: sid's kernel changes from
    /// day to day, and if it does not boot at all, or panics by itself, that says nothing about the
    /// sidecar.
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
    let mut kernel = Command::new(kernel);
    if let Some(library) = whole_registers(folder) {
        kernel.env("LD_PRELOAD", library);
    }
    let mut kernel = kernel
        .arg(MEMORY)
        .arg(format!("initrd={}", archive.display()))
        .args(["rdinit=/init", "con=null", "con0=fd:0,fd:1", "quiet"])
        .arg(format!("scenarios={scenario}"))
        // For the file that holds its memory, and for its own state.
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
            // Its processes end with it.
            let _ = kernel.kill();
            let _ = kernel.wait();
            panic!("the kernel did not halt within {AT_MOST:?}:\n{}", said(&console));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    said(&console)
}

/// What User Mode Linux needs on a processor with more registers than it knows:
/// `tests/kernels/xstate.c` says why. `None` on any other.
#[track_caller]
fn whole_registers(folder: &Path) -> Option<PathBuf> {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !flags.split_whitespace().any(|flag| flag == "amx_tile") {
        return None;
    }
    let library = folder.join("xstate.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/xstate.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.expect("a C compiler").success(), "xstate.c could not be compiled");
    Some(library)
}

fn said(console: &Path) -> String {
    String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).into_owned()
}
