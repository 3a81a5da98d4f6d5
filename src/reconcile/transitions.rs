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
        let mark = digest.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConversationId, Rating};
    use chrono::TimeZone;
    use std::collections::BTreeSet;

    fn at(minute: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 5, 1, 0, minute, 0).unwrap()
    }

    fn open() -> Conversation {
        Conversation {
            id: ConversationId::new("77"),
            contacts: BTreeSet::default(),
            created_at: at(0),
            updated_at: at(0),
            state: ConversationState::Open,
            snoozed_until: None,
            waiting_since: None,
            priority: None,
            source_type: Some("email".to_owned()),
            delivered_as: None,
            started_by_contact: true,
            rating: None,
            tags: BTreeSet::from(["a".to_owned(), "b".to_owned()]),
            sla: None,
            last_close_at: None,
            last_contact_reply_at: None,
            time_to_first_reply: None,
            ai_participated: None,
            ai_resolution: None,
            ai_rating: None,
        }
    }

    fn closed(minute: u32) -> Conversation {
        Conversation {
            state: ConversationState::Closed,
            last_close_at: Some(at(minute)),
            updated_at: at(minute),
            ..open()
        }
    }

    fn rated(score: u8, remark: Option<&str>) -> Conversation {
        Conversation { rating: Some(Rating { score, remark: remark.map(str::to_owned) }), ..closed(5) }
    }

    fn kinds(before: Option<&Conversation>, now: &Conversation) -> Vec<TransitionKind> {
        transitions(before, now).into_iter().map(|transition| transition.kind).collect()
    }

    #[test]
    fn a_first_look_reports_what_it_shows() {
        use TransitionKind::{Closed, Created, Rated};
        assert_eq!(kinds(None, &rated(5, None)), [Created, Closed, Rated]);
        // A backfill must be able to tell that a rating is old.
        assert!(transitions(None, &rated(5, None)).iter().all(|transition| transition.happened_at.is_some()));
    }

    #[test]
    fn nothing_new_is_nothing() {
        let now = Conversation { updated_at: at(30), ..rated(3, Some("meh")) };
        assert_eq!(kinds(Some(&rated(3, Some("meh"))), &now), []);
    }

    #[test]
    fn closed_opened_and_closed_again_is_two_events() {
        let first = transitions(Some(&open()), &closed(5));
        let second = transitions(Some(&closed(5)), &closed(9));
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_ne!(first[0].key, second[0].key);
        // Opened again in between: the time of the last closing stands, and is no event.
        let reopened = Conversation { state: ConversationState::Open, updated_at: at(6), ..closed(5) };
        assert_eq!(kinds(Some(&closed(5)), &reopened), []);
    }

    #[test]
    fn a_webhook_and_a_poll_give_one_key() {
        // A poll shows milliseconds nowhere, a webhook may: whole seconds count.
        let webhook = Conversation { last_close_at: Some(at(5) + chrono::Duration::milliseconds(300)), ..closed(5) };
        assert_eq!(transitions(Some(&open()), &webhook)[0].key, transitions(Some(&open()), &closed(5))[0].key);
        assert_eq!(kinds(Some(&webhook), &closed(5)), []);
    }

    #[test]
    fn a_snooze_is_known_by_its_end() {
        let until = |minute| Conversation {
            state: ConversationState::Snoozed,
            snoozed_until: Some(at(minute)),
            updated_at: at(1),
            ..open()
        };
        assert_eq!(kinds(Some(&open()), &until(30)), [TransitionKind::Snoozed]);
        assert_eq!(kinds(Some(&until(30)), &until(30)), []);
        assert_eq!(kinds(Some(&until(30)), &until(40)), [TransitionKind::Snoozed]);
    }

    #[test]
    fn a_remark_that_comes_later_is_another_rating_and_stays_private() {
        let found = transitions(Some(&rated(2, None)), &rated(2, Some("too slow")));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].happened_at, None);
        assert!(!found[0].key.contains("slow"));
        let properties = properties(TransitionKind::Rated, &rated(2, Some("too slow")));
        assert_eq!(properties["rating"], 2);
        assert_eq!(properties["tags"], "a, b");
        assert!(!format!("{properties:?}").contains("slow"));
    }

    #[test]
    fn a_late_look_still_reports_what_it_shows() {
        let late = closed(5);
        assert_eq!(kinds(Some(&closed(9)), &late), [TransitionKind::Closed]);
        let late = Conversation { updated_at: at(4), ..rated(1, None) };
        let found = transitions(Some(&rated(5, None)), &late);
        assert_eq!(found[0].happened_at, Some(at(4)));
    }
}
