//! The words of a line, and what they can mean. Each error says what was found and what could have
//! stood there instead.

use std::time::Duration;

/// One word: `idle`, `state=R` or `why="no progress"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As written.
    pub raw: String,
    /// What stands before the `=`, or the whole word.
    pub key: String,
    /// What stands after the `=`, without quotation marks.
    pub value: Option<String>,
}

impl Word {
    fn read(raw: &str) -> Self {
        let (key, value) = match raw.split_once('=') {
            Some((key, value)) => (key, Some(value.trim_matches('"').to_owned())),
            None => (raw.trim_matches('"'), None),
        };
        Self { raw: raw.to_owned(), key: key.to_owned(), value }
    }

    /// What stands after the `=`.
    pub fn value(&self) -> Result<&str, String> {
        let what = || format!("`{0}` needs a value, as in `{0}=…`", self.key);
        self.value.as_deref().filter(|value| !value.is_empty()).ok_or_else(what)
    }

    /// The value as a length of time.
    pub fn time(&self) -> Result<Duration, String> {
        time(self.value()?).map_err(|why| format!("{}: {why}", self.key))
    }

    /// The value as a number.
    pub fn number(&self) -> Result<u64, String> {
        let value = self.value()?;
        value.parse().map_err(|_| format!("{}: `{value}` is no whole number", self.key))
    }

    /// The value as one of some words.
    pub fn one_of<T: Copy>(&self, known: &[(&str, T)]) -> Result<T, String> {
        one_of(self.value()?, known).map_err(|why| format!("{}: {why}", self.key))
    }

    /// A word that takes no value.
    pub fn bare(&self) -> Result<(), String> {
        match &self.value {
            None => Ok(()),
            Some(_) => Err(format!("`{}` takes no value", self.key)),
        }
    }
}

/// The words of a line. From a `#` at the beginning of a word on it is a comment. Between quotation
/// marks everything is part of the word.
pub fn split(line: &str) -> Result<Vec<Word>, String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars() {
        match letter {
            '#' if word.is_empty() && !quoted => break,
            letter if letter.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(Word::read(&word));
                    word.clear();
                }
            }
            letter => {
                quoted ^= letter == '"';
                word.push(letter);
            }
        }
    }
    if quoted {
        return Err("a quotation mark is not closed".to_owned());
    }
    if !word.is_empty() {
        words.push(Word::read(&word));
    }
    Ok(words)
}

/// One of some words.
pub fn one_of<T: Copy>(word: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| *name == word);
    let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(_, meaning)| *meaning).ok_or_else(|| format!("unknown word `{word}`; known: {}", names()))
}

const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A length of time: `900ms`, `1m30s`.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time, as in `900ms`, `5s` or `1m30s`");
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number = number.parse::<u64>().map_err(|_| wrong())?;
        sum = number.checked_mul(*unit).and_then(|part| sum.checked_add(part)).ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_nanos(sum)) }
}

/// The same, written.
pub fn written(time: Duration) -> String {
    let mut rest = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, unit) in UNITS {
        if rest >= unit {
            text += &format!("{}{name}", rest / unit);
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[test]
fn what_is_written_is_read_as_the_same_time() {
    for text in ["0s", "900ms", "5s", "1m30s", "1h1ms", "3us7ns"] {
        assert_eq!(written(time(text).unwrap()), text);
    }
    assert_eq!(time("90s").unwrap(), time("1m30s").unwrap());
    for wrong in ["", "5", "s", "5 s", "1.5s", "-1s", "5sec", "99999999999999999999s", "9999999999h"] {
        assert!(time(wrong).unwrap_err().contains("is no length of time"), "{wrong}");
    }
}

#[test]
fn a_comment_ends_a_line_and_quotation_marks_hold_a_word_together() {
    let words = split("expect why=\"a # b\" x # c").unwrap();
    let read: Vec<_> = words.iter().map(|word| (word.key.as_str(), word.value.as_deref())).collect();
    assert_eq!(read, [("expect", None), ("why", Some("a # b")), ("x", None)]);
    assert_eq!(split("  # all of it").unwrap(), []);
    assert!(split("why=\"no end").unwrap_err().contains("not closed"));
}
