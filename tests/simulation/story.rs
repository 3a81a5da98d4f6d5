//! What happened, as a readable timeline, with a hash that tells whether two runs were the same, and with counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A timeline. Only the hash is kept unless lines are asked for: thousands of seeds need no prose.
#[derive(Debug, Default)]
pub struct Story {
    lines: Option<Vec<String>>,
    hash: u64,
    pub counts: BTreeMap<String, u64>,
    pub violations: Vec<String>,
}

impl Story {
    pub fn new(keep: bool) -> Self {
        Self { lines: keep.then(Vec::new), hash: 0xcbf2_9ce4_8422_2325, ..Self::default() }
    }

    /// One line, at a time in milliseconds since the start.
    pub fn tell(&mut self, at: i64, line: &str) {
        for byte in at.to_le_bytes().iter().chain(line.as_bytes()) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{} {line}", clock(at)));
        }
    }

    pub fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    /// Something that must never be.
    pub fn violate(&mut self, at: i64, what: String) {
        self.tell(at, &format!("!!! {what}"));
        self.violations.push(what);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

/// Hours, minutes, seconds and milliseconds.
pub fn clock(at: i64) -> String {
    let mut text = String::new();
    let (seconds, millis) = (at.div_euclid(1000), at.rem_euclid(1000));
    write!(text, "{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60).ok();
    text
}
