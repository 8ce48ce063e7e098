//! Writes the man pages of both programs, and their completions for bash, zsh and fish, into a
//! folder laid out like `/usr/share`: for packages and the release tarball.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use jiff::Timestamp;
use shard_tests::manuals;

#[derive(Debug, Parser)]
#[command(about = "Writes man pages and shell completions of shard-watchdog and shard-executor")]
struct Args {
    /// Target folder: man/man1, bash-completion/completions, zsh/vendor-completions and
    /// fish/vendor_completions.d are created in it
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The date on the pages, in seconds since 1970, so that builds are reproducible [default:
    /// today]
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS")]
    date: Option<i64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let date = match args.date.map_or_else(|| Ok(Timestamp::now()), Timestamp::from_second) {
        Ok(date) => date.strftime("%Y-%m-%d").to_string(),
        Err(error) => {
            eprintln!("manuals: --date or SOURCE_DATE_EPOCH: {error}. Give seconds since 1970.");
            return ExitCode::from(2);
        }
    };
    match manuals::write(&args.folder, &date) {
        Ok(written) => {
            println!("{} files in {}", written.len(), args.folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("manuals: {error}. Choose a folder that can be written.");
            ExitCode::from(2)
        }
    }
}
