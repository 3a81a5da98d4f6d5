//! Intercom behind [`crate::model::Side`]: its endpoints, its wire shapes and their oddities, and its webhooks.
//!
//! | file | what |
//! |---|---|
//! | `client.rs` | the client: headers, pace, single records |
//! | `read.rs` | sweeps in pages, and the cursors that continue them |
//! | `schema.rs` | the account and the attributes that exist in it |
//! | `write.rs` | what is changed there |
//! | `wire.rs` | JSON in every generation of it → the model's records |
//! | `webhook.rs` | notifications: signature, parsing, what they mean |
//! | `errors.rs` | an answer that is not a success → the row of the table that says what to do |

mod client;
mod errors;
mod read;
mod schema;
pub mod webhook;
mod wire;
mod write;

pub use client::{IntercomClient, IntercomOptions, Plan};
pub use errors::classify;
pub use write::{
    CREATE_REQUEST, company_request_for, departure_of, request_for, tag_request_for, unarchive_request_for,
};
