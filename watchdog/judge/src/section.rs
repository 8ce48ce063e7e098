//! Sections of a piece of work: a name in one word, as the thread's owner publishes it.
//!
//! `shard_heartbeat::Section` is the writer's side. The judge has a copy of the few lines that
//! decode a word, because it depends on nothing; a test of the sidecar compares the two.

use core::fmt;

/// The characters of a name, in the order of their codes, which begin with 1.
const ALPHABET: &[u8; 39] = b"abcdefghijklmnopqrstuvwxyz0123456789_-.";
/// Base of the number that is a name: the characters, and zero for none.
const BASE: u64 = 40;
/// Longest name, in characters: 40¹² is below 2⁶⁴.
const LONGEST: usize = 12;

/// What the name of a section may be, for messages about one that is not.
pub const SECTION_FORM: &str = "1 to 12 characters of a-z, 0-9, \"_\", \"-\" and \".\"";

/// A section of a piece of work, such as `reading` or `executing`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Section(u64);

impl Section {
    /// The section of that name; `None` if the name is not of [`SECTION_FORM`].
    pub fn parse(name: &str) -> Option<Self> {
        if name.is_empty() || name.len() > LONGEST {
            return None;
        }
        let mut word = 0;
        for byte in name.bytes() {
            let code = ALPHABET.iter().position(|known| *known == byte)?;
            word = word * BASE + code as u64 + 1;
        }
        Some(Self(word))
    }

    /// The section that a word of the segment names; `None` for zero, and for a word that no name
    /// gives.
    pub const fn from_word(word: u64) -> Option<Self> {
        let (mut rest, mut length) = (word, 0);
        while rest > 0 {
            if rest.is_multiple_of(BASE) {
                return None;
            }
            rest /= BASE;
            length += 1;
        }
        if length == 0 || length > LONGEST { None } else { Some(Self(word)) }
    }

    /// The word that the owner publishes.
    pub const fn word(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = [0; LONGEST];
        let (mut rest, mut from) = (self.0, LONGEST);
        for place in name.iter_mut().rev() {
            if rest == 0 {
                break;
            }
            // A section is made of valid codes only.
            let code = usize::try_from(rest % BASE).unwrap_or_default();
            *place = code.checked_sub(1).and_then(|code| ALPHABET.get(code)).copied().unwrap_or(b'?');
            rest /= BASE;
            from -= 1;
        }
        f.pad(name.get(from..).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default())
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Section({self})")
    }
}
