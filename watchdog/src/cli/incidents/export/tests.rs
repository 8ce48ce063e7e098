use std::collections::BTreeMap;
use std::io::Read as _;

use super::*;

const ID: &str = "20261129T061028931Z-7834";

fn document() -> Vec<u8> {
    let (_, document) = include_bytes!("../../../../fuzz/kept/kept_file/incident").split_first().unwrap();
    let mut incident: Incident = serde_json::from_slice(document).unwrap();
    incident.last_words = Some("a secret\nand more".to_owned());
    incident.observations.push("its last words: \"a secret\"".to_owned());
    serde_json::to_vec(&incident).unwrap()
}

/// An evidence directory with one incident.
fn evidence() -> tempfile::TempDir {
    let evidence = tempfile::tempdir().unwrap();
    let folder = evidence.path().join("incidents").join(ID);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(DOCUMENT), document()).unwrap();
    fs::write(folder.join("recording"), b"observations").unwrap();
    evidence
}

fn export(evidence: &Path, out: &Path, without_last_words: bool) -> Result<PathBuf, Failed> {
    let source = Source::of_folder(evidence.to_owned());
    exported(&Args { id: Which::Latest, out: out.to_owned(), without_last_words, with_dump: false, source })
}

fn unpacked(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(File::open(path).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(name, content);
    }
    files
}

#[test]
fn it_has_all_that_is_kept_and_replaces_an_earlier_one() {
    let (evidence, out) = (evidence(), tempfile::tempdir().unwrap());
    let path = export(evidence.path(), out.path(), false).unwrap();
    assert_eq!(path, out.path().join(format!("{ID}.tar")));
    let files = unpacked(&path);
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        [&format!("{ID}/incident.json"), &format!("{ID}/recording")]
    );
    assert_eq!(files[&format!("{ID}/incident.json")], document());
    assert_eq!(files[&format!("{ID}/recording")], b"observations");
    export(evidence.path(), out.path(), false).unwrap();
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "nothing unfinished is left");
}

#[test]
fn what_the_process_said_is_left_out_on_request() {
    let (evidence, out) = (evidence(), tempfile::tempdir().unwrap());
    let path = export(evidence.path(), out.path(), true).unwrap();
    let document = unpacked(&path).remove(&format!("{ID}/incident.json")).unwrap();
    assert!(!String::from_utf8(document.clone()).unwrap().contains("a secret"));
    assert!(serde_json::from_slice::<Incident>(&document).unwrap().observations.len() == 3);
}

#[test]
fn the_dump_is_packed_only_on_request_and_the_stacks_always() {
    let (evidence, out) = (evidence(), tempfile::tempdir().unwrap());
    let folder = evidence.path().join("incidents").join(ID);
    fs::write(folder.join("process.dmp"), b"MDMP").unwrap();
    fs::write(folder.join("stacks.txt"), b"thread exec-s0").unwrap();
    let names = |path: &Path| {
        unpacked(path).into_keys().map(|name| name.rsplit_once('/').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let path = export(evidence.path(), out.path(), false).unwrap();
    assert_eq!(names(&path), ["incident.json", "recording", "stacks.txt"]);
    let source = Source::of_folder(evidence.path().to_owned());
    let args = Args {
        id: Which::Latest,
        out: out.path().to_owned(),
        without_last_words: false,
        with_dump: true,
        source,
    };
    let path = exported(&args).unwrap();
    assert_eq!(names(&path), ["incident.json", "process.dmp", "recording", "stacks.txt"]);
}

/// Whoever owns the evidence could otherwise have root pack any file of the machine.
#[test]
fn no_link_is_followed() {
    let (evidence, out) = (evidence(), tempfile::tempdir().unwrap());
    let recording = evidence.path().join("incidents").join(ID).join("recording");
    fs::remove_file(&recording).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &recording).unwrap();
    let failed = export(evidence.path(), out.path(), false).unwrap_err();
    assert!(failed.code == 2 && failed.why.contains("recording: cannot be read"), "{failed:?}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let evidence = evidence();
    let failed = export(evidence.path(), &evidence.path().join("nowhere"), false).unwrap_err();
    assert!(failed.code == 2 && failed.why.contains("nowhere"), "{failed:?}");
    let empty = tempfile::tempdir().unwrap();
    let failed = export(empty.path(), evidence.path(), false).unwrap_err();
    assert_eq!(failed.code, 4, "{failed:?}");
}
