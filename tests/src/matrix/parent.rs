//! Runs rows, each in a process and a folder of its own, and ends those that exceed their time.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::needs::Need;
use super::{Row, evidence};
use crate::process::{PROGRAMS, Process};
use crate::{sweep, wait};

/// Longer than any row takes, apart from one wait that expires. A row that takes longer is told to
/// end, and has failed.
const LONGEST: Duration = Duration::from_secs(120);
/// How long the row may then take to clean up and save its evidence before it is killed.
const GRACE: Duration = Duration::from_secs(45);
/// How long the guard of a fault may take to undo it after its row was killed.
const UNDONE_WITHIN: Duration = Duration::from_secs(15);
/// Interval between two polls of the running rows.
const LOOK: Duration = Duration::from_millis(10);
/// Environment variable that identifies everything a row has started.
const MARK: &str = "SHARD_MATRIX_ROW";

/// What to run.
#[derive(Debug)]
pub struct Run {
    /// The rows to run.
    pub rows: Vec<Row>,
    /// How many run at a time.
    pub jobs: usize,
    /// How long each wait of a row may take.
    pub patience: Duration,
    /// Where failing rows leave their evidence.
    pub out: PathBuf,
    /// The program that plays one row when called with `--one ID --result FILE --keep FOLDER
    /// --patience SECONDS`.
    pub program: PathBuf,
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything required was observed.
    Passed,
    /// Something was not: what was missing.
    Failed(String),
    /// This machine cannot run it: what is lacking.
    Skipped(String),
}

/// A row that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The row that ended.
    pub row: Row,
    /// How it ended.
    pub verdict: Verdict,
    /// What it observed, as far as it got.
    pub told: Value,
    /// How long it took, including everything that it had to start and end.
    pub took: Duration,
    /// Where its evidence is, if it failed.
    pub kept: Option<PathBuf>,
}

struct Playing {
    row: Row,
    process: Process,
    began: Instant,
    at_most: Duration,
    told_to_end: Option<(Instant, &'static str)>,
    /// Its temporary files. They are removed with it.
    folder: tempfile::TempDir,
    /// Folder for what it leaves.
    kept: PathBuf,
    mark: String,
}

/// Runs all rows and returns the result of each, in the order of the rows; `ended` is called for
/// each as it ends. After a signal that ends this process, running rows are ended properly, and
/// those that have not begun are left out.
#[track_caller]
pub fn run(run: &Run, mut ended: impl FnMut(&Ended)) -> Vec<Ended> {
    sweep::adopt_orphans();
    let mut waiting: VecDeque<_> = run.rows.iter().copied().collect();
    if run.jobs > 1 {
        // Rows that need the machine to themselves come last, so that no other has to wait for
        // them.
        waiting.make_contiguous().sort_by_key(|row| row.alone);
    }
    let (mut playing, mut all): (Vec<Playing>, Vec<Ended>) = (Vec::new(), Vec::new());
    while !(playing.is_empty() && (waiting.is_empty() || wait::given_up())) {
        while let Some(row) = next(&mut waiting, &playing, run.jobs) {
            match row.needs.iter().find_map(|need| need.missing()) {
                Some(why) => {
                    let one = not_run(row, why);
                    ended(&one);
                    all.push(one);
                }
                None => playing.push(Playing::start(row, run)),
            }
        }
        let mut index = 0;
        while let Some(one) = playing.get_mut(index) {
            match one.look() {
                None => index += 1,
                Some(status) => {
                    let one = playing.swap_remove(index).end(status);
                    ended(&one);
                    all.push(one);
                }
            }
        }
        std::thread::sleep(LOOK);
    }
    let place = |one: &Ended| run.rows.iter().position(|row| row.id() == one.row.id());
    all.sort_by_key(place);
    all
}

/// The next row that may begin now.
fn next(waiting: &mut VecDeque<Row>, playing: &[Playing], jobs: usize) -> Option<Row> {
    let first = waiting.front()?;
    let alone = first.alone || playing.iter().any(|one| one.row.alone);
    let room = if alone { playing.is_empty() } else { playing.len() < jobs };
    if room && !wait::given_up() { waiting.pop_front() } else { None }
}

/// CI must have everything that a row needs.
fn not_run(row: Row, why: String) -> Ended {
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let verdict =
        if ci { Verdict::Failed(format!("it could not be run: {why}")) } else { Verdict::Skipped(why) };
    Ended { row, verdict, told: Value::Null, took: Duration::ZERO, kept: None }
}

impl Playing {
    #[track_caller]
    fn start(row: Row, run: &Run) -> Self {
        let folder = tempfile::Builder::new().prefix("matrix-").tempdir().expect("a temporary folder");
        // Some rows run a process as another user, which must reach its files in here.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("a folder of our own");
        let kept = run.out.join(row.folder());
        fs::create_dir_all(&kept).unwrap_or_else(|error| panic!("{}: {error}", kept.display()));
        let mark = format!("{}-{}", std::process::id(), row.id());
        let mut command = Command::new(&run.program);
        command.arg("--one").arg(row.id()).arg("--result").arg(kept.join(RESULT)).arg("--keep").arg(&kept);
        command.args(["--patience", &run.patience.as_secs().to_string()]);
        command
            .env("TMPDIR", folder.path())
            .env(MARK, &mark)
            .env("SHARD_TESTS_SHOW", "1")
            // Ctrl-C goes to this process only, which ends each row properly.
            .process_group(0);
        if row.needs.contains(&Need::FakeTime) {
            // A static program cannot preload a library.
            command.env_remove(PROGRAMS);
        }
        let process = Process::start_into_file("a row", command, &kept.join("log"));
        let at_most = LONGEST + run.patience;
        Self { row, process, began: Instant::now(), at_most, told_to_end: None, folder, kept, mark }
    }

    /// Its exit status, if it has ended. Ends it if its time is over.
    fn look(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.process.ended() {
            return Some(status);
        }
        match self.told_to_end {
            None => {
                let why = if wait::given_up() {
                    "the run was ended"
                } else if self.began.elapsed() > self.at_most {
                    "it took longer than any row may"
                } else {
                    return None;
                };
                self.process.signal(Signal::TERM);
                self.told_to_end = Some((Instant::now(), why));
            }
            Some((when, _)) if when.elapsed() > GRACE => self.process.signal(Signal::KILL),
            Some(_) => {}
        }
        None
    }

    /// The result. Nothing that the row started lives on.
    fn end(self, status: ExitStatus) -> Ended {
        let took = self.began.elapsed();
        let variable = format!("{MARK}={}", self.mark);
        let since = Instant::now();
        // Guards undo their faults and end by themselves.
        while since.elapsed() < UNDONE_WITHIN && !sweep::carrying_variable(&variable).is_empty() {
            std::thread::sleep(LOOK);
        }
        let left = sweep::carrying_variable(&variable);
        sweep::sweep_with(&variable);
        let told = fs::read(self.kept.join(RESULT)).ok();
        let told: Value = told.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let failed = failure(status, &told, self.told_to_end.map(|(_, why)| why), &left);
        let (verdict, kept) = match failed {
            None => {
                // A passed row leaves nothing of interest.
                let _ = fs::remove_dir_all(&self.kept);
                (Verdict::Passed, None)
            }
            Some(why) => {
                if only_ours(&self.kept) {
                    evidence::keep(self.folder.path(), &self.kept);
                }
                (Verdict::Failed(why), Some(self.kept))
            }
        };
        Ended { row: self.row, verdict, told, took, kept }
    }
}

/// The file that a row writes for its parent.
const RESULT: &str = "result.json";

/// Whether the row died before it could leave anything itself.
fn only_ours(kept: &Path) -> bool {
    fs::read_dir(kept).is_ok_and(|entries| entries.count() <= 2)
}

fn failure(status: ExitStatus, told: &Value, ended: Option<&str>, left: &[i32]) -> Option<String> {
    let said = told["failed"].as_str();
    if let Some(why) = ended {
        return Some(said.map_or_else(|| why.to_owned(), |said| format!("{why}: {said}")));
    }
    if let Some(said) = said {
        return Some(said.to_owned());
    }
    if !status.success() {
        let how = status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
        return Some(format!("the row ended without a word ({how}): see its log"));
    }
    (!left.is_empty()).then(|| format!("it left processes behind, which are ended now: {left:?}"))
}
