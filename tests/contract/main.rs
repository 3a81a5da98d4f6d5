//! Contract tests: what we send and what our doubles answer must fit the vendors' own OpenAPI descriptions.
//!
//! The descriptions are not part of this repository. `LINKSPAN_SPECS` names the folder that holds them; without one
//! these tests pass with a note, but not under `CI=true`, where a missing description is a failure.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop where a program may not"
)]

mod clients;
mod deviations;
mod examples;
mod exchange;
mod openapi;
mod sandbox_brevo;
mod sandbox_intercom;
mod validator_tests;
