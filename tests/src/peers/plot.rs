//! The times until the target works again, as bars.

use std::fmt::Write;

use super::fault::Times;
use super::{Outcome, THRESHOLD};

/// Pixels.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 290.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 56.0;
const BAR: f64 = 13.0;
const ROW: f64 = 42.0;
const BOTTOM: f64 = 40.0;

/// One dark, one light: distinguishable in print and by colour-blind readers.
const LOST: &str = "#1f4e79";
const STALL: &str = "#f0a04b";

/// The whole SVG file.
pub fn svg(outcomes: &[Outcome]) -> String {
    let shown: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.peer.acts()).collect();
    let longest = shown
        .iter()
        .flat_map(|outcome| [outcome.lost.again_p50(), outcome.stall.again_p50()])
        .flatten()
        .fold(THRESHOLD.as_secs_f64() * 1e3, f64::max);
    // The axis ends with a whole second.
    let seconds = (longest / 1e3).ceil();
    let x = |milliseconds: f64| LEFT + milliseconds / 1e3 / seconds * (WIDTH - LEFT - RIGHT);
    #[allow(clippy::cast_precision_loss, reason = "a handful of rows")]
    let height = TOP + shown.len() as f64 * ROW + BOTTOM;
    let foot = height - BOTTOM;
    let mut text = String::new();
    let mut line = |line: &str| writeln!(text, "{line}").expect("a string");
    line(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">"
    ));
    line("<title>From the fault until the target works again</title>");
    line(&format!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>"));
    for (at, colour, what) in [(LEFT, LOST, "lost thread"), (LEFT + 120.0, STALL, "stall (threshold dashed)")]
    {
        line(&format!("<rect x=\"{at}\" y=\"20\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"));
        line(&format!("<text x=\"{}\" y=\"31\">{what}</text>", at + 18.0));
    }
    let mut second = 0.0;
    while second <= seconds {
        let at = x(second * 1e3);
        line(&format!("<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{foot}\" stroke=\"#dddddd\"/>"));
        line(&format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{second} s</text>", foot + 18.0));
        second += 1.0;
    }
    let mut y = TOP;
    for outcome in shown {
        line(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + ROW / 2.0 + 2.0,
            outcome.peer.title()
        ));
        line(&bar(&outcome.lost, y + 6.0, LOST, x));
        line(&bar(&outcome.stall, y + 7.0 + BAR, STALL, x));
        y += ROW;
    }
    let at = x(THRESHOLD.as_secs_f64() * 1e3);
    line(&format!(
        "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{foot}\" stroke=\"#555555\" stroke-dasharray=\"4 3\"/>"
    ));
    line("</svg>");
    text
}

fn bar(times: &Times, y: f64, colour: &str, x: impl Fn(f64) -> f64) -> String {
    let base = y + BAR - 2.0;
    let Some(again) = times.again_p50() else {
        return format!("<text x=\"{}\" y=\"{base}\" fill=\"#777777\">not detected</text>", LEFT + 6.0);
    };
    // A bar too short to be visible is a pixel wide.
    let width = (x(again) - LEFT).max(1.0);
    format!(
        "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
         <text x=\"{:.1}\" y=\"{base}\">{again:.0} ms</text>",
        LEFT + width + 5.0
    )
}
