//! What a server made of our write.

use super::{Cells, InFlight, same_on};
use crate::model::{SideName, Value};
use std::slice;

/// What a server made of a write, judged on the first fresh observation after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It took it (perhaps cut to a length): what stands there is base.
    Adopted,
    /// It kept what stood there before: refused.
    Refused,
    /// A late earlier write of ours stands there: write the current value again.
    Superseded,
    /// Somebody else's value stands there.
    Edited,
}

/// A server that cuts text off does so at a limit; below this many characters a shorter text is somebody's edit.
const SHORTEST_TRUNCATION: usize = 100;

/// Judges what this side shows after a write.
pub fn judge(side: SideName, write: &InFlight, observed: &Cells) -> Verdict {
    let same = |cells: &Cells| same_on(side, cells, observed);
    if same(&write.sent) || truncated(side, &write.sent, observed) {
        Verdict::Adopted
    } else if write.superseded.iter().any(same) {
        // Also where it is what stood there at first: if it was refused after all, the next judgement says so.
        Verdict::Superseded
    } else if same(&write.before) || partly_refused(side, write, observed) {
        Verdict::Refused
    } else {
        Verdict::Edited
    }
}

/// Each cell is what we sent or a truncation of it, and at least one is a truncation.
fn truncated(side: SideName, sent: &Cells, observed: &Cells) -> bool {
    sent.len() == observed.len()
        && sent.iter().zip(observed).all(|(sent, observed)| match (sent, observed) {
            (Some(Value::Text(sent)), Some(Value::Text(observed))) if sent != observed => {
                observed.chars().count() >= SHORTEST_TRUNCATION && sent.starts_with(observed.trim_end())
            }
            (sent, observed) => same_on(side, slice::from_ref(sent), slice::from_ref(observed)),
        })
}

/// Each cell is what we sent or what stood there before.
fn partly_refused(side: SideName, write: &InFlight, observed: &Cells) -> bool {
    observed.len() == write.sent.len()
        && write.before.len() == write.sent.len()
        && observed.iter().zip(&write.sent).zip(&write.before).all(|((cell, sent), before)| {
            let same = |other| same_on(side, slice::from_ref(cell), slice::from_ref(other));
            same(sent) || same(before)
        })
}
