//! Parses the requested rows: `1,4,40-50`, `3/helper-spin`, `poc`, `watchdog`.

use std::str::FromStr;

use super::{Row, rows};

/// One item of a list of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All cases of all numbers in this range, inclusive.
    Numbers(u32, u32),
    /// A number or word with all of its cases, or one case.
    Named(String),
}

impl Selection {
    /// Whether this item selects the row.
    pub fn takes(&self, row: &Row) -> bool {
        match self {
            Self::Numbers(first, last) => {
                row.number.parse::<u32>().is_ok_and(|number| (*first..=*last).contains(&number))
            }
            Self::Named(name) => row.number == name || row.id() == *name,
        }
    }
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = text.split_once('-').and_then(|(first, last)| first.parse().ok().zip(last.parse().ok()));
        let selection = match range {
            Some((first, last)) if first <= last => Self::Numbers(first, last),
            Some(_) => return Err(format!("{text} ends before it begins")),
            None => Self::Named(text.to_owned()),
        };
        if rows::all().iter().any(|row| selection.takes(row)) {
            Ok(selection)
        } else {
            Err(format!(
                "the matrix has no row {text}: --list names all it has, and why others are not in it"
            ))
        }
    }
}
