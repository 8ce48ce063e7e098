//! Who owns a segment, and who could have put it where it is: what must be true of a file before
//! anything in it is believed.

use std::path::Path;

use shard_heartbeat::{LockHolder, Reader, is_unmapped};

use super::Wanted;
use super::way::{self, Way};

/// Mode bits that let group and others change a file, or the contents of a folder.
const WRITABLE: u32 = 0o022;
/// In a folder with this bit, nobody can rename or remove another user's files.
const STICKY: u32 = 0o1000;

/// Why a file is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrusted {
    /// Others may write it.
    #[error(
        "{path} has mode {mode:04o}: group or others may write it, so anybody of them could have a process killed. Nothing is watched: \
         `chmod go-w {path}`, and see what mode its writer gives it (0600 is right)"
    )]
    File {
        /// Path of the segment.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Others may replace the file.
    #[error(
        "the folder {path} has mode {mode:04o}: group or others may put another file in the place of the heartbeat segment in it. Nothing \
         is watched: `chmod go-w {path}` (or `chmod +t`, as /tmp has it), have the target make a folder of its own in it, or run the \
         sidecar as the target's user"
    )]
    Folder {
        /// Path of the folder.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Another user may replace the file.
    #[error(
        "the folder {path} belongs to user {owner}, who is neither root, nor the owner of the heartbeat segment in it (user {uid}), nor \
         this sidecar's own user ({own}): that user may put another file in its place. Nothing is watched: move the segment to a folder of \
         its owner's, or `chown` that folder"
    )]
    FolderOwner {
        /// Path of the folder.
        path: String,
        /// User id of the folder's owner.
        owner: u32,
        /// User id of the segment's owner.
        uid: u32,
        /// User id of the sidecar.
        own: u32,
    },
    /// The file has other names.
    #[error(
        "{path} has {links} names (hard links): one segment stands in two places, and which of them its writer means cannot be told. \
         Nothing is watched: remove the other name, or restart the target, which makes a new file"
    )]
    Linked {
        /// Path of the segment.
        path: String,
        /// How many names it has.
        links: u64,
    },
    /// The file belongs to another user than the config names.
    #[error(
        "{path} belongs to user {uid}, and [target] user is {wanted}: nothing is watched. Correct [target] user or heartbeat, or run the \
         target as that user"
    )]
    Owner {
        /// Path of the segment.
        path: String,
        /// User id of its owner.
        uid: u32,
        /// The user that the config names.
        wanted: String,
    },
    /// The segment is in the place of another process.
    #[error(
        "{path} is the heartbeat segment of process {owner}, and the lock beside it ({path}.lock) is held by process {holder}: the file was \
         moved into another one's place. Nothing is watched: put each file back, or restart both processes"
    )]
    PlaceOfAnother {
        /// Path of the segment.
        path: String,
        /// Pid of the process that maps it.
        owner: i32,
        /// Pid of the process that holds the lock on the place.
        holder: u32,
    },
    /// The segment's writer does not hold the place.
    #[error(
        "{path} is the heartbeat segment of process {owner}, which does not hold the lock beside it ({path}.lock) as the writer of a segment \
         does for as long as it writes: the file was moved here from another place, or the process has closed that file. Nothing is watched: \
         put it back, or restart that process"
    )]
    PlaceOfNobody {
        /// Path of the segment.
        path: String,
        /// Pid of the process that maps it.
        owner: i32,
    },
}

/// Fails if anybody but its owner could have written the file or put it there, or if it does not
/// belong to the wanted user.
pub(super) fn check(reader: &Reader, wanted: &Wanted) -> Result<(), Distrusted> {
    let custody = reader.custody();
    let path = || reader.path().display().to_string();
    let folder = || match reader.path().parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.display().to_string(),
        _ => ".".to_owned(),
    };
    if let Some(user) = wanted.user.as_ref().filter(|user| user.uid != custody.uid) {
        return Err(Distrusted::Owner { path: path(), uid: custody.uid, wanted: user.to_string() });
    }
    if custody.mode & WRITABLE != 0 {
        return Err(Distrusted::File { path: path(), mode: custody.mode });
    }
    let own = rustix::process::geteuid().as_raw();
    let (uid, owner) = (custody.uid, custody.folder_uid);
    // Only root can also make files of this user, and this user can signal only its own processes.
    // Whoever may write the folder can at most remove the segment. A Kubernetes volume is such a
    // folder (0777, or 2770 of a group), and a pod cannot change that.
    if own == 0 || uid != own {
        if custody.folder_mode & WRITABLE != 0 && custody.folder_mode & STICKY == 0 {
            return Err(Distrusted::Folder { path: folder(), mode: custody.folder_mode });
        }
        let trusted = |owner| [0, uid, own].contains(&owner) || is_unmapped(owner, &wanted.proc_root);
        if !trusted(owner) {
            return Err(Distrusted::FolderOwner { path: folder(), owner, uid, own });
        }
        way::check(Path::new(&folder()), trusted).map_err(|way| match way {
            Way::Open { path, mode } => Distrusted::Folder { path, mode },
            Way::Owner { path, owner } => Distrusted::FolderOwner { path, owner, uid, own },
        })?;
    }
    if custody.links > 1 {
        return Err(Distrusted::Linked { path: path(), links: custody.links });
    }
    Ok(())
}

/// Fails if process `owner`, which maps the segment, is seen not to hold that place. A writer locks
/// a file beside its segment before creating it, and a renamed segment leaves that lock behind.
pub(super) fn is_in_its_place(reader: &Reader, owner: i32) -> Result<(), Distrusted> {
    let path = || reader.path().display().to_string();
    match reader.lock_holder() {
        LockHolder::Process(holder) if i32::try_from(holder) == Ok(owner) => Ok(()),
        LockHolder::Process(holder) => Err(Distrusted::PlaceOfAnother { path: path(), owner, holder }),
        LockHolder::Nobody => Err(Distrusted::PlaceOfNobody { path: path(), owner }),
        // Nothing contradicts it: there never was a lock file, or this sidecar may not query it.
        LockHolder::Unseen | LockHolder::Unknown => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use shard_heartbeat::{Heartbeat, SegmentOptions};

    use super::*;
    use crate::config::user::User;

    struct Place {
        folder: tempfile::TempDir,
        path: PathBuf,
        _heartbeat: Heartbeat,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("0.heartbeat");
            let heartbeat = Heartbeat::create(&path, &SegmentOptions::new("0")).unwrap();
            Self { folder, path, _heartbeat: heartbeat }
        }

        fn check(&self, user: Option<u32>) -> Result<(), Distrusted> {
            let user = user.map(|uid| User { name: None, uid });
            let wanted = Wanted {
                shard: "0".to_owned(),
                heartbeat: self.path.clone(),
                user,
                systemd_unit: None,
                apart: false,
                proc_root: "/proc".into(),
            };
            check(&Reader::open(&self.path).unwrap(), &wanted)
        }
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_may_write_is_refused_with_its_name_and_mode() {
        let place = Place::new();
        assert_eq!(place.check(None), Ok(()));
        for bits in [0o620, 0o602, 0o666] {
            mode(&place.path, bits);
            let told = place.check(None).unwrap_err().to_string();
            assert!(told.contains("0.heartbeat has mode 0") && told.contains("chmod go-w"), "{told}");
        }
        mode(&place.path, 0o644);
        assert_eq!(place.check(None), Ok(()), "whoever only reads does no harm");
        // As root: a sidecar of another user accepts a folder in which it can only lose its own
        // segment.
        for bits in [0o770, 0o707, 0o777].into_iter().filter(|_| rustix::process::geteuid().is_root()) {
            mode(place.folder.path(), bits);
            let told = place.check(None).unwrap_err().to_string();
            assert!(told.contains(&format!("{} has mode 0", place.folder.path().display())), "{told}");
        }
        mode(place.folder.path(), 0o1777);
        assert_eq!(place.check(None), Ok(()), "as /tmp and /dev/shm");
    }

    #[test]
    fn a_segment_with_a_second_name_or_of_another_user_is_refused() {
        let place = Place::new();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(place.check(Some(own)), Ok(()));
        let other = place.check(Some(own + 1)).unwrap_err();
        assert!(matches!(other, Distrusted::Owner { .. }), "{other}");
        std::fs::hard_link(&place.path, place.folder.path().join("1.heartbeat")).unwrap();
        assert!(matches!(place.check(None), Err(Distrusted::Linked { links: 2, .. })));
    }

    #[test]
    fn a_segment_that_was_moved_into_a_place_with_a_lock_file_is_not_in_its_own() {
        let place = Place::new();
        let own = std::process::id().cast_signed();
        assert_eq!(is_in_its_place(&Reader::open(&place.path).unwrap(), own), Ok(()));
        let stranger = is_in_its_place(&Reader::open(&place.path).unwrap(), own + 1);
        assert!(matches!(stranger, Err(Distrusted::PlaceOfAnother { .. })), "{stranger:?}");
        let moved = place.folder.path().join("1.heartbeat");
        std::fs::rename(&place.path, &moved).unwrap();
        let reader = Reader::open(&moved).unwrap();
        assert_eq!(is_in_its_place(&reader, own), Ok(()), "no writer was ever here");
        std::fs::write(place.folder.path().join("1.heartbeat.lock"), "").unwrap();
        assert!(matches!(is_in_its_place(&reader, own), Err(Distrusted::PlaceOfNobody { .. })));
    }
}
