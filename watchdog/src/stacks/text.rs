//! Stacks as a person reads them.

use std::fmt::Write as _;

use super::{Frame, LARGEST_TEXT, Stacks, Thread};

/// Behind the title of the thread that the dump is about.
pub(super) const IN_QUESTION: &str = ", the one in question";
/// The line at which a text ends that would be longer.
const CUT: &str = "… and more, which is left out here.\n";

/// The text: the thread in question, the others, and what is missing.
pub(super) fn of(stacks: &Stacks) -> String {
    let mut text = String::new();
    if let Some(headline) = stacks.headline() {
        let _ = writeln!(text, "{headline}");
    }
    for lacking in &stacks.lacking {
        let id = if lacking.build_id.is_empty() { "none" } else { &lacking.build_id };
        let _ = writeln!(
            text,
            "symbols are missing: {} (build id {id}): {}",
            plain(&lacking.module),
            plain(&lacking.why)
        );
    }
    if !stacks.lacking.is_empty() {
        text.push_str("  incidents symbolize ID --symbols DIR looks for them in DIR, too\n");
    }
    let most = usize::try_from(LARGEST_TEXT).unwrap_or(usize::MAX) - CUT.len();
    for thread in &stacks.threads {
        let told = of_thread(thread);
        if text.len() + told.len() > most {
            text.push_str(CUT);
            return text;
        }
        text.push_str(&told);
    }
    if stacks.omitted > 0 {
        let _ = writeln!(text, "\n{} more threads are in the dump and were not unwound", stacks.omitted);
    }
    text
}

/// Where the thread stands, in one line.
pub(super) fn headline(thread: &Thread) -> String {
    let Some(own) = thread.own_frame() else {
        return format!("{} is in no function whose source is known", title(thread));
    };
    let mut callers = thread.frames.iter().skip_while(|frame| *frame != own).skip(1);
    let caller = callers.find(|frame| frame.is_own() && frame.trust != "scan");
    let called = caller.and_then(|frame| frame.function.as_deref()).map(plain);
    let called = called.map(|name| format!(", called from {name}")).unwrap_or_default();
    let function = own.function.as_deref().map(plain).unwrap_or_default();
    format!("{} is in {function}, at {}{called}", title(thread), place(own))
}

fn title(thread: &Thread) -> String {
    let name = if thread.name.is_empty() { "?".to_owned() } else { plain(&thread.name) };
    format!("thread {name} (tid {})", thread.tid)
}

fn of_thread(thread: &Thread) -> String {
    let mut text = format!("\n{}{}\n", title(thread), if thread.in_question { IN_QUESTION } else { "" });
    for (index, frame) in thread.frames.iter().enumerate() {
        let function = match (&frame.function, &frame.module) {
            (Some(function), _) => plain(function),
            (None, Some(module)) => format!("{}+{:#x}", plain(base_name(module)), frame.offset),
            (None, None) => format!("{:#x}", frame.address),
        };
        let _ = write!(text, "  {index:>3}  {function}");
        if frame.file.is_some() {
            let _ = write!(text, "  at {}", place(frame));
        } else if let (Some(_), Some(module)) = (&frame.function, &frame.module) {
            let _ = write!(text, "  in {}", plain(base_name(module)));
        }
        if frame.inlined {
            text.push_str("  (inlined)");
        } else if frame.trust == "scan" {
            text.push_str("  (a guess: found by scanning the stack)");
        }
        text.push('\n');
    }
    if thread.frames.is_empty() {
        text.push_str("  nothing is known of its stack\n");
    } else if thread.cut {
        text.push_str("       … and more frames\n");
    }
    text
}

fn place(frame: &Frame) -> String {
    let file = frame.file.as_deref().map(plain).unwrap_or_default();
    match frame.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Names come from the target: a control character could move the reader's cursor, and a line
/// break could make up a frame.
fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Lacking;
    use super::*;

    fn frame(function: Option<&str>, file: Option<&str>, trust: &'static str) -> Frame {
        Frame {
            address: 0x1234,
            module: Some("/usr/bin/executor".to_owned()),
            offset: 0x234,
            function: function.map(str::to_owned),
            file: file.map(str::to_owned),
            line: file.map(|_| 40),
            inlined: false,
            trust,
        }
    }

    fn stacks() -> Stacks {
        let inlined = Frame { inlined: true, ..frame(Some("turn"), Some("executor/src/spin.rs"), "context") };
        let guilty = Thread {
            tid: 12,
            name: "exec-s0".to_owned(),
            in_question: true,
            frames: vec![
                inlined,
                frame(Some("spin"), Some("executor/src/spin.rs"), "context"),
                frame(Some("run\npart"), Some("executor/src/part.rs"), "cfi"),
                frame(None, None, "scan"),
            ],
            cut: true,
        };
        let other = Thread { tid: 10, frames: vec![frame(Some("clone3"), None, "cfi")], ..Thread::default() };
        let lacking = Lacking {
            module: "/usr/bin/executor".to_owned(),
            build_id: "abcd".to_owned(),
            why: "it has no debug information".to_owned(),
        };
        Stacks { threads: vec![guilty, other], omitted: 3, lacking: vec![lacking] }
    }

    #[test]
    fn the_thread_in_question_comes_first_and_what_is_missing_is_named() {
        insta::assert_snapshot!(of(&stacks()), @r"
        thread exec-s0 (tid 12) is in turn, at executor/src/spin.rs:40, called from spin
        symbols are missing: /usr/bin/executor (build id abcd): it has no debug information
          incidents symbolize ID --symbols DIR looks for them in DIR, too

        thread exec-s0 (tid 12), the one in question
            0  turn  at executor/src/spin.rs:40  (inlined)
            1  spin  at executor/src/spin.rs:40
            2  run\npart  at executor/src/part.rs:40
            3  executor+0x234  (a guess: found by scanning the stack)
               … and more frames

        thread ? (tid 10)
            0  clone3  in executor

        3 more threads are in the dump and were not unwound
        ");
    }

    #[test]
    fn a_text_has_a_limit() {
        let mut stacks = stacks();
        let many = stacks.threads[0].clone();
        stacks.threads = vec![many; 40_000];
        let text = of(&stacks);
        assert!(text.len() <= usize::try_from(LARGEST_TEXT).unwrap() && text.ends_with(CUT));
    }
}
