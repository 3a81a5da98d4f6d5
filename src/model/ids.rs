//! Ids as types, so that no call can mix them up.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
        #[serde(transparent)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] String);

        impl $name {
            /// Wraps an id exactly as the vendor wrote it.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// The id as the vendor writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
        #[serde(transparent)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] i64);

        impl $name {
            /// Wraps an id exactly as the vendor wrote it.
            pub const fn new(id: i64) -> Self {
                Self(id)
            }

            /// The id as a number.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

text_id!(
    /// An Intercom contact (user or lead): 24 hex digits.
    IntercomContactId
);
text_id!(
    /// An Intercom company by Intercom's own id (not the `company_id` that the customer chose).
    IntercomCompanyId
);
text_id!(
    /// A Brevo company: 24 hex digits.
    BrevoCompanyId
);
text_id!(
    /// An Intercom conversation. Unique only within one workspace.
    ConversationId
);
text_id!(
    /// An Intercom tag.
    IntercomTagId
);
text_id!(
    /// An Intercom workspace: `app.id_code` of `GET /me`, and `app_id` of a webhook.
    IntercomWorkspaceId
);
text_id!(
    /// A Brevo account: `organization_id` of `GET /account`.
    BrevoOrganizationId
);
number_id!(
    /// A Brevo contact (int64).
    BrevoContactId
);
number_id!(
    /// A Brevo contact list.
    BrevoListId
);
number_id!(
    /// A Brevo background process, such as a contact import.
    ProcessId
);
