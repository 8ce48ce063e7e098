//! The reference of the config: every key with its type, default, example and meaning. The page
//! `docs/config.md` and the command `config` are written from it, and tests hold it against what
//! the reader accepts.

mod keys;

use std::fmt::Write as _;

use serde::Serialize;

pub use keys::TABLES;

/// One table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its header as it stands in the file, such as `[[thread]]`.
    pub header: &'static str,
    /// What it is for, in a sentence or two.
    pub about: &'static str,
    /// Its keys, in the order in which a person needs them.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Key {
    /// Its dotted name, such as `thread.stall_after`.
    pub key: &'static str,
    /// What its value is, in words.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What holds where it is left out.
    pub default: Default,
    /// A value as it stands in the file.
    pub example: &'static str,
    /// When a reload takes a change.
    pub takes_effect: Takes,
    /// Its meaning, with its limits.
    pub about: &'static str,
}

/// What holds where a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Default {
    /// The table cannot do without it.
    Required,
    /// Nothing: what it is for is off.
    None,
    /// This value, as it would stand in the file.
    Value(&'static str),
    /// What follows from other keys, in words.
    Told(&'static str),
}

/// When a change in the file takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    /// At the next reload (SIGHUP).
    Reload,
    /// At the next start of the sidecar.
    Start,
    /// At the next start, and a reload that finds a change is refused as a whole.
    StartAlone,
}

impl Takes {
    /// In words, for the page and for comments.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Start => "start",
            Self::StartAlone => "start; a reload is refused",
        }
    }
}

impl Default {
    fn told(self) -> String {
        match self {
            Self::Required => "required".to_owned(),
            Self::None => "none".to_owned(),
            Self::Value(value) => format!("`{value}`"),
            Self::Told(words) => words.to_owned(),
        }
    }
}

impl Key {
    /// Its name inside its table.
    pub fn name(&self) -> &'static str {
        let header = TABLES.iter().find(|table| table.keys.iter().any(|key| key.key == self.key));
        let path = header.map_or("", |table| table.path());
        self.key.strip_prefix(path).and_then(|rest| rest.strip_prefix('.')).unwrap_or(self.key)
    }
}

impl Table {
    /// The dotted name of the table.
    pub fn path(&self) -> &'static str {
        self.header.trim_matches(['[', ']'])
    }
}

/// Every key.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    TABLES.iter().flat_map(|table| table.keys)
}

/// The key of that dotted name, where `thread."exec-s0".count` means `thread.count`.
pub fn find(setting: &str) -> Option<&'static Key> {
    // A name that a person chose may contain anything but a quote.
    let plain: String = setting.split('"').step_by(2).collect();
    let plain = plain.replace("..", ".");
    keys().find(|key| key.key == plain)
}

/// A config that names every key: those that it cannot do without set, all others as comments with
/// their defaults, or with an example where there is none.
pub fn example(matches: impl Fn(&Key) -> bool) -> String {
    let mut text = String::new();
    for table in TABLES {
        let keys: Vec<&Key> = table.keys.iter().filter(|key| matches(key)).collect();
        if keys.is_empty() {
            continue;
        }
        let optional = !table.keys.iter().any(|key| key.default == Default::Required)
            || !matches!(table.path(), "target" | "thread");
        comment(&mut text, table.about);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}{}", if optional { "# " } else { "" }, table.header);
        for key in keys {
            let default = match key.default {
                Default::Required => "Required.".to_owned(),
                Default::None => "No default.".to_owned(),
                Default::Value(_) => "The default is shown.".to_owned(),
                Default::Told(words) => format!("Default: {words}."),
            };
            let kind = key.kind;
            let (first, rest) = kind.split_at(kind.chars().next().map_or(0, char::len_utf8));
            let when = match key.takes_effect {
                Takes::Reload => "",
                Takes::Start => " A change needs a restart of the sidecar.",
                Takes::StartAlone => " A change needs a restart, and a reload is refused until then.",
            };
            let told = format!("{} {}{rest}. {default}{when}", key.about, first.to_uppercase());
            comment(&mut text, &told);
            let value = match key.default {
                Default::Value(value) => value,
                _ => key.example,
            };
            // One of four that find the target, and the one that most people need.
            let set = key.key == "target.heartbeat" || key.default == Default::Required && !optional;
            let _ = writeln!(text, "{}{} = {value}", if set { "" } else { "# " }, key.name());
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Wraps `words` into comment lines.
fn comment(text: &mut String, words: &str) {
    for line in wrapped(words, "# ") {
        text.push_str(&line);
        text.push('\n');
    }
}

/// `words` in lines of at most 100 columns that begin with `prefix`.
fn wrapped(words: &str, prefix: &str) -> Vec<String> {
    const WIDTH: usize = 100;
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{prefix}{word}")),
        }
    }
    lines
}

/// The page `docs/config.md`.
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for table in TABLES {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## `{}`\n\n{}\n\n", table.header, wrapped(table.about, "").join("\n"));
        page.push_str("| key | type | default | example | takes effect at | meaning |\n");
        page.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for key in table.keys {
            let cells = [key.kind, &key.default.told(), &format!("`{}`", key.example)]
                .map(|cell| cell.replace('|', "\\|"));
            let [kind, default, example] = cells;
            let (name, about) = (key.name(), key.about.replace('|', "\\|"));
            let takes = key.takes_effect.told();
            let _ = writeln!(page, "| `{name}` | {kind} | {default} | {example} | {takes} | {about} |");
        }
    }
    page
}

const INTRODUCTION: &str = "\
# The config of the sidecar

Written from `watchdog/src/config/reference/keys.rs`; tests fail if this page, that file and what
the sidecar accepts differ. To write it anew: `UPDATE_DOCS=1 cargo test -p shard-watchdog --test
config_manual`.

The file is TOML, at most 1 MiB. A key that is not listed here is refused, with the nearest one or
with all that are allowed there. `shard-watchdog config` prints this reference as a file to start
from, and `shard-watchdog config --config FILE` what is in force under FILE, defaults included.
Durations are whole numbers with units, added up: `\"1m 30s\"` (ns, us, ms, s, m, h, d). Sizes are
whole numbers with B, KiB, MiB or GiB.

`shard-watchdog check --config FILE…` reports every problem of one or more files at once, each with
its line, and exits with 2 if there is one; `-` reads standard input. It also warns of what will not
work on this machine: names in rules that no registered thread and no published channel has, where
the target's segment is there, folders that this user may not write, what this user may not do to
the target, limits and pauses of its systemd unit, the limit of open files, and variables for
telemetry. `run` logs the same warnings once, as event `check`. With `--json` it prints all of it
for a program, by [a JSON Schema](check.schema.json).

A reload (SIGHUP, `systemctl reload`) reads the file again. A bad one changes nothing. Otherwise the
log event `reloaded` lists what has changed, and what waits for the next start.
`shard_watchdog_config_last_reload_successful` is 0 from a refused reload until the next good one.
";
