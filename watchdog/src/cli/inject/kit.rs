//! Faults from outside: a script of the fault kit, which undoes its own changes.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shard_watchdog::clock;
use shard_watchdog::demo::process::{Heard, Process};

use super::super::plain;
use super::fault::Fault;

/// Where the release installs the kit.
const INSTALLED: &str = "/usr/share/shard-watchdog/faults";
/// Where the kit lies in the repository.
const IN_REPOSITORY: &str = "tests/faults";
/// A file that every kit contains.
const SHARED: &str = "kit.sh";
/// Scripts of the kit that are no faults.
const NO_FAULTS: [&str; 3] = ["plan", "random", "undo"];
/// Faults for which a config may have the process killed. For any other, a kill is a false kill.
const MAY_KILL: [&str; 2] = ["kill-thread", "stop-process"];
/// What a script prints once its fault holds.
const BROKEN: &str = ": broken: ";
/// Exit codes of a script that has undone its fault: at its end, or at SIGHUP, SIGINT, SIGTERM.
const UNDONE: [i32; 4] = [0, 129, 130, 143];
/// Exit code of a script that has refused.
const REFUSED: i32 = 2;
/// Timeout of a script's dry run.
const DRY_RUN: Duration = Duration::from_secs(20);
/// Limit of a script's output lines that are retained.
const MOST_LINES: usize = 100;

/// A script of the kit and its arguments.
#[derive(Debug)]
pub(super) struct Script {
    path: PathBuf,
    name: String,
    arguments: Vec<OsString>,
    pid: i32,
    process: Option<Process>,
    ended: Option<ExitStatus>,
    told_to_end: bool,
    said: Vec<String>,
    struck: Option<u64>,
    undone_at: Option<u64>,
}

impl Script {
    /// Finds the script.
    pub(super) fn new(
        kit: Option<&Path>,
        pid: i32,
        words: &[String],
        thread: Option<&str>,
        hold: Option<Duration>,
    ) -> Result<Self, String> {
        let (name, more) = words.split_first().ok_or("name the fault")?;
        let path = find(kit, name)?;
        let mut arguments: Vec<OsString> = vec!["--pid".into(), pid.to_string().into()];
        if let Some(hold) = hold {
            // The kit accepts whole numbers only.
            arguments.extend(["--for".into(), format!("{}ms", hold.as_millis().max(1)).into()]);
        }
        if let Some(thread) = thread {
            arguments.extend(["--thread".into(), thread.into()]);
        }
        arguments.extend(more.iter().map(OsString::from));
        Ok(Self {
            path,
            name: name.clone(),
            arguments,
            pid,
            process: None,
            ended: None,
            told_to_end: false,
            said: Vec::new(),
            struck: None,
            undone_at: None,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Markers of the kit's own processes; this is not one of them.
        command.env_remove("SHARD_FAULTS_STATE").env_remove("SHARD_FAULTS_UNDO");
        command
    }

    fn start(&self, command: &mut Command) -> Result<Process, String> {
        Process::start(command).map_err(|error| format!("{} cannot be run: {error}", self.path.display()))
    }

    fn lines(&self) -> String {
        self.said.join("\n")
    }
}

impl Fault for Script {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn pid(&self) -> Option<i32> {
        Some(self.pid)
    }

    fn must_not_kill(&self) -> bool {
        !MAY_KILL.contains(&self.name.as_str())
    }

    fn would(&mut self) -> Result<String, String> {
        let mut command = self.command();
        command.arg("--dry-run");
        let mut process = self.start(&mut command)?;
        let (sender, heard) = std::sync::mpsc::channel();
        process.listen(0, &sender).map_err(|error| format!("cannot listen to the script: {error}"))?;
        drop(sender);
        let until = Instant::now() + DRY_RUN;
        // Until both output streams are closed, or the time is up.
        while let Ok(heard) = heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let Heard::Line { line, .. } = heard {
                self.hear(line);
            }
        }
        match process.wait(until).and_then(|status| status.code()) {
            Some(0) => Ok(self.lines()),
            Some(_) => Err(self.lines()),
            None => Err(format!("{} --dry-run does not end", self.path.display())),
        }
    }

    fn begin(&mut self, sender: &Sender<Heard>) -> Result<(), String> {
        let mut process = self.start(&mut self.command())?;
        process.listen(0, sender).map_err(|error| format!("cannot listen to the script: {error}"))?;
        self.process = Some(process);
        Ok(())
    }

    fn hear(&mut self, line: String) {
        if self.struck.is_none() && line.contains(BROKEN) {
            self.struck = Some(clock::now().0);
        }
        if self.said.len() < MOST_LINES {
            self.said.push(plain(&line));
        }
    }

    fn look(&mut self) -> Result<(), String> {
        if self.ended.is_none()
            && let Some(process) = &mut self.process
        {
            self.ended = process.wait(Instant::now());
            if self.ended.is_some() {
                self.undone_at = Some(clock::now().0);
            }
        }
        match self.ended.and_then(|status| status.code()) {
            Some(REFUSED) if self.struck.is_none() => {
                let said = self.lines();
                Err(if said.is_empty() { format!("{} refuses", self.name) } else { said })
            }
            // Its last line may still be in transit.
            Some(0) if self.struck.is_none() => {
                self.struck = self.undone_at;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn struck_at(&self) -> Option<u64> {
        self.struck
    }

    fn is_told_late(&self) -> bool {
        true
    }

    fn undo(&mut self) {
        if self.ended.is_none()
            && !self.told_to_end
            && let Some(process) = &self.process
        {
            process.signal(Signal::TERM);
            self.told_to_end = true;
        }
    }

    fn undone(&self) -> Option<Result<(), String>> {
        let status = self.ended?;
        Some(match status.code() {
            Some(code) if UNDONE.contains(&code) => Ok(()),
            _ => Err(format!("{} ended with {status}:\n{}", self.path.display(), self.lines())),
        })
    }

    fn undone_at(&self) -> Option<u64> {
        self.undone_at
    }
}

/// Finds the script of that name in the given kit, the installed one, or the one of the repository
/// in which this program runs.
fn find(given: Option<&Path>, name: &str) -> Result<PathBuf, String> {
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    if !is_name || NO_FAULTS.contains(&name) {
        return Err(format!("{name:?} is no fault of the kit: its README has the list"));
    }
    let is_kit = |folder: &&Path| folder.join(SHARED).is_file();
    let places = [Path::new(INSTALLED), Path::new(IN_REPOSITORY)];
    let folder = match given {
        Some(folder) if is_kit(&folder) => folder,
        Some(folder) => {
            return Err(format!("{} is not the fault kit: it has no {SHARED}", folder.display()));
        }
        None => places.into_iter().find(is_kit).ok_or_else(|| {
            format!(
                "the fault kit is neither in {INSTALLED}, where the release puts it, nor in {IN_REPOSITORY} below this \
                 folder, as in the repository: name its folder with --kit"
            )
        })?,
    };
    for path in [folder.to_owned(), folder.join(SHARED), folder.join(name)] {
        trusted(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    }
    let path = folder.join(name);
    std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Checks that nobody else could have written the script: it is often root who runs it.
fn trusted(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such fault in the kit; its README has the list".to_owned()
        }
        _ => error.to_string(),
    })?;
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(format!(
            "it belongs to user {owner}, and is not run as this user: copy the kit to a folder of your own"
        ));
    }
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(format!("everybody may write to it: run chmod o-w {}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_a_kit_that_nobody_else_could_write_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let kit = folder.path();
        let refused = |name: &str| find(Some(kit), name).unwrap_err();
        assert!(refused("starve").contains("is not the fault kit"));
        std::fs::write(kit.join(SHARED), "").unwrap();
        assert!(refused("starve").contains("no such fault"));
        std::fs::write(kit.join("starve"), "").unwrap();
        assert_eq!(find(Some(kit), "starve").unwrap(), kit.join("starve"));
        for name in ["", "../starve", "plan", "undo", "Starve", "kit.sh"] {
            assert!(refused(name).contains("no fault of the kit"), "{name}");
        }
        std::fs::set_permissions(kit.join("starve"), std::fs::Permissions::from_mode(0o757)).unwrap();
        assert!(refused("starve").contains("chmod o-w"));
    }
}
