//! One man page: the sections that `clap_mangen` makes, plus those that people look up by name,
//! EXIT STATUS, EXAMPLES, NOTES, taken from the text below a command's help.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// What the renderer puts before everything it writes. Once per page is enough.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The non-ASCII characters in help texts, and their replacements in a page. A page thus displays
/// even on a console without fonts, or in a locale without UTF-8.
const PLAIN: [(char, &str); 6] =
    [('…', "..."), ('«', "\""), ('»', "\""), ('·', "-"), ('×', "x"), ('→', "->")];

/// The page of `command`, called `name`. `all` are the names of its program's pages, the program's
/// own first; `version` is the program's.
///
/// # Errors
/// If a character is not in [`PLAIN`], with the line that contains it.
pub(super) fn page(
    (name, command): (&str, &Command),
    all: &[&str],
    version: &str,
    date: &str,
) -> io::Result<String> {
    let program = all.first().copied().unwrap_or(name);
    // A page has room for what `-h` leaves out for its length; the renderer would show the flag
    // without any description.
    let shown = command.clone().mut_args(|arg| arg.hide_short_help(false));
    let man = Man::new(shown)
        .title(name)
        .date(date)
        .source(format!("{program} {version}"))
        .manual(format!("{program} manual"));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let below = command.get_after_long_help().or_else(|| command.get_after_help());
    let below = Below::read(&below.map(ToString::to_string).unwrap_or_default());
    below.roff().to_writer(&mut text)?;
    let others = all.iter().filter(|other| **other != name).map(|other| format!("{other}(1)"));
    let others = others.collect::<Vec<_>>().join(", ");
    // Names are not hyphenated: a line-end hyphen would look like one of their own.
    let see = &mut Roff::new();
    see.control("SH", ["SEE ALSO"]).control("nh", []).control("ad", ["l"]).text([roman(others)]);
    see.to_writer(&mut text)?;
    let text = String::from_utf8_lossy(&text).replace(PREAMBLE, "");
    Ok(format!("{PREAMBLE}{}", plain(&text)?))
}

/// The text below a command's help, by kind. Empty where the command has none.
#[derive(Default)]
struct Below {
    notes: Vec<String>,
    exit_codes: String,
    examples: Vec<String>,
}

impl Below {
    /// Empty lines separate paragraphs. Those that begin with `Exit codes:` or `Examples:` are
    /// that, and all others are notes.
    fn read(text: &str) -> Self {
        let mut below = Self::default();
        for paragraph in text.split("\n\n").map(str::trim_end).filter(|paragraph| !paragraph.is_empty()) {
            if let Some(codes) = paragraph.strip_prefix("Exit codes:") {
                below.exit_codes = words(codes);
            } else if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
                below.examples.push(examples.to_owned());
            } else {
                below.notes.push(paragraph.to_owned());
            }
        }
        below
    }

    fn roff(&self) -> Roff {
        let mut roff = Roff::new();
        if !self.exit_codes.is_empty() {
            roff.control("SH", ["EXIT STATUS"]);
            codes(&mut roff, &self.exit_codes);
        }
        for (heading, paragraphs) in [("NOTES", &self.notes), ("EXAMPLES", &self.examples)] {
            if !paragraphs.is_empty() {
                roff.control("SH", [heading]);
            }
            for (index, paragraph) in paragraphs.iter().enumerate() {
                if index > 0 {
                    roff.control("PP", []);
                }
                lines(&mut roff, paragraph);
            }
        }
        roff
    }
}

/// Renders `0 all is well · 2 it is not` as a list, anything else unchanged.
fn codes(roff: &mut Roff, text: &str) {
    let parts: Vec<&str> = text.split(" · ").collect();
    if parts.len() < 2 || !parts.iter().all(|part| part.starts_with(|c: char| c.is_ascii_digit())) {
        roff.text([roman(text)]);
        return;
    }
    for part in parts {
        let (code, meaning) = part.split_once(' ').unwrap_or((part, "success"));
        roff.control("TP", []).text([bold(code)]).text([roman(meaning)]);
    }
}

/// Renders a paragraph. Its indented lines are commands, shown as typed.
fn lines(roff: &mut Roff, paragraph: &str) {
    let mut typed = false;
    for line in paragraph.lines() {
        let indented = line.starts_with(' ');
        if indented != typed {
            if indented {
                roff.control("RS", ["4"]).control("nf", []);
            } else {
                roff.control("fi", []).control("RE", []);
            }
            typed = indented;
        }
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    if typed {
        roff.control("fi", []).control("RE", []);
    }
}

/// Collapses whitespace: words separated by one space, on one line.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same text in ASCII.
fn plain(text: &str) -> io::Result<String> {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        for c in line.chars() {
            match PLAIN.iter().find(|(known, _)| *known == c) {
                Some((_, instead)) => plain.push_str(instead),
                None if c.is_ascii() => plain.push(c),
                None => {
                    let why = format!("a page has no way yet to show {c:?} in: {line}");
                    return Err(io::Error::other(format!("{why}; give it one in manuals/page.rs")));
                }
            }
        }
        plain.push('\n');
    }
    Ok(plain)
}
