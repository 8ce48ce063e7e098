//! Another kernel than this machine's: User Mode Linux, which is a whole kernel in one program and
//! boots in seconds, without root and without KVM. What it runs is a folder of static and copied
//! programs, packed as the kernel's first file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fault_kit;
use crate::process::binary;

/// Where Debian's packages put the programs.
const KERNEL: &str = "/usr/bin/linux.uml";
const BUSYBOX: &str = "/bin/busybox";
const CPIO: &str = "/usr/bin/cpio";
/// Memory of the machine. It is a file that grows as it is used.
const MEMORY: &str = "mem=1000M";
/// A scenario takes a quarter of that on a machine that has nothing else to do.
const AT_MOST: Duration = Duration::from_secs(180);

/// Such a kernel, with all that it takes to boot it.
#[derive(Clone, Copy, Debug)]
pub struct Kernel(());

impl Kernel {
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find() -> Result<Self, String> {
        let missing: Vec<_> = [(KERNEL, "user-mode-linux"), (BUSYBOX, "busybox-static"), (CPIO, "cpio")]
            .into_iter()
            .filter(|(program, _)| !Path::new(program).is_file())
            .map(|(_, package)| package)
            .collect();
        if missing.is_empty() {
            Ok(Self(()))
        } else {
            Err(format!("not installed: apt-get install {}", missing.join(" ")))
        }
    }

    /// Boots it with these programs of ours and the fault kit in `/faults`, runs the scenario of
    /// that name in `tests/kernels`, and
    /// gives what it printed, line by line.
    #[track_caller]
    pub fn run(self, programs: &[&str], scenario: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("root");
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        for place in ["bin", "dev", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(place)).expect("a folder");
        }
        fs::copy(scenarios.join(scenario), root.join("scenario")).expect("the scenario");
        fs::copy(scenarios.join("init"), root.join("init")).expect("the first process");
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).expect("its mode");
        fs::create_dir_all(root.join("faults")).expect("a folder");
        let kit = fs::read_dir(fault_kit::folder()).expect("the fault kit").filter_map(Result::ok);
        for file in kit.filter(|file| file.path().is_file()) {
            fs::copy(file.path(), root.join("faults").join(file.file_name())).expect("a script");
        }
        install(Path::new(BUSYBOX), &root);
        for program in programs {
            install(&binary(program), &root);
        }
        let archive = folder.path().join("initramfs");
        pack(&root, &archive);
        boot(&archive, folder.path())
    }
}

/// Copies a program without its symbols, which are most of it, and the libraries that it needs.
#[track_caller]
fn install(program: &Path, root: &Path) {
    let to = root.join("bin").join(program.file_name().expect("a program"));
    let stripped = Command::new("strip").arg("-o").arg(&to).arg(program).status();
    assert!(stripped.expect("strip, of binutils").success(), "{}", program.display());
    let needs = Command::new("ldd").arg(program).output().expect("ldd").stdout;
    let needs = String::from_utf8_lossy(&needs).into_owned();
    for library in needs.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from) {
        let to = root.join(library.strip_prefix("/").expect("an absolute path"));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(&library, &to).expect("a library");
    }
}

#[track_caller]
fn pack(root: &Path, archive: &Path) {
    let script = format!("find . | {CPIO} --quiet -o -H newc > \"$1\"");
    let packed = Command::new("sh").args(["-c", &script, "pack"]).arg(archive).current_dir(root).status();
    assert!(packed.expect("a shell").success(), "the first file system could not be packed");
}

#[track_caller]
fn boot(archive: &Path, folder: &Path) -> Vec<String> {
    let console = folder.join("console");
    let mut kernel = Command::new(KERNEL)
        .arg(MEMORY)
        .arg(format!("initrd={}", archive.display()))
        .args(["rdinit=/init", "con=null", "con0=fd:0,fd:1", "quiet"])
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
            panic!("the kernel did not halt within {AT_MOST:?}:\n{}", said(&console).join("\n"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    said(&console)
}

fn said(console: &Path) -> Vec<String> {
    let text = fs::read(console).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(|line| line.trim_end().to_owned()).collect()
}
