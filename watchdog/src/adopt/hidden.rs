//! Why the kernel hides a process from the sidecar. Only a process allowed to trace another may
//! read its `/proc/PID/maps`. There are several reasons why it may not, and each has its own
//! remedy.

use std::path::Path;

use rustix::io::Errno;

use crate::probe::cgroup::mounts;
use crate::probe::task::TaskDir;

/// `CAP_SYS_PTRACE` of `linux/capability.h`: it reveals any process of the same user namespace,
/// despite all of the reasons below.
const CAP_SYS_PTRACE: u64 = 1 << 19;
/// How to give the sidecar that capability.
const GIVE: &str = "give the sidecar CAP_SYS_PTRACE (systemd: AmbientCapabilities=CAP_SYS_PTRACE; containers: capabilities, \
                    add SYS_PTRACE)";

/// Why a process cannot be inspected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hidden {
    /// It runs as another user.
    #[error(
        "which runs as user {theirs}, and this sidecar, as user {ours} without CAP_SYS_PTRACE, may not see what it maps: run the \
         sidecar as user {theirs}, or {GIVE}"
    )]
    OtherUser {
        /// User id of the process.
        theirs: u32,
        /// User id of the sidecar.
        ours: u32,
    },
    /// It has capabilities that the sidecar lacks.
    #[error(
        "which holds capabilities that this sidecar lacks (mask {lacking:#x}), as a program does whose file has capabilities \
         (getcap), so the kernel does not show what it maps: {GIVE}, or run the target without them"
    )]
    Capabilities {
        /// The missing capabilities, as a mask.
        lacking: u64,
    },
    /// It is marked as not dumpable.
    #[error(
        "which is not dumpable (prctl PR_SET_DUMPABLE, or a set-user-id program), so its files in /proc belong to root: {GIVE}, \
         or let the target set PR_SET_DUMPABLE to 1"
    )]
    NotDumpable,
    /// `/proc` hides other users' processes.
    #[error(
        "which may be one that this sidecar is not shown: /proc is mounted with hidepid={0}. Run the sidecar as the target's \
         user or in the group of the mount's gid= option; in a systemd unit, ProtectProc=default"
    )]
    HidePid(String),
    /// Out of descriptors or memory.
    #[error("which cannot be looked at now: {0}; raise the sidecar's limits (LimitNOFILE=, memory)")]
    Short(Errno),
    /// None of these.
    #[error(
        "which cannot be looked at: the kernel answers \"{0}\", although user and capabilities would do. It may be in a user \
         namespace above the sidecar's, or a security module forbids it (AppArmor, SELinux; see the kernel's log): {GIVE}"
    )]
    Denied(Errno),
}

/// Why reading `maps` of the process of that folder failed with `errno`, or anything else for which
/// one must be allowed to trace it.
pub fn why(dir: &TaskDir, errno: Errno, proc_root: &Path) -> Hidden {
    if is_short(errno) {
        return Hidden::Short(errno);
    }
    let own = TaskDir::open(&proc_root.join("self")).ok().and_then(|dir| dir.status());
    let (Some(theirs), Some(own)) = (dir.status(), own) else { return Hidden::Denied(errno) };
    if own.capeff & CAP_SYS_PTRACE != 0 {
        return Hidden::Denied(errno);
    }
    if [theirs.ruid, theirs.euid, theirs.suid].iter().any(|uid| *uid != own.fuid) {
        return Hidden::OtherUser { theirs: theirs.euid, ours: own.euid };
    }
    let lacking = theirs.capprm & !own.capeff;
    if lacking != 0 {
        return Hidden::Capabilities { lacking };
    }
    if dir.owner_of("maps").is_some_and(|owner| owner != theirs.euid) {
        return Hidden::NotDumpable;
    }
    Hidden::Denied(errno)
}

/// Whether the error means that a resource ran out, which says nothing about the process.
pub(super) const fn is_short(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

/// The `hidepid` option of the mount at `proc_root`, unless it hides nothing.
pub(super) fn hidepid(proc_root: &Path) -> Option<String> {
    let mounts = mounts::read(&proc_root.join("self"));
    // The last mount lies on top of the others and is the visible one.
    let mount = mounts.iter().rev().find(|mount| mount.point == proc_root && mount.kind == b"proc")?;
    let mode = mount.option("hidepid")?;
    (!matches!(mode, b"0" | b"off")).then(|| String::from_utf8_lossy(mode).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/proc` with this process and one other, with the given `status` files.
    struct Proc(tempfile::TempDir);

    impl Proc {
        fn new() -> Self {
            let proc = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir_all(proc.0.path().join("self")).unwrap();
            std::fs::create_dir_all(proc.0.path().join("7")).unwrap();
            std::fs::write(proc.0.path().join("7/stat"), "").unwrap();
            std::fs::write(proc.0.path().join("7/maps"), "").unwrap();
            proc
        }

        fn status(&self, of: &str, uid: u32, permitted: u64, effective: u64) {
            let text = format!(
                "Name:\texec-s0\nState:\tS (sleeping)\nTgid:\t7\nNgid:\t0\nPid:\t7\nPPid:\t1\nTracerPid:\t0\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n\
                 Gid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t0\nNSpid:\t7\nThreads:\t2\nSigQ:\t0/1\nSigPnd:\t0\nShdPnd:\t0\n\
                 SigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\nCapInh:\t0\nCapPrm:\t{permitted:016x}\nCapEff:\t{effective:016x}\n"
            );
            std::fs::write(self.0.path().join(of).join("status"), text).unwrap();
        }

        fn why(&self, errno: Errno) -> Hidden {
            let dir = TaskDir::open(&self.0.path().join("7")).unwrap();
            why(&dir, errno, self.0.path())
        }
    }

    /// The owner of the files that this test writes.
    fn uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn each_reason_is_told_with_its_own_next_step() {
        let proc = Proc::new();
        proc.status("self", uid(), 0, 0);
        proc.status("7", uid() + 1, 0, 0);
        let other = proc.why(Errno::ACCESS);
        assert_eq!(other, Hidden::OtherUser { theirs: uid() + 1, ours: uid() });
        assert!(other.to_string().contains("run the sidecar as user"), "{other}");

        proc.status("7", uid(), 0x400, 0);
        let capable = proc.why(Errno::ACCESS);
        assert_eq!(capable, Hidden::Capabilities { lacking: 0x400 });
        assert!(capable.to_string().contains("0x400") && capable.to_string().contains("CAP_SYS_PTRACE"));

        // The sidecar has them too, so they are not the reason.
        proc.status("self", uid(), 0x400, 0x400);
        assert_eq!(proc.why(Errno::ACCESS), Hidden::Denied(Errno::ACCESS));

        // A security module: nothing in `status` forbids it.
        proc.status("self", uid(), CAP_SYS_PTRACE, CAP_SYS_PTRACE);
        proc.status("7", uid() + 1, u64::MAX, 0);
        assert_eq!(proc.why(Errno::ACCESS), Hidden::Denied(Errno::ACCESS));

        assert_eq!(proc.why(Errno::MFILE), Hidden::Short(Errno::MFILE));
    }

    #[test]
    fn files_that_belong_to_root_are_told_as_not_dumpable() {
        let proc = Proc::new();
        // Our files do not belong to this user, as if the kernel had given them to another.
        proc.status("self", uid() + 1, 0, 0);
        proc.status("7", uid() + 1, 0, 0);
        assert_eq!(proc.why(Errno::ACCESS), Hidden::NotDumpable);
    }

    #[test]
    fn hidepid_is_read_off_the_mount_that_is_on_top() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("self");
        std::fs::create_dir_all(&own).unwrap();
        let at = root.path().display();
        let told = |options: &[&str]| {
            let lines: String = options
                .iter()
                .map(|options| format!("31 28 0:5 / {at} rw,relatime - proc proc {options}\n"))
                .collect();
            std::fs::write(own.join("mountinfo"), lines).unwrap();
            hidepid(root.path())
        };
        assert_eq!(told(&["rw"]), None);
        assert_eq!(told(&["rw,gid=7,hidepid=invisible"]).as_deref(), Some("invisible"));
        assert_eq!(told(&["rw,hidepid=1"]).as_deref(), Some("1"));
        assert_eq!(told(&["rw,hidepid=2", "rw,hidepid=off"]), None, "another one is mounted over it");
        assert_eq!(told(&[]), None);
    }
}
