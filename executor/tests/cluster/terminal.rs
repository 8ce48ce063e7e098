//! On a terminal a run shows its progress in one line, instead of a line per block.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::thread::JoinHandle;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::blocks;
use crate::process::{Process, Shard, shards};

/// A terminal that records what is written to it.
struct Terminal {
    stdout: File,
    shown: JoinHandle<String>,
}

impl Terminal {
    fn open() -> Self {
        let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&own).unwrap();
        unlockpt(&own).unwrap();
        let name = ptsname(&own, Vec::new()).unwrap();
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let stdout = File::options().read(true).write(true).open(path).unwrap();
        let mut own = File::from(own);
        let shown = std::thread::spawn(move || {
            let mut all = Vec::new();
            let mut some = [0; 4_096];
            // An error means that nobody has the other end open any more.
            while let Ok(count @ 1..) = own.read(&mut some) {
                all.extend_from_slice(&some[..count]);
            }
            String::from_utf8_lossy(&all).into_owned()
        });
        Self { stdout, shown }
    }

    /// Runs a command on the terminal to its end; returns its exit code and all that was shown.
    fn run(self, arguments: &[&str]) -> (i32, String) {
        let mut process = Process::start_with(arguments, |command| {
            command.stdout(Stdio::from(self.stdout));
        });
        let code = process.wait();
        (code, self.shown.join().unwrap())
    }
}

/// Asserts that the output has a progress line, no line per block, and the totals.
fn assert_progress(shown: &str) {
    assert!(shown.contains("/4 blocks"), "{shown:?}");
    assert!(!shown.contains("digest"), "no line for a block that is as it should be: {shown:?}");
    assert!(shown.contains("all verified"), "{shown:?}");
    assert!(shown.trim_end().lines().last().unwrap().contains("4 blocks, "), "{shown:?}");
}

#[test]
fn local_shows_how_far_it_is() {
    let chain = blocks::generated(4, 20);
    let (code, shown) = Terminal::open().run(&["local", "--blocks", chain.path.to_str().unwrap()]);
    assert_eq!(code, 0, "{shown}");
    assert_progress(&shown);
}

#[test]
fn json_is_json_on_a_terminal_too() {
    let chain = blocks::generated(4, 20);
    let path = chain.path.to_str().unwrap();
    let (code, shown) = Terminal::open().run(&["local", "--json", "--blocks", path]);
    assert_eq!((code, shown.lines().count()), (0, 4), "{shown}");
    assert!(shown.lines().all(|line| line.starts_with('{')), "{shown}");
}

#[test]
fn a_coordinator_shows_how_far_it_is_and_who_comes() {
    let chain = blocks::generated(4, 20);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 2);
    let addresses: Vec<String> = shards.iter().map(|shard: &Shard| shard.address.to_string()).collect();
    let (path, addresses) = (chain.path.to_str().unwrap(), addresses.join(","));
    let (code, shown) = Terminal::open().run(&[
        "coordinator",
        "--shards",
        &addresses,
        "--blocks",
        path,
        "--block-deadline",
        "60s",
    ]);
    assert_eq!(code, 0, "{shown}");
    assert_progress(&shown);
    assert_eq!(shown.matches(" joined, incarnation ").count(), 2, "{shown:?}");
}

#[test]
fn a_wrong_block_has_its_line_above() {
    let folder = tempfile::tempdir().unwrap();
    let plan =
        shard_executor::generate::Plan { transactions: 10, conflict: 0.0, seed: 3, ..Default::default() };
    let mut block = shard_executor::generate::Generator::new(plan).next_block().unwrap();
    block.expected.gas_used += 1;
    shard_executor::block::write(&block, &folder.path().join("1.json")).unwrap();
    let (code, shown) = Terminal::open().run(&["local", "--blocks", folder.path().to_str().unwrap()]);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("gasUsed is") && shown.contains("1 wrong"), "{shown:?}");
}
