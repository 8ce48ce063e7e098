//! Folders in which the sidecar keeps files of its own: whether the target could write there, and
//! whether this user can.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use crate::config::{Config, FindTarget};
use crate::own_folder::refusal::Refusal;
use crate::own_folder::target_user::TargetUser;
use crate::own_folder::{OwnFolder, Place};

use super::{Remark, Topic};

/// Folders that the sidecar would not use (`true`), or not as this user. Whose the target is, its
/// segment tells, if there is one, else `[target] user`.
pub(super) fn remarks(config: &Config) -> Vec<(Remark, bool)> {
    let FindTarget::Heartbeat(heartbeat) = &config.target.find else { return Vec::new() };
    let user = config.target.user.as_ref().map(|user| user.uid);
    let target = Arc::new(TargetUser::of_segment(heartbeat, user));
    let socket = config.http.socket.as_deref().and_then(Path::parent);
    let named = [
        ("evidence.directory", Some(config.evidence.directory.as_path())),
        ("recorder.directory", config.recorder.as_ref().map(|recorder| recorder.directory.as_path())),
        ("http.socket", socket),
    ];
    let remark = |(key, path): (&str, Option<&Path>)| {
        let (told, is_refusal) = remark(path?, &target)?;
        Some((Remark::new(Topic::Folders, key, told), is_refusal))
    };
    named.into_iter().filter_map(remark).collect()
}

fn remark(path: &Path, target: &Arc<TargetUser>) -> Option<(String, bool)> {
    let opened = Place::new(path.to_owned(), Arc::clone(target)).open();
    let why = match opened {
        Ok(folder) => return unwritable(path, folder.as_ref()).map(|told| (told, false)),
        Err(error) => error,
    };
    match why.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>()) {
        Some(Refusal::Foreign { .. }) | None => Some((as_user(&why), false)),
        Some(refusal) => Some((refusal.to_string(), true)),
    }
}

fn as_user(why: &io::Error) -> String {
    let uid = rustix::process::geteuid().as_raw();
    format!("as user {uid}, who runs this, sees it: {why}")
}

/// Why this user could put nothing there: into the folder, or, if it does not exist yet, into the
/// one in which it would be made.
fn unwritable(path: &Path, folder: Option<&OwnFolder>) -> Option<String> {
    let uid = rustix::process::geteuid().as_raw();
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    let (place, answer) = match folder {
        Some(folder) => (path, rustix::fs::accessat(folder.as_fd(), ".", wanted, AtFlags::EACCESS)),
        None => path.ancestors().skip(1).find_map(|above| {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            match rustix::fs::accessat(CWD, above, wanted, AtFlags::EACCESS) {
                Err(Errno::NOENT) => None,
                answer => Some((above, answer)),
            }
        })?,
    };
    let errno = answer.err()?;
    let place = place.display();
    let what = if folder.is_some() { "write there".to_owned() } else { format!("make it in {place}") };
    let next = match errno {
        Errno::ROFS => {
            "Mount it writable (systemd: StateDirectory= or ReadWritePaths=), or choose another folder"
        }
        _ => {
            "Make it that user's (chown, or StateDirectory= in the unit), choose another folder, or run this as the \
              sidecar's user"
        }
    };
    Some(format!(
        "user {uid}, who runs this, may not {what} ({}), so nothing would be kept. {next}",
        io::Error::from(errno)
    ))
}
