//! One shard: verdict, threads, channels, incidents.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Wrap};

use shard_watchdog::client::Endpoint;
use shard_watchdog::incident::Summary;
use shard_watchdog::status_json::{ChannelJson, StatusJson, ThreadJson};

use super::paint::{self, Grade, Paint, one_line};
use super::shards::{HISTORY, Seen};
use crate::cli::status::table::{rough, seconds};

/// So many of the latest incidents are shown.
const INCIDENTS: usize = 5;
/// So many channels; a shard has a few.
const CHANNELS: usize = 8;

/// Draws it, with the threads scrolled by so many lines. Returns how far they really are.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    (endpoint, seen): (&Endpoint, &Seen),
    paint: Paint,
    scrolled: usize,
) -> usize {
    let head = head(endpoint, seen, paint);
    let Some((status, _)) = &seen.status else {
        frame.render_widget(Paragraph::new(head).wrap(Wrap { trim: false }), area);
        return 0;
    };
    let channels = status.channels.iter().take(CHANNELS).count();
    let incidents = seen.incidents.iter().take(INCIDENTS).count();
    // Its heading, and an empty line before it.
    let with_heading = |rows: usize| if rows == 0 { 0 } else { u16::try_from(rows + 2).unwrap_or(u16::MAX) };
    // A sentence may need two lines.
    let lines = head
        .iter()
        .map(|line| line.width().div_ceil(usize::from(area.width.max(1))).clamp(1, 3))
        .sum::<usize>();
    let parts = [
        Constraint::Length(u16::try_from(lines + 1).unwrap_or(u16::MAX)),
        Constraint::Min(3),
        Constraint::Length(with_heading(channels)),
        Constraint::Length(with_heading(incidents)),
    ];
    let [top, threads_area, channels_area, incidents_area] = Layout::vertical(parts).areas(area);
    frame.render_widget(Paragraph::new(head).wrap(Wrap { trim: false }), top);
    // Not beyond the last thread.
    let room = usize::from(threads_area.height.saturating_sub(1));
    let scrolled = scrolled.min(status.threads.len().saturating_sub(room));
    frame.render_widget(threads(status, seen, paint, scrolled), threads_area);
    frame.render_widget(channels_table(&status.channels, paint), below(channels_area));
    frame.render_widget(incidents_table(&seen.incidents, paint), below(incidents_area));
    scrolled
}

/// Without its first line.
fn below(area: Rect) -> Rect {
    let height = area.height.saturating_sub(1);
    Rect { y: area.y + (area.height - height), height, ..area }
}

fn head(endpoint: &Endpoint, seen: &Seen, paint: Paint) -> Vec<Line<'static>> {
    let (word, grade) = paint::verdict(seen);
    let place = one_line(&endpoint.to_string());
    let status = seen.status.as_ref();
    let name = status.map_or_else(String::new, |(status, _)| format!("shard {}  ", one_line(&status.shard)));
    let since = status.filter(|_| seen.trouble.is_none()).map(|(status, _)| {
        let ago = Duration::try_from(Timestamp::now().duration_since(status.since)).unwrap_or_default();
        format!("  for {}", rough(ago))
    });
    let mut lines = vec![Line::from(vec![
        Span::styled(name, paint.heading()),
        Span::styled(word, paint.grade(grade)),
        Span::raw(since.unwrap_or_default()),
        Span::styled(format!("  {place}"), paint.faint()),
    ])];
    if let Some(trouble) = &seen.trouble {
        let old = status.map(|(_, at)| {
            let ago = rough(Instant::now().saturating_duration_since(*at));
            format!("; what follows is {ago} old")
        });
        lines.push(Line::from(format!("{}{}", one_line(trouble), old.unwrap_or_default())));
    }
    if let Some((status, _)) = status {
        lines.push(Line::from(one_line(&status.reason)));
        lines.push(Line::from(target(status)));
        if let Some(until) = status.paused_until {
            let by = status.paused_by.as_deref().map(one_line).unwrap_or_default();
            let reason = status.paused_reason.as_deref().map(one_line).unwrap_or_default();
            let text = format!("paused until {until:.0} by {by}: {reason}");
            lines.push(Line::styled(text, paint.grade(Grade::Uncertain)));
        }
    }
    lines
}

fn target(status: &StatusJson) -> String {
    let target = match (status.pid, status.incarnation) {
        (Some(pid), Some(incarnation)) => format!("pid {pid}, incarnation {incarnation}"),
        _ => "no target".to_owned(),
    };
    let loops = if status.crash_loop_keys.is_empty() { "" } else { "   some work is in a crash loop" };
    format!("{target}   kills left {}{loops}", paint::kills(status))
}

fn threads(status: &StatusJson, seen: &Seen, paint: Paint, scrolled: usize) -> Table<'static> {
    let row = |thread: &ThreadJson| {
        let ages = seen.ages.get(&thread.name).into_iter().flatten().copied();
        Row::new([
            Cell::from(one_line(&thread.name)),
            Cell::from(paint::health(thread)).style(paint.grade(Grade::of_thread(thread))),
            Cell::from(thread.heartbeat_age_seconds.map(seconds).unwrap_or_default()),
            Cell::from(paint::bars(ages, thread.stall_after_seconds)),
            Cell::from(thread.work_key.map(|key| key.to_string()).unwrap_or_default()),
            Cell::from(thread.section.as_deref().map(one_line).unwrap_or_default()),
            Cell::from(thread.work_age_seconds.map(seconds).unwrap_or_default()),
        ])
    };
    let names = status.threads.iter().map(|thread| one_line(&thread.name).chars().count());
    let name = u16::try_from(names.max().unwrap_or(0).clamp(6, 20)).unwrap_or(20);
    let widths = [
        Constraint::Length(name),
        Constraint::Length(20),
        Constraint::Length(9),
        Constraint::Length(u16::try_from(HISTORY).unwrap_or(u16::MAX)),
        Constraint::Length(12),
        Constraint::Min(8),
        Constraint::Length(9),
    ];
    let heading = ["THREAD", "HEALTH", "BEAT", "BEATS' AGE", "WORK", "SECTION", "FOR"];
    let rows = status.threads.iter().skip(scrolled).map(row);
    Table::new(rows, widths).header(Row::new(heading).style(paint.heading()))
}

fn channels_table(channels: &[ChannelJson], paint: Paint) -> Table<'static> {
    let row = |channel: &ChannelJson| {
        let oldest = if channel.depth == 0 { String::new() } else { seconds(channel.age_seconds) };
        let grade = if channel.late { Grade::Bad } else { Grade::Good };
        let late = if channel.late { " late" } else { "" };
        Row::new([
            Cell::from(one_line(&channel.name)),
            Cell::from(format!("{}{late}", channel.depth)).style(paint.grade(grade)),
            Cell::from(oldest),
            Cell::from(channel.sent.to_string()),
            Cell::from(channel.received.to_string()),
        ])
    };
    let widths = [20, 12, 9, 14, 14].map(Constraint::Length);
    let heading = Row::new(["CHANNEL", "WAITING", "OLDEST", "SENT", "RECEIVED"]).style(paint.heading());
    let rows = channels.iter().take(CHANNELS).map(row);
    Table::new(rows, widths).header(heading)
}

fn incidents_table(incidents: &[Summary], paint: Paint) -> Table<'static> {
    let row = |incident: &Summary| {
        Row::new([
            Cell::from(format!("{:.0}", incident.opened_at)),
            Cell::from(incident.status.label()),
            Cell::from(incident.reason.to_string()),
            Cell::from(incident.thread.as_deref().map(one_line).unwrap_or_default()),
            Cell::from(one_line(&incident.why)),
        ])
    };
    let widths = [
        Constraint::Length(20),
        Constraint::Length(11),
        Constraint::Length(12),
        Constraint::Length(16),
        Constraint::Min(10),
    ];
    let heading = Row::new(["INCIDENT", "STATUS", "REASON", "THREAD", "WHY"]).style(paint.heading());
    Table::new(incidents.iter().take(INCIDENTS).map(row), widths).header(heading)
}
