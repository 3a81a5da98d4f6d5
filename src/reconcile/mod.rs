//! Decisions, without side effects.

pub mod company;
pub mod figures;
pub mod transitions;
