//! A faithful Intercom and Brevo to run against: demo, tests, simulation.
//!
//! Shares no code with the clients it is there to test, wire structs included: else one misreading would hide in both.

pub mod brevo;
pub mod intercom;
mod shared;

pub use shared::{Fault, Knobs, LoggedRequest, OutgoingWebhook, RequestLog};
