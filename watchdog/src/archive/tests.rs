use super::*;

use std::path::Path;

use crate::act::budget::Past;
use crate::observation::Observation;
use crate::recorder::Recorder;
use crate::recorder::decode::Record;
use crate::recorder::file::Recording;

const SECOND: u64 = 1_000_000_000;
const LONG: Duration = Duration::from_secs(20);

fn config(folder: &Path) -> RecorderConfig {
    RecorderConfig { directory: folder.join("recordings"), keep_days: 7, keep_bytes: 64 << 20 }
}

/// A recorder with one observation a second that gives complete chunks to an archive, as the watch
/// loop does.
struct Loop {
    recorder: Recorder,
    archive: Archive,
    at: Monotonic,
}

impl Loop {
    fn new(config: &RecorderConfig) -> Self {
        let archive = Archive::start(config, "0", WallAnchor::now(), Arc::default()).unwrap();
        let at = Monotonic(1_000 * SECOND);
        Self { recorder: Recorder::new(at, Past::default(), false), archive, at }
    }

    fn look(&mut self, times: u64) {
        for _ in 0..times {
            self.at.0 += SECOND;
            self.recorder.look(&Observation { at: self.at, ..Observation::default() });
            self.pass_on();
        }
    }

    fn pass_on(&mut self) {
        while let Some((excerpt, looks)) = self.recorder.take_whole(self.at) {
            self.archive.keep(&excerpt, looks, 0);
        }
    }

    fn end(&mut self) {
        self.recorder.end();
        self.pass_on();
        assert!(self.archive.flush(LONG));
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let listing = std::fs::read_dir(folder.join("recordings")).unwrap();
    let mut files: Vec<_> = listing.map(|item| item.unwrap().path()).collect();
    files.sort();
    files
}

/// The observations in a file, how many it marks as missing, and what is unreadable.
fn read(path: &Path) -> (Vec<u64>, u64, Vec<String>) {
    let recording = Recording::load(path).unwrap();
    let mut records = recording.records();
    let (mut looks, mut missing) = (Vec::new(), 0);
    while let Some(record) = records.next() {
        match record {
            Record::Look => looks.push(records.seen().at.0 / SECOND),
            Record::Lost { looks } => missing += looks,
            _ => {}
        }
    }
    (looks, missing, records.problems())
}

#[test]
fn every_look_of_a_life_is_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Loop::new(&config(folder.path()));
    // No more than the queue holds: a disk may be slower than a test.
    life.look(70);
    life.end();
    let (looks, missing, problems) = read(&files(folder.path())[0]);
    assert_eq!(looks, (1_001..=1_070).collect::<Vec<_>>());
    assert_eq!((missing, problems), (0, Vec::new()));
    let held = life.archive.held();
    assert_eq!((held.files, held.missing, held.trouble), (1, 0, None));
    assert!(held.bytes > 0);
}

/// What a sidecar leaves that is killed while writing: an incomplete last chunk.
#[test]
fn a_file_that_ends_in_the_middle_is_read_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Loop::new(&config(folder.path()));
    life.look(23);
    life.end();
    let file = &files(folder.path())[0];
    let bytes = std::fs::read(file).unwrap();
    for cut in [1, 5, 9, 12] {
        std::fs::write(file, &bytes[..bytes.len() - cut]).unwrap();
        let (looks, _, problems) = read(file);
        assert!((1_001..=1_023).collect::<Vec<_>>().starts_with(&looks) && looks.len() >= 20, "{looks:?}");
        assert!(problems[0].starts_with("chunk 5: it was cut off"), "{problems:?}");
    }
}

#[test]
fn looks_that_are_missing_are_counted_and_the_file_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Loop::new(&config(folder.path()));
    life.look(10);
    // As if the queue had had no room.
    life.archive.missing = 7;
    life.look(10);
    life.end();
    let (looks, missing, problems) = read(&files(folder.path())[0]);
    assert_eq!((looks.len(), missing, problems), (20, 7, Vec::new()));
}

#[test]
fn a_disk_that_refuses_is_told_and_costs_looks_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    std::fs::write(&config.directory, "no folder").unwrap();
    let mut life = Loop::new(&config);
    life.look(60);
    life.end();
    let held = life.archive.held();
    assert_eq!(held.missing, 60, "{held:?}");
    assert!(held.trouble.is_some() && held.files == 0, "{held:?}");
}

#[test]
fn a_thread_that_does_not_answer_costs_what_finds_no_room() {
    let (orders, waiting) = sync_channel(2);
    let held = Arc::default();
    let archive = Archive { orders, held, shard: "0".into(), anchor: WallAnchor::now(), missing: 0 };
    let at = Monotonic(SECOND);
    let mut life = Loop { recorder: Recorder::new(at, Past::default(), false), archive, at };
    life.look(50);
    assert_eq!(waiting.try_iter().count(), 2);
    let held = life.archive.held();
    assert!(held.missing >= 30 && life.archive.missing == held.missing, "{held:?}");
}
