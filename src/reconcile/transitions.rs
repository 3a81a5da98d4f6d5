//! What happened in a conversation between two looks at it, as Brevo events.

use crate::model::{Conversation, ConversationState};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransitionKind {
    /// It began.
    Created,
    /// It was closed.
    Closed,
    /// It was put off.
    Snoozed,
    /// The contact rated it.
    Rated,
}

impl TransitionKind {
    /// The name of the Brevo event.
    pub fn event_name(self) -> &'static str {
        match self {
            Self::Created => "intercom_conversation_created",
            Self::Closed => "intercom_conversation_closed",
            Self::Snoozed => "intercom_conversation_snoozed",
            Self::Rated => "intercom_conversation_rated",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Closed => "closed",
            Self::Snoozed => "snoozed",
            Self::Rated => "rated",
        }
    }
}

/// The name of the Brevo event of this kind of transition.
pub fn event_name(kind: TransitionKind) -> &'static str {
    kind.event_name()
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// What.
    pub kind: TransitionKind,
    /// Its name, made of nothing but what a webhook and a poll both show, so that both together send one event.
    pub key: String,
    /// When, or the latest that it can have been. `None` for a rating that is new since the last look: it happened
    /// when it was first seen.
    pub happened_at: Option<DateTime<Utc>>,
}

/// What happened since `before` (`None`: this is the first look at the conversation). A first look reports all that the
/// conversation shows; the caller drops what is too old, and what it has sent already by its key. A look that is older
/// than the last one (a webhook that was late) still reports what it shows, for the polls may have missed it.
pub fn transitions(before: Option<&Conversation>, now: &Conversation) -> Vec<Transition> {
    let mut found = Vec::new();
    let mut note = |kind: TransitionKind, mark: String, happened_at| {
        found.push(Transition { kind, key: format!("{}/{}/{mark}", now.id, kind.word()), happened_at });
    };
    if before.is_none() {
        note(TransitionKind::Created, now.created_at.timestamp().to_string(), Some(now.created_at));
    }
    if let Some(at) = now.last_close_at
        && seconds(before.and_then(|known| known.last_close_at)) != Some(at.timestamp())
    {
        note(TransitionKind::Closed, at.timestamp().to_string(), Some(at));
    }
    if let (ConversationState::Snoozed, Some(until)) = (now.state, now.snoozed_until) {
        let known = before.is_some_and(|known| {
            known.state == ConversationState::Snoozed && seconds(known.snoozed_until) == Some(until.timestamp())
        });
        if !known {
            // Intercom does not say when; the record's time is the latest that it can have been.
            note(TransitionKind::Snoozed, until.timestamp().to_string(), Some(now.updated_at));
        }
    }
    if let Some(rating) = &now.rating
        && before.and_then(|known| known.rating.as_ref()) != Some(rating)
    {
        let remark = rating.remark.as_deref().map(str::trim).unwrap_or_default();
        // Hashed: a remark is a person's words, and keys end up in logs.
        let digest = Sha256::digest(format!("{}\n{remark}", rating.score).as_bytes());
        let mark = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        // Between two looks in order, the rating is as new as this look. Otherwise (the first look of a backfill, a
        // late webhook) it may be years old, and only the record's time bounds it.
        let in_order = before.is_some_and(|known| known.updated_at <= now.updated_at);
        note(TransitionKind::Rated, mark, (!in_order).then_some(now.updated_at));
    }
    found
}

fn seconds(at: Option<DateTime<Utc>>) -> Option<i64> {
    at.map(|at| at.timestamp())
}

/// What the event tells Brevo: flat, and without anybody's words. Brevo shows event properties to everybody with
/// access to the account, so the subject, the bodies and the remark stay in Intercom.
pub fn properties(kind: TransitionKind, conversation: &Conversation) -> BTreeMap<String, serde_json::Value> {
    let mut properties = BTreeMap::new();
    let mut put = |name: &str, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            properties.insert(name.to_owned(), value);
        }
    };
    let iso = |at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true).into();
    put("conversation_id", Some(conversation.id.as_str().into()));
    put("state", Some(conversation.state.as_str().into()));
    put("created_at", Some(iso(conversation.created_at)));
    put("channel", conversation.source_type.as_deref().map(Into::into));
    put("delivered_as", conversation.delivered_as.as_deref().map(Into::into));
    put("priority", conversation.priority.as_deref().map(Into::into));
    if !conversation.tags.is_empty() {
        let tags: Vec<&str> = conversation.tags.iter().map(String::as_str).collect();
        put("tags", Some(tags.join(", ").into()));
    }
    put("rating", conversation.rating.as_ref().map(|rating| rating.score.into()));
    match kind {
        TransitionKind::Closed => put("closed_at", conversation.last_close_at.map(iso)),
        TransitionKind::Snoozed => put("snoozed_until", conversation.snoozed_until.map(iso)),
        TransitionKind::Created | TransitionKind::Rated => {}
    }
    properties
}
