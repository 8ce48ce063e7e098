use super::*;

const FIRST: &str = "20261129T061028931Z-7834";
const SECOND: &str = "20261129T061028931Z-7835";

fn args(evidence: &Path, out: &Path) -> Args {
    Args {
        ids: Vec::new(),
        out: Some(out.to_owned()),
        all_threads: false,
        symbols: Vec::new(),
        source: Source::of_folder(evidence.to_owned()),
    }
}

/// Stacks of a thread at fault that stands in `function`, and of another thread.
fn text(function: &str) -> String {
    format!(
        "thread exec-s0 (tid 7) is in {function}\n\nthread exec-s0 (tid 7), the one in question\n    \
         0  {function}  at a.rs:1\n    1  sum::<[u8; 4]>::h0123456789abcdef  at a.rs:2\n    2  main\n\nthread other (tid 8)\n    0  wait\n"
    )
}

/// Two incidents, of which the first has this text.
fn evidence(stacks: Option<&str>) -> tempfile::TempDir {
    let evidence = tempfile::tempdir().unwrap();
    let (_, document) = include_bytes!("../../../../fuzz/kept/kept_file/incident").split_first().unwrap();
    let document = String::from_utf8(document.to_vec()).unwrap();
    for id in [FIRST, SECOND] {
        let folder = evidence.path().join("incidents").join(id);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("incident.json"), document.replace(FIRST, id)).unwrap();
    }
    if let Some(stacks) = stacks {
        std::fs::write(evidence.path().join("incidents").join(FIRST).join(STACKS), stacks).unwrap();
    }
    evidence
}

#[test]
fn equal_stacks_are_one_line_whatever_build_they_are_of() {
    let mut folded = Folded::default();
    folded.add(&text("spin"), false);
    folded.add(&text("spin").replace("0123456789abcdef", "fedcba9876543210"), false);
    folded.add(&text("wait;\u{7}"), false);
    insta::assert_snapshot!(folded.lines().join("\n"), @r"
    exec-s0;main;sum::<[u8, 4]>;spin 2
    exec-s0;main;sum::<[u8, 4]>;wait,? 1
    ");
    insta::assert_snapshot!(folded.title(), @"Where threads stood in 3 incidents");
    let mut all = Folded::default();
    all.add(&text("spin"), true);
    insta::assert_snapshot!(all.lines().join("\n"), @r"
    exec-s0;main;sum::<[u8, 4]>;spin 1
    other;wait 1
    ");
}

#[test]
fn the_picture_has_the_functions_of_those_that_have_stacks() {
    let evidence = evidence(Some(&text("a<b>::\"c\" & d")));
    let out = evidence.path().join("flame.svg");
    drawn(&args(evidence.path(), &out)).unwrap();
    let svg = std::fs::read_to_string(&out).unwrap();
    assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(svg.contains("a&lt;b&gt;") && svg.contains("&amp; d") && !svg.contains("<b>"), "{svg}");
    assert!(svg.contains("in 1 incident"), "{svg}");
    // The same again.
    drawn(&args(evidence.path(), &out)).unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), svg);
}

#[test]
fn without_stacks_it_says_so_with_exit_code_4_and_a_wrong_id_too() {
    let evidence = evidence(None);
    let out = evidence.path().join("flame.svg");
    let failed = drawn(&args(evidence.path(), &out)).unwrap_err();
    assert!(failed.code == NO_SUCH_INCIDENT && failed.why.contains("has stacks"), "{failed:?}");
    std::fs::write(evidence.path().join("incidents").join(SECOND).join(DUMP), b"garbage").unwrap();
    let failed = drawn(&args(evidence.path(), &out)).unwrap_err();
    assert!(failed.code == NO_SUCH_INCIDENT && !out.exists(), "{failed:?}");
    let wrong = Args { ids: vec![which("20261129T061028931Z-0000").unwrap()], ..args(evidence.path(), &out) };
    let failed = drawn(&wrong).unwrap_err();
    assert!(failed.code == NO_SUCH_INCIDENT && failed.why.contains("has no incident"), "{failed:?}");
}
