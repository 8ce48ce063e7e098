//! Why the kernel does not let one process dump another, and how to grant it. Opening
//! `/proc/PID/mem` asks the kernel exactly that and does not touch the process.

use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::adopt::hidden::{self, Hidden};
use crate::probe::task::TaskDir;

/// How to give the sidecar, and with it its helper, the right to trace any process.
const GIVE: &str = "give the sidecar CAP_SYS_PTRACE (systemd: AmbientCapabilities=CAP_SYS_PTRACE; containers: capabilities, \
                    add SYS_PTRACE)";

/// Why a process may not be dumped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Missing {
    /// It runs as another user.
    #[error(
        "runs as user {theirs}, and user {ours} may not read its stacks: run the sidecar as user {theirs}, or {GIVE}"
    )]
    OtherUser {
        /// User id of the process.
        theirs: u32,
        /// User id of the sidecar.
        ours: u32,
    },
    /// It has capabilities that the sidecar lacks.
    #[error(
        "holds capabilities that the sidecar lacks (mask {lacking:#x}), so its stacks may not be read: {GIVE}, or run the \
         target without them"
    )]
    Capabilities {
        /// The missing capabilities, as a mask.
        lacking: u64,
    },
    /// It is marked as not dumpable.
    #[error(
        "is not dumpable (prctl PR_SET_DUMPABLE, or a set-user-id program), so its stacks may not be read: {GIVE}, or let \
         the target set PR_SET_DUMPABLE to 1"
    )]
    NotDumpable,
    /// The security module Yama forbids it.
    #[error("may not be traced: kernel.yama.ptrace_scope is {scope}. {}", yama(*scope))]
    Yama {
        /// The value of `kernel.yama.ptrace_scope`.
        scope: u8,
    },
    /// None of these.
    #[error(
        "may not be traced: the kernel answers \"{0}\". It may not be dumpable, or be in another user namespace, or a \
         security module forbids it (AppArmor, SELinux; see the kernel's log): {GIVE}"
    )]
    Denied(String),
}

/// What to do under each value.
fn yama(scope: u8) -> String {
    match scope {
        3.. => "That forbids it to everybody until the machine boots with a smaller value".to_owned(),
        2 => format!("Set it to 1 or 0, or {GIVE}"),
        _ => format!("Set it to 0, let the target allow it (prctl PR_SET_PTRACER), or {GIVE}"),
    }
}

/// Asks the kernel whether this process may dump `pid`. `Ok(None)` if it may.
///
/// # Errors
/// The kernel's error if this cannot be determined: `ESRCH` or `ENOENT` if the process has ended.
pub fn missing(proc_root: &Path, pid: i32) -> Result<Option<Missing>, Errno> {
    let dir = proc_root.join(pid.to_string());
    let errno = match rustix::fs::open(dir.join("mem"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => return Ok(None),
        Err(errno @ (Errno::ACCESS | Errno::PERM)) => errno,
        Err(errno) => return Err(errno),
    };
    let task = TaskDir::open(&dir)?;
    let missing = match hidden::why(&task, errno, proc_root) {
        Hidden::OtherUser { theirs, ours } => Missing::OtherUser { theirs, ours },
        Hidden::Capabilities { lacking } => Missing::Capabilities { lacking },
        Hidden::NotDumpable => Missing::NotDumpable,
        // Yama is asked last, as the kernel does: a small value forbids nothing to the privileged.
        _ => match scope(proc_root) {
            Some(scope @ 1..) => Missing::Yama { scope },
            _ => Missing::Denied(errno.to_string()),
        },
    };
    Ok(Some(missing))
}

/// The value of `kernel.yama.ptrace_scope`; `None` where there is no Yama.
fn scope(proc_root: &Path) -> Option<u8> {
    let text = std::fs::read_to_string(proc_root.join("sys/kernel/yama/ptrace_scope")).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_next_step() {
        let other = Missing::OtherUser { theirs: 7, ours: 8 }.to_string();
        assert!(other.contains("run the sidecar as user 7") && other.contains("CAP_SYS_PTRACE"), "{other}");
        assert!(Missing::NotDumpable.to_string().contains("PR_SET_DUMPABLE to 1"));
        assert!(Missing::Yama { scope: 1 }.to_string().contains("PR_SET_PTRACER"));
        assert!(Missing::Yama { scope: 2 }.to_string().contains("CAP_SYS_PTRACE"));
        let never = Missing::Yama { scope: 3 }.to_string();
        assert!(never.contains("boots") && !never.contains("CAP_SYS_PTRACE"), "{never}");
    }

    #[test]
    fn one_may_dump_oneself_and_nobody_a_process_that_ended() {
        let own = std::process::id().cast_signed();
        assert_eq!(missing(Path::new("/proc"), own), Ok(None));
        assert_eq!(missing(Path::new("/proc"), i32::MAX), Err(Errno::NOENT));
    }

    #[test]
    fn the_value_of_yama_is_read_where_it_exists() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(scope(root.path()), None);
        std::fs::create_dir_all(root.path().join("sys/kernel/yama")).unwrap();
        std::fs::write(root.path().join("sys/kernel/yama/ptrace_scope"), "2\n").unwrap();
        assert_eq!(scope(root.path()), Some(2));
    }
}
