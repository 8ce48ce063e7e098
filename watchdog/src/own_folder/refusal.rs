//! Why a folder or a file is not trusted.

use std::io;
use std::path::PathBuf;

/// Why nothing is read or written there.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It belongs to another user, who may change anything there.
    #[error(
        "{} belongs to uid {owner}, who is neither the sidecar's user (uid {own}) nor root, and may put anything there. \
         Run: chown {own} {}, or choose another folder",
        path.display(), path.display()
    )]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// User id of the sidecar.
        own: u32,
    },
    /// The watched process could forge what is known of it, or redirect the sidecar.
    #[error(
        "the target (uid {target}) may write {}, so that it could put links or files of its own there. Choose a folder \
         that only the sidecar's user may write, with all folders above it, or run: chmod go-w {}",
        path.display(), path.display()
    )]
    TargetMayWrite {
        /// What the target may write.
        path: PathBuf,
        /// User id of the target.
        target: u32,
    },
    /// A file that others may write.
    #[error(
        "{} has mode {mode:03o}: others than its owner may write it. Look at what stands in it; then remove it, or run: \
         chmod go-w {}",
        path.display(), path.display()
    )]
    Writable {
        /// Path of the file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A link where none is followed.
    #[error("{} is a symbolic link, and none is followed here. Name the place that it leads to, or remove it", .0.display())]
    Link(PathBuf),
    /// Something other than a folder.
    #[error("{} is not a folder. Choose another path, or remove it", .0.display())]
    NotAFolder(PathBuf),
    /// Something other than a regular file.
    #[error("{} is not a regular file. Remove it", .0.display())]
    NotAFile(PathBuf),
    /// Larger than any file of ours.
    #[error("{} is larger than {largest} bytes, and no file of the sidecar is. Remove it", path.display())]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
        /// The limit in bytes.
        largest: u64,
    },
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::other(refusal)
    }
}
