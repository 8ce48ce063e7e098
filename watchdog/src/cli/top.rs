//! `top`: the state of one shard or of many, live in the terminal. It asks the sidecars' API and
//! nothing else, like `status`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::disable_raw_mode;
use shard_watchdog::client::Endpoint;
use shard_watchdog::signals;

use super::address::Address;
use super::{BAD_INPUT, fail};

mod file_sd;
mod list;
mod paint;
mod screen;
mod shard;
mod shards;

use screen::{Screen, Then};
use shards::Shards;

/// How often the picture is drawn anew, and how long a signal waits. A person sees no more, and a
/// sidecar tells no more than four states a second.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// After a signal, a terminal that takes no output is left as it is.
const END_WITHIN: Duration = Duration::from_secs(2);

const HELP: &str = "\
Examples:
  shard-watchdog top
  shard-watchdog top --url unix:/run/shard/0.watchdog.sock
  shard-watchdog top --url http://127.0.0.1:9611 --url http://127.0.0.1:9621
  shard-watchdog top --file-sd /etc/prometheus/shards.json    [{\"targets\": [\"127.0.0.1:9611\"]}]

Keys: up and down select or scroll, Enter opens a shard, Esc goes back, q or Ctrl-C ends it.
With NO_COLOR set there are no colours.

Exit codes: 0 · 2 wrong usage, no terminal, or the file cannot be read";

/// Show the verdict, threads, channels and incidents of one shard or many, live in the terminal
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Where a sidecar listens: http://HOST:PORT or unix:/PATH.sock; once for each
    /// [env: SHARD_WATCHDOG_URL] [default: http://127.0.0.1:9611]
    #[arg(long, value_name = "URL")]
    url: Vec<Endpoint>,
    /// A file in the form of Prometheus' file_sd_configs, as JSON, that lists sidecars; it is read
    /// again when it changes
    #[arg(long, value_name = "FILE", env = "SHARD_WATCHDOG_FILE_SD")]
    file_sd: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        let why = "top needs a terminal for its input and output. Use `shard-watchdog status` in scripts, with --json";
        return fail(BAD_INPUT, why);
    }
    let mut urls = args.url.clone();
    if urls.is_empty() && args.file_sd.is_none() {
        match Address::new(None, None).endpoint() {
            Ok(endpoint) => urls.push(endpoint),
            Err(why) => return fail(BAD_INPUT, why),
        }
    }
    // Before any other thread starts: one that does not block the signals would be ended by them.
    let stop = match hear() {
        Ok(stop) => stop,
        Err(error) => return fail(BAD_INPUT, format_args!("cannot wait for signals: {error}")),
    };
    let shards = match Shards::new(urls, args.file_sd.clone()) {
        Ok(shards) => shards,
        Err(why) => return fail(BAD_INPUT, why),
    };
    // It restores the terminal if this program panics.
    let shown = ratatui::try_init().and_then(|terminal| show(terminal, shards, &stop));
    let restored = ratatui::try_restore();
    match shown.and(restored) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(BAD_INPUT, format_args!("the terminal cannot be used: {error}")),
    }
}

/// Draws until a person or a signal ends it.
fn show(mut terminal: DefaultTerminal, mut shards: Shards, stop: &AtomicBool) -> io::Result<()> {
    let mut screen = Screen::new(super::colour());
    loop {
        shards.look();
        terminal.draw(|frame| screen.draw(frame, &shards))?;
        let next = Instant::now() + DRAW_EVERY;
        // Several keys may wait; each is obeyed before the next picture.
        while event::poll(next.saturating_duration_since(Instant::now()))? {
            if let Some(key) = pressed(&event::read()?) {
                match screen.obey(key, &shards) {
                    Then::End => return Ok(()),
                    Then::GoOn => break,
                }
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

/// The key of an event, where Ctrl-C is `q`; `None` for all else. A terminal that was resized is
/// drawn with the next picture.
fn pressed(event: &Event) -> Option<KeyCode> {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) =
        event
    else {
        return None;
    };
    let ends = modifiers.contains(KeyModifiers::CONTROL) && *code == KeyCode::Char('c');
    Some(if ends { KeyCode::Char('q') } else { *code })
}

/// Becomes true when a signal asks this program to end.
fn hear() -> io::Result<Arc<AtomicBool>> {
    let signals = signals::block()?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let wait = move || {
        signals.wait();
        told.store(true, Ordering::Relaxed);
        std::thread::sleep(END_WITHIN);
        // Its output is stuck, and so is the thread that draws.
        let _ = disable_raw_mode();
        std::process::exit(0);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(stop)
}
