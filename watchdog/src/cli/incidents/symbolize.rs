//! `incidents symbolize`: the stacks of a dump, with the symbols that can be found now.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use shard_watchdog::incident::folder::{DUMP, STACKS};
use shard_watchdog::stacks::{Places, Stacks};

use super::super::{fail, plain};
use super::shelf::{Failed, Shelf, Source};
use super::{EXIT_CODES, NO_SUCH_INCIDENT, Which, which};

const HELP: &str = "\
Examples:
  shard-watchdog incidents symbolize latest --directory /var/lib/shard-watchdog/0
  shard-watchdog incidents symbolize latest --directory . --symbols /srv/debug     for a program that was stripped

Prints the stacks of all threads with function, file and line, the guilty one first, and says for which programs and libraries
symbols are missing. With --directory it writes them into the folder of the incident too, as stacks.txt. A file counts only if
its build id is that of the program that ran: the program itself, at its path or in a folder of --symbols; its debug information,
beside it (PROGRAM.debug, .debug/PROGRAM.debug), in a folder of --symbols (PROGRAM.debug, .build-id/ab/cdef.debug), or in
/usr/lib/debug.
";

/// Add function, file and line to the stacks of one incident, with symbols that are here now
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{EXIT_CODES}"))]
pub(super) struct Args {
    /// The id of an incident, or "latest"
    #[arg(value_name = "ID", value_parser = which)]
    id: Which,
    /// A folder with programs or their debug information; may be repeated
    #[arg(long, env = "SHARD_WATCHDOG_SYMBOLS", value_name = "DIR", value_delimiter = ':')]
    symbols: Vec<PathBuf>,
    #[command(flatten)]
    source: Source,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> ExitCode {
    match symbolized(args) {
        Ok(text) => {
            // The reader may have closed its end.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(failed) => fail(failed.code, failed.why),
    }
}

fn symbolized(args: &Args) -> Result<String, Failed> {
    let shelf = args.source.shelf()?;
    let id = shelf.id(&args.id)?;
    // Whether there is such an incident: the dump alone does not tell.
    shelf.document(&id)?;
    let dump = shelf.file(&id, DUMP)?.ok_or_else(|| Failed {
        code: NO_SUCH_INCIDENT,
        why: match shelf {
            Shelf::Sidecar(_) => {
                format!("{id}: a sidecar does not hand out its dumps; --directory reads them on disk")
            }
            Shelf::Folder(_) => format!("{id} has no {DUMP}: incidents show says why there was no dump"),
        },
    })?;
    let places = Places { symbols: args.symbols.clone(), ..Places::default() };
    let stacks = Stacks::of(&dump, &places)
        .map_err(|error| Failed::input(format!("{id}: {DUMP} at {}: {error}", plain(&shelf.place()))))?;
    let text = stacks.to_text();
    if let Err(error) = shelf.write(&id, STACKS, text.as_bytes()) {
        // They are printed all the same.
        let _ = writeln!(
            std::io::stderr().lock(),
            "shard-watchdog: {STACKS} was not written: {}",
            plain(&error.to_string())
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "20261129T061028931Z-7834";

    fn args(evidence: &std::path::Path, id: &str) -> Args {
        let source = Source::of_folder(evidence.to_owned());
        Args { id: which(id).unwrap(), symbols: Vec::new(), source }
    }

    fn evidence() -> tempfile::TempDir {
        let evidence = tempfile::tempdir().unwrap();
        let folder = evidence.path().join("incidents").join(ID);
        std::fs::create_dir_all(&folder).unwrap();
        let (_, document) = include_bytes!("../../../fuzz/kept/kept_file/incident").split_first().unwrap();
        std::fs::write(folder.join("incident.json"), document).unwrap();
        evidence
    }

    #[test]
    fn without_incident_or_dump_it_says_so_with_exit_code_4() {
        let evidence = evidence();
        let none = symbolized(&args(evidence.path(), "20261129T061028931Z-0000")).unwrap_err();
        assert!(none.code == NO_SUCH_INCIDENT && none.why.contains("has no incident"), "{none:?}");
        let no_dump = symbolized(&args(evidence.path(), ID)).unwrap_err();
        assert!(
            no_dump.code == NO_SUCH_INCIDENT && no_dump.why.contains("has no process.dmp"),
            "{no_dump:?}"
        );
    }

    #[test]
    fn a_dump_that_is_none_is_bad_input() {
        let evidence = evidence();
        std::fs::write(evidence.path().join("incidents").join(ID).join(DUMP), b"garbage").unwrap();
        let failed = symbolized(&args(evidence.path(), "latest")).unwrap_err();
        assert!(failed.code == 2 && failed.why.contains("not a minidump"), "{failed:?}");
    }
}
