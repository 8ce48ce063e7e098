//! All shards, one row each, the worst first.

use std::time::Duration;

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Modifier;
use ratatui::widgets::{Cell, Row as Line, Table, TableState};

use shard_watchdog::client::Endpoint;

use super::paint::{self, Grade, Paint, one_line};
use super::shards::{Seen, Shards};
use crate::cli::status::table::rough;

/// One row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) endpoint: Endpoint,
    grade: Grade,
    cells: [String; 6],
}

/// The rows in their order: by how bad it is, then by name.
pub(super) fn rows(shards: &Shards) -> Vec<Row> {
    let mut rows: Vec<Row> = shards.all().iter().map(|shard| row(&shard.endpoint, &shard.seen())).collect();
    rows.sort_by(|a, b| (a.grade, &a.cells[0]).cmp(&(b.grade, &b.cells[0])));
    rows
}

fn row(endpoint: &Endpoint, seen: &Seen) -> Row {
    let (word, grade) = paint::verdict(seen);
    let status = seen.status.as_ref().map(|(status, _)| status);
    let shard = status.map_or_else(|| one_line(&endpoint.to_string()), |status| one_line(&status.shard));
    let why = match (&seen.trouble, status) {
        (Some(trouble), _) => format!("{}: {}", one_line(&endpoint.to_string()), one_line(trouble)),
        (None, Some(status)) => one_line(&status.reason),
        (None, None) => String::new(),
    };
    // Of a sidecar that does not answer, nothing is known to hold now.
    let status = status.filter(|_| seen.trouble.is_none());
    let since = status.map(|status| {
        let ago = Duration::try_from(Timestamp::now().duration_since(status.since)).unwrap_or_default();
        rough(ago)
    });
    let threads = status.map(|status| {
        let well = status.threads.iter().filter(|thread| Grade::of_thread(thread) == Grade::Good).count();
        format!("{well}/{}", status.threads.len())
    });
    let cells = [
        shard,
        word,
        since.unwrap_or_default(),
        threads.unwrap_or_default(),
        status.map(paint::kills).unwrap_or_default(),
        why,
    ];
    Row { endpoint: endpoint.clone(), grade, cells }
}

/// Draws the rows, with the selected one in reverse.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    rows: &[Row],
    selected: Option<&Endpoint>,
    paint: Paint,
) {
    let heading = Line::new(["SHARD", "VERDICT", "FOR", "WELL", "KILLS LEFT", "WHY"]).style(paint.heading());
    let lines = rows.iter().map(|row| {
        let cell = |(place, text): (usize, &String)| {
            let cell = Cell::from(text.clone());
            if place == 1 { cell.style(paint.grade(row.grade)) } else { cell }
        };
        Line::new(row.cells.iter().enumerate().map(cell))
    });
    let name = rows.iter().map(|row| row.cells[0].chars().count()).max().unwrap_or(0).clamp(5, 32);
    let widths = [
        Constraint::Length(u16::try_from(name).unwrap_or(32)),
        Constraint::Length(13),
        Constraint::Length(11),
        Constraint::Length(7),
        Constraint::Length(20),
        Constraint::Min(10),
    ];
    let place = rows.iter().position(|row| Some(&row.endpoint) == selected);
    let table = Table::new(lines, widths).header(heading).row_highlight_style(Modifier::REVERSED);
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(place));
}
