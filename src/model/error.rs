//! What can go wrong at a vendor, in the terms in which the engine decides.

use super::SideName;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Why a vendor does not let us in; each has its own remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AuthProblem {
    /// The key or token is wrong or revoked.
    BadCredentials,
    /// The key is right, but a permission is missing.
    MissingScope,
    /// The workspace lives in another region.
    WrongRegion,
    /// Brevo blocks the address we call from.
    BlockedIp,
    /// The plan does not include it.
    Plan,
}

/// The rows of the table "when things go wrong": what the engine does follows from the row, not from a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ErrorKind {
    /// Stop this side, keep observing the other, say what to fix.
    #[error("not let in")]
    Auth(AuthProblem),
    /// A known record is not there (404).
    #[error("not found")]
    NotFound,
    /// A known record was merged away (410).
    #[error("merged")]
    Merged {
        /// The survivor's id, where named.
        into: Option<String>,
    },
    /// Another record holds an identifier.
    #[error("conflict")]
    Conflict {
        /// Which identifiers (`email`, `SMS`, `ext_id`; lower or upper case as the vendor wrote them). Empty if unsaid.
        identifiers: Vec<String>,
        /// The holder's id, where named (Intercom names it in the message).
        holder: Option<String>,
        /// The holder is archived.
        archived: bool,
    },
    /// The record, or one of its fields, is refused and will be again.
    #[error("refused")]
    Rejected {
        /// The field at fault, where the vendor's words let us tell.
        field: Option<String>,
    },
    /// Too many requests (429), or an import is at work (425). Nothing was done.
    #[error("throttled")]
    Throttled,
    /// It failed and nothing can have been done: no connection, 5xx on a read.
    #[error("unavailable")]
    Unavailable,
    /// It may have been done or may still land: a time-out, a cut answer, a 5xx on a write.
    #[error("outcome unknown")]
    Ambiguous,
    /// The answer is not what the vendor documents: HTML for JSON, an empty 200, a body beyond its bound.
    #[error("unreadable answer")]
    Malformed,
    /// A cursor or scroll that the vendor no longer knows: begin the sweep again.
    #[error("lost cursor")]
    LostCursor,
    /// The resource is capped or busy (the company list beyond 10,000; somebody else's open scroll).
    #[error("busy")]
    Busy,
    /// We asked for something this side cannot do.
    #[error("unsupported")]
    Unsupported,
}

/// A request that a vendor did not answer with success.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[error("{side}: {kind}{}: {message}", status.map(|s| format!(" ({s})")).unwrap_or_default())]
pub struct SideError {
    /// Whose.
    pub side: SideName,
    /// Which row of the table.
    pub kind: ErrorKind,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The vendor's code, an open set.
    pub code: Option<String>,
    /// The vendor's words, or ours; bounded, and without personal data (addresses and numbers are masked).
    pub message: String,
    /// What the vendor calls the request, for its support.
    pub request_id: Option<String>,
    /// How long the vendor asks us to wait.
    pub retry_after: Option<Duration>,
    /// How many times it was tried.
    pub attempts: u32,
    /// An earlier attempt has met no answer that says what became of it: whatever this one was told, that may still land.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub earlier_may_land: bool,
}

impl SideError {
    /// A new error with nothing but its kind and words.
    pub fn new(side: SideName, kind: ErrorKind, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            side,
            kind,
            status: None,
            code: None,
            message: message.into(),
            request_id: None,
            retry_after: None,
            attempts: 1,
            earlier_may_land: false,
        })
    }

    /// Whether what was asked for may have been done, or may still be. (What is not there cannot be changed, however late.)
    #[must_use]
    pub fn may_have_landed(&self) -> bool {
        match self.kind {
            ErrorKind::Ambiguous | ErrorKind::Malformed => true,
            ErrorKind::NotFound | ErrorKind::Merged { .. } => false,
            _ => self.earlier_may_land,
        }
    }

    /// For the log. What a vendor says of one record may repeat its values (a name, say, which nothing masks), so of
    /// such a refusal only its kind, status and code are told. `failed list` has the words.
    pub fn for_log(&self) -> String {
        match self.kind {
            ErrorKind::NotFound
            | ErrorKind::Merged { .. }
            | ErrorKind::Conflict { .. }
            | ErrorKind::Rejected { .. } => {
                let status = self.status.map(|status| status.to_string());
                let known: Vec<&str> = [status.as_deref(), self.code.as_deref()].into_iter().flatten().collect();
                let known = if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) };
                format!("{}: {}{known}", self.side, self.kind)
            }
            _ => self.to_string(),
        }
    }

    /// What helps, for people: said once beside the error, whose words do not contain it.
    pub fn remedy(&self) -> Option<&'static str> {
        let intercom = self.side == SideName::Intercom;
        Some(match &self.kind {
            ErrorKind::Auth(AuthProblem::BadCredentials) if intercom => {
                "The access token is wrong or revoked. Copy it anew from Intercom's Developer Hub (your app, Configure, \
                 Authentication) into connectors.intercom.access_token or INTERCOM_ACCESS_TOKEN. A workspace in another region \
                 refuses it too: then set connectors.intercom.region."
            }
            ErrorKind::Auth(AuthProblem::BadCredentials) => {
                "The API key is wrong or deleted. Make one in Brevo under SMTP & API, API keys (it begins with xkeysib-), and \
                 put it into connectors.brevo.api_key or BREVO_API_KEY."
            }
            ErrorKind::Auth(AuthProblem::WrongRegion) => {
                "The workspace lives in another region: set connectors.intercom.region to us, eu or au."
            }
            ErrorKind::Auth(AuthProblem::MissingScope) if intercom => {
                "The app lacks a permission: in Intercom's Developer Hub, your app, Configure, Authentication, allow it to read \
                 users and companies, conversations, and tags, and to write users (unless consent.direction is intercom_to_brevo \
                 and no field travels to Intercom); then copy the new token."
            }
            ErrorKind::Auth(AuthProblem::MissingScope) => {
                "The key's owner may not do this in Brevo: have an owner of the account make the key (SMTP & API, API keys), or \
                 ask them for the permission."
            }
            ErrorKind::Auth(AuthProblem::BlockedIp) => {
                "Brevo does not know the address that this machine calls from: allow it in Brevo under Security, Authorised IPs."
            }
            ErrorKind::Auth(AuthProblem::Plan) => "The account's plan does not include this.",
            ErrorKind::Throttled => "The API's budget is used up; it goes on once the vendor lets us.",
            ErrorKind::Unavailable => {
                "Check the network and the vendor's status page; `base_url`, if the config names one. Trying again is safe."
            }
            ErrorKind::Malformed => {
                "Something other than the API answered: check `base_url`, and for a proxy in between."
            }
            ErrorKind::NotFound => "Check `base_url`: the address answers, but is not the API's.",
            _ => return None,
        })
    }

    /// Whether the same request may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Throttled
                | ErrorKind::Unavailable
                | ErrorKind::Ambiguous
                | ErrorKind::Malformed
                | ErrorKind::LostCursor
                | ErrorKind::Busy
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_not_told_what_a_vendor_says_of_a_record() {
        let mut error =
            *SideError::new(SideName::Brevo, ErrorKind::Rejected { field: None }, "FIRSTNAME Ann is no name");
        assert_eq!(error.for_log(), "Brevo: refused");
        (error.status, error.code) = (Some(400), Some("invalid_parameter".to_owned()));
        assert_eq!(error.for_log(), "Brevo: refused (400, invalid_parameter)");
        error.kind = ErrorKind::Unavailable;
        assert_eq!(error.for_log(), "Brevo: unavailable (400): FIRSTNAME Ann is no name", "it is about no record");
    }
}
