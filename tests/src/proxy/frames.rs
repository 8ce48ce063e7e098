//! Locates the headers of HTTP/2 frames in a stream.

/// Length of what a client sends before its first frame.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// Size of a frame header: length, type, flags and stream.
const HEADER: usize = 9;

/// The position in a stream: how much of the present frame is still to come.
#[derive(Debug)]
pub(super) struct Frames {
    payload: usize,
    header: [u8; HEADER],
    have: usize,
}

impl Frames {
    /// The beginning of a client's stream, or of a server's.
    pub(super) fn new(of_client: bool) -> Self {
        Self { payload: if of_client { PREFACE } else { 0 }, header: [0; HEADER], have: 0 }
    }

    /// Follows the stream over `bytes`, and flips bits of its frame headers on the way if
    /// `corrupt`.
    pub(super) fn pass(&mut self, bytes: &mut [u8], corrupt: bool) {
        let mut at = 0;
        while at < bytes.len() {
            let skipped = self.payload.min(bytes.len() - at);
            self.payload -= skipped;
            at += skipped;
            let Some(byte) = bytes.get_mut(at) else { return };
            self.header[self.have] = *byte;
            if corrupt {
                *byte ^= 0x55;
            }
            self.have += 1;
            at += 1;
            if self.have == HEADER {
                let [a, b, c, ..] = self.header;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.have = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_are_touched_wherever_the_stream_is_cut() {
        let frame = [0, 0, 3, 0, 0, 0, 0, 0, 1, b'a', b'b', b'c'];
        let stream = [frame, frame].concat();
        for cut in 0..stream.len() {
            let mut frames = Frames::new(false);
            let (mut first, mut second) = (stream[..cut].to_vec(), stream[cut..].to_vec());
            frames.pass(&mut first, true);
            frames.pass(&mut second, true);
            let passed = [first, second].concat();
            for (at, (before, after)) in stream.iter().zip(&passed).enumerate() {
                assert_eq!(before != after, at % 12 < HEADER, "cut at {cut}, byte {at}");
            }
        }
    }

    #[test]
    fn the_preface_of_a_client_passes_and_so_does_everything_when_nothing_is_wrong() {
        let mut client = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        client.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        let mut passed = client.clone();
        Frames::new(true).pass(&mut passed, false);
        assert_eq!(passed, client);
        Frames::new(true).pass(&mut passed, true);
        assert_eq!(passed[..PREFACE], client[..PREFACE]);
        assert_ne!(passed[PREFACE], client[PREFACE]);
    }
}
