//! A recording as a file: a header that describes it, then chunks, each with its length and
//! checksum. `records.rs` reads them.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crc32fast::Hasher;
use jiff::Timestamp;

use crate::act::budget::Past;
use crate::clock::{Monotonic, WallAnchor};

use super::records::Records;
use super::wire::{Damage, In, Out, crc32};
use super::{Excerpt, Facts, MOST_KILLS};

/// The first bytes of every recording.
pub const MAGIC: &[u8; 8] = b"SHARDREC";
/// The format version that this program writes. Version 1 has no workers; version 2 lacks actions
/// of persons, suspends, core dumps and deadlines of work; version 3 has fewer names for where a
/// thread sleeps; version 4 lacks the number of kills without progress; version 5 lacks sections of
/// work, stolen time and limits of scheduling classes.
pub const VERSION: u16 = 6;
/// The oldest version that it reads: everything in it has the same encoding in the present one.
const OLDEST: u16 = 3;
/// A header has some dozens of bytes, plus ten for each kill.
const LARGEST_HEADER: usize = 4096;
/// Names in a config are short.
const LONGEST_TEXT: usize = 256;
/// Magic, version, length of the header and its checksum.
const PREFIX: usize = 18;

/// Why a file cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error(
        "{path}: cannot be read: {error}. Give the file `recording` of an incident, or one of [recorder]"
    )]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// It is not a recording.
    #[error(
        "{0}: is not a recording: it does not begin with SHARDREC. Give the file `recording` of an incident, or one of [recorder]"
    )]
    NotOne(PathBuf),
    /// It has the format of another version.
    #[error(
        "{path}: has format {version}, and this program reads formats {OLDEST} to {VERSION}. Use the version of shard-watchdog that wrote it"
    )]
    Version {
        /// Path of the file.
        path: PathBuf,
        /// Its format version.
        version: u16,
    },
    /// Its header is damaged.
    #[error(
        "{path}: its header is damaged at byte {at}: {what}. Nothing in it can be trusted; take another copy of it"
    )]
    Header {
        /// Path of the file.
        path: PathBuf,
        /// Offset of the damage in bytes.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// The contents of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The program that wrote it, with its version.
    pub written_by: String,
    /// Label of the shard.
    pub shard: String,
    /// When it was taken.
    pub at: Monotonic,
    /// The wall-clock time of that moment.
    pub wall: Timestamp,
    /// What applies to all of it.
    pub facts: Facts,
    /// Number of chunks that follow; `None` in a file begun before that was known.
    pub chunks: Option<u32>,
}

impl Header {
    /// Converts a time of the observations to wall-clock time.
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
    let mut bytes = begin(excerpt, excerpt.chunks.len(), shard, anchor);
    bytes.reserve_exact(excerpt.chunks.iter().map(|chunk| chunk.len() + 8).sum());
    for chunk in &excerpt.chunks {
        with_checksum(chunk, &mut bytes);
    }
    bytes
}

/// The beginning of a recording to which chunks will be appended one by one, as [`with_checksum`]
/// encodes them.
pub fn write_beginning(excerpt: &Excerpt, shard: &str, anchor: &WallAnchor) -> Vec<u8> {
    begin(excerpt, 0, shard, anchor)
}

fn begin(excerpt: &Excerpt, chunks: usize, shard: &str, anchor: &WallAnchor) -> Vec<u8> {
    let mut header = Vec::new();
    write_header(excerpt, chunks, shard, anchor, &mut Out::new(&mut header, LARGEST_HEADER));
    let mut bytes = Vec::with_capacity(PREFIX + header.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&header_checksum(VERSION, &header).to_le_bytes());
    bytes.extend_from_slice(&header);
    bytes
}

/// The checksum of a header. Since version 6 it covers the version too: one changed byte could turn
/// that into an older one that is read as well.
fn header_checksum(version: u16, header: &[u8]) -> u32 {
    if version < 6 {
        return crc32(header);
    }
    let mut hasher = Hasher::new();
    hasher.update(&version.to_le_bytes());
    hasher.update(header);
    hasher.finalize()
}

/// Appends `part`, preceded by its length and checksum.
pub fn with_checksum(part: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    into.extend_from_slice(&crc32(part).to_le_bytes());
    into.extend_from_slice(part);
}

fn write_header(excerpt: &Excerpt, chunks: usize, shard: &str, anchor: &WallAnchor, out: &mut Out<'_>) {
    let Excerpt { at, facts, chunks: _ } = excerpt;
    let Facts { began, past, kills, poll_threads, dropped } = facts;
    let plain = |text: &str| {
        let plain: String = text.chars().filter(|c| !c.is_control()).collect();
        plain.get(..plain.floor_char_boundary(LONGEST_TEXT)).unwrap_or_default().to_owned()
    };
    out.text(concat!("shard-watchdog ", env!("CARGO_PKG_VERSION")));
    out.text(&plain(shard));
    out.varint(at.0);
    // Nanoseconds since 1970 fit until the year 2262.
    out.moved(0, i64::try_from(anchor.wall(*at).as_nanosecond()).unwrap_or(i64::MAX).cast_unsigned());
    out.varint(chunks as u64);
    out.varint(began.0);
    write_past(past, out);
    out.byte(u8::from(*poll_threads));
    out.varint(*dropped);
    out.varint(kills.len() as u64);
    kills.iter().for_each(|at| out.varint(at.0));
}

/// Twice the number of kills, plus one if there were more before them; then the age of each.
fn write_past(past: &Past, out: &mut Out<'_>) {
    let latest = past.ages.len().saturating_sub(MOST_KILLS);
    let ages = past.ages.get(latest..).unwrap_or_default();
    out.varint((ages.len() as u64) << 1 | u64::from(past.cut || latest > 0));
    ages.iter().for_each(|age| out.varint(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)));
}

fn read_past(input: &mut In<'_>) -> Result<Past, Damage> {
    let count: usize = input.number()?;
    if count >> 1 > MOST_KILLS {
        return Err(input.damage("too many kills"));
    }
    let ages = (0..count >> 1).map(|_| input.varint().map(Duration::from_nanos)).collect::<Result<_, _>>()?;
    Ok(Past { ages, cut: count & 1 != 0 })
}

fn read_header(input: &mut In<'_>) -> Result<Header, Damage> {
    let written_by = input.text(LONGEST_TEXT)?.to_owned();
    let shard = input.text(LONGEST_TEXT)?.to_owned();
    let at = Monotonic(input.varint()?);
    let wall = Timestamp::from_nanosecond(i128::from(input.moved(0)?.cast_signed()));
    let wall = wall.map_err(|_| input.damage("no time of day"))?;
    let chunks = Some(input.number()?).filter(|chunks| *chunks > 0);
    let began = Monotonic(input.varint()?);
    let past = read_past(input)?;
    let poll_threads = input.byte()? != 0;
    let dropped = input.varint()?;
    let count: usize = input.number()?;
    if count > MOST_KILLS {
        return Err(input.damage("too many kills"));
    }
    let kills = (0..count).map(|_| input.varint().map(Monotonic)).collect::<Result<_, _>>()?;
    let facts = Facts { began, past, kills, poll_threads, dropped };
    // Fields that a later program of this version appends are skipped.
    Ok(Header { written_by, shard, at, wall, facts, chunks })
}

/// A recording. Only its header is in memory, unless it was parsed from memory.
#[derive(Debug)]
pub struct Recording {
    header: Header,
    source: Source,
    first_chunk: usize,
}

#[derive(Debug)]
enum Source {
    Bytes(Vec<u8>),
    /// The file, and its length when opened: it may still grow.
    File(File, u64),
}

impl Recording {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// If it cannot be read, or is not a recording of this version.
    pub fn load(path: &Path) -> Result<Self, RecordingError> {
        let unreadable = |error| RecordingError::Unreadable { path: path.to_owned(), error };
        // Before opening it: opening a pipe blocks until somebody writes.
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        let file = File::open(path).map_err(unreadable)?;
        let mut start = Vec::new();
        (&file).take((PREFIX + LARGEST_HEADER) as u64).read_to_end(&mut start).map_err(unreadable)?;
        let (header, first_chunk) = read_start(&start, path)?;
        Ok(Self { header, source: Source::File(file, metadata.len()), first_chunk })
    }

    /// Parses `bytes`, the contents of `path`.
    ///
    /// # Errors
    /// If they are not a recording of this version.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, RecordingError> {
        let (header, first_chunk) = read_start(&bytes, path)?;
        Ok(Self { header, source: Source::Bytes(bytes), first_chunk })
    }

    /// Its header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Its records, from the first on. For a file, one chunk and one observation are in memory at a
    /// time.
    pub fn records(&self) -> Records<'_> {
        let source: Box<dyn Read + '_> = match &self.source {
            Source::Bytes(bytes) => Box::new(bytes.get(self.first_chunk..).unwrap_or_default()),
            Source::File(file, length) => {
                let start = self.first_chunk as u64;
                let mut file: &File = file;
                match file.seek(SeekFrom::Start(start)) {
                    Ok(_) => Box::new(BufReader::new(file.take(length.saturating_sub(start)))),
                    Err(error) => Box::new(Unseekable(Some(error))),
                }
            }
        };
        Records::new(source, self.header.chunks)
    }
}

/// A file that cannot be read from the beginning; its first read returns the error.
struct Unseekable(Option<io::Error>);

impl Read for Unseekable {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// The header, and where the first chunk begins.
fn read_start(bytes: &[u8], path: &Path) -> Result<(Header, usize), RecordingError> {
    if !bytes.starts_with(MAGIC) {
        return Err(RecordingError::NotOne(path.to_owned()));
    }
    let damaged = |Damage { at, what }| RecordingError::Header { path: path.to_owned(), at, what };
    let mut input = In::from(bytes, MAGIC.len());
    let version = input.bytes(2).map_err(damaged)?;
    let version = version.iter().rev().fold(0, |all, byte| all << 8 | u16::from(*byte));
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(RecordingError::Version { path: path.to_owned(), version });
    }
    let (length, checksum) = length_and_checksum(input.bytes(8).map_err(damaged)?);
    if length > LARGEST_HEADER {
        return Err(damaged(input.damage("it is too long")));
    }
    let part = input.bytes(length).map_err(damaged)?;
    if header_checksum(version, part) != checksum {
        return Err(damaged(input.damage("its checksum does not match")));
    }
    let header = read_header(&mut In::new(part)).map_err(|Damage { at, what }| RecordingError::Header {
        path: path.to_owned(),
        at: PREFIX + at,
        what,
    })?;
    Ok((header, input.at()))
}

/// Decodes the prefix of each part: two little-endian numbers of four bytes.
pub(super) fn length_and_checksum(bytes: &[u8]) -> (usize, u32) {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
    let (length, checksum) = bytes.split_at(bytes.len().min(4));
    (usize::try_from(number(length)).unwrap_or(usize::MAX), number(checksum))
}
