//! A recording as a file: a header that says what it is, then chunks, each with its length and checksum.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::clock::{Monotonic, WallAnchor};
use crate::observation::Observation;

use super::decode::{self, Record};
use super::delta::Memory;
use super::ring::CHUNK_BYTES;
use super::wire::{Damage, In, Out, crc32};
use super::{Excerpt, Facts, MOST_KILLS};

/// The first bytes of every recording.
pub const MAGIC: &[u8; 8] = b"SHARDREC";
/// The version of the format that this program writes, and the only one that it reads.
pub const VERSION: u16 = 1;
/// Two hours of a busy shard with many threads. More is another file, and would be read into memory.
const LARGEST: u64 = 256 << 20;
/// A header is some dozens of bytes, and ten for each kill.
const LARGEST_HEADER: usize = 4096;
/// Names that a config gives are short.
const LONGEST_TEXT: usize = 256;
/// What went wrong is told for so many places; the rest is counted.
const MOST_PROBLEMS: usize = 16;
/// Magic, version, length of the header and its checksum.
const PREFIX: usize = 18;

/// Why a file cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("{path}: cannot be read: {error}. Give the file `recording` of an incident")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is too large.
    #[error("{0}: is larger than 256 MiB, which no recording of this version is")]
    TooLarge(PathBuf),
    /// It is something else.
    #[error(
        "{0}: is not a recording: it does not begin with SHARDREC. Give the file `recording` of an incident"
    )]
    NotOne(PathBuf),
    /// Another version wrote it.
    #[error(
        "{path}: has format {version}, and this program reads format {VERSION}. Use the version of shard-watchdog that wrote it"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// Its header is damaged.
    #[error(
        "{path}: its header is damaged at byte {at}: {what}. Nothing in it can be trusted; take another copy of it"
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// Where.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// What stands at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The program that wrote it, with its version.
    pub written_by: String,
    /// Which shard.
    pub shard: String,
    /// When it was taken.
    pub at: Monotonic,
    /// The wall-clock time of that moment.
    pub wall: Timestamp,
    /// What holds for all of it.
    pub facts: Facts,
    /// Chunks that follow.
    pub chunks: u32,
}

impl Header {
    /// The wall-clock time of a moment on the clock of the observations.
    pub fn wall_of(&self, at: Monotonic) -> Timestamp {
        let moved = if at >= self.at {
            self.wall.checked_add(at.since(self.at))
        } else {
            self.wall.checked_sub(self.at.since(at))
        };
        moved.unwrap_or(self.wall)
    }
}

/// The bytes of a recording of `excerpt`.
pub fn write(excerpt: &Excerpt, shard: &str, anchor: &WallAnchor) -> Vec<u8> {
    let mut header = Vec::new();
    write_header(excerpt, shard, anchor, &mut Out::new(&mut header, LARGEST_HEADER));
    let all: usize = excerpt.chunks.iter().map(|chunk| chunk.len() + 8).sum();
    let mut bytes = Vec::with_capacity(PREFIX + header.len() + all);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    with_checksum(&header, &mut bytes);
    for chunk in &excerpt.chunks {
        with_checksum(chunk, &mut bytes);
    }
    bytes
}

fn with_checksum(part: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    into.extend_from_slice(&crc32(part).to_le_bytes());
    into.extend_from_slice(part);
}

fn write_header(excerpt: &Excerpt, shard: &str, anchor: &WallAnchor, out: &mut Out<'_>) {
    let Excerpt { at, facts, chunks } = excerpt;
    let Facts { began, kills_before, kills, poll_threads, dropped } = facts;
    let plain = |text: &str| {
        let plain: String = text.chars().filter(|c| !c.is_control()).collect();
        plain.get(..plain.floor_char_boundary(LONGEST_TEXT)).unwrap_or_default().to_owned()
    };
    out.text(concat!("shard-watchdog ", env!("CARGO_PKG_VERSION")));
    out.text(&plain(shard));
    out.varint(at.0);
    // Nanoseconds since 1970 fit until the year 2262.
    out.moved(0, i64::try_from(anchor.wall(*at).as_nanosecond()).unwrap_or(i64::MAX).cast_unsigned());
    out.varint(chunks.len() as u64);
    out.varint(began.0);
    out.varint(u64::from(*kills_before));
    out.byte(u8::from(*poll_threads));
    out.varint(*dropped);
    out.varint(kills.len() as u64);
    kills.iter().for_each(|at| out.varint(at.0));
}

fn read_header(input: &mut In<'_>) -> Result<Header, Damage> {
    let written_by = input.text(LONGEST_TEXT)?.to_owned();
    let shard = input.text(LONGEST_TEXT)?.to_owned();
    let at = Monotonic(input.varint()?);
    let wall = Timestamp::from_nanosecond(i128::from(input.moved(0)?.cast_signed()));
    let wall = wall.map_err(|_| input.damage("no time of day"))?;
    let chunks = input.number()?;
    let began = Monotonic(input.varint()?);
    let kills_before = input.number()?;
    let poll_threads = input.byte()? != 0;
    let dropped = input.varint()?;
    let count: usize = input.number()?;
    if count > MOST_KILLS {
        return Err(input.damage("too many kills"));
    }
    let kills = (0..count).map(|_| input.varint().map(Monotonic)).collect::<Result<_, _>>()?;
    let facts = Facts { began, kills_before, kills, poll_threads, dropped };
    // What a later program of this version may add stands behind, and is passed over.
    Ok(Header { written_by, shard, at, wall, facts, chunks })
}

/// A recording in memory.
#[derive(Debug)]
pub struct Recording {
    header: Header,
    bytes: Vec<u8>,
    first_chunk: usize,
}

impl Recording {
    /// Reads `path`.
    ///
    /// # Errors
    /// If it cannot be read, or is no recording of this version.
    pub fn load(path: &Path) -> Result<Self, RecordingError> {
        let unreadable = |error| RecordingError::Unreadable { path: path.to_owned(), error };
        // Asked before it is opened: opening a pipe waits for somebody to write.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST {
            return Err(RecordingError::TooLarge(path.to_owned()));
        }
        Self::parse(bytes, path)
    }

    /// Takes `bytes`, which stood in `path`.
    ///
    /// # Errors
    /// If they are no recording of this version.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, RecordingError> {
        if !bytes.starts_with(MAGIC) {
            return Err(RecordingError::NotOne(path.to_owned()));
        }
        let damaged = |Damage { at, what }| RecordingError::Header { path: path.to_owned(), at, what };
        let mut input = In::from(&bytes, MAGIC.len());
        let version = input.bytes(2).map_err(damaged)?;
        let version = version.iter().rev().fold(0, |all, byte| all << 8 | u16::from(*byte));
        if version != VERSION {
            return Err(RecordingError::Version { path: path.to_owned(), version });
        }
        let part = Part::read(&mut input).map_err(damaged)?;
        if part.length > LARGEST_HEADER || !part.is_whole() {
            return Err(damaged(input.damage("it ends in the middle")));
        }
        if !part.is_sound() {
            return Err(damaged(input.damage("its checksum does not match")));
        }
        let header = read_header(&mut In::new(part.bytes)).map_err(|Damage { at, what }| {
            RecordingError::Header { path: path.to_owned(), at: PREFIX + at, what }
        })?;
        let first_chunk = input.at();
        Ok(Self { header, bytes, first_chunk })
    }

    /// What it says of itself.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Its records, from the first on.
    pub fn records(&self) -> Records<'_> {
        Records {
            stated: self.header.chunks,
            file: In::from(&self.bytes, self.first_chunk),
            chunk: None,
            chunks: 0,
            memory: Memory::default(),
            problems: Vec::new(),
            more_problems: 0,
        }
    }
}

/// Bytes with a length and a checksum before them.
struct Part<'a> {
    length: usize,
    checksum: u32,
    /// What is there of it.
    bytes: &'a [u8],
}

impl<'a> Part<'a> {
    fn read(input: &mut In<'a>) -> Result<Self, Damage> {
        let mut number = || -> Result<u32, Damage> {
            let bytes = input.bytes(4)?;
            Ok(bytes.iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte)))
        };
        let (length, checksum) = (number()?, number()?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = input.up_to(length);
        Ok(Self { length, checksum, bytes })
    }

    const fn is_whole(&self) -> bool {
        self.bytes.len() == self.length
    }

    fn is_sound(&self) -> bool {
        crc32(self.bytes) == self.checksum
    }
}

/// The records of a recording, one after the other. What is damaged is passed over and told.
#[derive(Debug)]
pub struct Records<'a> {
    stated: u32,
    file: In<'a>,
    chunk: Option<In<'a>>,
    chunks: u32,
    memory: Memory,
    problems: Vec<String>,
    more_problems: u64,
}

impl Records<'_> {
    /// The next record; after [`Record::Look`], [`Records::seen`] is what was seen.
    #[expect(
        clippy::should_implement_trait,
        reason = "what it gives is looked at in place, before the next one"
    )]
    pub fn next(&mut self) -> Option<Record> {
        loop {
            let Some(chunk) = &mut self.chunk else {
                self.next_chunk()?;
                continue;
            };
            if chunk.is_empty() {
                self.chunk = None;
                continue;
            }
            match decode::record(&mut self.memory, chunk) {
                Ok(record) => return Some(record),
                Err(Damage { at, what }) => {
                    self.chunk = None;
                    let at_time = self.memory.seen.at;
                    // Nothing of it may show through the first look of the next chunk, but time still runs forwards.
                    self.memory.forget(at_time);
                    self.problem(&format!("{what}, at its byte {at}; the rest of it is passed over"));
                }
            }
        }
    }

    /// The observation of the last look.
    pub const fn seen(&self) -> &Observation {
        &self.memory.seen
    }

    /// Everything that could not be read, as sentences.
    pub fn problems(&self) -> Vec<String> {
        let mut all = self.problems.clone();
        if self.more_problems > 0 {
            all.push(format!("{} more places are damaged", self.more_problems));
        }
        if self.chunk.is_none() && self.file.is_empty() && self.chunks < self.stated {
            let missing = self.stated - self.chunks;
            all.push(format!("{missing} of its {} chunks are missing: it was cut off", self.stated));
        }
        all
    }

    fn next_chunk(&mut self) -> Option<()> {
        if self.file.is_empty() {
            return None;
        }
        self.chunks = self.chunks.saturating_add(1);
        let part = match Part::read(&mut self.file) {
            Ok(part) if part.length <= CHUNK_BYTES => part,
            Ok(part) => {
                self.problem(&format!("it claims {} bytes; nothing behind it can be found", part.length));
                self.file.end();
                return None;
            }
            Err(Damage { what, .. }) => {
                self.problem(what);
                self.file.end();
                return None;
            }
        };
        if part.is_whole() && !part.is_sound() {
            self.problem("its checksum does not match; it is passed over");
            return Some(());
        }
        // Of one that was cut off the beginning is as good as ever.
        self.chunk = Some(In::new(part.bytes));
        if !part.is_whole() {
            let (have, stated) = (part.bytes.len(), part.length);
            self.problem(&format!("it was cut off: {have} of {stated} bytes are there"));
        }
        if part.bytes.first() != Some(&super::delta::KEY) {
            self.chunk = None;
            if !part.bytes.is_empty() {
                self.problem("it does not begin with a time; it is passed over");
            }
        }
        Some(())
    }

    fn problem(&mut self, what: &str) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(format!("chunk {} of {}: {what}", self.chunks, self.stated));
        } else {
            self.more_problems = self.more_problems.saturating_add(1);
        }
    }
}
