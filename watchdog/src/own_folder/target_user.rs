//! The user that the target runs as, and what that user may write. The adopter reports it from its
//! own thread.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use procfs::process::Status;
use rustix::fs::Stat;
use rustix::io::Errno;
use tokio::sync::watch;

/// A user other than the sidecar's own and root: neither of those can be kept out of anything here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl User {
    /// The user with these ids; `None` if it cannot be kept out of anything.
    pub fn new(uids: &[u32], gids: &[u32]) -> Option<Self> {
        let own = rustix::process::geteuid().as_raw();
        if uids.contains(&0) {
            return None;
        }
        // A process may switch between the ids that it has.
        let uids: Vec<u32> = uids.iter().copied().filter(|uid| *uid != own).collect();
        (!uids.is_empty()).then(|| Self { uids, gids: gids.to_vec() })
    }

    /// The user of a process.
    pub fn of_process(status: &Status) -> Option<Self> {
        let uids = [status.ruid, status.euid, status.suid, status.fuid];
        let mut gids = vec![status.rgid, status.egid, status.sgid, status.fgid];
        gids.extend(&status.groups);
        Self::new(&uids, &gids)
    }

    /// One of its user ids, for a message. There is at least one.
    pub fn uid(&self) -> u32 {
        self.uids.first().copied().unwrap_or_default()
    }

    /// Whether it may write there, or could give itself permission. `has_list` is called where the
    /// mode leaves this open: a list of further users hides behind the group bits.
    pub fn may_write(&self, stat: &Stat, has_list: impl FnOnce() -> bool) -> bool {
        self.uids.contains(&stat.st_uid)
            || stat.st_mode & 0o002 != 0
            || stat.st_mode & 0o020 != 0 && (self.gids.contains(&stat.st_gid) || has_list())
    }
}

/// The user that the target runs as, as far as it is known.
#[derive(Debug, Default)]
pub struct TargetUser(watch::Sender<Option<User>>);

impl TargetUser {
    /// Before the target is adopted, the owner of its segment; before there is a segment, the user
    /// that the config names, if any.
    pub fn of_segment(path: &Path, configured: Option<u32>) -> Self {
        let metadata = std::fs::metadata(path).ok();
        let of_file = metadata.and_then(|there| User::new(&[there.uid()], &[there.gid()]));
        Self(watch::Sender::new(of_file.or_else(|| User::new(&[configured?], &[]))))
    }

    /// Sets the target's user from now on.
    pub fn set(&self, user: Option<User>) {
        self.0.send_if_modified(|held| {
            let other = *held != user;
            *held = user;
            other
        });
    }

    /// Receives each change of the user.
    pub fn changes(&self) -> watch::Receiver<Option<User>> {
        self.0.subscribe()
    }

    /// The user that must not be able to write the sidecar's own files.
    pub fn get(&self) -> Option<User> {
        self.0.borrow().clone()
    }
}

/// Whether this folder has an access control list. If that cannot be determined, it counts as
/// having one.
pub(super) fn has_list(folder: BorrowedFd<'_>) -> bool {
    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let mut nothing = [0_u8; 0];
    let asked = rustix::fs::getxattr(path, c"system.posix_acl_access", &mut nothing);
    !matches!(asked, Err(Errno::NODATA | Errno::NOTSUP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_from_root_and_from_ones_own_user() {
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(User::new(&[own], &[7]), None);
        assert_eq!(User::new(&[61_001, 0], &[7]), None, "it may become root");
        // A process that may become another user counts as that user too; one that may become root
        // cannot be kept out.
        let both = User::new(&[own, 61_001], &[7]);
        assert_eq!(both.map(|user| user.uid()), (own != 0).then_some(61_001));
    }

    #[test]
    fn owner_others_and_its_groups_may_write() {
        let folder = tempfile::tempdir().unwrap();
        let fd =
            rustix::fs::open(folder.path(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        let mut stat = rustix::fs::fstat(&fd).unwrap();
        let user = User { uids: vec![61_001], gids: vec![61_007] };
        for (uid, gid, mode, list, may) in [
            (0, 0, 0o755, false, false),
            (0, 0, 0o775, false, false),
            (0, 0, 0o775, true, true),
            (0, 61_007, 0o775, false, true),
            (0, 61_007, 0o755, true, false),
            (0, 0, 0o757, false, true),
            (61_001, 0, 0o500, false, true),
        ] {
            (stat.st_uid, stat.st_gid, stat.st_mode) = (uid, gid, 0o040_000 | mode);
            assert_eq!(user.may_write(&stat, || list), may, "{uid} {gid} {mode:o} {list}");
        }
    }
}
