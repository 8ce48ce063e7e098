//! The results for the terminal and for scripts.

use serde_json::{Map, Value, json};

use super::Outcome;
use crate::machine;

/// The table, line by line.
pub fn lines(outcomes: &[Outcome]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<20}{:>11}{:>14}{:>11}{:>14}{:>11}{:>9}{:>9}",
        "", "lost, seen", "again, ms", "stall,seen", "again, ms", "falsely", "CPU, %", "MiB"
    )];
    for outcome in outcomes {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let seen = |times: &super::fault::Times| match (times.tried, times.seen()) {
            (0, _) => "-",
            (_, true) => "yes",
            (_, false) => "no",
        };
        lines.push(format!(
            "{:<20}{:>11}{:>14}{:>11}{:>14}{:>11}{:>9}{:>9}",
            outcome.peer.name(),
            seen(&outcome.lost),
            number(outcome.lost.again_p50(), 0),
            seen(&outcome.stall),
            number(outcome.stall.again_p50(), 0),
            outcome.starved.map_or_else(|| "-".to_owned(), |starved| starved.false_kills.to_string()),
            number(outcome.cost.cpu_percent_of_core, 2),
            number(outcome.cost.rss_mib, 1)
        ));
    }
    lines
}

/// The same results with everything else, by peer name.
pub fn figures(outcomes: &[Outcome], left_out: &[(&'static str, String)]) -> Value {
    let mut peers = Map::new();
    for outcome in outcomes {
        let Outcome { peer, lost, stall, dead, starved, cost } = outcome;
        let figures = json!({
            "version": peer.version(),
            "settings": peer.settings(),
            "evidence": peer.evidence(),
            "sees_lost_thread": lost.seen(),
            "sees_stall": stall.seen(),
            "detect_ms": { "lost_thread": lost.detect_ms(), "stall": stall.detect_ms() },
            "running_again_ms": {
                "lost_thread": lost.running_again_ms(),
                "stall": stall.running_again_ms(),
                "killed": dead.running_again_ms(),
            },
            "false_kills": starved.map(|starved| starved.false_kills),
            "starved_seconds": starved.map(|starved| starved.seconds),
            "starved_pieces_over_threshold": starved.map(|starved| starved.slow_pieces),
            "cpu_percent_of_core": cost.cpu_percent_of_core,
            "rss_mib": cost.rss_mib,
        });
        peers.insert(peer.name().to_owned(), figures);
    }
    let left_out: Map<String, Value> =
        left_out.iter().map(|(name, why)| ((*name).to_owned(), json!(why))).collect();
    json!({
        "peers": peers,
        "left_out": left_out,
        "threshold_ms": super::THRESHOLD.as_secs() * 1000,
        "machine": machine::describe(),
    })
}
