//! What config and accounts disagree about, with the place that says so.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where something is written. Counted from 1, as people do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spot {
    /// The file, as it was named to us.
    pub file: String,
    /// Its line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What a misfit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// An attribute.
    Attribute,
    /// A list.
    List,
}

/// Something that reads well and does not fit the accounts: only they could tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misfit {
    /// Where it is written; `None` for the default mapping, which nobody wrote.
    pub spot: Option<Spot>,
    /// What it is about.
    pub about: About,
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: String,
    /// What to do.
    pub help: Option<String>,
}

/// One line, with everything but the help.
impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(spot) = &self.spot {
            write!(f, "{spot}: ")?;
        }
        write!(f, "{}; expected {}", self.message, self.expected)
    }
}
