//! Reads the text of stacks back. The file may be foreign: whatever is not understood is left out.

use super::text::IN_QUESTION;
use super::{MOST_FRAMES, MOST_THREADS};

/// The stack of one thread, as its text says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadThread {
    /// The kernel's name of it; `?` if unknown.
    pub name: String,
    /// Thread id.
    pub tid: u32,
    /// The dump was about this one.
    pub in_question: bool,
    /// The innermost first.
    pub frames: Vec<ReadFrame>,
}

/// One frame of a stack, as its text says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadFrame {
    /// Name of the function, or the module with an offset, or an address.
    pub function: String,
    /// Where that is, and how the frame was found, with blanks in front; may be empty.
    pub place: String,
}

/// The threads of a text, in its order.
pub fn threads(text: &str) -> Vec<ReadThread> {
    let mut threads: Vec<ReadThread> = Vec::new();
    // A title stands behind an empty line, which sets it apart from the headline.
    let mut before = "";
    for line in text.lines() {
        if let (true, Some(thread)) = (before.is_empty(), title(line)) {
            if threads.len() >= MOST_THREADS {
                break;
            }
            threads.push(thread);
        } else if let (Some(thread), Some(frame)) = (threads.last_mut(), frame(line))
            && thread.frames.len() < MOST_FRAMES
        {
            thread.frames.push(frame);
        }
        before = line;
    }
    threads
}

/// `thread NAME (tid N)`, and what follows.
fn title(line: &str) -> Option<ReadThread> {
    let (line, in_question) = match line.strip_suffix(IN_QUESTION) {
        Some(line) => (line, true),
        None => (line, false),
    };
    let (name, tid) = line.strip_prefix("thread ")?.strip_suffix(')')?.rsplit_once(" (tid ")?;
    Some(ReadThread { name: name.to_owned(), tid: tid.parse().ok()?, in_question, frames: Vec::new() })
}

/// A number, two blanks and the function; then perhaps two blanks and the place.
fn frame(line: &str) -> Option<ReadFrame> {
    let line = line.strip_prefix("  ")?.trim_start();
    let (number, rest) = line.split_once("  ")?;
    number.parse::<u32>().ok()?;
    let end = rest.find("  ").unwrap_or(rest.len());
    let (function, place) = rest.split_at(end);
    Some(ReadFrame { function: function.to_owned(), place: place.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::{Frame, Stacks, Thread};
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let frame = |function: &str, line, inlined, trust| Frame {
            function: Some(function.to_owned()),
            file: Some("executor/src/spin rs.rs".to_owned()),
            line: Some(line),
            inlined,
            trust,
            ..Frame::default()
        };
        let unknown = Frame { module: Some("/lib/libc.so.6".to_owned()), offset: 16, ..Frame::default() };
        let guilty = Thread {
            tid: 12,
            name: "exec (tid 3)".to_owned(),
            in_question: true,
            frames: vec![
                frame("turn<fn(u8) -> u8>", 7, true, "context"),
                frame("spin", 8, false, "scan"),
                unknown,
            ],
            cut: true,
        };
        let other = Thread { tid: 13, ..Thread::default() };
        let stacks = Stacks { threads: vec![guilty, other], omitted: 3, lacking: Vec::new() };
        let read = threads(&stacks.to_text());
        let line = |frame: &ReadFrame| format!("{}|{}", frame.function, frame.place);
        let told: Vec<String> = read
            .iter()
            .map(|thread| {
                let frames: Vec<_> = thread.frames.iter().map(line).collect();
                format!("{} {} {} {frames:#?}", thread.name, thread.tid, thread.in_question)
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        exec (tid 3) 12 true [
            "turn<fn(u8) -> u8>|  at executor/src/spin rs.rs:7  (inlined)",
            "spin|  at executor/src/spin rs.rs:8  (a guess: found by scanning the stack)",
            "libc.so.6+0x10|",
        ]
        ? 13 false []
        "#);
    }

    #[test]
    fn a_foreign_text_is_read_as_far_as_it_goes() {
        assert_eq!(threads("  0  a\n\nthread x (tid y)\n  0  b\n\u{0}"), []);
        assert_eq!(threads("thread a (tid 1)\n\n  x  y\n    0  f").len(), 1);
    }
}
