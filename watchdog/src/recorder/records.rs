//! Reads a recording chunk by chunk. Damaged parts are skipped and reported.

use std::fmt;
use std::io::{self, Read};

use crate::observation::Observation;

use super::decode::{self, Record};
use super::delta::{KEY, Memory};
use super::file::length_and_checksum;
use super::ring::CHUNK_BYTES;
use super::wire::{Damage, In, crc32};

/// Problems are described for so many places; the rest is counted.
const MOST_PROBLEMS: usize = 16;

/// The records of a recording, one after the other.
pub struct Records<'a> {
    source: Box<dyn Read + 'a>,
    /// Number of chunks according to the header, if it states that.
    stated: Option<u32>,
    /// The current chunk, if `at` is set to an offset in it.
    chunk: Vec<u8>,
    at: Option<usize>,
    chunks: u32,
    ended: bool,
    memory: Memory,
    problems: Vec<String>,
    more_problems: u64,
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("chunks", &self.chunks).field("at", &self.at).finish_non_exhaustive()
    }
}

impl<'a> Records<'a> {
    /// Reads `source`, which starts at the first chunk.
    pub(super) fn new(source: Box<dyn Read + 'a>, stated: Option<u32>) -> Self {
        Self {
            source,
            stated,
            chunk: Vec::new(),
            at: None,
            chunks: 0,
            ended: false,
            memory: Memory::default(),
            problems: Vec::new(),
            more_problems: 0,
        }
    }

    /// The next record; after [`Record::Look`], [`Records::seen`] is the observation.
    #[expect(
        clippy::should_implement_trait,
        reason = "what it gives is looked at in place, before the next one"
    )]
    pub fn next(&mut self) -> Option<Record> {
        loop {
            let Some(at) = self.at else {
                self.next_chunk()?;
                continue;
            };
            let mut input = In::from(&self.chunk, at);
            if input.is_empty() {
                self.at = None;
                continue;
            }
            match decode::record(&mut self.memory, &mut input) {
                Ok(record) => {
                    self.at = Some(input.at());
                    return Some(record);
                }
                Err(Damage { at, what }) => {
                    self.at = None;
                    let at_time = self.memory.seen.at;
                    // None of it may leak into the first observation of the next chunk, but time
                    // still runs forwards.
                    self.memory.forget(at_time);
                    self.problem(&format!("{what}, at its byte {at}; the rest of it is passed over"));
                }
            }
        }
    }

    /// The last observation.
    pub const fn seen(&self) -> &Observation {
        &self.memory.seen
    }

    /// Everything that could not be read, as sentences.
    pub fn problems(&self) -> Vec<String> {
        let mut all = self.problems.clone();
        if self.more_problems > 0 {
            all.push(format!("{} more places are damaged", self.more_problems));
        }
        if let Some(stated) = self.stated.filter(|stated| self.ended && self.chunks < *stated) {
            let missing = stated - self.chunks;
            all.push(format!("{missing} of its {stated} chunks are missing: it was cut off"));
        }
        all
    }

    fn next_chunk(&mut self) -> Option<()> {
        if self.ended {
            return None;
        }
        let (length, checksum) = self.next_start()?;
        if length > CHUNK_BYTES {
            self.problem(&format!("it claims {length} bytes; nothing behind it can be found"));
            return self.end();
        }
        self.chunk.clear();
        if let Err(error) = (&mut self.source).take(length as u64).read_to_end(&mut self.chunk) {
            self.problem(&unreadable(&error));
            return self.end();
        }
        let whole = self.chunk.len() == length;
        if whole && crc32(&self.chunk) != checksum {
            self.problem("its checksum does not match; it is passed over");
            return Some(());
        }
        if !whole {
            self.problem(&format!("it was cut off: {} of {length} bytes are there", self.chunk.len()));
            self.ended = true;
        }
        // If it was cut off, its beginning is still valid.
        if self.chunk.first() == Some(&KEY) {
            self.at = Some(0);
        } else if !self.chunk.is_empty() {
            self.problem("it does not begin with a time; it is passed over");
        }
        Some(())
    }

    /// Length and checksum of the next chunk.
    fn next_start(&mut self) -> Option<(usize, u32)> {
        let mut start = Vec::with_capacity(8);
        match (&mut self.source).take(8).read_to_end(&mut start) {
            Ok(8) => {
                self.chunks = self.chunks.saturating_add(1);
                Some(length_and_checksum(&start))
            }
            Ok(0) => self.end(),
            Ok(_) => {
                self.chunks = self.chunks.saturating_add(1);
                self.problem("it was cut off in its first bytes");
                self.end()
            }
            Err(error) => {
                self.chunks = self.chunks.saturating_add(1);
                self.problem(&unreadable(&error));
                self.end()
            }
        }
    }

    const fn end<T>(&mut self) -> Option<T> {
        self.ended = true;
        None
    }

    fn problem(&mut self, what: &str) {
        if self.problems.len() < MOST_PROBLEMS {
            let of = self.stated.map(|stated| format!(" of {stated}")).unwrap_or_default();
            self.problems.push(format!("chunk {}{of}: {what}", self.chunks));
        } else {
            self.more_problems = self.more_problems.saturating_add(1);
        }
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("it cannot be read: {error}")
}
