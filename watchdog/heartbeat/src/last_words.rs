//! The last words of a process: one text in the header, written before it ends by the first thread
//! that does so.
//!
//! It is for a panic hook, which may run on any thread, on several at once, and with any lock held:
//! one compare-and-swap decides which thread writes, and the others go on at once. A thread that
//! ends while writing leaves the text unfinished for good; there is no safe moment at which another
//! could take over.

use crate::layout::{
    H_LAST_WORDS, H_LAST_WORDS_LEN, H_LAST_WORDS_TEXT, H_LAST_WORDS_TID, LAST_WORDS_NONE, LAST_WORDS_SAID,
    LAST_WORDS_WRITING, MAX_LAST_WORDS, word,
};
use crate::sync::{Ordering, fence};
use crate::words::Words;
use crate::work::printable_lines;

/// Words that a reader copies once the text is complete: all that follow the state word.
pub const BODY_WORDS: usize = (H_LAST_WORDS_TEXT + MAX_LAST_WORDS - H_LAST_WORDS_TID) / 8;

/// What a process wrote before it ended. It is the writer's claim: no decision may be based on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// Id of the thread that wrote it, in the writer's pid namespace; 0 if the stored value is not
    /// a valid id.
    pub tid: i32,
    /// The text, made printable: no control characters except line ends. At most 2,048 bytes as
    /// written, each of which may take up to six when shown.
    pub text: String,
}

/// Writes `text`, cut to what fits, for the thread `tid`; false if another thread was first or the
/// text is empty. Takes no lock and allocates nothing.
pub fn say(segment: &Words, tid: u64, text: &str) -> bool {
    let text = &text[..text.floor_char_boundary(MAX_LAST_WORDS)];
    if text.is_empty() {
        return false;
    }
    let state = &segment[word(H_LAST_WORDS)];
    let won =
        state.compare_exchange(LAST_WORDS_NONE, LAST_WORDS_WRITING, Ordering::Relaxed, Ordering::Relaxed);
    if won.is_err() {
        return false;
    }
    segment[word(H_LAST_WORDS_TID)].store(tid, Ordering::Relaxed);
    segment[word(H_LAST_WORDS_LEN)].store(text.len() as u64, Ordering::Relaxed);
    for (index, bytes) in text.as_bytes().chunks(8).enumerate() {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        segment[word(H_LAST_WORDS_TEXT) + index].store(u64::from_le_bytes(padded), Ordering::Relaxed);
    }
    // Release: a reader that sees this state sees the whole text.
    state.store(LAST_WORDS_SAID, Ordering::Release);
    true
}

/// The reader's end: `state` loads the state word, `body` the words after it, by whatever means the
/// reader has. A complete text never changes, so one copy is enough.
pub fn heard<E>(
    state: impl FnOnce() -> Result<u64, E>,
    body: impl FnOnce() -> Result<[u64; BODY_WORDS], E>,
) -> Result<Option<LastWords>, E> {
    if state()? != LAST_WORDS_SAID {
        return Ok(None);
    }
    fence(Ordering::Acquire);
    Ok(LastWords::decode(&body()?))
}

impl LastWords {
    /// Decodes words that anybody may have written; `None` if they contain no text.
    fn decode(body: &[u64; BODY_WORDS]) -> Option<LastWords> {
        let get = |offset: usize| body[word(offset) - word(H_LAST_WORDS_TID)];
        let len = usize::try_from(get(H_LAST_WORDS_LEN)).unwrap_or(usize::MAX).min(MAX_LAST_WORDS);
        let text: Vec<u8> = (0..MAX_LAST_WORDS)
            .step_by(8)
            .flat_map(|at| get(H_LAST_WORDS_TEXT + at).to_le_bytes())
            .take(len)
            .collect();
        let tid = i32::try_from(get(H_LAST_WORDS_TID)).unwrap_or(0);
        (len > 0).then(|| LastWords { tid, text: printable_lines(&text) })
    }
}
