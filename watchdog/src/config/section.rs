//! A table of the config file while it is read: each key is taken once, and the keys left over are
//! unknown.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use super::problem::Problem;
use super::units::{self, DURATION_FORM, SIZE_FORM};

/// Collects problems, and knows the text that byte offsets refer to.
#[derive(Debug)]
pub struct Complaints<'a> {
    text: &'a str,
    found: Vec<(usize, Problem)>,
}

impl<'a> Complaints<'a> {
    /// Starts with no problems.
    pub const fn new(text: &'a str) -> Self {
        Self { text, found: Vec::new() }
    }

    /// Adds a problem with the text at `span`.
    pub fn add(&mut self, span: &Range<usize>, key: &str, allowed: impl Into<String>) {
        let line = self.line(span.start);
        let found = self.text.get(span.clone()).map(shorten);
        self.push(
            span.start,
            Problem { line: Some(line), key: key.to_owned(), found, allowed: allowed.into() },
        );
    }

    /// Adds a problem with a section, without quoting it.
    pub fn add_at(&mut self, at: usize, key: &str, allowed: impl Into<String>) {
        let line = Some(self.line(at));
        self.push(at, Problem { line, key: key.to_owned(), found: None, allowed: allowed.into() });
    }

    fn push(&mut self, at: usize, problem: Problem) {
        self.found.push((at, problem));
    }

    /// The line of an offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }

    /// Whether there are no problems.
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All problems, in the order of the file.
    pub fn into_list(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(at, _)| *at);
        self.found.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// Shortens a quotation to fit one line of a terminal.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= LONGEST && line.len() == text.len() {
        return line.to_owned();
    }
    format!("{}…", line.chars().take(LONGEST).collect::<String>())
}

/// One table of the file.
#[derive(Debug)]
pub struct Section<'i> {
    path: String,
    span: Range<usize>,
    keys: DeTable<'i>,
    known: Vec<&'static str>,
    there: Vec<&'static str>,
}

/// A value and its place in the text.
pub type Placed<T> = (T, Range<usize>);

impl<'i> Section<'i> {
    /// The table at `path`.
    pub fn new(path: impl Into<String>, span: Range<usize>, keys: DeTable<'i>) -> Self {
        Self { path: path.into(), span, keys, known: Vec::new(), there: Vec::new() }
    }

    /// Where the table begins, for problems with missing keys.
    pub const fn start(&self) -> usize {
        self.span.start
    }

    /// The dotted name of the table.
    pub fn name(&self) -> &str {
        &self.path
    }

    /// The dotted name of one of its keys.
    pub fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Takes a value.
    pub fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'i>>> {
        self.known.push(key);
        let value = self.keys.remove(key);
        if value.is_some() {
            self.there.push(key);
        }
        value
    }

    /// Whether a key that was taken is present in the file.
    pub fn was_there(&self, key: &str) -> bool {
        self.there.contains(&key)
    }

    /// Takes a value of one form; reports a problem with any other.
    pub fn parse<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        complaints: &mut Complaints<'_>,
        read: impl FnOnce(&DeValue<'i>) -> Option<T>,
    ) -> Option<Placed<T>> {
        let value = self.take(key)?;
        let span = value.span();
        match read(value.get_ref()) {
            Some(read) => Some((read, span)),
            None => {
                complaints.add(&span, &self.dotted(key), format!("allowed: {allowed}"));
                None
            }
        }
    }

    /// Takes a string that is not empty.
    pub fn text(
        &mut self,
        key: &'static str,
        allowed: &str,
        complaints: &mut Complaints<'_>,
    ) -> Option<Placed<String>> {
        self.parse(key, allowed, complaints, |value| {
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        })
    }

    /// Takes a path. It may hold no zero byte, which would end it for the kernel only.
    pub fn path(&mut self, key: &'static str, complaints: &mut Complaints<'_>) -> Option<Placed<PathBuf>> {
        self.parse(key, "a path in double quotes", complaints, |value| {
            value.as_str().filter(|path| !path.is_empty() && !path.contains('\0')).map(PathBuf::from)
        })
    }

    /// Takes a duration longer than zero.
    pub fn duration(
        &mut self,
        key: &'static str,
        complaints: &mut Complaints<'_>,
    ) -> Option<Placed<Duration>> {
        self.parse(key, &format!("{DURATION_FORM}, longer than zero"), complaints, |value| {
            value.as_str().and_then(units::duration).filter(|duration| !duration.is_zero())
        })
    }

    /// Takes a size in bytes.
    pub fn size(&mut self, key: &'static str, complaints: &mut Complaints<'_>) -> Option<Placed<u64>> {
        self.parse(key, SIZE_FORM, complaints, |value| {
            value.as_str().and_then(units::size).filter(|size| *size > 0)
        })
    }

    /// Takes a whole number from 1.
    pub fn count(&mut self, key: &'static str, complaints: &mut Complaints<'_>) -> Option<Placed<u32>> {
        self.parse(key, "a whole number from 1 to 4294967295", complaints, |value| {
            integer(value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0)
        })
    }

    /// Takes a table inside this one.
    pub fn table(&mut self, key: &'static str, complaints: &mut Complaints<'_>) -> Option<Section<'i>> {
        let value = self.take(key)?;
        let (span, path) = (value.span(), self.dotted(key));
        match value.into_inner() {
            DeValue::Table(keys) => Some(Section::new(path, span, keys)),
            _ => {
                complaints.add(&span, &path, "allowed: a table of settings");
                None
            }
        }
    }

    /// Takes an array of tables inside this one, `[[key]]`.
    pub fn tables(&mut self, key: &'static str, complaints: &mut Complaints<'_>) -> Vec<Section<'i>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let (span, path) = (value.span(), self.dotted(key));
        let DeValue::Array(array) = value.into_inner() else {
            complaints.add(&span, &path, format!("allowed: one section [[{path}]] for each"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for value in array {
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(keys) => sections.push(Section::new(path.clone(), span, keys)),
                _ => complaints.add(&span, &path, format!("allowed: one section [[{path}]] for each")),
            }
        }
        sections
    }

    /// Whether no key is left.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All keys that were not taken, for a table whose keys are names that a person chooses.
    pub fn into_keys(self) -> DeTable<'i> {
        self.keys
    }

    /// Reports every key that was not taken.
    pub fn finish(self, complaints: &mut Complaints<'_>) {
        for (key, _) in &self.keys {
            let name = key.get_ref().as_ref();
            let hint = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("unknown key; did you mean \"{near}\"?"),
                None => format!("unknown key; allowed here: {}", self.known.join(", ")),
            };
            complaints.add(&key.span(), &self.dotted(name), hint);
        }
    }
}

/// A whole number in any notation.
pub fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
