//! The problems of a config file, each with its place.

use std::fmt;
use std::path::{Path, PathBuf};

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; `None` if the problem concerns the file as a whole.
    pub line: Option<usize>,
    /// The dotted key, or empty.
    pub key: String,
    /// The offending text as it is in the file.
    pub found: Option<String>,
    /// What is wrong, or what is allowed instead.
    pub allowed: String,
}

/// All problems of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// In the order of the file.
    pub list: Vec<Problem>,
}

impl Problems {
    /// One problem with a file as a whole.
    pub fn whole(file: &Path, what: impl Into<String>) -> Self {
        let problem = Problem { line: None, key: String::new(), found: None, allowed: what.into() };
        Self { file: file.to_path_buf(), list: vec![problem] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            if let Some(found) = &problem.found {
                write!(f, ": found {found}")?;
            }
            write!(f, ": {}", problem.allowed)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
