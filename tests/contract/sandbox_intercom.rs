//! Every endpoint of the Intercom double, judged by Intercom's own description of the version that we pin.

use crate::deviations::Deviation;
use crate::exchange::{Driver, Judge};
use crate::openapi::Part;
use linkspan::doors::SimulatedClock;
use linkspan::sandbox::intercom::{IntercomOptions, IntercomSandbox};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const DESCRIPTIONS: &[&str] = &["intercom-2.11.yaml"];

/// Where the description is wrong about the API.
static REVIEWED: &[Deviation] = &[
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/statistics/*",
        complaint: "null is not of type",
        fact: "null until it happened; the description's own examples go further and show no statistics at all",
    },
    Deviation {
        operation: "GET /contacts*",
        part: Part::Response,
        pointer: "/email",
        complaint: "null is not of type",
        fact: "null for a lead without an address",
    },
    Deviation {
        operation: "POST /contacts",
        part: Part::Response,
        pointer: "/email",
        complaint: "null is not of type",
        fact: "null, as in GET",
    },
    Deviation {
        operation: "GET /contacts",
        part: Part::Response,
        pointer: "/data/*/email",
        complaint: "null is not of type",
        fact: "null, as for one contact",
    },
    Deviation {
        operation: "POST /contacts/search",
        part: Part::Response,
        pointer: "/data/*/email",
        complaint: "null is not of type",
        fact: "null, as for one contact",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/ai_agent",
        complaint: "null is not of type",
        fact: "null where Fin took no part, as in the description's own examples",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/conversation_rating",
        complaint: "null is not of type",
        fact: "null where nobody rated, as in the description's own examples",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/sla_applied",
        complaint: "null is not of type",
        fact: "null where none applies, as in the description's own examples",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/conversation_parts/conversation_parts/*/assigned_to",
        complaint: "null is not of type",
        fact: "null where nobody is, as in the description's own examples",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/conversations/*/ai_agent",
        complaint: "null is not of type",
        fact: "as in one conversation",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/conversations/*/conversation_rating",
        complaint: "null is not of type",
        fact: "as in one conversation",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/conversations/*/sla_applied",
        complaint: "null is not of type",
        fact: "as in one conversation",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/conversations/*/statistics/*",
        complaint: "null is not of type",
        fact: "as in one conversation",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/last_request_at",
        complaint: "null is not of type",
        fact: "null for a company that was never seen, in recorded webhooks",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/data/*/last_request_at",
        complaint: "null is not of type",
        fact: "null, as for one company",
    },
    Deviation {
        operation: "POST /companies",
        part: Part::Response,
        pointer: "/name",
        complaint: "null is not of type",
        fact: "null for a company without a name, in recorded webhooks",
    },
    Deviation {
        operation: "POST /companies",
        part: Part::Response,
        pointer: "/remote_created_at",
        complaint: "null is not of type",
        fact: "null where it was not given, in recorded webhooks",
    },
    Deviation {
        operation: "POST /companies",
        part: Part::Response,
        pointer: "",
        complaint: "is a required property",
        fact: "size, website and industry are absent where not given, as in the description's own examples",
    },
    Deviation {
        operation: "GET /companies/scroll",
        part: Part::Response,
        pointer: "/pages",
        complaint: "null is not of type",
        fact: "always null, as in the description's own example",
    },
    Deviation {
        operation: "GET /companies/{company_id}/contacts",
        part: Part::Response,
        pointer: "/pages/next",
        complaint: "null is not of type",
        fact: "null on the last page, as the description's examples of other lists show",
    },
    Deviation {
        operation: "GET /companies",
        part: Part::Response,
        pointer: "/type",
        complaint: "\"company\" is not one of",
        fact: "with company_id the answer is the company itself, not a list of one",
    },
    Deviation {
        operation: "GET /companies",
        part: Part::Response,
        pointer: "",
        complaint: "is a required property",
        fact: "with company_id the answer is the company itself, not a list of one",
    },
    Deviation {
        operation: "GET /tags",
        part: Part::Response,
        pointer: "/data/*",
        complaint: "is a required property",
        fact: "applied_at and applied_by come only with a tag that hangs on something",
    },
    Deviation {
        operation: "PUT /companies/{company_id}",
        part: Part::Request,
        pointer: "",
        complaint: "knows no body",
        fact: "the body is described from version 2.14 on; it was always taken",
    },
    Deviation {
        operation: "GET /events",
        part: Part::Query,
        pointer: "*",
        complaint: "",
        fact: "the description writes `filter` for what is `user_id`, `email` or `intercom_user_id`",
    },
    Deviation {
        operation: "GET /events",
        part: Part::Response,
        pointer: "/type",
        complaint: "\"event.list\" is not one of",
        fact: "the description has only the shape of summary=true here",
    },
    Deviation {
        operation: "GET /events",
        part: Part::Response,
        pointer: "",
        complaint: "is a required property",
        fact: "the description has only the shape of summary=true here",
    },
    Deviation {
        operation: "GET /events",
        part: Part::Response,
        pointer: "/events/*",
        complaint: "is a required property",
        fact: "the description has only the shape of summary=true here",
    },
    Deviation {
        operation: "*",
        part: Part::Response,
        pointer: "/conversation_rating/*",
        complaint: "null is not of type",
        fact: "assumed, not seen: remark and teammate null where there was none, as Intercom does with the rest of a conversation",
    },
    Deviation {
        operation: "POST /conversations/search",
        part: Part::Response,
        pointer: "/conversations/*/conversation_rating/*",
        complaint: "null is not of type",
        fact: "as in one conversation",
    },
    Deviation {
        operation: "POST /companies/list",
        part: Part::Response,
        pointer: "/data/*/remote_created_at",
        complaint: "null is not of type",
        fact: "null, as for one company",
    },
    Deviation {
        operation: "GET /contacts/{contact_id}/companies",
        part: Part::Response,
        pointer: "/companies/*/last_request_at",
        complaint: "null is not of type",
        fact: "null, as for one company",
    },
    Deviation {
        operation: "GET /contacts/{contact_id}/companies",
        part: Part::Response,
        pointer: "/companies/*/remote_created_at",
        complaint: "null is not of type",
        fact: "null, as for one company",
    },
];

fn sandbox() -> IntercomSandbox {
    let start = "2026-11-20T09:00:00Z".parse().unwrap();
    let clock = Arc::new(SimulatedClock::starting_at(start));
    IntercomSandbox::new(IntercomOptions { seed: 7, clock, ..IntercomOptions::default() })
}

fn headers(token: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {token}")), ("intercom-version", "2.11".to_owned())]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The ids of everything that a search finds, page by page.
async fn walk(to: &mut Driver, target: &str, search: &Value, key: &str) -> Vec<String> {
    let (mut search, mut ids) = (search.clone(), Vec::new());
    for _ in 0..100 {
        let page = to.expect(200, "POST", target, Some(search.clone())).await;
        ids.extend(page[key].as_array().unwrap().iter().map(|record| text(&record["id"])));
        match page["pages"]["next"]["starting_after"].as_str() {
            Some(next) => search["pagination"]["starting_after"] = json!(next),
            None => return ids,
        }
    }
    panic!("{target} never ends");
}

#[tokio::test(start_paused = true)]
async fn every_exchange_with_the_intercom_sandbox_fits_the_description() {
    let Some(judge) = Judge::load(DESCRIPTIONS) else { return };
    let sandbox = sandbox();
    sandbox.knobs(|knobs| knobs.unlimited = true);
    let mut to = Driver::new(sandbox.router(), judge, "", headers(sandbox.access_token()), REVIEWED);

    let admin = text(&to.expect(200, "GET", "/me", None).await["id"]);
    to.expect(200, "GET", "/admins", None).await;
    to.expect(200, "GET", &format!("/admins/{admin}"), None).await;

    // Attributes of our own.
    to.expect(200, "GET", "/data_attributes?model=contact", None).await;
    let tier = json!({"name": "plan_tier", "model": "contact", "data_type": "string"});
    let tier = to.expect(200, "POST", "/data_attributes", Some(tier)).await["id"].clone();
    let change = json!({"description": "What they pay for"});
    to.expect(200, "PUT", &format!("/data_attributes/{tier}"), Some(change)).await;
    to.expect(200, "GET", "/data_attributes?model=contact&include_archived=true", None).await;

    // Contacts: a user, a lead, a duplicate, changes.
    let ann = json!({
        "role": "user", "external_id": "u-77", "email": "ann@example.com", "name": "Ann Lee", "phone": "+33612345678",
        "signed_up_at": 1_763_000_000, "custom_attributes": {"plan_tier": "gold"},
    });
    let ann_id = text(&to.expect(200, "POST", "/contacts", Some(ann.clone())).await["id"]);
    to.expect(409, "POST", "/contacts", Some(ann)).await;
    let lead = json!({"role": "lead", "email": "ann@example.com", "name": "Ann"});
    let lead_id = text(&to.expect(200, "POST", "/contacts", Some(lead)).await["id"]);
    let nameless = json!({"role": "lead"});
    let nameless_id = text(&to.expect(200, "POST", "/contacts", Some(nameless)).await["id"]);
    to.expect(200, "GET", &format!("/contacts/{ann_id}"), None).await;
    to.expect(200, "GET", &format!("/contacts/{nameless_id}"), None).await;
    to.expect(404, "GET", "/contacts/000000000000000000000000", None).await;
    let change = json!({"unsubscribed_from_emails": true, "phone": null, "name": "Ann B. Lee"});
    to.expect(200, "PUT", &format!("/contacts/{ann_id}"), Some(change)).await;

    // Lists and searches, over more than one page.
    tokio::time::sleep(Duration::from_secs(3600)).await; // paused time; the index has caught up
    let page = to.expect(200, "GET", "/contacts?per_page=1", None).await;
    let next = text(&page["pages"]["next"]["starting_after"]);
    to.expect(200, "GET", &format!("/contacts?per_page=150&starting_after={next}"), None).await;
    let search = json!({
        "query": {"operator": "OR", "value": [
            {"field": "updated_at", "operator": ">", "value": 1_763_000_000},
            {"field": "updated_at", "operator": "=", "value": 1_763_000_000},
        ]},
        "pagination": {"per_page": 150},
    });
    to.expect(200, "POST", "/contacts/search", Some(search)).await;
    let search = json!({
        "query": {"field": "email", "operator": "=", "value": "ann@example.com"}, "pagination": {"per_page": 1},
    });
    to.expect(200, "POST", "/contacts/search", Some(search)).await;

    // Tags of a contact.
    let tag = text(&to.expect(200, "POST", "/tags", Some(json!({"name": "beta"}))).await["id"]);
    to.expect(200, "GET", "/tags", None).await;
    to.expect(200, "GET", &format!("/tags/{tag}"), None).await;
    to.expect(200, "POST", &format!("/contacts/{ann_id}/tags"), Some(json!({"id": tag}))).await;
    to.expect(200, "GET", &format!("/contacts/{ann_id}/tags"), None).await;
    to.expect(200, "GET", &format!("/contacts/{ann_id}"), None).await;
    to.expect(404, "POST", &format!("/contacts/{ann_id}/tags"), Some(json!({"id": "999"}))).await;

    // Companies: by every way of reading.
    let acme = json!({
        "company_id": "c-1", "name": "Acme", "plan": "Pro", "size": 85, "website": "https://acme.example",
        "industry": "Anvils", "remote_created_at": 1_700_000_000, "monthly_spend": 49,
    });
    let company = text(&to.expect(200, "POST", "/companies", Some(acme)).await["id"]);
    to.expect(200, "POST", "/companies", Some(json!({"company_id": "c-2"}))).await;
    to.expect(200, "POST", &format!("/contacts/{ann_id}/companies"), Some(json!({"id": company}))).await;
    to.expect(200, "GET", &format!("/contacts/{ann_id}/companies"), None).await;
    to.expect(200, "GET", &format!("/companies/{company}"), None).await;
    to.expect(200, "PUT", &format!("/companies/{company}"), Some(json!({"name": "Acme Ltd"}))).await;
    to.expect(404, "GET", "/companies/000000000000000000000000", None).await;
    to.expect(200, "GET", "/companies?company_id=c-1", None).await;
    to.expect(200, "GET", &format!("/companies/{company}/contacts"), None).await;
    to.expect(200, "GET", &format!("/companies/{company}/segments"), None).await;
    to.expect(200, "POST", "/companies/list?page=1&per_page=1&order=desc", None).await;
    to.expect(200, "POST", "/companies/list?page=2&per_page=1&order=desc", None).await;
    let scroll = to.expect(200, "GET", "/companies/scroll", None).await;
    to.expect(400, "GET", "/companies/scroll", None).await;
    let scroll = text(&scroll["scroll_param"]);
    to.expect(200, "GET", &format!("/companies/scroll?scroll_param={scroll}"), None).await;
    to.expect(200, "DELETE", &format!("/contacts/{ann_id}/companies/{company}"), None).await;

    // Conversations: opened, answered, snoozed, closed, tagged.
    let hello = json!({"from": {"type": "user", "id": ann_id}, "body": "Hello"});
    let conversation = text(&to.expect(200, "POST", "/conversations", Some(hello)).await["conversation_id"]);
    let path = format!("/conversations/{conversation}");
    to.expect(200, "GET", &path, None).await;
    let reply = json!({"message_type": "comment", "type": "admin", "admin_id": admin, "body": "Hi"});
    to.expect(200, "POST", &format!("{path}/reply"), Some(reply)).await;
    let reply = json!({"message_type": "comment", "type": "user", "intercom_user_id": ann_id, "body": "Thanks"});
    to.expect(200, "POST", &format!("{path}/reply"), Some(reply)).await;
    let snooze = json!({"message_type": "snoozed", "admin_id": admin, "snoozed_until": 1_795_000_000});
    to.expect(200, "POST", &format!("{path}/parts"), Some(snooze)).await;
    let open = json!({"message_type": "open", "admin_id": admin});
    to.expect(200, "POST", &format!("{path}/parts"), Some(open)).await;
    let assign = json!({"message_type": "assignment", "type": "admin", "admin_id": admin, "assignee_id": admin});
    to.expect(200, "POST", &format!("{path}/parts"), Some(assign)).await;
    let close = json!({"message_type": "close", "type": "admin", "admin_id": admin, "body": "Bye"});
    to.expect(200, "POST", &format!("{path}/parts"), Some(close)).await;
    to.expect(200, "POST", &format!("{path}/tags"), Some(json!({"id": tag, "admin_id": admin}))).await;
    to.expect(200, "PUT", &path, Some(json!({"read": true}))).await;
    to.expect(200, "GET", &format!("{path}?display_as=plaintext"), None).await;
    to.expect(200, "DELETE", &format!("{path}/tags/{tag}"), Some(json!({"admin_id": admin}))).await;
    to.expect(404, "GET", "/conversations/1", None).await;
    to.expect(200, "GET", "/conversations?per_page=150", None).await;
    let search = json!({
        "query": {"operator": "AND", "value": [
            {"field": "updated_at", "operator": ">", "value": "1763000000"},
            {"field": "updated_at", "operator": "<", "value": "1795000000"},
        ]},
        "pagination": {"per_page": 150},
    });
    to.expect(200, "POST", "/conversations/search", Some(search)).await;

    // Notes, subscriptions, segments, events.
    let note = json!({"body": "Met at the fair", "admin_id": admin});
    let note = text(&to.expect(200, "POST", &format!("/contacts/{ann_id}/notes"), Some(note)).await["id"]);
    to.expect(200, "GET", &format!("/contacts/{ann_id}/notes"), None).await;
    to.expect(200, "GET", &format!("/notes/{note}"), None).await;
    let kind = to.expect(200, "GET", "/subscription_types", None).await;
    let kind = text(&kind["data"][0]["id"]);
    let choice = json!({"id": kind, "consent_type": "opt_out"});
    to.expect(200, "POST", &format!("/contacts/{ann_id}/subscriptions"), Some(choice)).await;
    to.expect(200, "GET", &format!("/contacts/{ann_id}/subscriptions"), None).await;
    to.expect(200, "DELETE", &format!("/contacts/{ann_id}/subscriptions/{kind}"), None).await;
    to.expect(200, "GET", &format!("/contacts/{ann_id}/segments"), None).await;
    to.expect(200, "GET", "/segments", None).await;
    let event = json!({
        "event_name": "invited-friend", "created_at": 1_763_600_000, "user_id": "u-77", "metadata": {"friend": "Bob"},
    });
    to.expect(202, "POST", "/events", Some(event)).await;
    to.expect(200, "GET", "/events?type=user&user_id=u-77", None).await;

    // Ends: tag off, merge, archive and back, delete.
    to.expect(200, "DELETE", &format!("/contacts/{ann_id}/tags/{tag}"), None).await;
    to.expect(200, "DELETE", &format!("/tags/{tag}"), None).await;
    to.expect(200, "POST", "/contacts/merge", Some(json!({"from": lead_id, "into": ann_id}))).await;
    to.expect(404, "GET", &format!("/contacts/{lead_id}"), None).await;
    to.expect(200, "POST", &format!("/contacts/{ann_id}/archive"), None).await;
    to.expect(200, "POST", &format!("/contacts/{ann_id}/unarchive"), None).await;
    to.expect(200, "DELETE", &format!("/contacts/{ann_id}"), None).await;
    to.expect(404, "GET", &format!("/contacts/{ann_id}"), None).await;
    to.expect(200, "DELETE", &format!("/companies/{company}"), None).await;

    // A whole world with its odd ones, read as a sync reads it.
    sandbox.world(11, 400);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let everybody = json!({
        "query": {"field": "created_at", "operator": ">", "value": 0}, "pagination": {"per_page": 150},
    });
    let contacts = walk(&mut to, "/contacts/search", &everybody, "data").await;
    assert!(contacts.len() > 300, "only {} contacts", contacts.len());
    let conversations = walk(&mut to, "/conversations/search", &everybody, "conversations").await;
    assert!(conversations.len() > 20, "only {} conversations", conversations.len());
    for contact in contacts.iter().step_by(7) {
        for what in ["", "/tags", "/companies"] {
            to.expect(200, "GET", &format!("/contacts/{contact}{what}"), None).await;
        }
    }
    for conversation in conversations.iter().step_by(5) {
        to.expect(200, "GET", &format!("/conversations/{conversation}"), None).await;
    }
    to.expect(200, "POST", "/companies/list?page=1&per_page=60&order=desc", None).await;

    to.finish(75);
}

#[tokio::test(start_paused = true)]
async fn errors_that_every_call_can_meet_fit_too() {
    let Some(judge) = Judge::load(DESCRIPTIONS) else { return };
    let sandbox = sandbox();
    let mut stranger = Driver::new(sandbox.router(), judge, "", headers("wrong"), &[]);
    stranger.expect(401, "GET", "/me", None).await;
    stranger.expect(401, "GET", "/contacts?per_page=1", None).await;
    stranger.finish(2);

    let judge = Judge::load(DESCRIPTIONS).unwrap();
    let sandbox = self::sandbox();
    sandbox.knobs(|knobs| knobs.rate_limit = Some(3));
    let mut eager = Driver::new(sandbox.router(), judge, "", headers(sandbox.access_token()), &[]);
    for _ in 0..3 {
        eager.expect(200, "GET", "/contacts?per_page=1", None).await;
    }
    eager.expect(429, "GET", "/contacts?per_page=1", None).await;
    eager.finish(4);
}
