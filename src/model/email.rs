//! One e-mail address, normalised once.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A normalised e-mail address: trimmed, lower-cased, its domain in ASCII, and nothing more: plus-tags and dots are
/// part of the address, because both vendors treat them so.
///
/// Brevo's placeholder for contacts that have only a phone (`…@mailin-sms.com`) is not an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(try_from = "String", into = "String")]
#[cbor(transparent)]
pub struct Email(#[n(0)] String);

/// Why a text is not an e-mail address. The text itself is not repeated: it is personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// Nothing but white space.
    #[error("empty")]
    Empty,
    /// Not of the form `local@domain`.
    #[error("not an e-mail address")]
    Malformed,
    /// Brevo's placeholder for a phone-only contact.
    #[error("Brevo's placeholder for a contact without e-mail")]
    SmsPlaceholder,
}

/// The domain under which Brevo files contacts that have only a phone number.
const SMS_PLACEHOLDER_DOMAIN: &str = "mailin-sms.com";

impl Email {
    /// Normalises and checks `text`.
    ///
    /// # Errors
    /// Says why `text` cannot name a mailbox.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(EmailError::Empty);
        }
        let (local, domain) = trimmed.rsplit_once('@').ok_or(EmailError::Malformed)?;
        let domain = idna::domain_to_ascii(domain.trim_end_matches('.')).map_err(|_| EmailError::Malformed)?;
        if domain.eq_ignore_ascii_case(SMS_PLACEHOLDER_DOMAIN) {
            return Err(EmailError::SmsPlaceholder);
        }
        let mut address = [local, "@", &domain].concat();
        if address.is_ascii() {
            address.make_ascii_lowercase();
        } else {
            address = address.to_lowercase();
        }
        let valid = email_address::EmailAddress::is_valid(&address) && !address.contains(char::is_whitespace);
        if valid { Ok(Self(address)) } else { Err(EmailError::Malformed) }
    }

    /// An address that was normalised before it was kept.
    pub fn from_kept(address: String) -> Self {
        Self(address)
    }

    /// The normalised address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `j…@example.com`: enough for an operator to recognise, too little to leak a list of addresses into a log.
    pub fn redacted(&self) -> String {
        match self.0.split_once('@') {
            Some((local, domain)) => format!("{}…@{domain}", local.chars().next().unwrap_or('…')),
            None => "…".to_owned(),
        }
    }
}

/// Debug output ends up in logs and panics, so it shows the redacted form.
impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Email({})", self.redacted())
    }
}

impl TryFrom<String> for Email {
    type Error = EmailError;

    fn try_from(text: String) -> Result<Self, EmailError> {
        Self::parse(&text)
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_case_space_and_domain_and_nothing_more() {
        assert_eq!(Email::parse(" Jane.Doe+News@Example.COM ").unwrap().as_str(), "jane.doe+news@example.com");
        assert_eq!(Email::parse("a@bücher.example").unwrap().as_str(), "a@xn--bcher-kva.example");
    }

    #[test]
    fn refuses_what_names_no_mailbox() {
        assert_eq!(Email::parse("  "), Err(EmailError::Empty));
        assert_eq!(Email::parse("33612345678@mailin-sms.com"), Err(EmailError::SmsPlaceholder));
        for text in ["jane", "jane@", "@x.com", "a b@x.com", "a@b@c d"] {
            assert_eq!(Email::parse(text), Err(EmailError::Malformed), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_whole_address() {
        assert_eq!(format!("{:?}", Email::parse("jane@example.com").unwrap()), "Email(j…@example.com)");
    }
}
