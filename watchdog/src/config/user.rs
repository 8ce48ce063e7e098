//! A user of this machine, by name or by number.

use std::ffi::CString;
use std::fmt;

/// The user who must own the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name in the config; `None` if it gives a number.
    pub name: Option<String>,
    /// The user id.
    pub uid: u32,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.uid),
            None => write!(f, "{}", self.uid),
        }
    }
}

impl User {
    /// Looks up the user of that name.
    ///
    /// # Errors
    /// A message for the author of the config: the user does not exist, or the machine's list of
    /// users cannot be read.
    pub fn named(name: &str) -> Result<Self, String> {
        /// Longer than any entry that a person writes; `getpwnam_r` returns an error if it is too
        /// short.
        const ROOM: usize = 16 << 10;
        let unknown = || {
            if cfg!(target_feature = "crt-static") {
                // Other sources would need a shared library (shard_telemetry::names).
                return "no user in /etc/passwd is called so, and this static program looks nowhere else; give a name \
                        that is there, or a number"
                    .to_owned();
            }
            format!(
                "no user of this machine is called so (`getent passwd {name}`); give a name that is known here, or a number"
            )
        };
        let wanted = CString::new(name).map_err(|_| unknown())?;
        // SAFETY: `passwd` is a plain C struct of numbers and pointers, for which all zeroes is a
        // valid value.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut room = vec![0; ROOM];
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers point to values that outlive the call, and the length is that of the
        // buffer. Afterwards only the number in the entry is used, which points to nothing.
        let error = unsafe {
            libc::getpwnam_r(wanted.as_ptr(), &raw mut entry, room.as_mut_ptr(), room.len(), &raw mut found)
        };
        match error {
            0 if !found.is_null() => Ok(Self { name: Some(name.to_owned()), uid: entry.pw_uid }),
            0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => Err(unknown()),
            error => {
                let error = std::io::Error::from_raw_os_error(error);
                Err(format!("the users of this machine cannot be asked for: {error}; give a number"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_and_one_that_nobody_has_is_told() {
        let root = User::named("root").unwrap();
        assert_eq!((root.uid, root.to_string().as_str()), (0, "root (0)"));
        assert_eq!(User { name: None, uid: 7 }.to_string(), "7");
        for name in ["no-such-user-here", "", "a\0b"] {
            assert!(User::named(name).unwrap_err().contains("no user"), "{name:?}");
        }
    }
}
