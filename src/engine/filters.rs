//! What the operator's filters say of a record.

use super::Ready;
use crate::mapping::{Expression, FieldProblem};
use crate::model::{BrevoContact, Conversation, Fields, SideName, Sides, Value};
use crate::reconcile::taking_part::{Part, parts};
use crate::store::{Result, Tx};
use std::borrow::Cow;

/// Conversations of which `conversations.filter` cannot tell whether they count.
const UNTOLD: &str = "conversation_filter";

/// Whether a conversation counts. One of which that cannot be told does not, and is listed.
pub(super) fn counts(tx: &Tx<'_>, conversation: &Conversation, filter: Option<&Expression>) -> Result<bool> {
    let Some(filter) = filter else { return Ok(true) };
    let subject = format!("conversation {}", conversation.id);
    match filter.holds(None, &conversation.record()) {
        Ok(counts) => {
            tx.clear_notice(UNTOLD, &subject)?;
            Ok(counts)
        }
        Err(why) => {
            tx.put_notice(UNTOLD, &subject, Some(&format!("conversations.filter: {why}")), conversation.updated_at)?;
            Ok(false)
        }
    }
}

/// Whether somebody takes part, in each direction. Where that cannot be told nothing is written, and nobody leaves a list.
pub(super) fn takes_part(
    record: &Fields,
    brevo: Option<&BrevoContact>,
    ready: &Ready,
) -> (Sides<Part>, Option<FieldProblem>) {
    let unmatched = if ready.unlist_unmatched { Part::Leaves } else { Part::Rests };
    let unmatched = Sides { intercom: Part::Rests, brevo: unmatched };
    parts(&ready.filter, "contacts.filter", unmatched, |side| match (side, brevo) {
        (SideName::Intercom, _) => Some(Cow::Borrowed(record)),
        (SideName::Brevo, Some(contact)) => {
            let mut record = contact.attributes.clone();
            let email = contact.email.as_ref().and_then(|email| Value::text(email.as_str()));
            record.extend(email.map(|email| ("EMAIL".to_owned(), email)));
            Some(Cow::Owned(record))
        }
        (SideName::Brevo, None) => None,
    })
}
