use super::*;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

const THEIRS: u32 = 61_001;

/// A folder that only its owner may write, and the place of another folder in it.
fn folder() -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path().join("evidence"), Arc::default());
    (folder, place)
}

fn beside(target: u32) -> Arc<TargetUser> {
    let known = TargetUser::default();
    known.set(User::new(&[target], &[target]));
    Arc::new(known)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn refusal(result: io::Result<impl std::fmt::Debug>) -> Refusal {
    let inner = result.expect_err("refused").into_inner().expect("a refusal");
    *inner.downcast().expect("a refusal")
}

/// Only root can give files away; elsewhere this prints that the test is skipped.
fn give(path: &Path, to: u32) -> bool {
    let given = chown(path, Some(to), Some(to));
    if given.is_err() {
        eprintln!("skipped: only root can give a file to another user");
    }
    given.is_ok()
}

#[test]
fn what_was_written_is_read_whole_and_nothing_else_stays() {
    let (_folder, place) = folder();
    assert!(place.open().unwrap().is_none());
    let below = Place::new(place.path().join("a/b"), Arc::default());
    let own = below.make().unwrap();
    own.write("x", b"1").unwrap();
    own.write("x", b"23").unwrap();
    assert_eq!(own.read("x", 2).unwrap(), Some(b"23".to_vec()));
    assert_eq!(own.read("y", 2).unwrap(), None);
    let entries = own.entries().unwrap();
    assert_eq!(entries, [Entry { name: "x".into(), kind: FileType::RegularFile, bytes: 2 }]);
    assert_eq!(fs::metadata(below.path().join("x")).unwrap().mode() & 0o137, 0, "for its owner and group");
    assert_eq!(fs::metadata(below.path()).unwrap().mode() & 0o027, 0);
    own.remove("x").unwrap();
    own.remove("x").unwrap();
    assert!(own.entries().unwrap().is_empty());
}

#[test]
fn no_link_is_followed_for_reading_or_writing() {
    let (folder, place) = folder();
    let theirs = folder.path().join("theirs");
    fs::write(&theirs, "kept").unwrap();
    let own = place.make().unwrap();
    for name in ["x", ".x.new"] {
        symlink(&theirs, place.path().join(name)).unwrap();
    }
    assert!(matches!(refusal(own.read("x", 10)), Refusal::Link(_)));
    assert!(own.create("x").is_err());
    own.write("x", b"ours").unwrap();
    assert_eq!(own.read("x", 10).unwrap(), Some(b"ours".to_vec()));
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "kept");

    symlink(folder.path(), place.path().join("inside")).unwrap();
    assert!(own.folder("inside").is_err());
    assert!(own.make_folder("inside").is_err());
}

#[test]
fn a_folder_that_is_a_link_is_refused_and_one_on_the_way_is_followed() {
    let (folder, _) = folder();
    fs::create_dir(folder.path().join("real")).unwrap();
    symlink("real", folder.path().join("link")).unwrap();
    let at = |path: &str| Place::new(folder.path().join(path), Arc::default());
    assert!(matches!(refusal(at("link").make()), Refusal::Link(_)));
    assert!(at("link/evidence").make().is_ok());
    assert!(folder.path().join("real/evidence").is_dir());
    assert!(at("link/../real/evidence").open().unwrap().is_some());
    symlink("ring", folder.path().join("ring")).unwrap();
    assert!(at("ring/evidence").make().is_err());
}

#[test]
fn a_folder_goes_with_what_is_in_it_and_not_with_what_its_links_lead_to() {
    let (folder, place) = folder();
    fs::create_dir(folder.path().join("theirs")).unwrap();
    fs::write(folder.path().join("theirs/x"), "kept").unwrap();
    let own = place.make().unwrap();
    own.make_folder("incident").unwrap().write("x", b"1").unwrap();
    let incident = place.path().join("incident");
    fs::create_dir(incident.join("deeper")).unwrap();
    fs::write(incident.join("deeper/y"), "2").unwrap();
    symlink(folder.path().join("theirs"), incident.join("link")).unwrap();
    own.remove_folder("incident").unwrap();
    assert!(own.entries().unwrap().is_empty());
    assert_eq!(fs::read_to_string(folder.path().join("theirs/x")).unwrap(), "kept");
    symlink(folder.path().join("theirs"), place.path().join("incident")).unwrap();
    assert!(own.remove_folder("incident").is_err());
    assert_eq!(fs::read_to_string(folder.path().join("theirs/x")).unwrap(), "kept");
}

#[test]
fn a_file_that_others_may_write_or_own_or_that_is_no_file_is_refused() {
    let (_folder, place) = folder();
    let own = place.make().unwrap();
    let path = place.path().join("x");
    own.write("x", b"1").unwrap();
    for open in [0o660, 0o606] {
        mode(&path, open);
        assert!(matches!(refusal(own.read("x", 10)), Refusal::Writable { .. }), "{open:o}");
    }
    mode(&path, 0o640);
    assert!(matches!(refusal(own.read("x", 0)), Refusal::TooLarge { .. }));
    rustix::fs::mkfifoat(&own, "pipe", Mode::from_raw_mode(0o600)).unwrap();
    assert!(matches!(refusal(own.read("pipe", 10)), Refusal::NotAFile(_)));
    if give(&path, THEIRS) {
        assert!(matches!(refusal(own.read("x", 10)), Refusal::Foreign { owner: THEIRS, .. }));
        // An unfinished file of theirs is replaced, not written to.
        own.write("x", b"2").unwrap();
        fs::write(place.path().join(".x.new"), "").unwrap();
        assert!(give(&place.path().join(".x.new"), THEIRS));
        own.write("x", b"3").unwrap();
        assert_eq!(own.read("x", 10).unwrap(), Some(b"3".to_vec()));
    }
}

#[test]
fn a_folder_of_somebody_else_is_refused_wherever_it_stands_on_the_way() {
    let (_folder, place) = folder();
    let below = Place::new(place.path().join("below"), Arc::default());
    below.make().unwrap();
    if !give(place.path(), THEIRS) {
        return;
    }
    assert!(matches!(refusal(place.open()), Refusal::Foreign { owner: THEIRS, .. }));
    assert!(matches!(refusal(below.make()), Refusal::Foreign { owner: THEIRS, .. }));
}

#[test]
fn a_link_of_somebody_else_leads_nowhere() {
    let (folder, _) = folder();
    fs::create_dir(folder.path().join("real")).unwrap();
    let link = folder.path().join("link");
    symlink("real", &link).unwrap();
    if std::os::unix::fs::lchown(&link, Some(THEIRS), Some(THEIRS)).is_err() {
        eprintln!("skipped: only root can give a file to another user");
        return;
    }
    let place = Place::new(link.join("evidence"), Arc::default());
    assert!(matches!(refusal(place.make()), Refusal::Foreign { owner: THEIRS, .. }));
}

#[test]
fn what_the_target_may_write_is_refused_and_a_sticky_parent_is_not() {
    let (folder, place) = folder();
    place.make().unwrap();
    for (parent, own, refused) in [
        (0o755, 0o750, false),
        (0o777, 0o750, true),
        (0o1777, 0o750, false),
        (0o755, 0o777, true),
        (0o755, 0o1777, true),
        // Writable by a group that the target is not in.
        (0o775, 0o770, false),
    ] {
        mode(folder.path(), parent);
        mode(place.path(), own);
        let beside = Place::new(place.path().to_owned(), beside(THEIRS));
        let opened = beside.open();
        assert_eq!(opened.is_err(), refused, "{parent:o} {own:o}: {opened:?}");
        if refused {
            assert!(matches!(refusal(opened), Refusal::TargetMayWrite { target: THEIRS, .. }));
            assert!(place.open().is_ok(), "nothing is known of a target");
        }
    }
    mode(folder.path(), 0o755);
    mode(place.path(), 0o770);
    if chown(place.path(), None, Some(THEIRS)).is_ok() {
        let beside = Place::new(place.path().to_owned(), beside(THEIRS));
        assert!(matches!(refusal(beside.open()), Refusal::TargetMayWrite { .. }));
    }
}

/// The target becomes known while a folder is held: the next open is refused.
#[test]
fn a_target_that_turns_out_to_be_able_to_write_is_noticed() {
    let (folder, _) = folder();
    mode(folder.path(), 0o777);
    let known = Arc::new(TargetUser::default());
    let place = Place::new(folder.path().join("evidence"), Arc::clone(&known));
    place.make().unwrap().write("x", b"1").unwrap();
    known.set(User::new(&[THEIRS], &[THEIRS]));
    assert!(matches!(refusal(place.make()), Refusal::TargetMayWrite { .. }));
    known.set(None);
    assert!(place.make().is_ok());
}
