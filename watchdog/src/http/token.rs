//! The bearer token with which the address of `http.listen` accepts commands.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use subtle::ConstantTimeEq;

/// 16 characters of a random alphabet cannot be guessed within the life of a machine.
const SHORTEST: usize = 16;
/// Tokens that other programs issue stay well below this.
const LONGEST: usize = 4096;
/// Nobody but owner and group may read the file, and only its owner may change it.
const FORBIDDEN: u32 = 0o006 | 0o020;

/// Why a token file is rejected.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("http.token_file = {path:?} cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// Other users may read or change it.
    #[error(
        "http.token_file = {path:?} has mode {mode:03o}: others may read it or change it. Run: chmod 600 {}",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to another user.
    #[error(
        "http.token_file = {path:?} belongs to uid {owner}, not to the sidecar's user and not to root. Run: chown {} {}",
        rustix::process::geteuid().as_raw(), path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The uid of its owner.
        owner: u32,
    },
    /// It does not contain a valid token.
    #[error(
        "http.token_file = {0:?} holds no token: one line of {SHORTEST} to {LONGEST} visible ASCII characters. Make one: \
         head -c 24 /dev/urandom | base64"
    )]
    NoToken(PathBuf),
}

/// Reads the token in `path`.
///
/// # Errors
/// If there is none, or it cannot be trusted.
pub fn read(path: &Path) -> Result<Vec<u8>, TokenError> {
    let unreadable = |error| TokenError::Unreadable { path: path.to_owned(), error };
    // Without O_NONBLOCK, opening a pipe would block.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(TokenError::Foreign { path: path.to_owned(), owner });
    }
    if mode & FORBIDDEN != 0 {
        return Err(TokenError::Open { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(LONGEST as u64 + 2).read_to_end(&mut bytes).map_err(unreadable)?;
    let token = bytes.trim_ascii();
    if (SHORTEST..=LONGEST).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic) {
        Ok(token.to_owned())
    } else {
        Err(TokenError::NoToken(path.to_owned()))
    }
}

/// The token in force.
#[derive(Default)]
pub struct Token(Mutex<Held>);

#[derive(Default)]
enum Held {
    #[default]
    NotConfigured,
    Unusable(String),
    Token(Vec<u8>),
}

/// The result of checking a claimed token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The token is right.
    Right,
    /// The token is wrong or missing.
    Wrong,
    /// No token is configured.
    NotConfigured,
    /// A token is configured but unusable, for this reason.
    Unusable(String),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reloads the token. If the file cannot be trusted, the token from an earlier file stays in
    /// force, if there was one.
    ///
    /// # Errors
    /// If the file cannot be used; the caller reports it and continues.
    pub fn load(&self, path: Option<&Path>) -> Result<(), TokenError> {
        let read = path.map(read).transpose();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(Some(token)) => *held = Held::Token(token),
            Ok(None) => *held = Held::NotConfigured,
            Err(error) => {
                if !matches!(*held, Held::Token(_)) {
                    *held = Held::Unusable(error.to_string());
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Checks `claimed`.
    pub fn weigh(&self, claimed: Option<&[u8]>) -> Claim {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Held::NotConfigured => Claim::NotConfigured,
            Held::Unusable(why) => Claim::Unusable(why.clone()),
            Held::Token(token) => match claimed {
                Some(claimed) if bool::from(token.as_slice().ct_eq(claimed)) => Claim::Right,
                _ => Claim::Wrong,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const TOKEN: &str = "c2hhcmQtd2F0Y2hkb2ct";

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
        let token = Token::default();
        assert_eq!(token.weigh(Some(TOKEN.as_bytes())), Claim::NotConfigured);
        token.load(Some(&path)).unwrap();
        assert_eq!(token.weigh(Some(TOKEN.as_bytes())), Claim::Right);
        for wrong in [None, Some(""), Some(&TOKEN[1..]), Some("c2hhcmQtd2F0Y2hkb2cX")] {
            assert_eq!(token.weigh(wrong.map(str::as_bytes)), Claim::Wrong, "{wrong:?}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_or_change_is_refused() {
        for mode in [0o604, 0o602, 0o620, 0o644, 0o666] {
            let (_folder, path) = file(TOKEN, mode);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        let (_folder, path) = file(TOKEN, 0o440);
        assert!(read(&path).is_ok(), "a group may be trusted to read: Kubernetes needs that");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in
            ["", "short", "two words of sixteen", "a line\nand another one of them", &"x".repeat(5000)]
        {
            let (_folder, path) = file(text, 0o600);
            assert!(matches!(read(&path), Err(TokenError::NoToken(_))), "{text:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path()), Err(TokenError::Unreadable { .. })));
    }

    #[test]
    fn a_reload_that_finds_a_bad_file_keeps_the_token_and_a_start_has_none() {
        let (_folder, path) = file(TOKEN, 0o600);
        let token = Token::default();
        token.load(Some(&path)).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(token.load(Some(&path)).is_err());
        assert_eq!(token.weigh(Some(TOKEN.as_bytes())), Claim::Right);
        let fresh = Token::default();
        assert!(fresh.load(Some(&path)).is_err());
        assert!(matches!(fresh.weigh(Some(TOKEN.as_bytes())), Claim::Unusable(_)));
        token.load(None).unwrap();
        assert_eq!(token.weigh(Some(TOKEN.as_bytes())), Claim::NotConfigured);
    }
}
