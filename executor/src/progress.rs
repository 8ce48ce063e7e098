//! The progress of a long run on a terminal: one line that changes, instead of a line per block.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::lines::Lines;

/// How often it is drawn at most: nobody can read what changes faster.
const DRAWS_PER_SECOND: u8 = 10;

/// Assumed width of a terminal that does not report one.
const USUAL_WIDTH: u16 = 80;

/// A line that shows how many items of how many are done.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Progress on standard output, if that is a terminal. `of`: the total number; `None`: unknown.
    pub fn on_terminal(of: Option<u64>) -> Option<Self> {
        let target = || ProgressDrawTarget::stdout_with_hz(DRAWS_PER_SECOND);
        io::stdout().is_terminal().then(|| Self::new(of, target()))
    }

    /// Like `on_terminal`, for a thread that may not wait for its reader: draws through `lines`.
    pub(crate) fn through(lines: &Lines, of: Option<u64>) -> Option<Self> {
        let target = || {
            let term = Queued { lines: lines.clone(), drawn: Arc::default() };
            ProgressDrawTarget::term_like_with_hz(Box::new(term), DRAWS_PER_SECOND)
        };
        io::stdout().is_terminal().then(|| Self::new(of, target()))
    }

    fn new(of: Option<u64>, target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(of, target);
        let template = match of {
            Some(_) => "{bar:30} {pos}/{len} blocks  {elapsed} gone, {eta} to go  {msg}",
            None => "{spinner} {pos} blocks  {elapsed} gone  {msg}",
        };
        // A template that cannot be parsed would be a defect of this line; the library's default is
        // good enough then.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar }
    }

    /// Counts one more item as done; `last` describes it.
    pub fn advance(&self, last: String) {
        self.bar.set_message(last);
        self.bar.inc(1);
    }

    /// Prints a permanent line above the progress line.
    pub fn say(&self, line: &str) {
        self.bar.println(line);
    }

    /// Removes the progress line.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// A terminal behind a queue: drawing never waits, and a frame that finds no room is not drawn.
#[derive(Debug)]
struct Queued {
    lines: Lines,
    /// What was drawn since the last flush.
    drawn: Arc<Mutex<String>>,
}

impl Queued {
    fn draw(&self, what: &str) {
        // Only the reporting thread draws, so the lock is never contended.
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner).push_str(what);
    }

    fn moved(&self, n: usize, letter: char) -> io::Result<()> {
        if n > 0 {
            self.draw(&format!("\u{1b}[{n}{letter}"));
        }
        Ok(())
    }
}

impl TermLike for Queued {
    fn width(&self) -> u16 {
        let size = rustix::termios::tcgetwinsize(io::stdout());
        size.ok().map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(USUAL_WIDTH)
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'A')
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'B')
    }
    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'C')
    }
    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'D')
    }
    fn write_line(&self, line: &str) -> io::Result<()> {
        self.draw(line);
        self.draw("\n");
        Ok(())
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(text);
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        self.draw("\r\u{1b}[2K");
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        let drawn = std::mem::take(&mut *self.drawn.lock().unwrap_or_else(PoisonError::into_inner));
        if !drawn.is_empty() {
            self.lines.say(drawn.as_bytes());
        }
        Ok(())
    }
}

/// The text about a finished block that is shown while the next one runs.
pub(crate) fn last(number: u64, milliseconds: f64) -> String {
    format!("block {number} in {milliseconds:.1} ms")
}
