use super::*;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::own_folder::target_user::User;

/// Longer than a busy machine delays a thread.
const LONG: Duration = Duration::from_secs(60);

fn bind(path: &Path) -> Result<SocketFile, ListenError> {
    SocketFile::bind(path, &Arc::default())
}

fn opened(folder: &Path) -> OwnFolder {
    Place::new(folder.to_owned(), Arc::default()).open().unwrap().unwrap()
}

fn answers(path: &Path) -> bool {
    knock(&opened(path.parent().unwrap()), path.file_name().unwrap()).is_ok()
}

#[test]
fn a_socket_is_for_its_owner_and_goes_with_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let socket = bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert!(matches!(bind(&path), Err(ListenError::InUse { .. })));
    drop(socket);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_mode_is_right_before_there_is_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = listen(&opened(folder.path()), "fresh".as_ref()).unwrap();
    assert_eq!(fs::symlink_metadata(folder.path().join("fresh")).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_socket_whose_owner_is_stuck_is_in_use_and_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let stuck = UnixListener::bind(&path).unwrap();
    // Room for one connection, which is never accepted; another would wait.
    rustix::net::listen(&stuck, 0).unwrap();
    while answers(&path) {}
    assert_eq!(knock(&opened(folder.path()), "s.sock".as_ref()), Err(Errno::AGAIN));
    assert!(matches!(bind(&path), Err(ListenError::InUse { .. })));
}

#[test]
fn a_socket_left_by_the_dead_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    drop(UnixListener::bind(&path).unwrap());
    let socket = bind(&path).unwrap();
    assert!(answers(&path));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // Another process has replaced it: that file stays.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "theirs").unwrap();
    drop(socket);
    assert!(path.is_file());
    assert!(matches!(bind(&path), Err(ListenError::NotASocket { .. })));
}

#[test]
fn what_another_has_put_there_meanwhile_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let own = opened(folder.path());
    let (fresh, name) = (OsStr::new("fresh"), OsStr::new("s.sock"));
    drop(UnixListener::bind(&path).unwrap());
    // It is held, so the next socket cannot get its inode number.
    let (stale, _held) = left_over(&own, name, &path).unwrap().expect("it refuses connections");
    // Another sidecar starts at this moment.
    fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    let theirs = FileId::of(&own.look(name).unwrap().unwrap());
    let _ours = listen(&own, fresh).unwrap();
    assert_ne!(stale, theirs);
    for seen in [Some(stale), None] {
        let refused = put(&own, fresh, name, seen).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{seen:?}");
        assert_eq!(FileId::of(&own.look(name).unwrap().unwrap()), theirs, "{seen:?}");
    }
    // It has disappeared since it was checked.
    fs::remove_file(&path).unwrap();
    put(&own, fresh, name, Some(stale)).unwrap();
    assert!(answers(&path));
}

#[test]
fn of_many_that_start_at_once_one_listens_and_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    for _ in 0..50 {
        drop(UnixListener::bind(&path).unwrap());
        let (go, (sender, bound)) = (Arc::new(AtomicBool::new(false)), channel());
        for _ in 0..4 {
            let (go, sender, path) = (Arc::clone(&go), sender.clone(), path.clone());
            std::thread::spawn(move || {
                while !go.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                // Only if the test has failed does nothing receive this.
                let _ = sender.send(bind(&path).ok());
            });
        }
        go.store(true, Ordering::Release);
        let bound: Vec<_> = (0..4).filter_map(|_| bound.recv_timeout(LONG).unwrap()).collect();
        assert!(bound.len() <= 1, "{}", bound.len());
        assert_eq!(answers(&path), bound.len() == 1, "who listens is who is reached");
        drop(bound);
        let _ = fs::remove_file(&path);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn nothing_is_changed_through_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("theirs");
    fs::write(&theirs, "kept").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o640)).unwrap();
    let link = folder.path().join("s.sock");
    symlink(&theirs, &link).unwrap();
    let error = bind(&link).unwrap_err();
    let ListenError::NotASocket { path } = error else { panic!("{error}") };
    assert_eq!(path, link);
    assert_eq!(fs::metadata(&theirs).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "kept");
    fs::remove_file(&link).unwrap();
    // The folder itself.
    let link = folder.path().join("run");
    fs::create_dir(folder.path().join("real")).unwrap();
    symlink(folder.path().join("real"), &link).unwrap();
    let told = bind(&link.join("s.sock")).unwrap_err().to_string();
    assert!(told.contains("is a symbolic link"), "{told}");
    assert_eq!(fs::read_dir(folder.path().join("real")).unwrap().count(), 0);
}

#[test]
fn a_folder_that_the_target_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let target = Arc::new(TargetUser::default());
    target.set(User::new(&[61_001], &[61_001]));
    let told = SocketFile::bind(&path, &target).unwrap_err().to_string();
    assert!(told.contains("the target (uid 61001) may write") && told.contains("http.socket"), "{told}");
    assert!(!SocketFile::is_safe(&path, &target));
    // The target runs as the sidecar's own user after all.
    target.set(None);
    assert!(SocketFile::is_safe(&path, &target));
    assert!(SocketFile::bind(&path, &target).is_ok());
}

#[test]
fn a_path_that_nobody_can_connect_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let told = bind(&folder.path().join("s".repeat(110))).unwrap_err().to_string();
    assert!(told.contains("more than 107 bytes"), "{told}");
}

#[test]
fn whoever_connects_reaches_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let socket = bind(&path).unwrap();
    #[expect(clippy::disallowed_methods, reason = "it listens, and its backlog is empty")]
    let _client = UnixStream::connect(&path).unwrap();
    assert!(socket.listener.accept().is_ok());
}

/// Another user who may read the folder locks it and never lets go.
#[test]
fn a_folder_that_somebody_keeps_locked_is_used_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let locked = fs::File::open(folder.path()).unwrap();
    locked.lock().unwrap();
    let path = folder.path().join("s.sock");
    let _listener = bind(&path).unwrap();
    assert!(answers(&path));
}
