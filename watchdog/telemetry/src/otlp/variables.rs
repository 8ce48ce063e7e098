//! The standard variables: how they are read, and the warnings about those that cannot be used.
//!
//! Telemetry is optional, so no variable may stop the program: one that cannot be used counts as
//! unset, as the OpenTelemetry specification requires, and is named in one warning.

use std::ffi::OsString;
use std::fmt;

/// The longest value that a warning repeats, in characters.
const LONGEST_QUOTE: usize = 80;

/// A wrong setting, and what is done instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The name of the variable, or the key of the config.
    pub name: String,
    /// What is wrong with it, and what happens instead. Never contains a secret.
    pub what: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.what)
    }
}

/// The source of variables: the environment, or a test.
type Find<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The variables of this process, and the warnings about those read so far.
pub(super) struct Variables<'a> {
    find: Find<'a>,
    warnings: Vec<Warning>,
}

impl<'a> Variables<'a> {
    /// The variables that `find` returns.
    pub(super) fn new(find: Find<'a>) -> Self {
        Self { find, warnings: Vec::new() }
    }

    /// Adds a warning about `name`, unless the same one exists: three signals read one general
    /// variable.
    pub(super) fn warn(&mut self, name: &str, what: impl Into<String>) {
        let warning = Warning { name: name.to_owned(), what: what.into() };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// All warnings so far.
    pub(super) fn into_warnings(self) -> Vec<Warning> {
        self.warnings
    }

    /// The value without surrounding blanks. An empty one counts as unset.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let Ok(value) = (self.find)(name)?.into_string() else {
            self.warn(name, "is not UTF-8 text, and is ignored");
            return None;
        };
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The value as parsed by `read`. A value that it rejects is ignored, with a warning that
    /// states what is `allowed`.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.text(name)?;
        let understood = read(&value);
        if understood.is_none() {
            self.warn(name, format!("is {}: allowed is {allowed}. The variable is ignored", quote(&value)));
        }
        understood
    }
}

/// A value in quotes, shortened to fit a line, without control characters.
pub(super) fn quote(value: &str) -> String {
    let mut short: String = value.chars().take(LONGEST_QUOTE).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// The value of a variable in the environment of this process.
pub(super) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn blanks_count_for_nothing_and_what_is_no_text_is_told_once() {
        let find = |name: &str| match name {
            "BLANKS" => Some(OsString::from("  value\t")),
            "EMPTY" => Some(OsString::from("  ")),
            "BYTES" => Some(OsString::from_vec(vec![0xff])),
            _ => None,
        };
        let mut variables = Variables::new(&find);
        assert_eq!(variables.text("BLANKS").as_deref(), Some("value"));
        assert_eq!(variables.text("EMPTY"), None);
        assert_eq!(variables.text("ABSENT"), None);
        assert_eq!((variables.text("BYTES"), variables.text("BYTES")), (None, None));
        let warnings = variables.into_warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].to_string().starts_with("BYTES is not UTF-8"), "{}", warnings[0]);
    }

    #[test]
    fn a_quotation_is_short_and_stays_on_its_line() {
        let quoted = quote(&format!("a\nb{}", "c".repeat(1_000)));
        assert!(quoted.starts_with("\"a\\nb") && quoted.chars().count() < 100, "{quoted}");
    }
}
