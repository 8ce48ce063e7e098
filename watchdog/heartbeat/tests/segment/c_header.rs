//! The C header matches the layout.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use shard_heartbeat::Section;
use shard_heartbeat::layout::{self, *};

const HEADER: &str = include_str!("../../include/shard_heartbeat.h");

macro_rules! constants {
    ($($name:ident)*) => { [$((stringify!($name), $name as u64)),*] };
}

#[allow(clippy::cast_lossless, reason = "the constants are of three types")]
fn ours() -> BTreeMap<&'static str, u64> {
    constants! {
        MAGIC VERSION LINE HEADER_SIZE MAX_NAME MAX_SHARD MAX_LAST_WORDS MAX_QUARANTINE MAX_SLOTS MAX_LANES
        MAX_SEGMENT MAX_SECTION SECTION_BASE
        H_MAGIC H_VERSION H_HEADER_SIZE H_TOTAL_SIZE H_THREAD_SLOTS H_THREAD_STRIDE H_THREAD_OFFSET H_LANES
        H_CHANNEL_SLOTS H_CHANNEL_STRIDE H_CHANNEL_OFFSET H_PID H_START_TIME H_INCARNATION H_BOOT_ID H_SHARD_LEN
        H_SHARD H_STATE H_THREAD_HIGH_WATER H_CHANNEL_HIGH_WATER H_WATCHDOG_BEAT H_WATCHDOG_PID
        H_WATCHDOG_START_TIME H_LAST_WORDS H_LAST_WORDS_TID H_LAST_WORDS_LEN H_LAST_WORDS_TEXT
        H_QUARANTINE H_QUARANTINE_LEN H_QUARANTINE_KEYS
        LAST_WORDS_NONE LAST_WORDS_WRITING LAST_WORDS_SAID
        STATE_BOOT STATE_RUNNING STATE_STOPPING STATE_FAILED
        T_CLAIM T_TID T_START_TIME T_NAME T_LANE_HIGH_WATER T_SEQUENCE T_ACTIVITY T_WORK_KEY T_ATTEMPT T_DEADLINE
        T_TRACE_ID T_SPAN_ID T_TRACE_FLAGS T_SECTION T_LANES
        L_CLAIM L_TID L_START_TIME L_PROGRESS LANE_SIZE
        C_CLAIM C_SEQUENCE C_NAME C_CAPACITY C_SENT C_RECEIVED CHANNEL_STRIDE CAPACITY_UNBOUNDED
        CLAIM_FREE CLAIM_LIVE CLAIM_LEFT CLAIM_DROPPED CLAIM_FILLING
    }
    .into_iter()
    .collect()
}

fn number(text: &str) -> u64 {
    let text = text.trim_start_matches("UINT64_C(").trim_end_matches(')');
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

#[test]
fn the_c_headers_constants_are_the_layouts() {
    let theirs: BTreeMap<&str, u64> = HEADER
        .lines()
        .filter_map(|line| line.strip_prefix("#define SHB_"))
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| !name.contains('('))
        .map(|(name, value)| (name, number(value.split("/*").next().unwrap().trim())))
        .collect();
    assert_eq!(theirs, ours());
}

#[test]
fn the_layout_file_has_no_constant_that_the_test_forgets() {
    let named: Vec<&str> = include_str!("../../src/layout.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with("fn "))
        .collect();
    let ours = ours();
    assert!(named.iter().all(|name| ours.contains_key(name)), "{named:?}");
    assert_eq!(named.len(), ours.len());
}

#[test]
fn the_c_header_compiles_and_agrees() {
    let mut source = String::from("#include \"shard_heartbeat.h\"\n");
    for (name, value) in ours() {
        source += &format!("_Static_assert(SHB_{name} == UINT64_C({value}), \"{name}\");\n");
    }
    for lanes in [1, 16, MAX_LANES] {
        let stride = layout::thread_stride(lanes);
        source += &format!("_Static_assert(SHB_THREAD_STRIDE({lanes}) == {stride}, \"stride\");\n");
    }
    let mut compiler = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-x", "c", "-I"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include"))
        .arg("-")
        .stdin(Stdio::piped())
        .spawn()
        .expect("a C compiler, which the build needs anyhow");
    compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    assert!(compiler.wait().unwrap().success(), "{source}");
}

#[test]
fn a_section_has_the_same_word_in_c() {
    let names = ["reading", "state_root-2", "............", "a", "", "Reading", "thirteen-char", "a b"];
    let mut source = String::from("#include \"shard_heartbeat.h\"\nint main(void) {\n");
    for (index, name) in names.iter().enumerate() {
        let word = Section::parse(name).map_or(0, Section::word);
        source += &format!("if (shb_section(\"{name}\") != UINT64_C({word})) return {};\n", index + 1);
    }
    source += "return 0; }\n";
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("sections");
    let mut compiler = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-x", "c", "-I"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include"))
        .arg("-o")
        .arg(&program)
        .arg("-")
        .stdin(Stdio::piped())
        .spawn()
        .expect("a C compiler, which the build needs anyhow");
    compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    assert!(compiler.wait().unwrap().success(), "{source}");
    let wrong = Command::new(&program).status().unwrap().code().unwrap();
    assert_eq!(wrong, 0, "the name before this number: {names:?}");
}
