//! Each trap, through the router.

use super::*;
use crate::doors::SimulatedClock;
use axum::body::Body;
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) headers: axum::http::HeaderMap,
    pub(super) text: String,
}

impl Answered {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(super) fn sandbox() -> BrevoSandbox {
    let start = chrono::DateTime::parse_from_rfc3339("2026-11-21T09:00:00.777Z").unwrap().to_utc();
    let sandbox = BrevoSandbox::new(BrevoOptions::new(7, Arc::new(SimulatedClock::starting_at(start))));
    sandbox.knobs(|knobs| knobs.common.unlimited = true);
    sandbox
}

pub(super) async fn call(sandbox: &BrevoSandbox, method: &str, path: &str, body: Value) -> Answered {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = axum::http::Request::builder()
        .method(method)
        .uri(format!("https://brevo.sandbox{path}"))
        .header("api-key", sandbox.api_key())
        .body(Body::from(body))
        .unwrap();
    send(sandbox, request).await
}

async fn send(sandbox: &BrevoSandbox, request: axum::http::Request<Body>) -> Answered {
    let response = sandbox.router().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answered { status: head.status.as_u16(), headers: head.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

pub(super) async fn get(sandbox: &BrevoSandbox, path: &str) -> Answered {
    call(sandbox, "GET", path, Value::Null).await
}

async fn post_contact(sandbox: &BrevoSandbox, body: Value) -> Answered {
    call(sandbox, "POST", "/v3/contacts", body).await
}

fn contact(sandbox: &BrevoSandbox, email: &str) -> Contact {
    sandbox.contact_by_email(email).unwrap_or_else(|| panic!("no {email}"))
}

pub(super) async fn seconds(count: u64) {
    tokio::time::advance(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn a_contact_is_shown_as_live_accounts_show_it() {
    let sandbox = sandbox();
    let made = post_contact(
        &sandbox,
        json!({"email": "Elly@Example.com", "ext_id": "i-1", "listIds": [2],
               "attributes": {"firstname": "Elly", "SMS": "+33612345678"}}),
    )
    .await;
    assert_eq!((made.status, made.json()), (201, json!({"id": 1})));
    let shown = get(&sandbox, "/v3/contacts/elly%40example.com").await.json();
    assert_eq!(
        shown,
        json!({
            "id": 1, "email": "elly@example.com",
            "emailBlacklisted": false, "smsBlacklisted": false, "whatsappBlacklisted": false,
            "createdAt": "2026-11-21T11:00:00.777+02:00", "modifiedAt": "2026-11-21T11:00:00.777+02:00",
            "attributes": {"FIRSTNAME": "Elly", "SMS": "33612345678", "EXT_ID": "i-1"},
            "listIds": [2], "listUnsubscribed": null, "subscriptions": {}, "statistics": {},
        })
    );
}

#[tokio::test(start_paused = true)]
async fn an_upsert_answers_204_without_a_body_and_only_when_asked_for() {
    let sandbox = sandbox();
    let body = json!({"email": "a@b.co", "attributes": {"FIRSTNAME": "A"}});
    assert_eq!(post_contact(&sandbox, body.clone()).await.status, 201);
    let refused = post_contact(&sandbox, body).await;
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.json(),
        json!({"code": "duplicate_parameter",
               "message": "Unable to create contact, email is already associated with another Contact",
               "metadata": {"duplicate_identifiers": ["email"]}})
    );
    let body = json!({"email": "a@b.co", "updateEnabled": true, "attributes": {"LASTNAME": "B"}});
    let merged = post_contact(&sandbox, body).await;
    assert_eq!((merged.status, merged.text.as_str()), (204, ""));
    let stands = contact(&sandbox, "a@b.co").attributes;
    assert_eq!(json!(stands), json!({"FIRSTNAME": "A", "LASTNAME": "B"}));
}

#[tokio::test(start_paused = true)]
async fn a_taken_or_malformed_phone_rejects_the_whole_contact() {
    let sandbox = sandbox();
    post_contact(&sandbox, json!({"email": "a@b.co", "attributes": {"SMS": "0033612345678"}})).await;
    for flipped in [false, true] {
        sandbox.knobs(|knobs| knobs.duplicates_as_invalid = flipped);
        let body = json!({"email": "b@b.co", "updateEnabled": true, "attributes": {"SMS": "+33612345678"}});
        let refused = post_contact(&sandbox, body).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.json()["metadata"]["duplicate_identifiers"], json!(["SMS"]));
        let code = if flipped { "invalid_parameter" } else { "duplicate_parameter" };
        assert_eq!(refused.json()["code"], code);
    }
    let body = json!({"email": "b@b.co", "attributes": {"SMS": "06 12"}});
    let malformed = post_contact(&sandbox, body).await;
    assert_eq!((malformed.status, malformed.json()["code"].clone()), (400, json!("invalid_parameter")));
    assert_eq!(sandbox.contact_count(), 1);
    let body = json!({"attributes": {"SMS": ""}});
    assert_eq!(call(&sandbox, "PUT", "/v3/contacts/1?identifierType=contact_id", body).await.status, 204);
    assert!(contact(&sandbox, "a@b.co").attributes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_phone_alone_gets_an_address_that_is_none() {
    let sandbox = sandbox();
    post_contact(&sandbox, json!({"attributes": {"SMS": "+33612345678"}})).await;
    let shown = get(&sandbox, "/v3/contacts/33612345678").await.json();
    assert_eq!(shown["email"], "33612345678@mailin-sms.com");
    assert_eq!(post_contact(&sandbox, json!({"attributes": {"FIRSTNAME": "Nobody"}})).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn unknown_attributes_are_refused_or_skipped_and_ill_typed_values_always_vanish() {
    let sandbox = sandbox();
    assert!(sandbox.create_attribute("AGE", "float") && sandbox.create_attribute("BORN", "date"));
    assert!(sandbox.create_multiple_choice("TAGS", &["a", "b"]));
    let unknown = json!({"email": "a@b.co", "attributes": {"NOPE": 1, "FIRSTNAME": "A"}});
    assert_eq!(post_contact(&sandbox, unknown.clone()).await.status, 400);
    sandbox.knobs(|knobs| {
        knobs.refuse_unknown_attributes = false;
        knobs.text_limit = Some(3);
    });
    assert_eq!(post_contact(&sandbox, unknown).await.status, 201);
    let body = json!({"attributes": {
        "AGE": "old", "BORN": "2026-11-21T09:00:00Z", "OPT_IN": "yes", "TAGS": ["a", "c"], "FIRSTNAME": "Abcdef"}});
    assert_eq!(call(&sandbox, "PUT", "/v3/contacts/a%40b.co", body).await.status, 204);
    let stands = contact(&sandbox, "a@b.co").attributes;
    assert_eq!(json!(stands), json!({"FIRSTNAME": "Abc", "TAGS": ["a"]}));
    let body = json!({"attributes": {"AGE": 3.5, "BORN": "2026-11-21", "OPT_IN": false}});
    assert_eq!(call(&sandbox, "PUT", "/v3/contacts/a%40b.co", body).await.status, 204);
    let stands = json!(contact(&sandbox, "a@b.co").attributes);
    assert_eq!(
        (&stands["AGE"], &stands["BORN"], &stands["OPT_IN"]),
        (&json!(3.5), &json!("2026-11-21"), &json!(false))
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_address_takes_the_blocklisting_away_unless_the_same_write_keeps_it() {
    let sandbox = sandbox();
    for (old, keep) in [("a@b.co", false), ("c@b.co", true)] {
        post_contact(&sandbox, json!({"email": old, "emailBlacklisted": true})).await;
        let mut body = json!({"attributes": {"EMAIL": format!("new-{old}")}});
        if keep {
            body["emailBlacklisted"] = json!(true);
        }
        let path = format!("/v3/contacts/{}?identifierType=email_id", old.replace('@', "%40"));
        assert_eq!(call(&sandbox, "PUT", &path, body).await.status, 204);
        assert_eq!(contact(&sandbox, &format!("new-{old}")).email_blacklisted, keep);
        assert!(sandbox.contact_by_email(old).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn identifiers_mean_what_their_type_says() {
    let sandbox = sandbox();
    post_contact(&sandbox, json!({"email": "a@b.co", "ext_id": "2"})).await;
    post_contact(&sandbox, json!({"email": "b@b.co", "ext_id": "1"})).await;
    let shown = get(&sandbox, "/v3/contacts/2?identifierType=ext_id").await;
    assert_eq!(shown.json()["id"], 1);
    assert_eq!(get(&sandbox, "/v3/contacts/2").await.json()["id"], 2);
    assert_eq!(get(&sandbox, "/v3/contacts/99?identifierType=contact_id").await.status, 404);
    assert_eq!(get(&sandbox, "/v3/contacts/x%40y?identifierType=email_id").await.status, 400);
    assert_eq!(get(&sandbox, "/v3/contacts/x%40y.co?identifierType=email_id").await.status, 404);
    assert_eq!(get(&sandbox, "/v3/contacts/1?identifierType=shoe_size").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn sweeps_are_inclusive_and_in_order_of_creation() {
    let sandbox = sandbox();
    for name in ["a", "b", "c"] {
        post_contact(&sandbox, json!({"email": format!("{name}@b.co")})).await;
        seconds(1).await;
    }
    // A mere touch moves it.
    call(&sandbox, "PUT", "/v3/contacts/1?identifierType=contact_id", json!({})).await;
    let ids = |answered: Answered| -> Vec<i64> {
        answered.json()["contacts"].as_array().unwrap().iter().map(|c| c["id"].as_i64().unwrap()).collect()
    };
    let since = "/v3/contacts?sort=asc&modifiedSince=2026-11-21T09:00:02.777Z";
    assert_eq!(ids(get(&sandbox, since).await), [1, 3]);
    assert_eq!(ids(get(&sandbox, "/v3/contacts?modifiedSince=2026-11-21T11%3A00%3A02.778%2B02:00").await), [1]);
    assert_eq!(get(&sandbox, "/v3/contacts?modifiedSince=2026-11-21T11:00:02.777+02:00").await.status, 400);
    assert_eq!(ids(get(&sandbox, "/v3/contacts?createdSince=2026-11-21T09:00:01.777Z").await), [3, 2]);
    let page = get(&sandbox, "/v3/contacts?limit=1&offset=1").await.json();
    assert_eq!((&page["contacts"][0]["id"], &page["count"]), (&json!(2), &json!(3)));
    assert_eq!(get(&sandbox, "/v3/contacts?limit=1001").await.status, 400);
    assert_eq!(ids(get(&sandbox, "/v3/contacts?ids=1,3&sort=asc").await), [1, 3]);
    assert_eq!(ids(get(&sandbox, "/v3/contacts?unheardOf=x&sort=asc").await), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn filters_are_equals_only() {
    let sandbox = sandbox();
    for name in ["Ada", "Bo"] {
        let body = json!({"email": format!("{name}@b.co"), "attributes": {"FIRSTNAME": name, "DOUBLE_OPT-IN": "Yes"}});
        post_contact(&sandbox, body).await;
    }
    let found = get(&sandbox, "/v3/contacts?filter=equals(FIRSTNAME%2C%22Bo%22)").await.json();
    assert_eq!((&found["count"], &found["contacts"][0]["id"]), (&json!(1), &json!(2)));
    assert_eq!(get(&sandbox, "/v3/contacts?filter=equals(DOUBLE_OPT-IN,%22Yes%22)").await.json()["count"], 2);
    assert_eq!(get(&sandbox, "/v3/contacts?filter=contains(FIRSTNAME,%22B%22)").await.status, 400);
}

async fn import(sandbox: &BrevoSandbox, body: Value) -> Value {
    let accepted = call(sandbox, "POST", "/v3/contacts/import", body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let path = format!("/v3/processes/{}", accepted.json()["processId"]);
    assert_eq!(get(sandbox, &path).await.json()["status"], "queued");
    seconds(3).await;
    assert_eq!(get(sandbox, &path).await.json()["status"], "processing");
    seconds(2).await;
    get(sandbox, &path).await.json()
}

#[tokio::test(start_paused = true)]
async fn an_import_completes_with_failed_rows_in_its_reports() {
    let sandbox = sandbox();
    post_contact(&sandbox, json!({"email": "a@b.co", "ext_id": "x", "attributes": {"SMS": "33612345678"}})).await;
    let done = import(
        &sandbox,
        json!({"listIds": [2], "jsonBody": [
            {"email": "good@b.co", "attributes": {"FIRSTNAME": "G", "NOPE": "n", "SMS": "12"}},
            {"email": "bad@", "attributes": {}},
            {"email": "phone@b.co", "attributes": {"SMS": "33612345678"}},
            {"email": "ext@b.co", "attributes": {"EXT_ID": "x"}},
        ]}),
    )
    .await;
    assert_eq!(done["status"], "completed");
    let reports = &done["info"]["import"];
    assert_eq!(reports["duplicate_email_id"], Value::Null);
    for (report, row) in
        [("invalid_emails", "bad@"), ("duplicate_phone_id", "phone@b.co"), ("duplicate_ext_id", "ext@b.co")]
    {
        let url = reports[report].as_str().unwrap();
        let path = url.strip_prefix("https://brevo.sandbox").unwrap();
        let csv = get(&sandbox, path).await;
        assert_eq!((csv.header("content-type"), csv.text.contains(row)), ("text/csv", true), "{report}");
    }
    assert_eq!(sandbox.contact_count(), 2);
    let good = contact(&sandbox, "good@b.co");
    assert_eq!(json!(good.attributes), json!({"FIRSTNAME": "G"}));
    assert_eq!(good.list_ids.into_iter().collect::<Vec<_>>(), [2]);
}

#[tokio::test(start_paused = true)]
async fn an_import_may_resubscribe_and_never_writes_false() {
    let sandbox = sandbox();
    for name in ["a", "b"] {
        let body = json!({"email": format!("{name}@b.co"), "emailBlacklisted": true, "attributes": {"OPT_IN": true}});
        post_contact(&sandbox, body).await;
    }
    let row = |name: &str| json!({"email": format!("{name}@b.co"), "attributes": {"OPT_IN": false, "FIRSTNAME": "I"}});
    import(&sandbox, json!({"listIds": [2], "jsonBody": [row("a")], "updateExistingContacts": false})).await;
    let kept = contact(&sandbox, "a@b.co");
    assert!(kept.email_blacklisted && !kept.attributes.contains_key("FIRSTNAME"));
    import(&sandbox, json!({"listIds": [2], "jsonBody": [row("a")]})).await;
    let hit = contact(&sandbox, "a@b.co");
    assert!(!hit.email_blacklisted && hit.attributes["OPT_IN"] == json!(true));
    sandbox.knobs(|knobs| knobs.import_resubscribes = false);
    import(&sandbox, json!({"listIds": [2], "jsonBody": [row("b")]})).await;
    assert!(contact(&sandbox, "b@b.co").email_blacklisted);
    import(&sandbox, json!({"listIds": [2], "jsonBody": [row("a"), row("new")], "emailBlacklist": true})).await;
    assert!(contact(&sandbox, "a@b.co").email_blacklisted && contact(&sandbox, "new@b.co").email_blacklisted);
}

#[tokio::test(start_paused = true)]
async fn an_import_wants_a_destination_rows_and_less_than_ten_megabytes() {
    let sandbox = sandbox();
    let path = "/v3/contacts/import";
    let rows = json!([{"email": "a@b.co"}]);
    assert_eq!(call(&sandbox, "POST", path, json!({"jsonBody": rows})).await.status, 400);
    assert_eq!(call(&sandbox, "POST", path, json!({"listIds": [2]})).await.status, 400);
    assert_eq!(call(&sandbox, "POST", path, json!({"listIds": [2], "jsonBody": []})).await.status, 400);
    let huge = json!({"listIds": [2], "jsonBody": rows, "notifyUrl": "x".repeat(10_000_000)});
    assert_eq!(call(&sandbox, "POST", path, huge).await.status, 400);
    let body =
        json!({"newList": {"listName": "New", "folderId": 1}, "fileBody": "EMAIL;FIRSTNAME\nc@b.co;Cy\nd@b.co;"});
    assert_eq!(call(&sandbox, "POST", path, body).await.status, 202);
    assert_eq!(sandbox.contact_count(), 0, "nothing lands before its time");
    seconds(5).await;
    assert_eq!(contact(&sandbox, "c@b.co").attributes["FIRSTNAME"], "Cy");
    assert_eq!(sandbox.list_members(sandbox.list_id("New").unwrap()).len(), 2);
    assert_eq!(call(&sandbox, "POST", "/v3/contacts/batch", json!({"contacts": []})).await.status, 410);
}

#[tokio::test(start_paused = true)]
async fn lists_take_150_at_a_time_and_refuse_when_nothing_changes() {
    let sandbox = sandbox();
    for name in ["a", "b"] {
        post_contact(&sandbox, json!({"email": format!("{name}@b.co"), "ext_id": name})).await;
    }
    seconds(1).await;
    let add = "/v3/contacts/lists/2/contacts/add";
    let added = call(&sandbox, "POST", add, json!({"ids": [1, 99]})).await;
    assert_eq!((added.status, added.json()), (201, json!({"contacts": {"success": [1], "failure": [99]}})));
    assert!(contact(&sandbox, "a@b.co").modified_at > contact(&sandbox, "a@b.co").created_at);
    let again = call(&sandbox, "POST", add, json!({"emails": ["a@b.co"]})).await;
    assert_eq!(again.json()["message"], "Contact already in list and/or does not exist");
    let many: Vec<i64> = (0..151).collect();
    assert_eq!(call(&sandbox, "POST", add, json!({"ids": many})).await.status, 400);
    assert_eq!(call(&sandbox, "POST", add, json!({"ids": [2], "extIds": ["b"]})).await.status, 400);
    assert_eq!(call(&sandbox, "POST", add, json!({"extIds": ["b"]})).await.status, 201);
    let shown = get(&sandbox, "/v3/contacts/lists?limit=50").await.json();
    assert_eq!(
        (&shown["lists"][0]["uniqueSubscribers"], &shown["lists"][0]["totalSubscribers"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(get(&sandbox, "/v3/contacts/lists?limit=51").await.status, 400);
    assert_eq!(get(&sandbox, "/v3/contacts/lists/2/contacts?limit=501").await.status, 400);
    assert_eq!(get(&sandbox, "/v3/contacts/lists/2/contacts").await.json()["count"], 2);
    let gone = call(&sandbox, "POST", "/v3/contacts/lists/2/contacts/remove", json!({"all": true})).await;
    assert_eq!((gone.status, &gone.json()["contacts"]["total"]), (201, &json!(2)));
}

#[tokio::test(start_paused = true)]
async fn brevo_lets_anybody_put_people_back_on_a_list_they_left() {
    let sandbox = sandbox();
    post_contact(&sandbox, json!({"email": "a@b.co", "listIds": [2]})).await;
    assert!(sandbox.leave_list("a@b.co", 2));
    let shown = get(&sandbox, "/v3/contacts/1").await.json();
    assert_eq!((&shown["listIds"], &shown["listUnsubscribed"]), (&json!([]), &json!([2])));
    assert_eq!(call(&sandbox, "POST", "/v3/contacts/lists/2/contacts/add", json!({"ids": [1]})).await.status, 201);
    let shown = get(&sandbox, "/v3/contacts/1").await.json();
    assert_eq!((&shown["listIds"], &shown["listUnsubscribed"]), (&json!([2]), &Value::Null));
    sandbox.knobs(|knobs| knobs.described_list_unsubscribed = true);
    assert_eq!(get(&sandbox, "/v3/contacts/1").await.json()["listUnsubscribed"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn deletes_meet_the_owner_and_cloudflare() {
    let sandbox = sandbox();
    post_contact(&sandbox, json!({"email": "owner@sandbox.example"})).await;
    post_contact(&sandbox, json!({"email": "a@b.zip"})).await;
    assert_eq!(call(&sandbox, "DELETE", "/v3/contacts/1?identifierType=contact_id", Value::Null).await.status, 405);
    assert_eq!(call(&sandbox, "DELETE", "/v3/contacts/a%40b.com_old", Value::Null).await.status, 400);
    let stopped = call(&sandbox, "DELETE", "/v3/contacts/a%40b.zip", Value::Null).await;
    assert_eq!((stopped.status, stopped.header("content-type")), (403, "text/html"));
    assert_eq!(call(&sandbox, "DELETE", "/v3/contacts/2?identifierType=contact_id", Value::Null).await.status, 204);
    assert_eq!(call(&sandbox, "DELETE", "/v3/contacts/2?identifierType=contact_id", Value::Null).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_second_holds_ten_and_an_hour_of_everything_else_a_hundred() {
    let sandbox = sandbox();
    sandbox.knobs(|knobs| knobs.common.unlimited = false);
    for left in (0..10).rev() {
        let fine = get(&sandbox, "/v3/contacts").await;
        assert_eq!(fine.status, 200);
        assert_eq!(fine.header("x-sib-ratelimit-remaining"), left.to_string());
        assert_eq!(fine.header("date"), "Sat, 21 Nov 2026 09:00:00 GMT");
    }
    let refused = get(&sandbox, "/v3/contacts").await;
    assert_eq!((refused.status, refused.header("x-sib-ratelimit-reset")), (429, "1"));
    assert_eq!(refused.header("retry-after"), "");
    seconds(1).await;
    assert_eq!(get(&sandbox, "/v3/contacts").await.status, 200);
    for _ in 0..100 {
        assert_eq!(get(&sandbox, "/v3/account").await.status, 200);
    }
    let refused = get(&sandbox, "/v3/processes").await;
    assert_eq!((refused.status, refused.header("x-sib-ratelimit-reset")), (429, "3600"));
    let event = json!({"event_name": "x", "identifiers": {"email_id": "a@b.co"}});
    assert_eq!(call(&sandbox, "POST", "/v3/events", event).await.status, 204);
    sandbox.knobs(|knobs| knobs.per_second = Some(1));
    seconds(1).await;
    assert_eq!(get(&sandbox, "/v3/contacts").await.status, 200);
    assert_eq!(get(&sandbox, "/v3/contacts").await.status, 429);
}

#[tokio::test(start_paused = true)]
async fn three_ways_to_be_unauthorized() {
    let sandbox = sandbox();
    let request = |key: Option<&str>| {
        let mut request = axum::http::Request::builder().uri("/v3/account");
        if let Some(key) = key {
            request = request.header("api-key", key);
        }
        request.body(Body::empty()).unwrap()
    };
    let missing = send(&sandbox, request(None)).await;
    assert_eq!(
        (missing.status, missing.json()),
        (401, json!({"message": "authentication not found in headers", "code": "unauthorized"}))
    );
    assert_eq!(send(&sandbox, request(Some("wrong"))).await.json()["message"], "Key not found");
    sandbox.knobs(|knobs| knobs.ip_blocked = true);
    let blocked = get(&sandbox, "/v3/account").await;
    assert!(blocked.status == 401 && blocked.text.contains("unrecognised IP address"));
}

#[tokio::test(start_paused = true)]
async fn faults_do_what_they_say() {
    use crate::sandbox::shared::Fault;
    let sandbox = sandbox();
    let fault = |part: &str, fault: Fault| sandbox.fail(part, fault);
    fault("/contacts", Fault::Status(503, Some(7)));
    assert_eq!(get(&sandbox, "/v3/account").await.status, 200);
    let failed = post_contact(&sandbox, json!({"email": "a@b.co"})).await;
    assert_eq!((failed.status, failed.header("retry-after"), sandbox.contact_count()), (503, "7", 0));
    fault("", Fault::StatusAfterEffect(500));
    assert_eq!(post_contact(&sandbox, json!({"email": "a@b.co"})).await.status, 500);
    assert_eq!(sandbox.contact_count(), 1);
    fault("", Fault::Html);
    assert!(get(&sandbox, "/v3/contacts").await.text.starts_with("<html>"));
    fault("", Fault::Empty);
    assert_eq!(get(&sandbox, "/v3/contacts").await.text, "");
    fault("", Fault::Truncated);
    assert!(serde_json::from_str::<Value>(&get(&sandbox, "/v3/contacts").await.text).is_err());
    sandbox.knobs(|knobs| knobs.too_early = 1);
    let early = post_contact(&sandbox, json!({"email": "c@b.co"})).await;
    assert_eq!((early.status, early.json()["code"].clone()), (425, json!("account_in_process")));
    assert_eq!(post_contact(&sandbox, json!({"email": "c@b.co"})).await.status, 201);
    let log = sandbox.log();
    assert_eq!(log.writes().len(), 4);
    assert_eq!(log.all()[0].template, "/account");
    assert_eq!(log.all()[1].status, 503);
}

#[tokio::test(start_paused = true)]
async fn garbage_is_answered_and_nothing_breaks() {
    let sandbox = sandbox();
    for (method, path, body) in [
        ("POST", "/v3/contacts", json!([1, 2])),
        ("POST", "/v3/contacts", json!({"email": 5})),
        ("POST", "/v3/contacts", json!({"email": "a@b.co", "attributes": "x"})),
        ("POST", "/v3/contacts", json!({"email": "a@b.co", "listIds": [999]})),
        ("PUT", "/v3/contacts/%FF%2F..?identifierType=contact_id", json!({})),
        ("POST", "/v3/events/batch", json!([{"event_name": "x"}])),
        ("GET", "/v3/contacts/lists/x", Value::Null),
        ("GET", "/v3/contacts?limit=-1", Value::Null),
        ("POST", "/v3/contacts/lists/2/contacts/add", json!({})),
    ] {
        let answered = call(&sandbox, method, path, body).await;
        assert_eq!(answered.status, 400, "{method} {path}: {}", answered.text);
    }
    assert_eq!(get(&sandbox, "/v3/nothing/here").await.status, 404);
    assert_eq!(get(&sandbox, "/").await.status, 404);
    assert_eq!(sandbox.contact_count(), 0);
}
