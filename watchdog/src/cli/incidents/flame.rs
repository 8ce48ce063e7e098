//! `incidents flame`: where the threads of many incidents stood, as one flame graph.

mod fold;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use inferno::flamegraph::{self, Options};
use shard_watchdog::incident::folder::{DUMP, STACKS};
use shard_watchdog::incident::id::IncidentId;
use shard_watchdog::stacks::{Places, Stacks};

use super::super::{fail, plain};
use super::shelf::{Failed, Shelf, Source};
use super::{NO_SUCH_INCIDENT, Which, which};

use fold::Folded;

const HELP: &str = "\
Examples:
  shard-watchdog incidents flame --directory /var/lib/shard-watchdog/0 --out flame.svg
  shard-watchdog incidents flame --out flame.svg          the latest incidents of a running sidecar
  shard-watchdog incidents flame --directory DIR 20261122T221503500Z-7f3a latest > two.svg
  shard-watchdog incidents flame --directory DIR --all-threads --out all.svg

The picture is an SVG: open it in a browser, whose script lets you search and zoom in. Its lowest row is the thread, the row above
it the outermost function, and so on; the wider a box, the more incidents stood in that function. Only the thread at fault is
drawn, unless you ask for --all-threads. Stacks are those of stacks.txt; where there is none, those of process.dmp, with the symbols
that are found now, as by incidents symbolize. Incidents without either are left out, and named.

Exit codes: 0 · 2 wrong usage, or a file cannot be read or written · 3 the sidecar is not reachable · 4 no such incident, or none
with stacks";

/// Draw where the threads of many incidents stood, as one flame graph (SVG)
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The ids of incidents, or "latest"; without any, all of them
    #[arg(value_name = "ID", value_parser = which)]
    ids: Vec<Which>,
    /// The file to write; without it, to standard output
    #[arg(long, env = "SHARD_WATCHDOG_OUT", value_name = "FILE")]
    out: Option<PathBuf>,
    /// Draw every thread, not only the one at fault
    #[arg(long, env = "SHARD_WATCHDOG_ALL_THREADS")]
    all_threads: bool,
    /// A folder with programs or their debug information; may be repeated
    #[arg(long, env = "SHARD_WATCHDOG_SYMBOLS", value_name = "DIR", value_delimiter = ':')]
    symbols: Vec<PathBuf>,
    #[command(flatten)]
    source: Source,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> ExitCode {
    match drawn(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => fail(failed.code, failed.why),
    }
}

fn drawn(args: &Args) -> Result<(), Failed> {
    let shelf = args.source.shelf()?;
    let ids = ids(&shelf, &args.ids)?;
    let places = Places { symbols: args.symbols.clone(), ..Places::default() };
    let mut folded = Folded::default();
    for id in &ids {
        match stacks(&shelf, id, &places) {
            Ok(Some(text)) => folded.add(&text, args.all_threads),
            Ok(None) => note(&format!("{id} has no stacks and is left out")),
            // One that is damaged must not hide the others.
            Err(why) => note(&format!("{id} is left out: {why}")),
        }
    }
    if folded.is_empty() {
        return Err(Failed {
            code: NO_SUCH_INCIDENT,
            why: format!(
                "no incident at {} has stacks. They need [evidence] minidump = true, and a thread that still ran",
                plain(&shelf.place())
            ),
        });
    }
    let svg = svg(&folded).map_err(|error| Failed::input(format!("the picture cannot be drawn: {error}")))?;
    match &args.out {
        Some(path) => write(path, &svg),
        None => {
            // The reader may have closed its end.
            let _ = io::stdout().lock().write_all(&svg);
            Ok(())
        }
    }
}

/// Those that are meant, each once.
fn ids(shelf: &Shelf, wanted: &[Which]) -> Result<Vec<IncidentId>, Failed> {
    if wanted.is_empty() {
        return Ok(shelf.list()?.incidents.into_iter().map(|incident| incident.id).collect());
    }
    let mut ids = Vec::new();
    for which in wanted {
        let id = shelf.id(which)?;
        // Whether there is such an incident.
        shelf.document(&id)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The text of an incident's stacks.
fn stacks(shelf: &Shelf, id: &IncidentId, places: &Places) -> Result<Option<String>, String> {
    if let Some(text) = shelf.file(id, STACKS).map_err(|failed| failed.why)? {
        return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
    }
    // A sidecar does not hand out its dumps.
    let Some(dump) = shelf.file(id, DUMP).map_err(|failed| failed.why)? else { return Ok(None) };
    let stacks = Stacks::of(&dump, places).map_err(|error| format!("{DUMP}: {error}"))?;
    Ok(Some(stacks.to_text()))
}

fn note(what: &str) {
    let _ = writeln!(io::stderr().lock(), "shard-watchdog: {}", plain(what));
}

fn svg(folded: &Folded) -> io::Result<Vec<u8>> {
    let mut options = Options::default();
    options.title = folded.title();
    "threads".clone_into(&mut options.count_name);
    // The same incidents give the same picture.
    options.deterministic = true;
    let lines = folded.lines();
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    Ok(svg)
}

fn write(path: &Path, svg: &[u8]) -> Result<(), Failed> {
    std::fs::write(path, svg).map_err(|error| {
        let next = "Give --out a file in a folder that exists and that you may write to";
        Failed::input(format!("{}: cannot be written: {error}. {next}", path.display()))
    })
}

#[cfg(test)]
#[path = "flame/tests.rs"]
mod tests;
