//! `incidents export`: everything that is kept of one incident, as one file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use shard_watchdog::incident::Incident;
use shard_watchdog::incident::folder::{DOCUMENT, DUMP};
use shard_watchdog::incident::id::IncidentId;
use tar::{Builder, EntryType, Header};

use super::super::fail;
use super::super::status::table::plain;
use super::shelf::{Failed, Shelf, Source};
use super::{EXIT_CODES, Which, which};

/// Evidence is for its owner and group only; so is a copy of it.
const FILE_MODE: u32 = 0o640;

/// How the observation begins that repeats their first line (watch/story.rs).
const OF_LAST_WORDS: &str = "its last words: ";

const HELP: &str = "\
Examples:
  shard-watchdog incidents export latest --out /tmp
  shard-watchdog incidents export 20261122T221503500Z-7f3a --directory /var/lib/shard-watchdog/0 --out .

Writes DIR/ID.tar with the document, the threads, the recording and the stacks, and prints its path. None of them has arguments,
environment or memory of the process, with one exception: what the process itself said in its last words, such as the message of a panic.
--without-last-words leaves them out. Read the document before you hand it on. The dump, process.dmp, has memory, although no more
than registers and addresses on the stacks: it is left out unless you ask --with-dump.
";

/// Write everything that is kept of one incident into a tar file, for a bug report
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{EXIT_CODES}"))]
pub(super) struct Args {
    /// The id of an incident, or "latest"
    #[arg(value_name = "ID", value_parser = which)]
    id: Which,
    /// The folder to write to; a file of an earlier export is replaced
    #[arg(long, env = "SHARD_WATCHDOG_OUT", value_name = "DIR")]
    out: PathBuf,
    /// Leave out what the process said before it ended
    #[arg(long, env = "SHARD_WATCHDOG_WITHOUT_LAST_WORDS")]
    without_last_words: bool,
    /// Add the dump: registers, and addresses on the stacks
    #[arg(long, env = "SHARD_WATCHDOG_WITH_DUMP")]
    with_dump: bool,
    #[command(flatten)]
    source: Source,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> ExitCode {
    match exported(args) {
        Ok(path) => {
            // The reader may have closed its end.
            let _ = writeln!(std::io::stdout().lock(), "{}", plain(&path.display().to_string()));
            ExitCode::SUCCESS
        }
        Err(failed) => fail(failed.code, failed.why),
    }
}

fn exported(args: &Args) -> Result<PathBuf, Failed> {
    let shelf = args.source.shelf()?;
    let id = shelf.id(&args.id)?;
    let (mut document, incident) = shelf.document(&id)?;
    if args.without_last_words {
        document = without_last_words(incident)?;
    }
    let mut files = vec![(DOCUMENT, document)];
    for name in Shelf::names().iter().filter(|name| **name != DOCUMENT && (args.with_dump || **name != DUMP))
    {
        files.extend(shelf.file(&id, name)?.map(|content| (*name, content)));
    }
    let path = args.out.join(format!("{id}.tar"));
    write(&path, &id, &files).map_err(|error| {
        let next = "Give --out a folder that exists and that you may write to";
        Failed::input(format!("{}: cannot be written: {error}. {next}", path.display()))
    })?;
    Ok(path)
}

/// The document without them; their first line is among the observations, too.
fn without_last_words(mut incident: Incident) -> Result<Vec<u8>, Failed> {
    incident.last_words = None;
    incident.observations.retain(|seen| !seen.starts_with(OF_LAST_WORDS));
    serde_json::to_vec_pretty(&incident)
        .map_err(|error| Failed::input(format!("{}: cannot be written: {error}", incident.id)))
}

/// Writes the archive beside its path first: a reader finds the old one or the complete new one.
fn write(path: &Path, id: &IncidentId, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&unfinished)?;
    let written = packed(file, id, files).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn packed(file: File, id: &IncidentId, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    let mut archive = Builder::new(file);
    for (name, content) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(FILE_MODE);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, format!("{id}/{name}"), content.as_slice())?;
    }
    archive.into_inner()?.sync_all()
}

#[cfg(test)]
#[path = "export/tests.rs"]
mod tests;
