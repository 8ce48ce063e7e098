//! The answer of `shard-watchdog check`, and the schema of its JSON.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use crate::process::binary;
use crate::wait;

/// The schema as it stands in the repository, which is what people validate by.
static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema = include_str!("../../docs/check.schema.json");
    let schema = serde_json::from_str(schema).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a schema")
});

/// What the schema has against a document; nothing for a valid one.
pub fn errors(document: &Value) -> Vec<String> {
    SCHEMA.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// What one run said.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Checked {
    /// Its JSON, which must be valid by the schema, with nothing on standard error.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.err, "", "{}", self.out);
        let document: Value = serde_json::from_str(&self.out).expect("JSON");
        let errors = errors(&document);
        assert!(errors.is_empty(), "not as docs/check.schema.json says: {errors:#?}\n{document:#}");
        assert_eq!(self.code, Some(if document["ok"] == true { 0 } else { 2 }), "{document:#}");
        document
    }
}

/// The command with these arguments, and no variable that could change what it says.
pub fn command() -> Command {
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("check").env_clear().stdin(Stdio::null());
    command
}

/// Runs it to its end. What it says passes through files in `folder`.
#[track_caller]
pub fn run(folder: &Path, mut command: Command) -> Checked {
    let (out, err) = (folder.join("said.out"), folder.join("said.err"));
    let create = |path: &Path| File::create(path).expect("a file for what it says");
    command.stdout(create(&out)).stderr(create(&err));
    let mut child = command.spawn().expect("check starts");
    let status = wait::until("the end of check", || child.try_wait().expect("a child can be waited for"));
    let read = |path: &Path| std::fs::read_to_string(path).expect("what it said");
    Checked { code: status.code(), out: read(&out), err: read(&err) }
}
