//! `config`: every key of the config, and what a config comes to.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value};
use shard_watchdog::config::effective::Setting;
use shard_watchdog::config::read;
use shard_watchdog::config::reference::{self, Default, Key};

use super::{BAD_INPUT, fail};

const HELP: &str = "\
Examples:
  shard-watchdog config                          every key, as a file to start from
  shard-watchdog config kill                     those of [kill] alone
  shard-watchdog config thread.stall_after       one key
  shard-watchdog config --config /etc/shard-watchdog/0.toml
                                                 what is in force under that file, defaults included

The file that this prints without --config is a config: required keys are set, all others are comments. Of an address
that may hold a secret, only the host is printed.

Exit codes: 0 · 2 no such key, or the config cannot be used: `check` says all that is wrong with it";

/// Print every key of the config with its type, default and meaning; or what a config comes to
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Only this key or table, such as kill.budget or thread
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Print the settings in force under this config instead
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the shard, instead of the one in the file
    #[arg(long, env = "SHARD_WATCHDOG_SHARD", value_name = "NAME", value_parser = super::shard, requires = "config")]
    shard: Option<String>,
    /// Print JSON: a list of keys; with --config an object of settings, each as it would stand in
    /// the file
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    let wanted = args.key.as_deref().unwrap_or_default().trim_matches(['[', ']']);
    let matches = |key: &str| {
        wanted.is_empty()
            || key.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if !reference::keys().any(|key| matches(key.key)) {
        let tables: Vec<&str> = reference::TABLES.iter().map(reference::Table::path).collect();
        return fail(BAD_INPUT, format!("no key or table {wanted:?}; the tables are {}", tables.join(", ")));
    }
    let text = match &args.config {
        None if args.json => json(&keys(matches)),
        None => reference::example(|key| matches(key.key)),
        Some(path) => match read::load_for(path, args.shard.as_deref()) {
            Ok(config) => {
                let known =
                    |setting: &Setting| reference::find(&setting.key).is_some_and(|key| matches(key.key));
                in_force(config.settings().into_iter().filter(known), args.json)
            }
            Err(problems) => return fail(BAD_INPUT, problems),
        },
    };
    // The reader may have closed its end.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn keys(matches: impl Fn(&str) -> bool) -> Value {
    let keys = reference::keys().filter(|key| matches(key.key));
    keys.map(|key| serde_json::to_value(key).unwrap_or_default()).collect()
}

fn in_force(settings: impl Iterator<Item = Setting>, as_json: bool) -> String {
    if as_json {
        let settings: Map<String, Value> =
            settings.map(|setting| (setting.key, Value::String(setting.value))).collect();
        return json(&Value::Object(settings));
    }
    settings
        .map(|setting| {
            let default = |key: &&Key| matches!(key.default, Default::Value(value) if value == setting.value);
            let default = reference::find(&setting.key).filter(default).map_or("", |_| "  # default");
            format!("{setting}{default}\n")
        })
        .collect()
}

fn json(value: &Value) -> String {
    format!("{value:#}\n")
}
