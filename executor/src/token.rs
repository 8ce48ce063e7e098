//! A secret that two processes share through a file: whoever presents it is admitted.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

use crate::regular;

/// The fewest characters: 16 of a random alphabet cannot be guessed within the life of a machine.
const SHORTEST: usize = 16;

/// The most characters of a token. Tokens issued by other programs stay well below this.
pub const LONGEST: usize = 4096;

/// Who besides its owner may read a token's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Nobody.
    Nobody,
    /// Its group: Kubernetes mounts secrets that way for a pod that does not run as root.
    Group,
}

impl Readers {
    /// The mode bits that would admit anybody else.
    const fn forbidden(self) -> u32 {
        match self {
            Self::Nobody => 0o077,
            Self::Group => 0o037,
        }
    }
}

/// Why a file has no usable token. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}. Name a file with a token that this user may read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Others may read or write the file.
    #[error("{}: has mode {mode:03o}, so that others may read or change it. Run: chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file belongs to somebody else.
    #[error("{0}: belongs to uid {owner}, who is neither this user nor root. Run: chown {own} {0}", path.display(), own = rustix::process::geteuid().as_raw())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The id of its owner.
        owner: u32,
    },
    /// The file's content is not a token.
    #[error(
        "{}: holds no token, which is one line of {SHORTEST} to {LONGEST} visible ASCII characters. Make one: head -c 24 /dev/urandom | base64",
        .0.display()
    )]
    None(PathBuf),
}

/// A token.
pub struct Token(String);

/// Hides the characters: a log is read by many.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the token in `path`, which only this user, root and `readers` may read.
    ///
    /// # Errors
    /// If there is none, or others may know it.
    pub fn read(path: &Path, readers: Readers) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let file = regular::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(TokenError::Foreign { path: path.to_owned(), owner });
        }
        if mode & readers.forbidden() != 0 {
            return Err(TokenError::Open { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        file.take(LONGEST as u64 + 2).read_to_end(&mut bytes).map_err(failed)?;
        let token = bytes.trim_ascii();
        match str::from_utf8(token) {
            Ok(token)
                if (SHORTEST..=LONGEST).contains(&token.len())
                    && token.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                Ok(Self(token.to_owned()))
            }
            _ => Err(TokenError::None(path.to_owned())),
        }
    }

    /// Whether `claimed` is this token. The time that this takes reveals only whether the lengths
    /// are the same.
    pub fn is(&self, claimed: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(claimed).into()
    }

    /// Its characters, for a client that has to send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const TOKEN: &str = "c2hhcmQtZXhlY3V0b3It";

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn only_the_whole_token_is_right() {
        let (_folder, path) = file(&format!("{TOKEN}\n"), 0o600);
        let token = Token::read(&path, Readers::Nobody).unwrap();
        assert!(token.is(TOKEN.as_bytes()));
        for wrong in ["", &TOKEN[1..], &TOKEN[..TOKEN.len() - 1], "c2hhcmQtZXhlY3V0b3IX"] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
        assert!(!format!("{token:?}").contains(TOKEN));
    }

    #[test]
    fn a_file_that_others_may_read_or_change_is_refused() {
        for (readers, mode) in [
            (Readers::Nobody, 0o640),
            (Readers::Nobody, 0o604),
            (Readers::Group, 0o604),
            (Readers::Group, 0o620),
            (Readers::Group, 0o666),
        ] {
            let (_folder, path) = file(TOKEN, mode);
            let error = Token::read(&path, readers).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        let (_folder, path) = file(TOKEN, 0o440);
        assert!(Token::read(&path, Readers::Group).is_ok());
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in
            ["", "short", "two words of sixteen", "a line\nand another one of them", &"x".repeat(5000)]
        {
            let (_folder, path) = file(text, 0o600);
            assert!(matches!(Token::read(&path, Readers::Nobody), Err(TokenError::None(_))), "{text:?}");
        }
        let error = Token::read(Path::new("/dev/zero"), Readers::Nobody).unwrap_err().to_string();
        assert!(error.contains("it is a device"), "{error}");
    }
}
