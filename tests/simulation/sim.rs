//! The whole engine in one thread under simulated time, against both sandboxes, from one seed.
//!
//! | file | does |
//! |---|---|
//! | `world` | one seed → a plan: mapping, people, edits, faults, crashes |
//! | `people` | people's hands on both sides |
//! | `faults` | the network between engine and vendors, webhooks on their way, places to crash at |
//! | `model` | the checker: what must hold, told from the vendors' true state and what people did |
//! | `mutants` | bugs that are put in on purpose |
//! | `story` | what happened, as a readable timeline with a hash |
//! | `run` | plays a plan |
//! | `shrink` | a smaller plan that still fails |
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::match_same_arms,
    clippy::trivially_copy_pass_by_ref,
    reason = "a test harness, included by a test and by an example"
)]

pub mod faults;
pub mod model;
pub mod mutants;
pub mod people;
pub mod run;
pub mod shrink;
pub mod story;
pub mod world;

pub use run::play;
pub use world::Plan;
