//! A section of a piece of work, named in one word.

use std::fmt;

use crate::layout::{MAX_SECTION, SECTION_BASE};

/// The characters of a name, in the order of their codes, which begin with 1.
const ALPHABET: &[u8; SECTION_BASE as usize - 1] = b"abcdefghijklmnopqrstuvwxyz0123456789_-.";

const _: () = assert!(SECTION_BASE.checked_pow(MAX_SECTION as u32).is_some());

/// A section of a piece of work, such as `reading`, `executing` or `committing`. The config of the
/// watchdog may give each its own threshold.
///
/// The name is the word: up to 12 characters of `a` to `z`, `0` to `9`, `_`, `-` and `.`, as the
/// digits of a number in base 40. So there is nothing to register, and entering a section is one
/// store.
///
/// ```
/// use shard_heartbeat::Section;
///
/// const READING: Section = Section::new("reading");
/// assert_eq!(READING.to_string(), "reading");
/// ```
///
/// A name that cannot be packed does not compile:
///
/// ```compile_fail
/// const READING: shard_heartbeat::Section = shard_heartbeat::Section::new("Reading from disk");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Section(u64);

impl Section {
    /// The section of that name. Use it for constants, where a bad name is an error of the
    /// compiler.
    ///
    /// # Panics
    /// If [`Section::parse`] refuses the name.
    #[must_use]
    pub const fn new(name: &str) -> Section {
        let section = Section::parse(name);
        assert!(section.is_some(), "a section's name has 1 to 12 characters of a-z, 0-9, '_', '-' and '.'");
        match section {
            Some(section) => section,
            None => Section(0),
        }
    }

    /// The section of that name; `None` if it is empty, longer than 12 characters, or has a
    /// character that is not allowed.
    #[must_use]
    pub const fn parse(name: &str) -> Option<Section> {
        let name = name.as_bytes();
        if name.is_empty() || name.len() > MAX_SECTION {
            return None;
        }
        let (mut word, mut at) = (0, 0);
        while at < name.len() {
            let mut code = 0;
            while code < ALPHABET.len() && ALPHABET[code] != name[at] {
                code += 1;
            }
            if code == ALPHABET.len() {
                return None;
            }
            word = word * SECTION_BASE + code as u64 + 1;
            at += 1;
        }
        Some(Section(word))
    }

    /// The section that a word of the segment names; `None` for zero, and for a word that no name
    /// gives.
    #[must_use]
    pub const fn from_word(word: u64) -> Option<Section> {
        let mut rest = word;
        let mut length = 0;
        while rest > 0 {
            if rest.is_multiple_of(SECTION_BASE) {
                return None;
            }
            rest /= SECTION_BASE;
            length += 1;
        }
        if length == 0 || length > MAX_SECTION { None } else { Some(Section(word)) }
    }

    /// The word that is published.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = [0; MAX_SECTION];
        let (mut rest, mut from) = (self.0, MAX_SECTION);
        while rest > 0 && from > 0 {
            from -= 1;
            // A section is made of valid codes only.
            name[from] = ALPHABET[(rest % SECTION_BASE) as usize - 1];
            rest /= SECTION_BASE;
        }
        f.pad(std::str::from_utf8(&name[from..]).unwrap_or_default())
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Section({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went_in() {
        for name in ["a", "reading", "executing", "committing", "state_root-2", "............", "0"] {
            let section = Section::parse(name).unwrap();
            assert_eq!(section.to_string(), name);
            assert_eq!(Section::from_word(section.word()), Some(section));
        }
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        for name in ["", "Reading", "a b", "thirteen-char", "é", "a\n"] {
            assert_eq!(Section::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_word_that_no_name_gives_is_no_section() {
        let largest = SECTION_BASE.pow(MAX_SECTION as u32) - 1;
        assert_eq!(Section::from_word(largest).unwrap().to_string(), "............");
        for word in [0, SECTION_BASE, SECTION_BASE * SECTION_BASE + 1, largest + 1, largest + 2, u64::MAX] {
            assert_eq!(Section::from_word(word), None, "{word}");
        }
    }

    #[test]
    fn the_first_character_is_the_most_significant_digit() {
        assert_eq!(Section::new("a").word(), 1);
        assert_eq!(Section::new(".").word(), 39);
        assert_eq!(Section::new("ba").word(), 81);
    }
}
