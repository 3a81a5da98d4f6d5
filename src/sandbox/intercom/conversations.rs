//! `/conversations`: lists, search to the second, replies and parts.

use super::answer::{Answer, Asked, Reply, checked_per_page, error, not_found, ok};
use super::contacts::{Cursor, cursor_pages};
use super::conversation_view::{self as view, Style};
use super::misc::{FIRST_ADMIN, body_id};
use super::search::{Dates, Field, Kind, compile};
use super::state::{AppliedTag, Author, Conversation, ConversationState, Part, Rating, Slot, State, Statistics};
use super::view::tag_applied;
use super::webhooks;
use serde_json::{Value, json};

fn missing() -> Answer {
    not_found("Conversation not found")
}

fn id_of(state: &State, text: &str) -> Result<u64, Answer> {
    text.parse().ok().filter(|id| state.conversations.contains_key(id)).ok_or_else(missing)
}

fn reply_with(state: &State, id: u64, plain: bool) -> Reply {
    state.conversations.get(&id).map(|found| ok(&view::full(state, found, plain))).ok_or_else(missing)
}

fn page_of(state: &State, ids: Vec<(i64, u64)>, total: usize, per_page: usize, cursor: Option<Cursor>) -> Answer {
    let page = cursor.map_or(1, |cursor| cursor.page);
    let more = ids.len() > per_page;
    let shown = &ids[..ids.len().min(per_page)];
    let next = shown.last().filter(|_| more).map(|(at, id)| Cursor { at: *at, id: *id, page: page.saturating_add(1) });
    let data: Vec<Value> = shown
        .iter()
        .filter_map(|(_, id)| state.conversations.get(id))
        .map(|conversation| view::value(state, conversation, Style::Rest))
        .collect();
    ok(&json!({
        "type": "conversation.list",
        "pages": cursor_pages(page, per_page, total, next),
        "total_count": total,
        "conversations": data,
    }))
}

pub(super) fn list(state: &State, asked: &Asked) -> Reply {
    let per_page = asked.per_page(20, 150)?;
    let cursor = asked.param("starting_after").map(Cursor::decode).transpose()?;
    let below = cursor.map_or((i64::MAX, u64::MAX), |cursor| (cursor.at, cursor.id));
    let ids = state.conversations_by_updated.range(..below).rev().take(per_page + 1).copied().collect();
    Ok(page_of(state, ids, state.conversations.len(), per_page, cursor))
}

fn kind_of(field: &str) -> Option<Kind> {
    Some(match field {
        "created_at"
        | "updated_at"
        | "waiting_since"
        | "snoozed_until"
        | "conversation_rating.requested_at"
        | "conversation_rating.replied_at" => Kind::Date,
        "open" | "read" | "ai_agent_participated" => Kind::Bool,
        "admin_assignee_id" | "team_assignee_id" | "conversation_rating.score" | "ai_agent.rating" => Kind::Integer,
        "id"
        | "state"
        | "priority"
        | "source.type"
        | "source.id"
        | "source.delivered_as"
        | "source.subject"
        | "source.body"
        | "source.url"
        | "source.author.id"
        | "source.author.type"
        | "source.author.name"
        | "source.author.email"
        | "contact_ids"
        | "teammate_ids"
        | "channel_initiated"
        | "tag_ids"
        | "conversation_rating.remark"
        | "ai_agent.resolution_state"
        | "ai_agent.last_answer_type"
        | "ai_agent.source_type"
        | "ai_agent.source_title" => Kind::Text,
        _ if field.starts_with("statistics.") && field.ends_with("_at") => Kind::Date,
        _ if field.starts_with("statistics.") => Kind::Integer,
        _ => return None,
    })
}

fn field<'a>(state: &State, conversation: &'a Conversation, name: &str) -> Field<'a> {
    let date = |at: Option<i64>| at.map_or(Field::Null, |at| Field::Date(at.saturating_mul(1000)));
    match name {
        "created_at" => Field::Date(conversation.created.div_euclid(1000) * 1000),
        "updated_at" => Field::Date(conversation.updated.div_euclid(1000) * 1000),
        "waiting_since" => date(conversation.waiting_since),
        "snoozed_until" => date(conversation.snoozed_until),
        "id" => Field::Ids(vec![conversation.id.to_string()]),
        "open" => Field::Bool(conversation.state != ConversationState::Closed),
        "read" => Field::Bool(conversation.read),
        "state" => Field::Text(conversation.state.name()),
        "priority" => Field::Text(if conversation.priority { "priority" } else { "not_priority" }),
        "admin_assignee_id" => conversation.admin_assignee.map_or(Field::Null, |id| Field::Number(id as f64)),
        "source.type" | "channel_initiated" => Field::Text(conversation.source_type),
        "source.delivered_as" => Field::Text(conversation.delivered_as),
        "source.subject" => Field::Text(&conversation.subject),
        "source.body" => Field::Text(&conversation.body),
        "contact_ids" => Field::Ids(
            conversation
                .contacts
                .iter()
                .filter_map(|slot| state.contact(*slot))
                .map(|contact| contact.id.clone())
                .collect(),
        ),
        "tag_ids" => Field::Ids(conversation.tags.iter().map(|tag| tag.id.clone()).collect()),
        "conversation_rating.score" => {
            conversation.rating.as_ref().map_or(Field::Null, |rating| Field::Number(rating.score as f64))
        }
        "conversation_rating.replied_at" => date(conversation.rating.as_ref().map(|rating| rating.at)),
        "ai_agent_participated" => Field::Bool(conversation.ai_agent.is_some()),
        "ai_agent.resolution_state" => {
            conversation.ai_agent.as_ref().and_then(|agent| agent.resolution).map_or(Field::Null, Field::Text)
        }
        "statistics.last_close_at" => date(conversation.statistics.last_close),
        "statistics.first_close_at" => date(conversation.statistics.first_close),
        "statistics.last_contact_reply_at" => date(conversation.statistics.last_contact_reply),
        "statistics.last_admin_reply_at" => date(conversation.statistics.last_admin_reply),
        _ => Field::Null,
    }
}

pub(super) fn search(state: &mut State, asked: &Asked) -> Reply {
    let Some(query) = asked.body.get("query") else {
        return Err(error(400, "parameter_not_found", "query not specified"));
    };
    let filter = compile(query, Dates::Seconds, &kind_of)?;
    let pagination = asked.body.get("pagination").unwrap_or(&Value::Null);
    let per_page = match pagination.get("per_page") {
        None | Some(Value::Null) => 20,
        Some(asked) => checked_per_page(asked.as_u64().or_else(|| asked.as_str()?.parse().ok()), 150)?,
    };
    let cursor = pagination.get("starting_after").and_then(Value::as_str).map(Cursor::decode).transpose()?;
    let sort = asked.body.get("sort").unwrap_or(&Value::Null);
    let ascending = sort.get("order").and_then(Value::as_str) == Some("ascending");
    let by_updated = matches!(sort.get("field").and_then(Value::as_str), None | Some("updated_at"));
    let by_id = sort.get("field").and_then(Value::as_str) == Some("id");
    let matches =
        |id: u64| state.conversations.get(&id).is_some_and(|found| filter.matches(&|name| field(state, found, name)));
    let (from, to) = filter.bounds("updated_at");
    let mut places: Vec<(i64, u64)> = if from >= to {
        Vec::new()
    } else {
        let within = (from, 0)..(to, u64::MAX);
        state.conversations_by_updated.range(within).copied().filter(|(_, id)| matches(*id)).collect()
    };
    if !by_updated {
        for place in &mut places {
            place.0 = if by_id { 0 } else { state.conversations.get(&place.1).map_or(0, |found| found.created) };
        }
        places.sort_unstable();
    }
    if !ascending {
        places.reverse();
    }
    let total = places.len();
    if let Some(cursor) = cursor {
        let at = (cursor.at, cursor.id);
        places.retain(|place| if ascending { *place > at } else { *place < at });
    }
    places.truncate(per_page + 1);
    Ok(page_of(state, places, total, per_page, cursor))
}

pub(super) fn get(state: &State, asked: &Asked, id: &str) -> Reply {
    reply_with(state, id_of(state, id)?, asked.param("display_as") == Some("plaintext"))
}

pub(super) fn update(state: &mut State, asked: &Asked, id: &str) -> Reply {
    let id = id_of(state, id)?;
    let body = asked.body.clone();
    state.change_conversation(id, |conversation| {
        if let Some(read) = body.get("read").and_then(Value::as_bool) {
            conversation.read = read;
        }
        if let Some(title) = body.get("title").and_then(Value::as_str) {
            conversation.title = Some(title.to_owned());
        }
        if let Some(values) = body.get("custom_attributes").and_then(Value::as_object) {
            for (name, value) in values {
                conversation.custom.insert(name.clone(), value.clone());
            }
        }
    });
    reply_with(state, id, false)
}

/// Opens a conversation: by a contact, or by an admin towards one.
pub(super) fn open(state: &mut State, slot: Slot, body: &str, by: Author, source_type: &'static str) -> u64 {
    let id = 215_472_000_000_000 + state.next();
    let now = state.now();
    let by_contact = matches!(by, Author::Contact(_));
    state.insert_conversation(Conversation {
        id,
        created: state.now_ms,
        updated: state.now_ms,
        title: None,
        state: ConversationState::Open,
        read: false,
        priority: false,
        waiting_since: by_contact.then_some(now),
        snoozed_until: None,
        admin_assignee: None,
        tags: Vec::new(),
        source_type,
        delivered_as: if by_contact { "customer_initiated" } else { "admin_initiated" },
        subject: String::new(),
        body: format!("<p>{body}</p>"),
        author: by,
        contacts: vec![slot],
        rating: None,
        custom: serde_json::Map::new(),
        statistics: Statistics { first_contact_reply: by_contact.then_some(now), ..Statistics::default() },
        sla: None,
        ai_agent: None,
        parts: Vec::new(),
    });
    let topic = if by_contact { "conversation.user.created" } else { "conversation.admin.single.created" };
    if by_contact {
        state.change(slot, |contact| contact.last_replied = Some(now));
    }
    webhooks::conversation(state, id, topic, 0);
    id
}

/// `POST /conversations` gives a message, not the conversation.
pub(super) fn create(state: &mut State, asked: &Asked) -> Reply {
    let from = asked.body.get("from").unwrap_or(&Value::Null);
    let slot = from.get("id").and_then(Value::as_str).and_then(|id| state.live(id));
    let slot = slot.ok_or_else(|| not_found("User Not Found"))?;
    let Some(body) = asked.text("body").map(str::to_owned) else {
        return Err(error(400, "parameter_not_found", "body not specified"));
    };
    let id = open(state, slot, &body, Author::Contact(slot), "conversation");
    Ok(ok(&json!({
        "type": "user_message", "id": (id + 403_000_000).to_string(), "created_at": state.now(), "subject": "",
        "body": body, "message_type": "inapp", "conversation_id": id.to_string(),
    })))
}

/// Adds a part and returns the conversation's statistics to change.
fn add_part(
    state: &mut State,
    id: u64,
    kind: &'static str,
    body: Option<String>,
    author: Author,
    assigned_to: Option<i64>,
) {
    let part = Part { id: 37_358_000_000 + state.next(), kind, body, created: state.now_ms, author, assigned_to };
    state.change_conversation(id, |conversation| conversation.parts.push(part));
}

fn html(body: Option<&str>) -> Option<String> {
    body.map(|body| format!("<p>{body}</p>"))
}

/// Somebody answers.
pub(super) fn reply(state: &mut State, id: u64, author: Author, body: &str, note: bool) {
    let now = state.now();
    add_part(state, id, if note { "note" } else { "comment" }, html(Some(body)), author, None);
    let mut reopened = false;
    state.change_conversation(id, |conversation| match author {
        Author::Contact(_) => {
            reopened = conversation.state != ConversationState::Open;
            if reopened {
                conversation.state = ConversationState::Open;
                conversation.snoozed_until = None;
                conversation.statistics.reopens += 1;
            }
            conversation.read = false;
            conversation.waiting_since.get_or_insert(now);
            conversation.statistics.first_contact_reply.get_or_insert(now);
            conversation.statistics.last_contact_reply = Some(now);
        }
        Author::Admin(_) | Author::Bot if !note => {
            conversation.waiting_since = None;
            conversation.statistics.first_admin_reply.get_or_insert(now);
            conversation.statistics.last_admin_reply = Some(now);
        }
        _ => {}
    });
    if let Author::Contact(slot) = author {
        state.change(slot, |contact| contact.last_replied = Some(now));
    }
    let topic = match author {
        Author::Contact(_) => "conversation.user.replied",
        Author::Admin(_) if note => "conversation.admin.noted",
        Author::Admin(_) => "conversation.admin.replied",
        Author::Bot => "conversation.operator.replied",
    };
    webhooks::conversation(state, id, topic, 1);
}

pub(super) fn close(state: &mut State, id: u64, admin: i64, body: Option<&str>) {
    let now = state.now();
    add_part(state, id, "close", html(body), Author::Admin(admin), None);
    state.change_conversation(id, |conversation| {
        conversation.state = ConversationState::Closed;
        conversation.snoozed_until = None;
        conversation.waiting_since = None;
        conversation.statistics.first_close.get_or_insert(now);
        conversation.statistics.last_close = Some(now);
        conversation.statistics.last_closed_by = Some(admin);
    });
    webhooks::conversation(state, id, "conversation.admin.closed", 1);
}

pub(super) fn snooze(state: &mut State, id: u64, admin: i64, until: i64) {
    add_part(state, id, "snoozed", None, Author::Admin(admin), None);
    state.change_conversation(id, |conversation| {
        conversation.state = ConversationState::Snoozed;
        conversation.snoozed_until = Some(until);
    });
    webhooks::conversation(state, id, "conversation.admin.snoozed", 1);
}

/// A snooze is over by itself: nobody calls, the conversation just opens.
pub(super) fn unsnooze(state: &mut State, id: u64) {
    add_part(state, id, "unsnoozed", None, Author::Bot, None);
    state.change_conversation(id, |conversation| {
        conversation.state = ConversationState::Open;
        conversation.snoozed_until = None;
    });
    webhooks::conversation(state, id, "conversation.admin.unsnoozed", 1);
}

pub(super) fn reopen(state: &mut State, id: u64, admin: i64) {
    add_part(state, id, "open", None, Author::Admin(admin), None);
    state.change_conversation(id, |conversation| {
        if conversation.state == ConversationState::Closed {
            conversation.statistics.reopens += 1;
        }
        conversation.state = ConversationState::Open;
        conversation.snoozed_until = None;
    });
    webhooks::conversation(state, id, "conversation.admin.opened", 1);
}

pub(super) fn assign(state: &mut State, id: u64, admin: i64, to: Option<i64>) {
    let now = state.now();
    add_part(state, id, "assignment", None, Author::Admin(admin), to);
    state.change_conversation(id, |conversation| {
        conversation.admin_assignee = to;
        conversation.statistics.first_assignment.get_or_insert(now);
        conversation.statistics.last_assignment = Some(now);
        conversation.statistics.assignments += 1;
    });
    webhooks::conversation(state, id, "conversation.admin.assigned", 1);
}

pub(super) fn rate(state: &mut State, id: u64, score: i64, remark: Option<&str>) {
    let now = state.now();
    state.change_conversation(id, |conversation| {
        let Some(contact) = conversation.contacts.first().copied() else { return };
        let teammate = conversation.admin_assignee.or(Some(FIRST_ADMIN));
        conversation.rating = Some(Rating { score, remark: remark.map(str::to_owned), at: now, contact, teammate });
    });
    webhooks::conversation(state, id, "conversation.rating.added", 0);
}

fn admin_of(asked: &Asked) -> Result<i64, Answer> {
    let given = asked.body.get("admin_id");
    let id = given.and_then(|id| id.as_i64().or_else(|| id.as_str()?.parse().ok()));
    id.ok_or_else(|| error(400, "parameter_not_found", "admin_id not specified"))
}

pub(super) fn post_reply(state: &mut State, asked: &Asked, id: &str) -> Reply {
    let id = id_of(state, id)?;
    let body = asked.text("body").unwrap_or_default().to_owned();
    if asked.text("type") == Some("admin") {
        let admin = admin_of(asked)?;
        reply(state, id, Author::Admin(admin), &body, asked.text("message_type") == Some("note"));
    } else {
        let slot = asked
            .text("intercom_user_id")
            .and_then(|id| state.live(id))
            .or_else(|| state.by_external.get(asked.text("user_id")?)?.first().copied())
            .or_else(|| state.by_email.get(&asked.text("email")?.to_lowercase())?.first().copied())
            .ok_or_else(|| not_found("User Not Found"))?;
        reply(state, id, Author::Contact(slot), &body, false);
    }
    reply_with(state, id, false)
}

pub(super) fn post_part(state: &mut State, asked: &Asked, id: &str) -> Reply {
    let id = id_of(state, id)?;
    let admin = admin_of(asked)?;
    match asked.text("message_type") {
        Some("close") => close(state, id, admin, asked.text("body")),
        Some("snoozed") => {
            let Some(until) = asked.body.get("snoozed_until").and_then(Value::as_i64) else {
                return Err(error(400, "parameter_not_found", "snoozed_until not specified"));
            };
            snooze(state, id, admin, until);
        }
        Some("open") => reopen(state, id, admin),
        Some("assignment") => {
            let to = asked.body.get("assignee_id").and_then(|id| id.as_i64().or_else(|| id.as_str()?.parse().ok()));
            assign(state, id, admin, to.filter(|id| *id != 0));
        }
        _ => return Err(error(400, "parameter_invalid", "message_type is invalid")),
    }
    reply_with(state, id, false)
}

pub(super) fn attach_tag(state: &mut State, asked: &Asked, id: &str) -> Reply {
    let id = id_of(state, id)?;
    admin_of(asked)?; // unlike a contact's tags, a conversation's need a teammate's name
    let tag =
        body_id(asked).filter(|tag| state.tags.contains_key(tag)).ok_or_else(|| not_found("Resource Not Found"))?;
    put_tag(state, id, &tag);
    Ok(ok(&tag_applied(state, &tag, state.now())))
}

pub(super) fn put_tag(state: &mut State, id: u64, tag: &str) {
    let applied_at = state.now();
    state.change_conversation(id, |conversation| {
        if conversation.tags.iter().all(|own| own.id != tag) {
            conversation.tags.push(AppliedTag { id: tag.to_owned(), applied_at });
        }
    });
}

pub(super) fn detach_tag(state: &mut State, asked: &Asked, id: &str, tag: &str) -> Reply {
    let id = id_of(state, id)?;
    admin_of(asked)?;
    state.change_conversation(id, |conversation| conversation.tags.retain(|own| own.id != tag));
    Ok(ok(&tag_applied(state, tag, state.now())))
}
