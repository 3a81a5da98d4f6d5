//! Which path is whose.

use super::answer::{Asked, Reply, Version, decode, not_found};
use super::state::State;
use super::{attributes, companies, contacts, conversations, misc};

/// The path's template, for the log.
pub(super) fn template(path: &str) -> &'static str {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["me"] => "/me",
        ["admins"] => "/admins",
        ["admins", _] => "/admins/{id}",
        ["contacts"] => "/contacts",
        ["contacts", "search"] => "/contacts/search",
        ["contacts", "merge"] => "/contacts/merge",
        ["contacts", _] => "/contacts/{id}",
        ["contacts", "find_by_external_id", _] => "/contacts/find_by_external_id/{external_id}",
        ["contacts", _, "archive"] => "/contacts/{id}/archive",
        ["contacts", _, "unarchive"] => "/contacts/{id}/unarchive",
        ["contacts", _, "tags"] => "/contacts/{id}/tags",
        ["contacts", _, "tags", _] => "/contacts/{id}/tags/{tag_id}",
        ["contacts", _, "companies"] => "/contacts/{id}/companies",
        ["contacts", _, "companies", _] => "/contacts/{id}/companies/{company_id}",
        ["contacts", _, "notes"] => "/contacts/{id}/notes",
        ["contacts", _, "segments"] => "/contacts/{id}/segments",
        ["contacts", _, "subscriptions"] => "/contacts/{id}/subscriptions",
        ["contacts", _, "subscriptions", _] => "/contacts/{id}/subscriptions/{subscription_id}",
        ["companies"] => "/companies",
        ["companies", "list"] => "/companies/list",
        ["companies", "scroll"] => "/companies/scroll",
        ["companies", _] => "/companies/{id}",
        ["companies", _, "contacts"] => "/companies/{id}/contacts",
        ["companies", _, "segments"] => "/companies/{id}/segments",
        ["conversations"] => "/conversations",
        ["conversations", "search"] => "/conversations/search",
        ["conversations", _] => "/conversations/{id}",
        ["conversations", _, "reply"] => "/conversations/{id}/reply",
        ["conversations", _, "parts"] => "/conversations/{id}/parts",
        ["conversations", _, "tags"] => "/conversations/{id}/tags",
        ["conversations", _, "tags", _] => "/conversations/{id}/tags/{tag_id}",
        ["tags"] => "/tags",
        ["tags", _] => "/tags/{id}",
        ["notes", _] => "/notes/{id}",
        ["segments"] => "/segments",
        ["subscription_types"] => "/subscription_types",
        ["events"] => "/events",
        ["data_attributes"] => "/data_attributes",
        ["data_attributes", _] => "/data_attributes/{id}",
        _ => "",
    }
}

/// Whether a request may change something; searches by POST do not.
pub(super) fn is_write(method: &str, template: &str) -> bool {
    !matches!(method, "GET" | "HEAD" | "OPTIONS")
        && !matches!(template, "/contacts/search" | "/conversations/search" | "/companies/list")
}

pub(super) fn route(state: &mut State, asked: &Asked) -> Reply {
    let parts: Vec<String> =
        asked.path.split('/').filter(|part| !part.is_empty()).map(|part| decode(part, false)).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let method = asked.method.as_str();
    let list = |kind: &str, key: &str| Ok(super::answer::ok(&serde_json::json!({"type": kind, key: []})));
    match (method, parts.as_slice()) {
        ("GET", ["me"]) => Ok(misc::me(state)),
        ("GET", ["admins"]) => Ok(misc::admins()),
        ("GET", ["admins", id]) => misc::admin(id),
        ("GET", ["contacts"]) => contacts::list(state, asked),
        ("POST", ["contacts"]) => contacts::create(state, asked),
        ("POST", ["contacts", "search"]) => contacts::search(state, asked),
        ("POST", ["contacts", "merge"]) => contacts::merge(state, asked),
        ("GET", ["contacts", "find_by_external_id", id]) if asked.version >= Version::V2_13 => {
            contacts::find_by_external(state, asked, id)
        }
        ("GET", ["contacts", id]) => contacts::get(state, asked, id),
        ("PUT", ["contacts", id]) => contacts::update(state, asked, id),
        ("DELETE", ["contacts", id]) => contacts::delete(state, asked, id),
        ("POST", ["contacts", id, "archive"]) => contacts::archive(state, asked, id),
        ("POST", ["contacts", id, "unarchive"]) => contacts::unarchive(state, id),
        (_, ["contacts", id, rest @ ..]) if !rest.is_empty() => {
            let slot = misc::of(state, asked, id)?;
            match (method, rest) {
                ("GET", ["tags"]) => misc::tags_of_contact(state, asked, slot),
                ("POST", ["tags"]) => misc::attach_tag(state, asked, slot),
                ("DELETE", ["tags", tag]) => misc::detach_tag(state, slot, tag),
                ("GET", ["companies"]) => companies::of_contact(state, asked, slot),
                ("POST", ["companies"]) => match misc::body_id(asked) {
                    Some(id) => companies::attach(state, slot, &id),
                    None => Err(super::answer::error(400, "parameter_not_found", "company not specified")),
                },
                ("DELETE", ["companies", id]) => companies::detach(state, slot, id),
                ("GET", ["notes"]) => misc::notes_of_contact(state, asked, slot),
                ("POST", ["notes"]) => misc::create_note(state, asked, slot),
                ("GET", ["segments"]) => list("list", "data"),
                ("GET", ["subscriptions"]) => Ok(misc::subscriptions_of_contact(state, slot)),
                ("POST", ["subscriptions"]) => misc::choose_subscription(state, asked, slot),
                ("DELETE", ["subscriptions", id]) => misc::drop_subscription(state, slot, id),
                _ => Err(not_found("Resource Not Found")),
            }
        }
        ("GET", ["companies"]) => companies::retrieve(state, asked),
        ("POST", ["companies"]) => companies::create(state, asked),
        ("POST", ["companies", "list"]) => companies::list(state, asked),
        ("GET", ["companies", "scroll"]) => companies::scroll(state, asked),
        ("GET", ["companies", id]) => companies::get(state, id),
        ("PUT", ["companies", id]) => companies::update(state, asked, id),
        ("DELETE", ["companies", id]) => companies::delete(state, id),
        ("GET", ["companies", id, "contacts"]) => companies::contacts(state, asked, id),
        ("GET", ["companies", id, "segments"]) => {
            companies::get(state, id)?;
            Ok(super::answer::ok(&serde_json::json!({"type": "list", "data": [], "total_count": 0})))
        }
        ("GET", ["conversations"]) => conversations::list(state, asked),
        ("POST", ["conversations"]) => conversations::create(state, asked),
        ("POST", ["conversations", "search"]) => conversations::search(state, asked),
        ("GET", ["conversations", id]) => conversations::get(state, asked, id),
        ("PUT", ["conversations", id]) => conversations::update(state, asked, id),
        ("POST", ["conversations", id, "reply"]) => conversations::post_reply(state, asked, id),
        ("POST", ["conversations", id, "parts"]) => conversations::post_part(state, asked, id),
        ("POST", ["conversations", id, "tags"]) => conversations::attach_tag(state, asked, id),
        ("DELETE", ["conversations", id, "tags", tag]) => conversations::detach_tag(state, asked, id, tag),
        ("GET", ["tags"]) => Ok(misc::tags(state)),
        ("POST", ["tags"]) => misc::post_tag(state, asked),
        ("GET", ["tags", id]) => misc::tag(state, id),
        ("DELETE", ["tags", id]) => misc::delete_tag(state, id),
        ("GET", ["notes", id]) => misc::note(state, id),
        ("GET", ["segments"]) => list("segment.list", "segments"),
        ("GET", ["subscription_types"]) => Ok(misc::subscription_types()),
        ("GET", ["events"]) => misc::events(state, asked),
        ("POST", ["events"]) => misc::event(state, asked),
        ("GET", ["data_attributes"]) => Ok(attributes::list(state, asked)),
        ("POST", ["data_attributes"]) => attributes::create(state, asked),
        ("PUT", ["data_attributes", id]) => attributes::update(state, asked, id),
        _ => Err(not_found("The requested resource was not found")),
    }
}
