//! The word that a person may have meant.

/// More wrong letters than this are no slip.
const MOST_WRONG: usize = 2;

/// That of the `known` words that is nearest to `word`, if a slip explains the difference.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|known| (distance(known, word), known)).min_by_key(|(wrong, _)| *wrong);
    near.filter(|(wrong, _)| *wrong <= MOST_WRONG).map(|(_, known)| known)
}

/// The edit distance between two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cb, place) in b.iter().zip(row.iter_mut().skip(1)) {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = *place;
            left = cost.min(left + 1).min(*place + 1);
            *place = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_wrong_letters_are_a_slip_and_three_are_another_word() {
        for (word, found) in
            [("hartbeat", Some("heartbeat")), ("hrtbet", None), ("hertbea", Some("heartbeat"))]
        {
            assert_eq!(nearest(word, ["shard", "heartbeat"]), found, "{word}");
        }
        assert_eq!(nearest("a", []), None);
    }
}
