//! `status`: prints the verdict and the reason, for a person or a script.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use shard_watchdog::client::{self, ClientError, Endpoint};
use shard_watchdog::config::KillBy;
use shard_watchdog::status_json::StatusJson;
use shard_watchdog::verdict::Verdict;

use super::address::Address;
use super::{STATUS_MISUSED, fail};

mod explain;
pub(super) mod table;

/// Exit code when no sidecar answers.
const UNREACHABLE: u8 = 3;
/// A sidecar answers from memory; a script that asks a dead one should not wait longer than a
/// person would.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

const HELP: &str = "\
Examples:
  shard-watchdog status
  shard-watchdog status --explain                  counted time and threshold of each thread, excuses, why no kill
  shard-watchdog status --json | jq .verdict
  shard-watchdog status --socket /run/shard/0.watchdog.sock

Exit codes: 0 healthy or excused · 1 starting, degraded or restarting ·
2 condemned, dying, dead, crash_loop or unguarded · 3 the sidecar is not reachable ·
64 the command line is wrong (every other command ends with 2 then; here 2 is a verdict)";

/// Show the sidecar's verdict on its shard, and the reason
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    address: Address,
    /// Print the sidecar's own JSON on one line
    #[arg(long, env = "SHARD_WATCHDOG_JSON")]
    json: bool,
    /// Also print counted time and thresholds, excuses, and why there was no kill
    #[arg(long, env = "SHARD_WATCHDOG_EXPLAIN")]
    explain: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    let endpoint = match args.address.endpoint() {
        Ok(endpoint) => endpoint,
        Err(why) => return fail(STATUS_MISUSED, why),
    };
    let (body, status) = match ask(&endpoint) {
        Ok(answer) => answer,
        Err(why) => return fail(UNREACHABLE, why),
    };
    let text = if args.json {
        format!("{}\n", body.trim_end())
    } else {
        let mut text = told(&status, Timestamp::now(), super::colour());
        if args.explain {
            text.push_str(&explain::explained(&status));
        }
        text
    };
    // The reader may have closed its end; the exit code carries the result too.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(exit_code(status.verdict))
}

/// The answer as it came, and understood.
pub(super) fn ask(endpoint: &Endpoint) -> Result<(String, StatusJson), String> {
    let answer = client::get(endpoint, "/api/v1/status", ANSWER_WITHIN).map_err(|error| {
        let next = match error {
            ClientError::Unreachable { .. } => {
                "Is the sidecar running (systemctl status, kubectl get pod), and is this its http.listen or \
                 http.socket? --url, --socket or SHARD_WATCHDOG_URL names another one"
            }
            ClientError::Late { .. } => {
                "It may be stopped or the machine overloaded: look at its process, then at its log"
            }
            ClientError::Garbled { .. } => "Another program may hold this address: check --url",
        };
        format!("{error}. {next}.")
    })?;
    if !answer.status.is_success() {
        return Err(format!(
            "{endpoint} answers {} to a question for its status. The public address has none: use http.listen or \
             http.socket, under the name localhost.",
            answer.status
        ));
    }
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let status = serde_json::from_str(&body).map_err(|error| {
        format!("{endpoint} answers with something other than a status: {error}. Check --url, and that both are of one version.")
    })?;
    Ok((body, status))
}

/// What a script is told.
const fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Healthy | Verdict::Excused => 0,
        Verdict::Starting | Verdict::Degraded | Verdict::Restarting => 1,
        Verdict::Condemned | Verdict::Dying | Verdict::Dead | Verdict::CrashLoop | Verdict::Unguarded => 2,
    }
}

/// The person's view.
fn told(status: &StatusJson, now: Timestamp, colour: bool) -> String {
    let mut text = String::new();
    let (on, off) = if colour { (paint(status.verdict), "\x1b[0m") } else { ("", "") };
    let reason = table::plain(&status.reason);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "shard {}: {on}{}{off}", table::plain(&status.shard), status.verdict);
    let _ = writeln!(text, "  why     {reason}");
    let ago = Duration::try_from(now.duration_since(status.since)).unwrap_or_default();
    let _ = writeln!(text, "  since   {:.3} ({} ago)", status.since, table::rough(ago));
    match (status.pid, status.incarnation) {
        (Some(pid), Some(incarnation)) => {
            let how = if status.restored { ", restored from a checkpoint" } else { "" };
            let _ = writeln!(text, "  target  pid {pid}, incarnation {incarnation}{how}");
        }
        _ => text.push_str("  target  none\n"),
    }
    let left = status.kills_left.map_or_else(|| "unknown".to_owned(), |left| left.to_string());
    let by = if status.kill_by == KillBy::ExitCode.label() { ", by this sidecar's exit code" } else { "" };
    let _ = writeln!(text, "  kills   mode {}{by}, {left} left in the budget", table::plain(&status.mode));
    if let Some(until) = status.paused_until {
        let reason = status.paused_reason.as_deref().map(table::plain).unwrap_or_default();
        let by = status.paused_by.as_deref().map(table::plain).unwrap_or_default();
        let _ = writeln!(text, "  paused  until {until:.0} by {by}: {reason}");
    }
    if !status.crash_loop_keys.is_empty() {
        let keys: Vec<String> = status.crash_loop_keys.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "  loops   nothing is killed for work {}", keys.join(", "));
    }
    if let Some(shadow) = &status.shadow {
        let (verdict, times, reason) =
            (shadow.verdict, shadow.would_have_killed, table::plain(&shadow.reason));
        let _ = writeln!(text, "  shadow  {verdict}, would have killed {times} times: {reason}");
    }
    for listener in status.listeners.iter().filter(|listener| !listener.listening) {
        let trouble = listener.trouble.as_deref().map(table::plain).unwrap_or_default();
        let _ = writeln!(text, "  http    not on {}: {trouble}", table::plain(&listener.name));
    }
    if let Some(trouble) = &status.evidence_trouble {
        let _ = writeln!(text, "  evidence is not written: {}", table::plain(trouble));
    }
    if let Some(near) = &status.last_near_miss {
        let ago = Duration::try_from(Timestamp::now().duration_since(near.at)).unwrap_or_default();
        let _ = writeln!(
            text,
            "  near    {} ago {} made no progress for {:.3} s of {:.3} s: {}; `incidents list` has all",
            table::rough(ago),
            table::plain(&near.thread),
            near.lasted_seconds,
            near.stall_after_seconds,
            near.outcome
        );
    }
    for lack in &status.evidence_lacks {
        let _ = writeln!(text, "  evidence would lack {}", table::plain(lack));
    }
    if let Some(sign) = &status.heartbeat_out {
        text.push_str(&table::sign_of_life(sign));
    }
    if let Some(recorder) = &status.recorder {
        let (files, mib, missing) = (recorder.files, recorder.bytes >> 20, recorder.missing_looks);
        let _ = write!(text, "  records {files} files, {mib} MiB in {}", table::plain(&recorder.directory));
        if missing > 0 {
            let _ = write!(text, ", {missing} observations missing");
        }
        if let Some(trouble) = &recorder.trouble {
            let _ = write!(text, ": {}", table::plain(trouble));
        }
        text.push('\n');
    }
    let dropped: Vec<String> = status
        .telemetry_dropped
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(s, n)| format!("{} {n}", table::plain(s)))
        .collect();
    if !dropped.is_empty() {
        let _ = writeln!(text, "  dropped {}", dropped.join(", "));
    }
    text.push_str(&table::threads(&status.threads));
    text.push_str(&table::channels(&status.channels));
    text
}

const fn paint(verdict: Verdict) -> &'static str {
    match exit_code(verdict) {
        0 => "\x1b[1;32m",
        1 => "\x1b[1;33m",
        _ => "\x1b[1;31m",
    }
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
