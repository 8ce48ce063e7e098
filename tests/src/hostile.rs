//! A peer that breaks the rules of HTTP/2 and gRPC, byte by byte: a proper client could send none
//! of this.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wait;

/// What a client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The only stream that is ever opened.
const STREAM: u32 = 1;

/// The longest frame that a peer must take (RFC 9113, 4.2).
const MAX_FRAME: usize = 16 << 10;

/// Frame types.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const GOAWAY: u8 = 7;
}

/// Frame flags.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// How a peer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The connection was closed, with or without a message.
    Connection,
    /// The stream was ended; the connection may go on.
    Stream,
}

/// A connection to the port under attack.
#[derive(Debug)]
pub struct Hostile {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Hostile {
    /// Connects without sending anything yet.
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        Self { stream, heard: Vec::new() }
    }

    /// Begins as a proper client does: the preface, and settings that change nothing.
    #[track_caller]
    pub fn greet(self) -> Self {
        self.bytes(PREFACE).frame(kind::SETTINGS, 0, 0, &[])
    }

    /// Sends any bytes. If the other end has closed the connection already, that is an answer,
    /// which [`Self::refused`] finds.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let _ = self.stream.write_all(bytes);
        self
    }

    /// Sends a whole frame.
    pub fn frame(self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        let length = u32::try_from(payload.len()).expect("short");
        self.header(length, kind, flags, stream).bytes(payload)
    }

    /// Sends the header of a frame that claims this length.
    pub fn header(self, length: u32, kind: u8, flags: u8, stream: u32) -> Self {
        let mut header = length.to_be_bytes()[1..].to_vec();
        header.extend([kind, flags]);
        header.extend(stream.to_be_bytes());
        self.bytes(&header)
    }

    /// Sends a data frame that claims the largest possible length, more than anybody must accept.
    pub fn oversized_frame(self) -> Self {
        self.header(0x00ff_ffff, kind::DATA, 0, STREAM).bytes(&[0; 1024])
    }

    /// Opens a call of a gRPC method such as `/package.Service/Method`.
    pub fn call(self, method: &str) -> Self {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "hostile"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let mut block = Vec::new();
        for (name, value) in fields {
            // Literal, without indexing, with a new name (RFC 7541, 6.2.2).
            block.push(0);
            for text in [name, value] {
                let length = u8::try_from(text.len()).expect("short");
                assert!(length < 127, "{text} would need a longer form");
                block.push(length);
                block.extend(text.as_bytes());
            }
        }
        self.frame(kind::HEADERS, END_HEADERS, STREAM, &block)
    }

    /// Sends a gRPC message on the open call: `claimed` is the length in its prefix, `compressed`
    /// its flag.
    pub fn message(self, compressed: u8, claimed: u32, bytes: &[u8]) -> Self {
        let mut payload = vec![compressed];
        payload.extend(claimed.to_be_bytes());
        payload.extend(bytes);
        payload.chunks(MAX_FRAME).fold(self, |this, chunk| this.frame(kind::DATA, 0, STREAM, chunk))
    }

    /// Waits until the other end has refused what was sent.
    #[track_caller]
    pub fn refused(mut self) -> Refused {
        wait::until("the other end refuses", || {
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(Refused::Connection),
                Ok(read) => self.heard.extend_from_slice(&buffer[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Some(Refused::Connection),
            }
            self.verdict()
        })
    }

    /// The verdict in the frames received so far.
    fn verdict(&self) -> Option<Refused> {
        let mut rest = self.heard.as_slice();
        while let [a, b, c, kind, flags, stream @ ..] = rest {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let of_call = stream.get(..4)? == STREAM.to_be_bytes();
            match *kind {
                kind::GOAWAY => return Some(Refused::Connection),
                kind::RST_STREAM if of_call => return Some(Refused::Stream),
                // An answer that ends with its headers carries only a status.
                kind::HEADERS if of_call && flags & END_STREAM != 0 => return Some(Refused::Stream),
                _ => {}
            }
            rest = rest.get(9 + length..)?;
        }
        None
    }
}
