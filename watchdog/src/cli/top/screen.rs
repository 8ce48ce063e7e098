//! What is on the screen, and what keys do: the list of all shards, or one of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout};
use ratatui::widgets::Paragraph;

use shard_watchdog::client::Endpoint;

use super::paint::{Paint, one_line};
use super::shards::{Shard, Shards};
use super::{list, shard};

/// What follows a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    End,
}

/// The state of the screen.
#[derive(Debug)]
pub(super) struct Screen {
    paint: Paint,
    /// The shard that is shown alone.
    open: Option<Arc<Shard>>,
    /// The selected row of the list, which stays selected wherever it moves.
    selected: Option<Endpoint>,
    /// Lines of the threads that are above the screen.
    scrolled: usize,
}

impl Screen {
    pub(super) const fn new(colour: bool) -> Self {
        Self { paint: Paint(colour), open: None, selected: None, scrolled: 0 }
    }

    /// Draws what is known.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, shards: &Shards) {
        self.keep_up(shards);
        let [above, below] =
            Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
        let keys = match &self.open {
            Some(open) => {
                self.scrolled =
                    shard::draw(frame, above, (&open.endpoint, &open.seen()), self.paint, self.scrolled);
                if shards.is_one() { "↑↓ scroll   q quit" } else { "↑↓ scroll   Esc back   q quit" }
            }
            None => {
                list::draw(frame, above, &list::rows(shards), self.selected.as_ref(), self.paint);
                "↑↓ select   Enter open   q quit"
            }
        };
        let line =
            shards.trouble().map_or_else(|| keys.to_owned(), |why| format!("{keys}   {}", one_line(why)));
        frame.render_widget(Paragraph::new(line).style(self.paint.faint()), below);
    }

    /// Does what a key says.
    pub(super) fn obey(&mut self, key: KeyCode, shards: &Shards) -> Then {
        match key {
            KeyCode::Char('q') => return Then::End,
            KeyCode::Esc | KeyCode::Backspace if !shards.is_one() => self.show(None),
            KeyCode::Enter if self.open.is_none() => {
                let selected =
                    shards.all().iter().find(|shard| Some(&shard.endpoint) == self.selected.as_ref());
                self.show(selected.cloned());
            }
            KeyCode::Down | KeyCode::Char('j') => self.go(1, shards),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1, shards),
            KeyCode::PageDown => self.go(10, shards),
            KeyCode::PageUp => self.go(-10, shards),
            _ => {}
        }
        Then::GoOn
    }

    fn go(&mut self, by: isize, shards: &Shards) {
        if self.open.is_some() {
            self.scrolled = self.scrolled.saturating_add_signed(by);
            return;
        }
        let rows = list::rows(shards);
        let place = rows.iter().position(|row| Some(&row.endpoint) == self.selected.as_ref()).unwrap_or(0);
        let place = place.saturating_add_signed(by).min(rows.len().saturating_sub(1));
        self.selected = rows.get(place).map(|row| row.endpoint.clone());
    }

    /// A shard that is no longer listed is not shown, and one alone is shown at once.
    fn keep_up(&mut self, shards: &Shards) {
        let listed = |endpoint: &Endpoint| shards.all().iter().any(|shard| shard.endpoint == *endpoint);
        if shards.is_one() && self.open.is_none() {
            self.show(shards.all().first().cloned());
        } else if self.open.as_ref().is_some_and(|open| !listed(&open.endpoint)) {
            self.show(None);
        }
        if self.selected.as_ref().is_none_or(|selected| !listed(selected)) {
            self.selected = list::rows(shards).into_iter().next().map(|row| row.endpoint);
        }
    }

    fn show(&mut self, shard: Option<Arc<Shard>>) {
        if let Some(before) = &self.open {
            before.is_open.store(false, Ordering::Relaxed);
        }
        if let Some(now) = &shard {
            now.is_open.store(true, Ordering::Relaxed);
            self.selected = Some(now.endpoint.clone());
        }
        self.open = shard;
        self.scrolled = 0;
    }
}

#[cfg(test)]
#[path = "screen/tests.rs"]
mod tests;
