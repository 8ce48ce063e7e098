//! `inject`: injects one fault into a process and prints the timeline from the fault to recovery.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use shard_watchdog::client::Endpoint;
use shard_watchdog::demo::process::{self, Heard};

use super::address::Address;
use super::{BAD_INPUT, fail};

mod fault;
mod follow;
mod kit;
mod port;
mod told;

use fault::Fault;
use follow::{Follow, Outcome};

/// Exit code when it has not recovered.
const NOT_RECOVERED: u8 = 1;
/// How often fault and sidecar are looked at: the incident has the exact times, and only what it
/// does not tell depends on this.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What an undo may take. The kit itself gives up after ten seconds.
const UNDONE_WITHIN: Duration = Duration::from_secs(20);

const HELP: &str = "\
Examples:
  shard-watchdog inject --socket /run/shard/0.faults spin     prints what it would do, and does nothing
  shard-watchdog inject --socket /run/shard/0.faults spin after 3 --yes-break-it
  shard-watchdog inject --socket /run/app.faults hang at commit --for 30s --yes-break-it
  shard-watchdog inject --pid 4711 stop-process --for 5s --yes-break-it
  shard-watchdog inject --pid 4711 kill-thread --thread exec-s0 --yes-break-it
  shard-watchdog inject --pid 4711 throttle --yes-break-it -- --cpu 10

--socket: the fault socket of a process that embeds the heartbeat with its fault points, or of
shard-executor (--faults). FAULT is what follows `arm` in that protocol: hang, spin, end, panic,
slow 50ms, and conditions such as `at PLACE` or `after N`.
--pid: FAULT is a script of the fault kit; its --help lists its options. Arguments after -- are
passed to the script unchanged.

The sidecar that watches the process must find it healthy before the fault, and is polled from then
on. A fault is undone when its time is up, when the process has ended, and at Ctrl-C and SIGTERM.
Recovered means: killed and restarted, and work finished again; or, without a kill, healthy again
after the fault was undone.

Exit codes: 0 recovered · 1 not recovered, or not undone · 2 refused, nothing is broken";

/// Break one process on purpose, show the timeline from the fault to recovery, and undo it
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The fault and its conditions: an order for the fault socket, or the name of a script of the
    /// kit
    #[arg(required = true, value_name = "FAULT")]
    fault: Vec<String>,
    /// The process to break from outside, by a script of the fault kit
    #[arg(long, env = "SHARD_WATCHDOG_PID", value_name = "N", conflicts_with = "socket",
          required_unless_present = "socket", value_parser = clap::value_parser!(i32).range(2..))]
    pid: Option<i32>,
    /// The fault socket of the process to break from inside
    #[arg(long, env = "SHARD_WATCHDOG_FAULT_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Only this thread: its name, or with a script also its id
    #[arg(long, env = "SHARD_WATCHDOG_THREAD", value_name = "NAME|TID")]
    thread: Option<String>,
    /// How long the fault lasts at most, 10m at most [default: 10s]
    #[arg(long, env = "SHARD_WATCHDOG_FOR", value_name = "TIME", value_parser = fault::duration)]
    r#for: Option<Duration>,
    /// How long to wait for the fault and the recovery together
    #[arg(long, env = "SHARD_WATCHDOG_WITHIN", value_name = "TIME", default_value = "60s",
          value_parser = super::positive_duration)]
    within: Duration,
    /// The fault kit [default: /usr/share/shard-watchdog/faults, else tests/faults below the
    /// working directory]
    #[arg(long, env = "SHARD_WATCHDOG_KIT", value_name = "DIR")]
    kit: Option<PathBuf>,
    /// Where the sidecar listens: http://HOST:PORT or unix:/PATH.sock [env: SHARD_WATCHDOG_URL]
    /// [default: http://127.0.0.1:9611]
    #[arg(long, value_name = "URL")]
    url: Option<Endpoint>,
    /// The sidecar's unix socket, http.socket in its config [env: SHARD_WATCHDOG_SOCKET]
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    status_socket: Option<PathBuf>,
    /// Print the timeline as one line of JSON
    #[arg(long, env = "SHARD_WATCHDOG_JSON")]
    json: bool,
    // No environment variable: this must be given explicitly each time.
    /// Really do it; without this flag it prints what it would do, and does nothing
    #[arg(long)]
    yes_break_it: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    match inject(args) {
        Ok(done) => done,
        Err(refused) => fail(BAD_INPUT, refused),
    }
}

fn inject(args: &Args) -> Result<ExitCode, String> {
    let mut fault = fault_of(args)?;
    if !args.yes_break_it {
        let would = fault.would()?;
        return Err(format!(
            "refused without --yes-break-it, and nothing is broken. It would do this:\n{would}"
        ));
    }
    let hold = args.r#for.unwrap_or(fault::DEFAULT_HOLD);
    if args.within <= hold {
        let (within, hold) = (args.within.as_secs_f64(), hold.as_secs_f64());
        return Err(format!("--within {within} s must be longer than the fault (--for {hold} s)"));
    }
    let (sender, heard) = channel();
    // Before the first thread starts, so that a signal ends none of them.
    process::listen_for_stop(sender.clone())
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    let endpoint = Address::new(args.status_socket.clone(), args.url.clone()).endpoint()?;
    let mut follow = Follow::begin(endpoint, fault.pid())?;
    fault.begin(&sender)?;
    drop(sender);
    // The reader may have closed its end.
    let _ = writeln!(std::io::stderr(), "inject: {} begins; Ctrl-C undoes it", fault.name());
    let until = Instant::now() + args.within;
    let seen = watch(&mut *fault, &mut follow, &heard, until)?;
    let undone = undo(&mut *fault, &heard);
    follow.look();
    let story = told::Story::of(&*fault, &follow, &seen, undone);
    let text = if args.json { story.json() } else { story.text(super::colour()) };
    // The reader may have closed its end; the exit code carries the result too.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(if story.recovered() { ExitCode::SUCCESS } else { ExitCode::from(NOT_RECOVERED) })
}

fn fault_of(args: &Args) -> Result<Box<dyn Fault>, String> {
    let thread = args.thread.as_deref();
    Ok(match (&args.socket, args.pid) {
        (Some(socket), _) => Box::new(port::Ordered::new(socket, &args.fault, thread, args.r#for)?),
        (None, Some(pid)) => {
            Box::new(kit::Script::new(args.kit.as_deref(), pid, &args.fault, thread, args.r#for)?)
        }
        (None, None) => return Err("name the process: --pid N, or --socket PATH".to_owned()),
    })
}

/// From the fault to its end, whichever that is. An error: it was refused, and nothing is broken.
fn watch(
    fault: &mut dyn Fault,
    follow: &mut Follow,
    heard: &Receiver<Heard>,
    until: Instant,
) -> Result<Outcome, String> {
    loop {
        match heard.recv_timeout(LOOK_EVERY) {
            Ok(Heard::Stop) => return Ok(Outcome::Interrupted),
            Ok(Heard::Line { line, .. }) => fault.hear(line),
            Ok(Heard::Closed { .. }) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK_EVERY),
        }
        fault.look()?;
        follow.look();
        if follow.ended() {
            // No process is left for the fault to hold.
            fault.undo();
        }
        if let Some(outcome) = follow.outcome(fault.struck_at().is_some(), fault.undone().is_some()) {
            return Ok(outcome);
        }
        if Instant::now() >= until {
            return Ok(follow.late(fault.struck_at().is_some()));
        }
    }
}

/// Undoes it, and waits until it is. An error says what is left.
fn undo(fault: &mut dyn Fault, heard: &Receiver<Heard>) -> Result<(), String> {
    fault.undo();
    let until = Instant::now() + UNDONE_WITHIN;
    loop {
        // A refusal at this point comes to the same: nothing is broken.
        let refused = fault.look().is_err();
        if let Some(undone) = fault.undone() {
            return undone;
        }
        if refused {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(format!("it was not undone within {} s", UNDONE_WITHIN.as_secs()));
        }
        match heard.recv_timeout(LOOK_EVERY) {
            Ok(Heard::Line { line, .. }) => fault.hear(line),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK_EVERY),
        }
    }
}
