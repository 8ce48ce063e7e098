use super::*;

use crate::board::sample;
use crate::cli::top::shards::Shard;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;
use shard_watchdog::status_json::{StatusJson, ThreadJson};
use shard_watchdog::verdict::{Health, Verdict};

fn status(verdict: Verdict) -> StatusJson {
    let board = sample::board();
    let mut snapshot = sample::snapshot();
    snapshot.verdict = verdict;
    board.set_snapshot(Arc::new(snapshot));
    StatusJson::of(&board, crate::clock::now())
}

fn shard(number: u16, answer: Result<StatusJson, String>) -> Arc<Shard> {
    let shard = Shard::new(format!("http://127.0.0.1:{number}").parse().unwrap());
    let answer = answer.map(|status| StatusJson { shard: number.to_string(), ..status });
    shard.take(answer);
    Arc::new(shard)
}

fn drawn(screen: &mut Screen, shards: &Shards, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame, shards)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    buffer.content.chunks(width).map(|cells| line(cells).trim_end().to_owned()).collect()
}

fn text(screen: &mut Screen, shards: &Shards) -> String {
    lines(&drawn(screen, shards, (120, 40))).join("\n")
}

#[test]
fn one_shard_is_shown_at_once_with_all_that_a_person_asks_for() {
    let mut status = status(Verdict::Healthy);
    status.threads[0].kind = None;
    status.paused_until = Some("2026-12-01T10:00:00Z".parse().unwrap());
    status.paused_reason = Some("ticket 7".to_owned());
    let shards = Shards::of(vec![shard(7, Ok(status))]);
    let text = text(&mut Screen::new(false), &shards);
    for word in [
        "shard 7",
        "● healthy",
        "every watched thread is idle",
        "pid 10, incarnation 30",
        "3 (enforce, paused)",
        "ticket 7",
        "exec-s0",
        "working",
        "19426587",
        "executing",
        "0.50 s",
        "▂",
        "net-in",
        "idle",
        "commands",
        "q quit",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert!(!text.contains("Esc back"), "{text}");
}

#[test]
fn many_are_rows_with_the_worst_first_and_one_that_does_not_answer_says_so() {
    let shards = Shards::of(vec![
        shard(1, Ok(status(Verdict::Healthy))),
        shard(2, Err("not reachable: Connection refused".to_owned())),
        shard(3, Ok(status(Verdict::Condemned))),
        shard(4, Ok(status(Verdict::Degraded))),
    ]);
    let mut screen = Screen::new(false);
    let lines = lines(&drawn(&mut screen, &shards, (120, 20)));
    let words = ["SHARD", "✖ condemned", "? unreachable", "▲ degraded", "● healthy"];
    for (line, word) in lines.iter().zip(words) {
        assert!(line.contains(word), "{word} is not in {line:?} of\n{}", lines.join("\n"));
    }
    assert!(lines[2].contains("http://127.0.0.1:2: not reachable: Conn"), "{}", lines[2]);

    assert_eq!(screen.obey(KeyCode::Down, &shards), Then::GoOn);
    assert_eq!(screen.obey(KeyCode::Down, &shards), Then::GoOn);
    screen.obey(KeyCode::Enter, &shards);
    assert!(text(&mut screen, &shards).contains("shard 4  ▲ degraded"));
    let open = &shards.all()[3];
    assert!(open.is_open.load(Ordering::Relaxed), "its incidents are asked for");
    screen.obey(KeyCode::Esc, &shards);
    assert!(!open.is_open.load(Ordering::Relaxed));
    // The row stays selected wherever it moves.
    open.take(Ok(StatusJson { shard: "4".to_owned(), ..status(Verdict::Dead) }));
    screen.obey(KeyCode::Enter, &shards);
    assert!(text(&mut screen, &shards).contains("shard 4  ✖ dead"));
    assert_eq!(screen.obey(KeyCode::Char('q'), &shards), Then::End);
}

#[test]
fn names_from_outside_cannot_move_the_cursor() {
    let mut status = status(Verdict::Degraded);
    status.threads[0].name = "a\u{1b}[2Jb\u{202e}c".to_owned();
    status.reason = "line\nbreak\u{9b}31m".to_owned();
    let shards = Shards::of(vec![shard(7, Ok(status))]);
    let text = text(&mut Screen::new(true), &shards);
    assert!(text.contains("a\\u{1b}[2Jb\\u{202e}c"), "{text}");
    assert!(text.contains("line\\nbreak\\u{9b}31m"), "{text}");
}

/// A shard of a hundred threads.
fn crowd() -> StatusJson {
    let mut status = status(Verdict::Healthy);
    let one = status.threads[0].clone();
    status.threads =
        (0..100).map(|number| ThreadJson { name: format!("w{number}"), ..one.clone() }).collect();
    status
}

#[test]
fn any_size_of_a_terminal_will_do() {
    let status = crowd();
    for shards in [
        Shards::of(vec![shard(1, Ok(status.clone()))]),
        Shards::of(vec![shard(1, Ok(status)), shard(2, Err("gone".to_owned()))]),
        Shards::of(Vec::new()),
    ] {
        let mut screen = Screen::new(true);
        for size in [(1, 1), (2, 1), (1, 5), (10, 3), (40, 8), (80, 24), (300, 100), (0, 0)] {
            screen.obey(KeyCode::PageDown, &shards);
            drawn(&mut screen, &shards, size);
        }
    }
}

#[test]
fn threads_scroll_and_no_further_than_the_last() {
    let shards = Shards::of(vec![shard(1, Ok(crowd()))]);
    let mut screen = Screen::new(false);
    assert!(text(&mut screen, &shards).contains("w0 "));
    for _ in 0..50 {
        screen.obey(KeyCode::PageDown, &shards);
    }
    let end = text(&mut screen, &shards);
    assert!(end.contains("w99 ") && !end.contains("w0 "), "{end}");
    screen.obey(KeyCode::Up, &shards);
    assert!(!text(&mut screen, &shards).contains("w99 "), "one line up, at once");
}

#[test]
fn without_colours_words_and_symbols_say_it_all() {
    let mut bad = status(Verdict::Condemned);
    bad.threads[0].health = Health::Stalled;
    let shards = Shards::of(vec![shard(1, Ok(bad)), shard(2, Err("gone".to_owned()))]);
    let coloured = |colour| {
        let mut screen = Screen::new(colour);
        let list = drawn(&mut screen, &shards, (120, 20));
        screen.obey(KeyCode::Enter, &shards);
        let one = drawn(&mut screen, &shards, (120, 20));
        list.content.iter().chain(&one.content).any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(true) && !coloured(false));
}
