//! The pure core: from three views of a person (what Intercom shows, what Brevo shows, what both agreed on last) to a
//! plan. No I/O, no clock, no randomness: the same views always give the same plan.
//!
//! | file | decides |
//! |---|---|
//! | [`identity`] | which records are one person |
//! | [`fields`] | field by field: who changed it, what to write, what to remember; and what a server made of a write |
//! | [`newest`] | when a value changed, as far as can be known |
//! | [`consent`] | may the person be e-mailed; only ever towards stricter |
//! | [`lists`] | list membership; nobody is put back on a list they left |
//! | [`person`] | all of the above for one person: the plan |
//! | [`company`] | which of several companies speaks for a contact |
//! | [`figures`] | a contact's conversations as figures, mapped like any field |
//! | [`harm`] | how many writes of a kind may go before somebody is asked |
//! | [`transitions`] | what happened to a conversation, as events that a webhook and a poll name alike |

pub mod company;
pub mod consent;
pub mod fields;
pub mod figures;
pub mod harm;
pub mod identity;
pub mod lists;
pub mod newest;
pub mod person;
pub mod resubscribe;
pub mod taking_part;
pub mod transitions;
