//! The whole engine in one thread under simulated time, against both sandboxes, from one seed.
//!
//! | file | does |
//! |---|---|
//! | `world` | one seed → a plan: mapping, people, edits, faults, crashes |
//! | `wide` | what was added to worlds later: companies, figures, conditions, phones |
//! | `crossing` | what was added then: fields and tags that travel to Intercom |
//! | `bounded` | what was added after that: limits on harm, and Brevo's webhooks |
//! | `harm` | the checker of those limits |
//! | `departing` | what was added after that: `contacts.on_delete`; and what must hold of it |
//! | `sifting` | and `contacts.filter` and `consent.resubscribe` |
//! | `clashing` | worlds of their own: a few people whose fields are edited on both sides, in pairs |
//! | `unswept` | worlds of their own in which nothing is swept after the first read, so that nothing makes up for what is lost |
//! | `companies`, `firms` | worlds of their own in which companies have objects in Brevo; and what must hold of them |
//! | `coverage` | what must come up |
//! | `people` | people's hands on both sides |
//! | `faults` | the network between engine and vendors, webhooks on their way, places to crash at |
//! | `model` | what the checker knows: the vendors' true state, what people did, what the engine was told; what must hold always |
//! | `ending`, `happenings` | what must hold in the end |
//! | `told` | opt-outs that travel to Intercom |
//! | `between` | fields and tags that travel to Intercom: what people gave on each side, and what must stand in the end |
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

pub mod between;
pub mod bounded;
pub mod clashing;
pub mod companies;
pub mod coverage;
pub mod crossing;
pub mod departing;
pub mod ending;
pub mod faults;
pub mod firms;
pub mod happenings;
pub mod harm;
pub mod model;
pub mod mutants;
pub mod people;
pub mod run;
pub mod shrink;
pub mod sifting;
pub mod story;
pub mod told;
pub mod unswept;
pub mod wide;
pub mod world;

pub use run::play;
pub use world::Plan;
