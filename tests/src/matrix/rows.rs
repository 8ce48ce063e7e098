//! All rows, by topic.

mod around;
mod bounded;
mod held;
mod identity;
mod lost;
mod messages;
mod scheduled;
mod sections;
mod silence;
mod watchdog;

use super::{Part, Row};

/// Every row and case, sorted by number.
pub fn all() -> Vec<Row> {
    let tables = [
        lost::ROWS,
        messages::ROWS,
        silence::ROWS,
        bounded::ROWS,
        identity::ROWS,
        held::ROWS,
        scheduled::ROWS,
        around::ROWS,
        sections::ROWS,
        watchdog::ROWS,
    ];
    let mut all = tables.concat();
    all.sort_by_key(|row| (row.part == Part::Watchdog, row.number.parse::<u32>().unwrap_or_default()));
    all
}
