//! The words everybody shares: ids, e-mail addresses, values, records, observations, consent, and the [`Side`] trait
//! through which the engine sees a vendor.
//!
//! Nothing in here knows a vendor's wire shape, the database, the network or the clock.

mod account;
mod consent;
mod email;
mod error;
mod ids;
mod observation;
pub mod pack;
mod phone;
mod record;
mod side;
mod sides;
mod value;
mod write;

pub use account::{AccountInfo, Attribute, AttributeKind, Budget, share_of};
pub use consent::{Consent, OptIn, OptOutReason};
pub use email::{Email, EmailError};
pub use error::{AuthProblem, ErrorKind, SideError};
pub use ids::{
    BrevoCompanyId, BrevoContactId, BrevoListId, BrevoOrganizationId, ConversationId, IntercomCompanyId,
    IntercomContactId, IntercomTagId, IntercomWorkspaceId, ProcessId,
};
pub use observation::{Cursor, Fetched, Gone, Observation, ReadPage, ReadRequest, Related, Resource, Scope};
pub use phone::phone_digits;
pub use record::{
    BrevoCompany, BrevoContact, Company, Conversation, ConversationState, Fields, IntercomContact, Partial, Rating,
    Role, Sla, Tag,
};
pub use side::{ContactKey, Side, SideName};
pub use sides::Sides;
pub use value::{Number, Value};
pub use write::{
    Answer, AttributeSpec, ContactChange, ImportBatch, ImportRow, ImportState, IntercomChange, NewCompany, NewContact,
    NewIntercomContact, OutgoingEvent, Priority, Write,
};
