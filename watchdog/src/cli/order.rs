//! How an operator's command reaches the sidecar: the address, the token, and the meaning of the
//! answer.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use shard_watchdog::client::{self, Answer, Endpoint};
use shard_watchdog::http::token;

use super::address::Address;
use super::{BAD_INPUT, fail};

/// Exit code when the sidecar refuses.
const REFUSED: u8 = 1;
/// Exit code when no sidecar answers, as of `status`.
const UNREACHABLE: u8 = 3;
/// The sidecar waits for its loop for up to 3 s, and answers within 5.
const ANSWER_WITHIN: Duration = Duration::from_secs(7);

/// What is told of the exit codes of every such command.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 the sidecar refuses, and says why · 2 bad input · 3 the sidecar is not reachable";

/// Where the sidecar is, and the token that it demands.
#[derive(Debug, clap::Args)]
pub(crate) struct Where {
    #[command(flatten)]
    address: Address,
    /// File with the token that is in the sidecar's http.token_file, required with http://
    #[arg(long, env = "SHARD_WATCHDOG_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Where {
    fn token(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let token = token::read(path).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(token).ok())
    }
}

/// Gives the order, tells what came of it, and returns the exit code.
pub(super) fn give(to: &Where, path: &str, body: &Value) -> ExitCode {
    let (endpoint, token) = match to.address.endpoint().and_then(|endpoint| Ok((endpoint, to.token()?))) {
        Ok(both) => both,
        Err(why) => return fail(BAD_INPUT, why),
    };
    match client::post(&endpoint, path, &body.to_string(), token.as_deref(), ANSWER_WITHIN) {
        Ok(answer) => told(&endpoint, &answer),
        Err(error) => fail(
            UNREACHABLE,
            format!("{error}. Is the sidecar running, and is this its http.socket or http.listen?"),
        ),
    }
}

fn told(endpoint: &Endpoint, answer: &Answer) -> ExitCode {
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let sentence = |key: &str| said.get(key).and_then(Value::as_str).map(super::plain);
    match answer.status.as_u16() {
        200 => {
            let message = sentence("message").unwrap_or_else(|| "done".to_owned());
            // The reader may have closed its end; the exit code carries the result too.
            let _ = writeln!(std::io::stdout().lock(), "{message}");
            ExitCode::SUCCESS
        }
        400 | 413 => {
            fail(BAD_INPUT, sentence("error").unwrap_or_else(|| "the sidecar does not understand".to_owned()))
        }
        503 => fail(
            UNREACHABLE,
            sentence("error").unwrap_or_else(|| "the sidecar does not answer in time".to_owned()),
        ),
        404 | 405 => fail(
            REFUSED,
            format!(
                "{endpoint} takes no commands: the public address never does, nor do sidecars of earlier versions. Use http.socket"
            ),
        ),
        code => {
            let why = sentence("error").unwrap_or_else(|| format!("{endpoint} answers {code}"));
            fail(REFUSED, why)
        }
    }
}
