//! The text of a file from outside, gzipped or not: bounded in what is read and in what comes of it.

use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::regular;

/// The most JSON that one block file may hold once unpacked. The largest mainnet blocks with all the state they touch
/// stay below 50 MiB; a few KiB of gzip can claim to be terabytes.
pub const MAX_BLOCK_BYTES: u64 = 256 << 20;

/// The most bytes that a gzipped file may have. Most of the text is hexadecimal digits of hashes: they halve, so what
/// may be unpacked fits, and a file with more has something else in it, such as members without contents.
const MAX_PACKED_BYTES: u64 = MAX_BLOCK_BYTES / 2;

/// The most that gzip may have saved. Real blocks come to 2.5 to 5.3 times their size, a generated block of 2,000
/// transactions that all pay one account to 13; gzip itself ends at 1,032.
const MAX_RATIO: u64 = 200;

/// Text below this is of no harm, however small the file is.
const HARMLESS: u64 = 1 << 20;

/// How much is unpacked between two looks at the ratio.
const STEP: u64 = 1 << 20;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not at all.
    Plain,
    /// By gzip, in one member or several.
    Gzip,
    /// As its first bytes say.
    Either,
}

/// Why a file has no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TextError {
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("not a whole gzip file ({0})")]
    Gzip(io::Error),
    #[error("holds more than {} MiB", MAX_BLOCK_BYTES >> 20)]
    TooLarge,
    #[error("is packed and has more than {} MiB all the same", MAX_PACKED_BYTES >> 20)]
    TooLargePacked,
    #[error("unpacks to more than {MAX_RATIO} times its size")]
    TooDense,
}

/// Reads the text of the regular file at `path`.
pub(crate) fn read(path: &Path, packing: Packing) -> Result<Vec<u8>, TextError> {
    /// The first bytes of gzip.
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let file = regular::open(path).map_err(TextError::Read)?;
    let mut file = BufReader::new(Packed { of: file.take(MAX_PACKED_BYTES + 1), read: 0 });
    let mut head = Vec::new();
    if packing == Packing::Either {
        file.by_ref().take(GZIP.len() as u64).read_to_end(&mut head).map_err(TextError::Read)?;
    }
    if packing == Packing::Gzip || head == GZIP {
        return unpack(head, file);
    }
    let mut text = head;
    // What is not packed may be longer than that.
    file.get_mut().of.set_limit(MAX_BLOCK_BYTES + 1);
    file.read_to_end(&mut text).map_err(TextError::Read)?;
    if text.len() as u64 > MAX_BLOCK_BYTES { Err(TextError::TooLarge) } else { Ok(text) }
}

/// Unpacks what begins with `head` and goes on with `file`.
fn unpack<R: Read>(head: Vec<u8>, mut file: BufReader<Packed<R>>) -> Result<Vec<u8>, TextError> {
    let mut text = Vec::new();
    let mut decoder = MultiGzDecoder::new(BufReader::new(io::Cursor::new(head).chain(&mut file)));
    loop {
        let unpacked = decoder.by_ref().take(STEP).read_to_end(&mut text);
        let packed = decoder.get_ref().get_ref().get_ref().1.get_ref().read;
        if packed > MAX_PACKED_BYTES {
            return Err(TextError::TooLargePacked);
        }
        match unpacked {
            Err(error) => return Err(TextError::Gzip(error)),
            Ok(0) => return Ok(text),
            Ok(_) => {}
        }
        let length = text.len() as u64;
        if length > MAX_BLOCK_BYTES {
            return Err(TextError::TooLarge);
        }
        if length > HARMLESS && length / MAX_RATIO > packed {
            return Err(TextError::TooDense);
        }
    }
}

/// A packed file, with a count of what was read of it.
struct Packed<R> {
    of: R,
    read: u64,
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let more = self.of.read(into)?;
        self.read += more as u64;
        Ok(more)
    }
}
