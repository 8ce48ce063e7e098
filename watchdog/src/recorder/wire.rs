//! Numbers and texts as bytes. The writer has a limit, and the reader trusts nothing.

/// Writes up to a limit; what does not fit is dropped, and that is remembered.
#[derive(Debug)]
pub struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
    full: bool,
}

impl<'a> Out<'a> {
    /// Appends to `bytes` until they are `limit` long.
    pub const fn new(bytes: &'a mut Vec<u8>, limit: usize) -> Self {
        Self { bytes, limit, full: false }
    }

    /// Whether anything did not fit.
    pub const fn is_full(&self) -> bool {
        self.full
    }

    /// Writes one byte.
    pub fn byte(&mut self, byte: u8) {
        if self.bytes.len() < self.limit {
            self.bytes.push(byte);
        } else {
            self.full = true;
        }
    }

    /// Writes a number, seven bits per byte, the lowest first; the top bit means that more follow.
    pub fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    /// Writes a counter's change, in either direction, modulo 2⁶⁴: small steps take few bytes.
    pub fn moved(&mut self, from: u64, to: u64) {
        let step = to.wrapping_sub(from).cast_signed();
        self.varint(((step << 1) ^ (step >> 63)).cast_unsigned());
    }

    /// Writes the length of a text, then the text.
    pub fn text(&mut self, text: &str) {
        self.varint(text.len() as u64);
        text.bytes().for_each(|byte| self.byte(byte));
    }
}

/// A place where the bytes are invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Offset of the first invalid byte.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Reads bytes from an untrusted source.
#[derive(Clone, Debug)]
pub struct In<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> In<'a> {
    /// Reads `bytes` from the start.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The same from `at` on.
    pub const fn from(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Number of bytes read.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Whether no bytes are left.
    pub const fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Damage at the current offset.
    pub const fn damage(&self, what: &'static str) -> Damage {
        Damage { at: self.at, what }
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// If none is left.
    pub fn byte(&mut self) -> Result<u8, Damage> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(|| self.damage("it ends in the middle"))?;
        self.at += 1;
        Ok(byte)
    }

    /// Reads what [`Out::varint`] wrote.
    ///
    /// # Errors
    /// If it ends too soon, or is not a 64-bit number.
    pub fn varint(&mut self) -> Result<u64, Damage> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.damage("a number is too long"))
    }

    /// Reads what [`Out::moved`] wrote.
    ///
    /// # Errors
    /// As [`In::varint`].
    pub fn moved(&mut self, from: u64) -> Result<u64, Damage> {
        let step = self.varint()?;
        let step = (step >> 1).cast_signed() ^ -(step & 1).cast_signed();
        Ok(from.wrapping_add(step.cast_unsigned()))
    }

    /// The same for a number of a smaller type.
    ///
    /// # Errors
    /// As [`In::varint`], or if it does not fit.
    pub fn number<T: TryFrom<u64>>(&mut self) -> Result<T, Damage> {
        let number = self.varint()?;
        T::try_from(number).map_err(|_| self.damage("a number is too large"))
    }

    /// Reads `length` bytes.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let end = self.at.checked_add(length);
        let bytes = end.and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| self.damage("it ends in the middle"))?;
        self.at += length;
        Ok(bytes)
    }

    /// Reads what [`Out::text`] wrote: at most `longest` bytes, without control characters.
    ///
    /// # Errors
    /// If it is longer, is not UTF-8, or could move a terminal's cursor.
    pub fn text(&mut self, longest: usize) -> Result<&'a str, Damage> {
        let length: usize = self.number()?;
        if length > longest {
            return Err(self.damage("a text is too long"));
        }
        let text = std::str::from_utf8(self.bytes(length)?).map_err(|_| self.damage("a text is no UTF-8"))?;
        if text.chars().any(char::is_control) {
            return Err(self.damage("a text holds control characters"));
        }
        Ok(text)
    }
}

/// CRC-32 as in gzip and PNG.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_went_in() {
        for number in [0, 1, 127, 128, 300, 1 << 62, u64::MAX - 1, u64::MAX] {
            for from in [0, 5, u64::MAX] {
                let mut bytes = Vec::new();
                let mut out = Out::new(&mut bytes, 100);
                out.varint(number);
                out.moved(from, number);
                assert!(!out.is_full());
                let mut read = In::new(&bytes);
                assert_eq!((read.varint(), read.moved(from)), (Ok(number), Ok(number)));
                assert!(read.is_empty());
            }
        }
    }

    #[test]
    fn a_number_that_is_too_long_is_refused() {
        assert!(In::new(&[0xff; 20]).varint().is_err());
        assert!(In::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint().is_err());
        assert!(In::new(&[0x80]).varint().is_err());
    }

    #[test]
    fn a_text_that_could_move_a_cursor_is_refused() {
        assert_eq!(In::new(b"\x03abc").text(10), Ok("abc"));
        for wrong in [&b"\x03a\x1bc"[..], b"\x0babcdefghijk", b"\x02\xff\xff", b"\x05abc"] {
            assert!(In::new(wrong).text(10).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
