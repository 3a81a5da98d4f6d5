//! What a contact's conversations say about it, as fields.

use crate::model::{Conversation, ConversationState, Fields, Number, Value};
use chrono::{DateTime, Utc};

/// The figures of these conversations under the paths of [`crate::mapping::paths::CONVERSATIONS`]. A figure without a
/// value is absent. The same conversations give the same figures in whatever order they come; the last conversation is
/// the one that began last, by id on a tie. `contact` gives what Intercom counts on the contact itself: when the person
/// last replied and was last seen.
pub fn figures(conversations: &[Conversation], contact: &Fields) -> Fields {
    // A conversation read twice counts once: its newest state.
    let mut distinct = std::collections::BTreeMap::new();
    for conversation in conversations {
        let known: &mut &Conversation = distinct.entry(&conversation.id).or_insert(conversation);
        if conversation.updated_at > known.updated_at {
            *known = conversation;
        }
    }
    let conversations: Vec<&Conversation> = distinct.into_values().collect();
    let all = || conversations.iter().copied();
    let mut figures = Fields::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            figures.insert(format!("conversations.{name}"), value);
        }
    };

    // A snoozed conversation is not waiting for anybody now, though Intercom says `open: true` of it.
    let open = || all().filter(|conversation| conversation.state == ConversationState::Open);
    put("open_count", count(open().count()));
    put("total", count(all().count()));
    put("started_count", count(all().filter(|conversation| conversation.started_by_contact).count()));
    put("tags", Value::list(all().flat_map(|conversation| conversation.tags.iter().cloned())));
    put("last_closed_at", all().filter_map(|conversation| conversation.last_close_at).max().map(Value::Instant));
    // The longest wait among the open ones: that is the person's wait.
    put("waiting_since", open().filter_map(|conversation| conversation.waiting_since).min().map(Value::Instant));
    let replied = all().filter_map(|conversation| conversation.last_contact_reply_at).max();
    put("last_replied_at", replied.max(instant(contact, "last_replied_at")).map(Value::Instant));
    put("last_seen_at", instant(contact, "last_seen_at").map(Value::Instant));

    // The last rating is of the last conversation that has one: the next conversation does not take it back.
    let rated = all().filter(|conversation| conversation.rating.is_some()).max_by_key(|c| (c.created_at, &c.id));
    if let Some(rating) = rated.and_then(|conversation| conversation.rating.as_ref()) {
        put("last_rating", Some(whole(i64::from(rating.score))));
        put("last_remark", rating.remark.as_deref().and_then(Value::text));
    }
    if let Some(last) = all().max_by_key(|conversation| (conversation.created_at, &conversation.id)) {
        let text = |text: &Option<String>| text.as_deref().and_then(Value::text);
        put("last_state", Value::text(last.state.as_str()));
        put("last_tags", Value::list(last.tags.iter().cloned()));
        put("last_priority", text(&last.priority));
        put("last_sla_name", last.sla.as_ref().and_then(|sla| text(&sla.name)));
        put("last_sla_status", last.sla.as_ref().and_then(|sla| text(&sla.status)));
        put("last_channel", text(&last.source_type));
        put("last_delivered_as", text(&last.delivered_as));
        put("last_time_to_first_reply", last.time_to_first_reply.map(whole));
        put("last_ai_participated", last.ai_participated.map(Value::Boolean));
        put("last_ai_resolution", text(&last.ai_resolution));
        put("last_ai_rating", last.ai_rating.map(|rating| whole(i64::from(rating))));
    }
    figures
}

fn whole(number: i64) -> Value {
    Value::Number(Number::Whole(number))
}

fn count(number: usize) -> Option<Value> {
    i64::try_from(number).ok().map(whole)
}

fn instant(fields: &Fields, path: &str) -> Option<DateTime<Utc>> {
    match fields.get(path) {
        Some(Value::Instant(at)) => Some(*at),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::paths;
    use crate::model::{ConversationId, Rating, Sla};
    use chrono::TimeZone;
    use proptest::prelude::*;

    fn at(minute: i64) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 5, 1, 0, 0, 0).unwrap() + chrono::Duration::minutes(minute)
    }

    fn conversation(id: &str, created: i64) -> Conversation {
        Conversation {
            id: ConversationId::new(id),
            contacts: std::collections::BTreeSet::default(),
            created_at: at(created),
            updated_at: at(created),
            state: ConversationState::Open,
            snoozed_until: None,
            waiting_since: None,
            priority: None,
            source_type: None,
            delivered_as: None,
            started_by_contact: true,
            rating: None,
            tags: std::collections::BTreeSet::default(),
            sla: None,
            last_close_at: None,
            last_contact_reply_at: None,
            time_to_first_reply: None,
            ai_participated: None,
            ai_resolution: None,
            ai_rating: None,
        }
    }

    fn full(id: &str, created: i64) -> Conversation {
        Conversation {
            waiting_since: Some(at(created + 1)),
            priority: Some("priority".to_owned()),
            source_type: Some("email".to_owned()),
            delivered_as: Some("customer_initiated".to_owned()),
            rating: Some(Rating { score: 5, remark: Some("Thanks".to_owned()) }),
            tags: std::collections::BTreeSet::from(["refund".to_owned()]),
            sla: Some(Sla { name: Some("Gold".to_owned()), status: Some("hit".to_owned()) }),
            last_close_at: Some(at(created + 2)),
            last_contact_reply_at: Some(at(created + 3)),
            time_to_first_reply: Some(60),
            ai_participated: Some(true),
            ai_resolution: Some("confirmed_resolution".to_owned()),
            ai_rating: Some(4),
            ..conversation(id, created)
        }
    }

    #[test]
    fn every_figure_is_a_known_path_of_the_type_it_says() {
        let contact = Fields::from([("last_seen_at".to_owned(), Value::Instant(at(0)))]);
        let figures = figures(&[full("1", 0)], &contact);
        let made: Vec<&str> = figures.keys().map(String::as_str).collect();
        let mut known: Vec<&str> = paths::CONVERSATIONS.iter().map(|(path, _)| *path).collect();
        known.sort_unstable();
        assert_eq!(made, known);
        for (path, kind) in paths::CONVERSATIONS {
            let fits = matches!(
                (kind, &figures[*path]),
                (paths::SourceKind::Text, Value::Text(_))
                    | (paths::SourceKind::Number, Value::Number(_))
                    | (paths::SourceKind::Boolean, Value::Boolean(_))
                    | (paths::SourceKind::Instant, Value::Instant(_))
                    | (paths::SourceKind::List, Value::List(_))
            );
            assert!(fits, "{path}");
        }
    }

    #[test]
    fn nobody_who_never_wrote_has_more_than_counts() {
        let figures = figures(&[], &Fields::new());
        assert_eq!(figures.len(), 3);
        assert!(figures.values().all(|value| *value == whole(0)));
    }

    #[test]
    fn a_snoozed_conversation_is_not_open() {
        let snoozed = Conversation { state: ConversationState::Snoozed, ..full("1", 0) };
        let figures = figures(&[snoozed], &Fields::new());
        assert_eq!(figures["conversations.open_count"], whole(0));
        assert_eq!(figures.get("conversations.waiting_since"), None);
    }

    #[test]
    fn a_new_conversation_does_not_take_a_rating_back() {
        let figures = figures(&[full("1", 0), conversation("2", 10)], &Fields::new());
        assert_eq!(figures["conversations.last_rating"], whole(5));
        assert_eq!(figures["conversations.last_closed_at"], Value::Instant(at(2)));
        assert_eq!(figures.get("conversations.last_priority"), None);
        assert_eq!(figures["conversations.tags"], Value::List(vec!["refund".to_owned()]));
    }

    proptest! {
        #[test]
        fn the_order_does_not_matter(times in prop::collection::vec((0_i64..5, 0_i64..5, any::<bool>()), 0..8)) {
            let mut conversations: Vec<Conversation> = times
                .iter()
                .enumerate()
                .map(|(index, (created, updated, rich))| {
                    let id = (index % 5).to_string();
                    let made = if *rich { full(&id, *created) } else { conversation(&id, *created) };
                    // Two looks at one conversation with the same record time are the same look.
                    Conversation { updated_at: at(updated * 10 + i64::try_from(index).unwrap()), ..made }
                })
                .collect();
            let forth = figures(&conversations, &Fields::new());
            conversations.reverse();
            prop_assert_eq!(forth, figures(&conversations, &Fields::new()));
        }
    }
}
