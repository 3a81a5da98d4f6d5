//! Brevo (API v3) behind [`crate::model::Side`].
//!
//! | file | what |
//! |---|---|
//! | `client` | [`BrevoClient`]: how requests are built, authenticated, paced and judged |
//! | `wire` | Brevo's JSON → our records |
//! | `read` | the account, pages, single contacts |
//! | `write` | contacts, lists, events |
//! | `events` | which events Brevo has already |
//! | `import` | the asynchronous bulk write and its reports |
//! | `schema` | contact attributes |
//! | `companies` | companies and their attributes |
//! | [`webhook`] | what Brevo's webhooks say, and whether one is Brevo's |
//! | [`registrations`] | webhooks as Brevo has them registered |
//! | `errors` | Brevo's answers → [`crate::model::SideError`] |

mod client;
mod companies;
mod errors;
mod events;
pub mod import;
mod read;
pub mod registrations;
mod schema;
pub mod webhook;
mod wire;
mod write;

#[cfg(test)]
mod tests;

pub use client::{BrevoClient, BrevoOptions};
pub use companies::company_request_for;
pub use write::{deletion_of, request_for};
