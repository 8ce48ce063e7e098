//! The text of an untrusted file, gzipped or not. Both what is read and what it unpacks to are
//! bounded.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::regular;

/// The most JSON that one block file may hold once unpacked. The largest mainnet blocks with all
/// the state they touch stay below 50 MiB; a few KiB of gzip can expand to terabytes.
pub const MAX_BLOCK_BYTES: u64 = 256 << 20;

/// How many packed bytes may have been read beyond the number of bytes unpacked from them. Gzip
/// makes nothing longer by more than a thousandth, so a file that exceeds this contains something
/// else, such as empty members: a few million of those take a minute and unpack to nothing.
const AHEAD: u64 = 4 << 20;

/// The largest ratio of unpacked to packed size for a large text. Real blocks unpack to 2.5 to 5.3
/// times their packed size, since they consist of hashes; gzip's own maximum is 1,032.
const MAX_RATIO: u64 = 200;

/// Text up to this length may have any ratio: a block filled with zeros, which gzip shrinks to next
/// to nothing, is still a block. That is 20 MiB of digits at most (EIP-7934), and the state that
/// comes with it is hashes.
const ANY_RATIO: u64 = 64 << 20;

/// How much is unpacked between two checks of the ratio.
const STEP: u64 = 1 << 20;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not packed.
    Plain,
    /// By gzip, in one member or several.
    Gzip,
    /// Plain or gzip; the first bytes of the file decide.
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
    #[error("is longer packed than unpacked")]
    Hollow,
    #[error("unpacks to more than {} MiB, {MAX_RATIO} times its size or more", ANY_RATIO >> 20)]
    TooDense,
}

/// Reads the text of the regular file at `path`.
pub(crate) fn read(path: &Path, packing: Packing) -> Result<Vec<u8>, TextError> {
    /// The magic bytes at the beginning of a gzip file.
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let mut file = BufReader::new(regular::open(path).map_err(TextError::Read)?);
    let mut text = Vec::new();
    if packing == Packing::Either {
        file.by_ref().take(GZIP.len() as u64).read_to_end(&mut text).map_err(TextError::Read)?;
    }
    if packing == Packing::Gzip || text == GZIP {
        return unpack(io::Cursor::new(text).chain(file));
    }
    file.take(MAX_BLOCK_BYTES + 1).read_to_end(&mut text).map_err(TextError::Read)?;
    if text.len() as u64 > MAX_BLOCK_BYTES { Err(TextError::TooLarge) } else { Ok(text) }
}

fn unpack(file: impl Read) -> Result<Vec<u8>, TextError> {
    let (read, most) = (Cell::new(0), Cell::new(AHEAD));
    let packed = Packed { of: file, read: &read, most: &most };
    let mut decoder = MultiGzDecoder::new(BufReader::new(packed));
    let mut text = Vec::new();
    loop {
        let unpacked = decoder.by_ref().take(STEP).read_to_end(&mut text);
        if read.get() > most.get() {
            return Err(TextError::Hollow);
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
        if length > ANY_RATIO && length / MAX_RATIO > read.get() {
            return Err(TextError::TooDense);
        }
        most.set(length + AHEAD);
    }
}

/// A packed file whose reads fail once too much of it has been read.
struct Packed<'a, R> {
    of: R,
    read: &'a Cell<u64>,
    most: &'a Cell<u64>,
}

impl<R: Read> Read for Packed<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.read.get() > self.most.get() {
            return Err(io::Error::other("it is longer packed than unpacked"));
        }
        let more = self.of.read(into)?;
        self.read.set(self.read.get() + more as u64);
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Reads a file of this many gzip members, each with this text; returns the outcome.
    fn packed(members: usize, text: &[u8]) -> Result<Vec<u8>, TextError> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        let member = encoder.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.gz");
        std::fs::write(&path, member.repeat(members)).unwrap();
        let read = read(&path, Packing::Gzip);
        assert_eq!(
            self::read(&path, Packing::Either).map_err(|error| error.to_string()),
            read.as_ref().map(Vec::clone).map_err(ToString::to_string)
        );
        read
    }

    #[test]
    fn a_block_of_zeros_is_a_block_and_more_of_them_are_not() {
        let mebibyte = vec![b'0'; 1 << 20];
        let most = (ANY_RATIO >> 20) as usize;
        assert_eq!(packed(most, &mebibyte).unwrap().len() as u64, ANY_RATIO);
        assert!(matches!(packed(most + 2, &mebibyte), Err(TextError::TooDense)));
    }

    #[test]
    fn members_without_contents_come_to_an_end() {
        assert_eq!(packed(1_000, b"").unwrap(), b"");
        // Each member has 20 bytes.
        assert!(matches!(packed((AHEAD / 10) as usize, b""), Err(TextError::Hollow)));
    }

    #[test]
    fn text_without_an_end_ends_at_the_size_of_a_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_BLOCK_BYTES).unwrap();
        assert!(read(&path, Packing::Either).is_ok());
        // A sparse file, so that it takes no space on disk.
        file.set_len(1 << 40).unwrap();
        for packing in [Packing::Plain, Packing::Either] {
            assert!(matches!(read(&path, packing), Err(TextError::TooLarge)));
        }
    }
}
