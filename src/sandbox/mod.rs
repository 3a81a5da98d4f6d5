//! A faithful Intercom and Brevo to run against: demo, tests, simulation.
//!
//! Shares no code with the clients it is there to test, wire structs included: else one misreading would hide in both.

pub mod brevo;
mod deliver;
pub mod intercom;
mod serve;
mod shared;

pub use deliver::{Deliverer, Deliveries, DeliveryRules};
pub use serve::{Serving, serve};
pub use shared::{Count, Fault, Knobs, LoggedRequest, OutgoingWebhook, RequestLog};
