//! What `check --json` prints.

use serde::Serialize;

use crate::config::problem::Problem;

use super::{Remark, Topic};

/// The whole answer.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Document {
    /// The version of the program that checked.
    pub version: &'static str,
    /// Whether every file is a config that can be used; the exit code is 0 then, and 2 otherwise.
    pub ok: bool,
    /// The files, in the order of the command line; one that was named twice stands here once.
    pub files: Vec<File>,
}

/// One file.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct File {
    /// The file as it was named; `-` is standard input.
    pub file: String,
    /// Whether it is a config that can be used.
    pub ok: bool,
    /// The name of the shard; null if the file cannot be read as a config.
    pub shard: Option<String>,
    /// Why it cannot be used, in the order of the file. Empty if it can.
    pub problems: Vec<Wrong>,
    /// What will not work on this machine, although the config can be used.
    pub warnings: Vec<Warning>,
    /// What could not be checked, and why, one sentence each.
    pub notes: Vec<String>,
}

/// One reason not to use a file.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Wrong {
    /// The line of the file, from 1; null if it concerns no single line.
    pub line: Option<usize>,
    /// The dotted key, such as `thread.stall_after`; null if it concerns none.
    pub key: Option<String>,
    /// What stands there; null if nothing does.
    pub found: Option<String>,
    /// What is wrong, or what is allowed instead.
    pub message: String,
}

/// One thing that will not work.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Warning {
    /// What it is about.
    pub topic: Topic,
    /// The line of the file, from 1; null if it concerns no single line.
    pub line: Option<usize>,
    /// The dotted key, such as `thread.name`; null if it concerns none.
    pub key: Option<String>,
    /// What stands there; null if nothing does.
    pub found: Option<String>,
    /// What will not work, and what to do.
    pub message: String,
}

fn some(key: String) -> Option<String> {
    Some(key).filter(|key| !key.is_empty())
}

impl From<Problem> for Wrong {
    fn from(Problem { line, key, found, allowed }: Problem) -> Self {
        Self { line, key: some(key), found, message: allowed }
    }
}

/// A remark that is a reason not to use the file.
impl From<Remark> for Wrong {
    fn from(Remark { line, key, found, message, .. }: Remark) -> Self {
        Self { line, key: some(key), found, message }
    }
}

impl From<Remark> for Warning {
    fn from(Remark { topic, line, key, found, message }: Remark) -> Self {
        Self { topic, line, key: some(key), found, message }
    }
}

/// The JSON Schema of the answer, as it stands in the repository: `docs/check.schema.json`.
///
/// # Errors
/// Those of the serializer.
#[cfg(feature = "schema")]
pub fn schema() -> serde_json::Result<String> {
    const ABOUT: &str = "What shard-watchdog check --json prints. A required field is always present, null where there is \
        nothing to say. Ignore fields that you do not know, and expect further topics: later versions add some.";
    let generator = schemars::generate::SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Document>();
    schema.insert("title".to_owned(), "The answer of shard-watchdog check --json".into());
    schema.insert("description".to_owned(), ABOUT.into());
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}
