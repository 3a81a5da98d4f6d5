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
