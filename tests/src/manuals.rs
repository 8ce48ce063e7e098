//! Man pages and completions of both programs, generated from their command-line definitions:
//! neither program links the generators, and no page can lag behind a flag.

mod page;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use clap_complete::Shell;

/// Where bash-completion, zsh and fish search below `/usr/share`, as Debian configures them.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/vendor-completions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

/// Where `man` searches below `/usr/share`. Section 8, system administration, would fit too; people
/// try 1 first.
const MAN: &str = "man/man1";

/// The command-line definitions that get pages.
pub fn programs() -> [Command; 2] {
    [shard_watchdog::cli::definition(), shard_executor::cli::definition()]
}

/// A command and all its subcommands, each with the name of its page, such as `shard-watchdog-run`.
/// Hidden commands have no page, nor has `help`, whose content is the pages.
pub fn commands(program: Command) -> Vec<(String, Command)> {
    fn collect(command: &Command, into: &mut Vec<(String, Command)>) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        into.push((name.to_owned(), command.clone()));
        command.get_subcommands().filter(|below| !below.is_hide_set()).for_each(|below| collect(below, into));
    }
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut all = Vec::new();
    collect(&program, &mut all);
    all
}

/// The arguments of a command, without hidden ones and those that every command takes.
pub fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let everywhere = |arg: &&Arg| matches!(arg.get_id().as_str(), "help" | "version");
    command.get_arguments().filter(move |arg| !arg.is_hide_set() && !everywhere(arg))
}

/// Writes all pages and completions into `folder`, laid out as below `/usr/share`, and returns
/// their paths. `date` appears at the foot of each page.
///
/// # Errors
/// If the folder cannot be written, with the path that failed; or if a help text has a character
/// that a page cannot show.
pub fn write(folder: &Path, date: &str) -> io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for program in programs() {
        let (name, version) = (program.get_name().to_owned(), program.get_version().unwrap_or_default());
        let commands = commands(program.clone());
        for (page_name, command) in &commands {
            let others: Vec<&str> = commands.iter().map(|(other, _)| other.as_str()).collect();
            let text = page::page((page_name.as_str(), command), &others, version, date)?;
            written.push(put(&folder.join(MAN).join(format!("{page_name}.1")), text.as_bytes())?);
        }
        for (shell, below) in SHELLS {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut program.clone(), &name, &mut text);
            if shell == Shell::Bash {
                text = mended(&text, &name);
            }
            let file = match shell {
                Shell::Zsh => format!("_{name}"),
                Shell::Fish => format!("{name}.fish"),
                _ => name.clone(),
            };
            written.push(put(&folder.join(below).join(file), &text)?);
        }
    }
    Ok(written)
}

/// Works around clap issue 6421: clap_complete 4.6.12 sets `cmd` to `my__tool__subcmd__run` for
/// `my-tool run` and then checks for `my__subcmd__tool__subcmd__run`, so that nothing completes
/// below a name with a hyphen.
fn mended(script: &[u8], name: &str) -> Vec<u8> {
    let asked = name.replace('-', "__subcmd__");
    String::from_utf8_lossy(script).replace(&asked, &name.replace('-', "__")).into_bytes()
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let folder = path.parent().unwrap_or(path);
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes)).map_err(told)?;
    Ok(path.to_owned())
}
