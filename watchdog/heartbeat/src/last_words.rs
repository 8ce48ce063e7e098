//! What a process wants to have said before it ends: one text in the header, of whoever speaks
//! first.
//!
//! It is for a panic hook, which may run on any thread, on several at once, and with any lock held:
//! one compare-and-swap decides who has the floor, and who does not have it goes on at once. A
//! thread that ends in the middle leaves the floor taken and nothing said; there is no safe moment
//! at which another could take it away.

use crate::layout::{
    H_LAST_WORDS, H_LAST_WORDS_LEN, H_LAST_WORDS_TEXT, H_LAST_WORDS_TID, LAST_WORDS_NONE, LAST_WORDS_SAID,
    LAST_WORDS_WRITING, MAX_LAST_WORDS, word,
};
use crate::sync::{Ordering, fence};
use crate::words::Words;
use crate::work::printable_lines;

/// Words that a reader copies once the text stands: all that follows the state word.
pub const BODY_WORDS: usize = (H_LAST_WORDS_TEXT + MAX_LAST_WORDS - H_LAST_WORDS_TID) / 8;

/// What a process said before it ended. The writer's claim: nothing may be decided by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// Id of the thread that said it, in the writer's pid namespace; 0 if what stands there can be
    /// none.
    pub tid: i32,
    /// The text, made printable: no control characters but line ends. At most 2,048 bytes as
    /// written, of which each may take up to six to be shown.
    pub text: String,
}

/// Says `text`, cut to what fits, for the thread `tid`; false if another has the floor or there is
/// nothing to say. Takes no lock and no memory.
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
    // Release: whoever reads that it stands finds all of it.
    state.store(LAST_WORDS_SAID, Ordering::Release);
    true
}

/// The reader's end: `state` loads the state word, `body` the words after it, in whatever way the
/// reader has. A text that stands is never changed, so one copy is enough.
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
    /// Takes apart words that anybody may have written; `None` if they hold no text.
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
