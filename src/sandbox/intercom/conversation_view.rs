//! Conversations as JSON.

use super::misc::admin_named;
use super::options::WebhookGeneration;
use super::state::{Author, Conversation, Part, Slot, State};
use super::view::{iso, tag_applied};
use serde_json::{Value, json};

/// Only the most recent parts are given, in any version; there is no way to page.
const MOST_PARTS: usize = 500;

/// How bodies and instants are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Rest,
    RestPlain,
    Webhook(WebhookGeneration),
}

impl Style {
    fn text(self, html: &str) -> String {
        match self {
            Self::Rest | Self::Webhook(WebhookGeneration::V2_11) => html.to_owned(),
            Self::RestPlain | Self::Webhook(WebhookGeneration::V2_15) => plain(html),
        }
    }

    fn instant(self, at: Option<i64>) -> Value {
        match self {
            Self::Webhook(WebhookGeneration::V2_11) => {
                at.map_or(Value::Null, |at| iso(at.saturating_mul(1000)).replace("+00:00", "Z").into())
            }
            _ => at.into(),
        }
    }
}

/// Without tags.
fn plain(html: &str) -> String {
    let mut inside = false;
    html.chars()
        .filter(|letter| {
            match letter {
                '<' => inside = true,
                '>' => {
                    inside = false;
                    return false;
                }
                _ => {}
            }
            !inside
        })
        .collect()
}

fn author(state: &State, author: Author) -> Value {
    match author {
        Author::Contact(slot) => state.contact(slot).map_or(Value::Null, |contact| {
            json!({"type": contact.role.name(), "id": contact.id, "name": contact.name, "email": contact.email.as_deref().unwrap_or("")})
        }),
        Author::Admin(id) => {
            let (id, name, email) = admin_named(id);
            json!({"type": "admin", "id": id.to_string(), "name": name, "email": email})
        }
        Author::Bot => json!({"type": "bot", "id": "278", "name": "Fin", "email": "operator+sandbox@intercom.example"}),
    }
}

fn reference(state: &State, slot: Slot) -> Value {
    state
        .contact(slot)
        .map_or(Value::Null, |contact| json!({"type": "contact", "id": contact.id, "external_id": contact.external_id}))
}

fn part(state: &State, part: &Part, style: Style) -> Value {
    json!({
        "type": "conversation_part",
        "id": part.id.to_string(),
        "part_type": part.kind,
        "body": part.body.as_deref().map(|body| style.text(body)),
        "created_at": part.created.div_euclid(1000),
        "updated_at": part.created.div_euclid(1000),
        "notified_at": part.created.div_euclid(1000),
        "assigned_to": part.assigned_to.map(|id| json!({"type": "admin", "id": id.to_string()})),
        "author": author(state, part.author),
        "attachments": [],
        "external_id": null,
        "redacted": false,
    })
}

fn statistics(conversation: &Conversation, style: Style) -> Value {
    let numbers = &conversation.statistics;
    let start = conversation.created.div_euclid(1000);
    let since = |at: Option<i64>| at.map(|at| at - start);
    json!({
        "type": "conversation_statistics",
        "time_to_assignment": since(numbers.first_assignment),
        "time_to_admin_reply": since(numbers.first_admin_reply),
        "time_to_first_close": since(numbers.first_close),
        "time_to_last_close": since(numbers.last_close),
        "median_time_to_reply": since(numbers.first_admin_reply),
        "first_contact_reply_at": style.instant(numbers.first_contact_reply),
        "first_assignment_at": style.instant(numbers.first_assignment),
        "first_admin_reply_at": style.instant(numbers.first_admin_reply),
        "first_close_at": style.instant(numbers.first_close),
        "last_assignment_at": style.instant(numbers.last_assignment),
        "last_assignment_admin_reply_at": style.instant(numbers.last_assignment_admin_reply),
        "last_contact_reply_at": style.instant(numbers.last_contact_reply),
        "last_admin_reply_at": style.instant(numbers.last_admin_reply),
        "last_close_at": style.instant(numbers.last_close),
        "last_closed_by_id": numbers.last_closed_by.map(|id| id.to_string()),
        "count_reopens": numbers.reopens,
        "count_assignments": numbers.assignments,
        // The source message counts too.
        "count_conversation_parts": conversation.parts.len() + 1,
    })
}

/// Without parts, as lists and searches give it.
pub(super) fn value(state: &State, conversation: &Conversation, style: Style) -> Value {
    let start = conversation.created.div_euclid(1000);
    let webhook = matches!(style, Style::Webhook(_));
    let admins: Vec<Value> =
        conversation
            .admin_assignee
            .map(|id| {
                if webhook { author(state, Author::Admin(id)) } else { json!({"type": "admin", "id": id.to_string()}) }
            })
            .into_iter()
            .collect();
    // The description says `teammates`, deliveries say `admins`.
    let teammates = if webhook {
        json!({"type": "admin.list", "admins": admins})
    } else {
        json!({"type": "admin.list", "teammates": admins})
    };
    let rating = conversation.rating.as_ref().map(|rating| {
        json!({
            "rating": rating.score,
            "remark": rating.remark,
            "created_at": rating.at,
            "contact": reference(state, rating.contact),
            "teammate": rating.teammate.map(|id| json!({"type": "admin", "id": id.to_string()})),
        })
    });
    let ai_agent = conversation.ai_agent.as_ref().map(|agent| {
        json!({
            "source_type": "workflow",
            "source_title": "Inbound workflow",
            "last_answer_type": agent.answer,
            "resolution_state": agent.resolution,
            "rating": agent.rating,
            "rating_remark": null,
            "content_sources": {"type": "content_source.list", "total_count": 0, "content_sources": []},
        })
    });
    json!({
        "type": "conversation",
        "id": conversation.id.to_string(),
        "created_at": start,
        "updated_at": conversation.updated.div_euclid(1000),
        "waiting_since": conversation.waiting_since,
        "snoozed_until": conversation.snoozed_until,
        "source": {
            "type": conversation.source_type,
            "id": (conversation.id + 403_000_000).to_string(),
            "delivered_as": conversation.delivered_as,
            "subject": style.text(&conversation.subject),
            "body": style.text(&conversation.body),
            "author": author(state, conversation.author),
            "attachments": [],
            "url": null,
            "redacted": false,
        },
        "contacts": {
            "type": "contact.list",
            "contacts": conversation.contacts.iter().map(|slot| reference(state, *slot)).collect::<Vec<_>>(),
        },
        "first_contact_reply": conversation.statistics.first_contact_reply
            .map(|at| json!({"created_at": at, "type": conversation.source_type, "url": null})),
        "admin_assignee_id": conversation.admin_assignee,
        "team_assignee_id": null,
        "open": conversation.state != super::state::ConversationState::Closed,
        "state": conversation.state.name(),
        "read": conversation.read,
        "tags": {
            "type": "tag.list",
            "tags": conversation.tags.iter().map(|tag| tag_applied(state, &tag.id, tag.applied_at)).collect::<Vec<_>>(),
        },
        "priority": if conversation.priority { "priority" } else { "not_priority" },
        "sla_applied": conversation.sla
            .map(|(name, status)| json!({"type": "conversation_sla_summary", "sla_name": name, "sla_status": status})),
        "statistics": statistics(conversation, style),
        "conversation_rating": rating,
        "teammates": teammates,
        "title": conversation.title,
        "custom_attributes": conversation.custom,
        "topics": {},
        "ticket": null,
        "linked_objects": {"type": "list", "data": [], "total_count": 0, "has_more": false},
        "ai_agent": ai_agent,
        "ai_agent_participated": conversation.ai_agent.is_some(),
    })
}

/// With parts.
pub(super) fn with_parts(state: &State, conversation: &Conversation, style: Style, last: usize) -> Value {
    let mut value = value(state, conversation, style);
    let skipped = conversation.parts.len().saturating_sub(last);
    let parts: Vec<Value> = conversation.parts.iter().skip(skipped).map(|one| part(state, one, style)).collect();
    if let Some(map) = value.as_object_mut() {
        let count = parts.len();
        let list = json!({"type": "conversation_part.list", "conversation_parts": parts, "total_count": count});
        map.insert("conversation_parts".to_owned(), list);
    }
    value
}

pub(super) fn full(state: &State, conversation: &Conversation, plain: bool) -> Value {
    with_parts(state, conversation, if plain { Style::RestPlain } else { Style::Rest }, MOST_PARTS)
}

/// As a notification's item: only the `parts` that triggered it.
pub(super) fn webhook(state: &State, conversation: &Conversation, parts: usize) -> Value {
    with_parts(state, conversation, Style::Webhook(state.generation), parts)
}
