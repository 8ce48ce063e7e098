//! A client of Server-Sent Events, as small as a browser's is by the standard.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::wait;

/// One event as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Its id.
    pub id: String,
    /// Its name; empty if it has none.
    pub event: String,
    /// Its data; null if it has none.
    pub data: Value,
}

/// An open stream, whose events a thread collects. It is closed when this is dropped.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    events: Vec<Told>,
    is_over: bool,
}

/// Opens a stream and reads nothing of it but its first bytes. Waits for room.
#[track_caller]
pub fn open_unread(address: SocketAddr) -> TcpStream {
    wait::until("room for a stream", || {
        let mut socket = asked(address, "");
        let mut begin = [0; 15];
        socket.read_exact(&mut begin).expect("an answer");
        (&begin == b"HTTP/1.1 200 OK").then_some(socket)
    })
}

#[track_caller]
fn asked(address: SocketAddr, headers: &str) -> TcpStream {
    let mut socket = TcpStream::connect_timeout(&address, wait::GENEROUS).expect("a connection");
    // Longer than two comments that keep the stream alive.
    socket.set_read_timeout(Some(wait::GENEROUS)).expect("a timeout");
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).expect("a request");
    socket
}

impl Stream {
    /// Listens to the sidecar at `address`, after the event with the id `after` if there is one.
    /// Waits for room: a sidecar notices soon that another stream was closed, but not at once.
    #[track_caller]
    pub fn open(address: SocketAddr, after: Option<&str>) -> Self {
        let headers = after.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let (socket, mut reader, head) = wait::until("room for a stream", || {
            let socket = asked(address, &headers);
            let mut reader = BufReader::new(socket.try_clone().expect("a second handle"));
            let head = head(&mut reader);
            (!head.starts_with("http/1.1 503")).then_some((socket, reader, head))
        });
        assert!(head.starts_with("http/1.1 200 ok"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let into = Arc::clone(&heard);
        let collect = move || {
            collect(&mut reader, &into);
            into.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        };
        // It ends when the socket is shut down.
        std::thread::Builder::new().name("stream".to_owned()).spawn(collect).expect("a thread");
        Self { socket, heard }
    }

    /// All events so far; the first one only tells an id, or what was missed.
    pub fn events(&self) -> Vec<Told> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).events.clone()
    }

    /// Whether the sidecar has ended the stream.
    pub fn is_over(&self) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).is_over
    }

    /// Waits for an event of this name that is `wanted`.
    #[track_caller]
    pub fn wait_for(&self, event: &str, wanted: impl Fn(&Value) -> bool) -> Told {
        wait::until(&format!("an event {event}"), || {
            self.events().into_iter().find(|told| told.event == event && wanted(&told.data))
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// The head of an answer in lower case.
fn head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a head"), 0, "{head}");
    }
    head.to_ascii_lowercase()
}

/// Reads chunks until the stream ends, and takes the events out of them.
fn collect(reader: &mut impl BufRead, into: &Mutex<Heard>) {
    let mut text = Vec::new();
    let mut event = Told::default();
    while let Some(chunk) = chunk(reader).filter(|chunk| !chunk.is_empty()) {
        text.extend(chunk);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            match line.trim_end_matches('\n').split_once(':') {
                Some(("id", id)) => id.trim_start().clone_into(&mut event.id),
                Some(("event", name)) => name.trim_start().clone_into(&mut event.event),
                Some(("data", data)) => event.data = serde_json::from_str(data).expect("JSON on one line"),
                // A comment, or the time to wait.
                Some(_) => {}
                None => {
                    let whole = std::mem::take(&mut event);
                    if !whole.id.is_empty() {
                        into.lock().unwrap_or_else(PoisonError::into_inner).events.push(whole);
                    }
                }
            }
        }
    }
}

/// The next chunk; `None` if the connection has ended within one.
fn chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut size = String::new();
    reader.read_line(&mut size).ok()?;
    let mut bytes = vec![0; usize::from_str_radix(size.trim(), 16).ok()? + 2];
    reader.read_exact(&mut bytes).ok()?;
    bytes.truncate(bytes.len() - 2);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_wherever_chunks_begin() {
        let text = ": hello\n\nid: 1\nretry: 2000\n\nevent: a\ndata: {\"x\":1}\nid: 2\n\n";
        for cut in 1..text.len() {
            let chunked: String = [&text[..cut], &text[cut..]]
                .iter()
                .map(|part| format!("{:x}\r\n{part}\r\n", part.len()))
                .chain(["0\r\n\r\n".to_owned()])
                .collect();
            let heard = Mutex::new(Heard::default());
            collect(&mut chunked.as_bytes(), &heard);
            let events = heard.into_inner().unwrap().events;
            assert_eq!((events[0].id.as_str(), &events[0].data), ("1", &Value::Null));
            assert_eq!((events[1].event.as_str(), &events[1].data["x"], events.len()), ("a", &1.into(), 2));
        }
    }
}
