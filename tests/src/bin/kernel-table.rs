//! Tables of what kernels reported: the logs of `tests/kernels/full`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shard_tests::kernel::Told;

/// Markdown tables from the logs of `tests/kernels/full`.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The head of the table of results
    Head,
    /// The row of one log. Exit code 1: something was not as it should be
    Row {
        /// The log
        log: std::path::PathBuf,
    },
    /// What each kernel reports about itself: a column for each log
    Facts {
        /// The logs
        logs: Vec<std::path::PathBuf>,
    },
}

fn main() -> ExitCode {
    match Args::parse().what {
        What::Head => {
            println!("| name | kernel | times slower | core | demo |\n| --- | --- | --- | --- | --- |");
            ExitCode::SUCCESS
        }
        What::Row { log } => row(&log),
        What::Facts { logs } => {
            facts(&logs);
            ExitCode::SUCCESS
        }
    }
}

fn read(log: &Path) -> Told {
    Told::new(&std::fs::read_to_string(log).unwrap_or_default())
}

fn name(log: &Path) -> String {
    log.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn row(log: &Path) -> ExitCode {
    let told = read(log);
    // A test that was not requested leaves no lines.
    let ran = |words: &str| told.of(words).next().is_some();
    let core = ran("PID").then(|| told.core_held());
    let demo = ran("CODE").then(|| told.demos_recovered());
    let slowness = told.slowness().map_or("?".to_owned(), |(least, most)| format!("{least} to {most}"));
    let word = |outcome: &Option<Result<(), String>>| match outcome {
        None => "not run",
        Some(Ok(())) => "as it should be",
        Some(Err(_)) => "NOT",
    };
    let kernel = told.kernel().unwrap_or("did not boot");
    println!("| {} | {kernel} | {slowness} | {} | {} |", name(log), word(&core), word(&demo));
    let mut code = ExitCode::SUCCESS;
    for why in [core, demo].into_iter().flatten().filter_map(Result::err) {
        eprintln!("{}: {why}", log.display());
        code = ExitCode::FAILURE;
    }
    code
}

fn facts(logs: &[std::path::PathBuf]) {
    let mut order: Vec<String> = Vec::new();
    let mut all: BTreeMap<(String, usize), String> = BTreeMap::new();
    for (column, log) in logs.iter().enumerate() {
        for fact in read(log).of("FACT") {
            let (name, value) = fact.split_once(' ').unwrap_or((fact, ""));
            if !order.iter().any(|known| known == name) {
                order.push(name.to_owned());
            }
            all.insert((name.to_owned(), column), value.to_owned());
        }
    }
    let names: Vec<_> = logs.iter().map(|log| name(log)).collect();
    println!("| fact | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()));
    for fact in order {
        let value = |column| all.get(&(fact.clone(), column)).map_or("", String::as_str);
        let values: Vec<_> = (0..logs.len()).map(value).collect();
        println!("| {fact} | {} |", values.join(" | "));
    }
}
