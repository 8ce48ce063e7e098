//! The fault matrix on the binaries beside this program: every row of docs/failure-modes.md, each
//! in a separate process, as a table, JSON, JUnit XML and Markdown. `tests/faults/matrix` builds
//! them and starts this program.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use shard_tests::matrix::{self, Ended, One, Report, Row, Run, Selection, Verdict};
use shard_tests::wait;

const HELP: &str = "\
Examples:
  matrix --rows 1,4,40-50
  matrix --rows 3/helper-spin,watchdog --out /tmp/matrix
  SHARD_TESTS_MODE=observe matrix --rows 4     (nothing is killed, so the row fails)

It writes matrix.json, junit.xml and matrix.md to the folder of --out, and for each failed row a folder with its log, configs, \
incidents and recordings. Ctrl-C ends the running rows, undoes their faults and reports the completed ones.

Exit codes: 0 all passed · 1 a row failed · 2 bad usage · 130 ended by a signal";

#[derive(Debug, Parser)]
#[command(about = "Runs all rows of the fault matrix on the binaries beside this program", after_help = HELP)]
struct Args {
    /// Only these rows: numbers, ranges, cases such as 3/helper-spin, poc, watchdog [default: all]
    #[arg(long, value_name = "ROWS", value_delimiter = ',')]
    rows: Vec<Selection>,
    /// List the rows, how their faults are injected and which rows are left out, and run nothing
    #[arg(long)]
    list: bool,
    /// Folder for reports and for the evidence of failed rows
    #[arg(long, value_name = "FOLDER", default_value = "target/matrix")]
    out: PathBuf,
    /// Number of rows to run in parallel; a row that loads the machine always runs alone
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Fail a row whose next event does not occur within this many seconds; raise it on a slow
    /// machine
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
    /// Run this row in this process, for the process that runs all of them
    #[arg(long, value_name = "ROW", hide = true, requires = "result", requires = "keep")]
    one: Option<String>,
    /// Where to write its result
    #[arg(long, value_name = "FILE", hide = true)]
    result: Option<PathBuf>,
    /// Where to leave the evidence if it fails
    #[arg(long, value_name = "FOLDER", hide = true)]
    keep: Option<PathBuf>,
}

/// Exit code for bad usage, the same as clap's.
const USAGE: u8 = 2;
/// Exit code by which shells report the end by Ctrl-C.
const ENDED: u8 = 130;

fn main() -> ExitCode {
    let args = Args::parse();
    let patience = Duration::from_secs(args.patience);
    let all = matrix::all();
    if let (Some(id), Some(result), Some(keep)) = (&args.one, args.result, args.keep) {
        let Some(row) = all.iter().find(|row| row.id() == *id) else {
            return refuse(&format!("there is no row {id}"));
        };
        return matrix::play(row, &One { result, keep, patience });
    }
    let wanted = |row: &Row| args.rows.is_empty() || args.rows.iter().any(|selection| selection.takes(row));
    let rows: Vec<Row> = all.into_iter().filter(wanted).collect();
    if args.list {
        print!("{}", matrix::list(&rows));
        return ExitCode::SUCCESS;
    }
    let out = match emptied(&args.out) {
        Ok(out) => out,
        Err(why) => return refuse(&why),
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return refuse(&format!("its own program cannot be found: {error}")),
    };
    wait::give_up_at_signals();
    let began = Instant::now();
    let (count, mut done) = (rows.len(), 0);
    let run = Run { rows, jobs: usize::from(args.jobs), patience, out, program };
    let ended = matrix::run(&run, |ended| {
        done += 1;
        progress(ended, done, count);
    });
    let report = Report { rows: ended, took: began.elapsed() };
    print!("\n{}{}\n", report.table(), report.sum());
    if let Err(why) = report.write(&run.out) {
        return refuse(&format!("{why}. Give --out a folder that you may write to"));
    }
    println!("{}", run.out.join("matrix.json").display());
    if wait::given_up() {
        eprintln!("matrix: ended by a signal: {} of {count} rows", report.rows.len());
        return ExitCode::from(ENDED);
    }
    ExitCode::from(u8::from(report.failed() > 0))
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("matrix: {why}");
    ExitCode::from(USAGE)
}

/// The folder, emptied of what an earlier run left there.
fn emptied(out: &Path) -> Result<PathBuf, String> {
    let told = |error: std::io::Error| {
        format!("{}: {error}. Give --out a folder that you may write to", out.display())
    };
    std::fs::create_dir_all(out).map_err(told)?;
    for entry in std::fs::read_dir(out).map_err(told)?.filter_map(Result::ok) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("row-") && entry.path().is_dir() {
            std::fs::remove_dir_all(entry.path()).map_err(told)?;
        } else if ["matrix.json", "matrix.md", "junit.xml"].contains(&&*name) {
            std::fs::remove_file(entry.path()).map_err(told)?;
        }
    }
    out.canonicalize().map_err(told)
}

/// One line a row, as it ends.
fn progress(ended: &Ended, done: usize, count: usize) {
    let (word, colour) = match &ended.verdict {
        Verdict::Passed => ("pass", "\x1b[32m"),
        Verdict::Failed(_) => ("FAIL", "\x1b[31m"),
        Verdict::Skipped(_) => ("skip", "\x1b[33m"),
    };
    let coloured = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let (on, off) = if coloured { (colour, "\x1b[0m") } else { ("", "") };
    let (row, what, took) = (ended.row.id(), ended.row.what, ended.took.as_secs_f64());
    // A closed terminal is no reason to end.
    let _ = writeln!(std::io::stderr(), "{on}{word}{off} {done:>3}/{count} {row:<18} {took:>5.1} s  {what}");
    if let Verdict::Failed(why) | Verdict::Skipped(why) = &ended.verdict {
        let first = why.lines().next().unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "             {first}");
    }
}
