//! The table of contents of a minidump, to take out what must not leave the helper.

use minidump_writer::minidump_format::MDStreamType;

/// Bytes of the header, in which the number of streams and the position of their table stand.
const HEADER: usize = 32;
/// Bytes of a row of the table: type, size and position of one stream.
const ROW: usize = 12;
/// What a dump has on its environment and arguments: both may have passwords and tokens, and tell
/// nothing about a stall.
const SECRETS: [u32; 2] = [MDStreamType::LinuxEnviron as u32, MDStreamType::LinuxCmdLine as u32];

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

/// The position of each row of the table.
fn rows(dump: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let count = number(dump, 8).filter(|_| dump.len() >= HEADER).unwrap_or(0);
    let table = number(dump, 12).unwrap_or(0);
    let most = dump.len() / ROW;
    (0..count.min(most)).map(move |index| table.saturating_add(index * ROW))
}

/// The content of the stream of this type.
pub(super) fn content(dump: &[u8], kind: MDStreamType) -> Option<&[u8]> {
    let row = rows(dump).find(|row| number(dump, *row) == usize::try_from(kind as u32).ok())?;
    let (size, at) = (number(dump, row + 4)?, number(dump, row + 8)?);
    dump.get(at..at.checked_add(size)?)
}

/// How many threads it has.
pub(super) fn threads(dump: &[u8]) -> u32 {
    let list = content(dump, MDStreamType::ThreadListStream);
    let count = list.and_then(|list| list.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes));
    count.unwrap_or(0)
}

/// Overwrites the environment and the arguments with zeros, and takes them off the table.
pub(super) fn redact(dump: &mut [u8]) {
    let rows: Vec<usize> = rows(dump).collect();
    for row in rows {
        let secret = number(dump, row).is_some_and(|kind| SECRETS.iter().any(|of| *of as usize == kind));
        if !secret {
            continue;
        }
        if let (Some(size), Some(at)) = (number(dump, row + 4), number(dump, row + 8))
            && let Some(content) = dump.get_mut(at..at.saturating_add(size))
        {
            content.fill(0);
        }
        // Type 0 is an unused row.
        if let Some(row) = dump.get_mut(row..row + ROW) {
            row.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dump with two streams of four bytes.
    fn dump(first: MDStreamType, second: MDStreamType) -> Vec<u8> {
        let mut dump = vec![0; HEADER];
        dump[8..12].copy_from_slice(&2_u32.to_le_bytes());
        dump[12..16].copy_from_slice(&32_u32.to_le_bytes());
        for (kind, at) in [(first, 56_u32), (second, 60)] {
            for number in [kind as u32, 4, at] {
                dump.extend(number.to_le_bytes());
            }
        }
        dump.extend(7_u32.to_le_bytes());
        dump.extend(b"KEY=");
        dump
    }

    #[test]
    fn the_environment_is_gone_and_the_rest_stays() {
        let mut dump = dump(MDStreamType::ThreadListStream, MDStreamType::LinuxEnviron);
        assert_eq!(content(&dump, MDStreamType::LinuxEnviron), Some(&b"KEY="[..]));
        redact(&mut dump);
        assert_eq!(content(&dump, MDStreamType::LinuxEnviron), None);
        assert!(!dump.windows(3).any(|bytes| bytes == b"KEY"));
        assert_eq!(threads(&dump), 7);
    }

    #[test]
    fn a_table_that_points_outside_is_left_alone() {
        let whole = dump(MDStreamType::LinuxCmdLine, MDStreamType::LinuxEnviron);
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            redact(&mut cut);
            threads(&cut);
        }
        let mut wild = whole;
        wild[8..16].fill(0xff);
        redact(&mut wild);
        assert_eq!(threads(&wild), 0);
    }
}
