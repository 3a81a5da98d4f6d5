//! Each trap, through the router.

use super::*;
use crate::doors::Clock;
use crate::sandbox::Fault;
use axum::body::Body;
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tower::ServiceExt as _;

/// A clock that tests set by hand.
struct HandClock(Mutex<DateTime<Utc>>);

impl HandClock {
    fn at(text: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new(text.parse().unwrap())))
    }

    fn forward(&self, seconds: i64) {
        *self.0.lock().unwrap() += TimeDelta::seconds(seconds);
    }
}

impl Clock for HandClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

struct Bench {
    clock: Arc<HandClock>,
    sandbox: IntercomSandbox,
}

struct Got {
    status: u16,
    headers: axum::http::HeaderMap,
    raw: Vec<u8>,
    body: Value,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(set: impl FnOnce(&mut IntercomOptions)) -> Self {
        let clock = HandClock::at("2026-03-10T20:00:00Z");
        let mut options = IntercomOptions { clock: clock.clone(), ..IntercomOptions::default() };
        set(&mut options);
        let sandbox = IntercomSandbox::new(options);
        sandbox.knobs(|knobs| knobs.unlimited = true);
        Self { clock, sandbox }
    }

    async fn ask(&self, method: &str, target: &str, body: Value, headers: &[(&str, &str)]) -> Got {
        let mut request = axum::http::Request::builder().method(method).uri(target);
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", self.sandbox.access_token()));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.sandbox.router().oneshot(request.body(Body::from(bytes)).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let raw = body.collect().await.unwrap().to_bytes().to_vec();
        let body = serde_json::from_slice(&raw).unwrap_or_default();
        Got { status: parts.status.as_u16(), headers: parts.headers, raw, body }
    }

    async fn get(&self, target: &str) -> Got {
        self.ask("GET", target, Value::Null, &[]).await
    }

    async fn post(&self, target: &str, body: Value) -> Got {
        self.ask("POST", target, body, &[]).await
    }

    async fn search(&self, query: Value) -> Got {
        self.post("/contacts/search", json!({"query": query})).await
    }

    fn contact(&self, email: &str) -> String {
        self.sandbox.create_contact(ContactSeed {
            external_id: Some(format!("ext-{email}")),
            email: Some(email.to_owned()),
            ..ContactSeed::default()
        })
    }

    fn topics(&self) -> Vec<String> {
        self.sandbox.take_webhooks().into_iter().map(|webhook| webhook.topic).collect()
    }

    fn items(&self) -> Vec<(String, Value)> {
        let open = |webhook: OutgoingWebhook| {
            let body: Value = serde_json::from_slice(&webhook.body).unwrap();
            (webhook.topic, body["data"]["item"].clone())
        };
        self.sandbox.take_webhooks().into_iter().map(open).collect()
    }
}

fn code(got: &Got) -> &str {
    got.body["errors"][0]["code"].as_str().unwrap_or_default()
}

fn ids(got: &Got) -> Vec<String> {
    got.body["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn tokens_versions_and_unknown_paths_are_refused_in_the_vendors_shape() {
    let bench = Bench::new();
    let got = bench.ask("GET", "/me", Value::Null, &[("authorization", "Bearer wrong")]).await;
    assert_eq!((got.status, code(&got)), (401, "unauthorized"));
    assert_eq!(got.body["type"], "error.list");
    assert!(got.body["request_id"].is_string());
    let got = bench.ask("GET", "/me", Value::Null, &[("accept", "text/html")]).await;
    assert_eq!(got.status, 406);
    let got = bench.ask("GET", "/me", Value::Null, &[("intercom-version", "9.9")]).await;
    assert_eq!((got.status, code(&got)), (400, "intercom_version_invalid"));
    let got = bench.get("/no/such/thing").await;
    assert_eq!((got.status, code(&got)), (404, "not_found"));
    let got = bench.get("/me").await;
    assert_eq!(got.body["app"]["timezone"], "America/Los_Angeles");
    assert_eq!(got.headers["date"], "Tue, 10 Mar 2026 20:00:00 GMT");
}

#[tokio::test]
async fn dates_match_by_the_workspaces_day() {
    let bench = Bench::with(|options| options.index_lag = Duration::ZERO);
    // 20:00 UTC on the 10th is 13:00 of the 10th in Los Angeles; the next one is already the 11th in UTC.
    let first = bench.contact("first@example.com");
    bench.clock.forward(6 * 3600);
    let second = bench.contact("second@example.com");
    let noon = 1_773_172_800; // 2026-03-10T20:00:00Z
    let is = |op: &str, value: Value| json!({"field": "updated_at", "operator": op, "value": value});
    // `>` skips the rest of the watermark's own day: both are gone.
    assert!(ids(&bench.search(is(">", json!(noon - 3600))).await).is_empty());
    // `=` is the whole day, and a string will do.
    assert_eq!(ids(&bench.search(is("=", json!((noon - 3600).to_string()))).await).len(), 2);
    // The day before: `>` begins with the 10th.
    assert_eq!(ids(&bench.search(is(">", json!(noon - 86_400))).await).len(), 2);
    // `<` ends before the day begins.
    assert!(ids(&bench.search(is("<", json!(noon + 3600))).await).is_empty());
    let both = json!({"operator": "OR", "value": [is(">", json!(noon)), is("=", json!(noon))]});
    let sorted = json!({"query": both, "sort": {"field": "updated_at", "order": "ascending"}});
    assert_eq!(ids(&bench.post("/contacts/search", sorted).await), [first, second.clone()]);
    let got = bench.search(is(">=", json!(noon))).await;
    assert_eq!(got.status, 422);
    // 2.17 matches to the second.
    let exact = json!({"query": is(">", json!(noon))});
    let got = bench.ask("POST", "/contacts/search", exact, &[("intercom-version", "2.17")]).await;
    assert_eq!(ids(&got), [second]);
}

#[tokio::test]
async fn the_day_follows_the_zone_over_a_change_of_clocks() {
    // In Berlin the 29th of March 2026 has 23 hours.
    let (start, end) = super::search::day(1_774_778_400, chrono_tz::Tz::Europe__Berlin); // 10:00 UTC
    assert_eq!(end - start, 23 * 3_600_000);
}

#[tokio::test]
async fn search_has_limits() {
    let bench = Bench::new();
    let one = json!({"field": "email", "operator": "=", "value": "a@example.com"});
    let sixteen = json!({"operator": "OR", "value": vec![one.clone(); 16]});
    assert_eq!(bench.search(sixteen).await.status, 400);
    let wrap = |inner: Value| json!({"operator": "AND", "value": [inner]});
    assert_eq!(bench.search(wrap(wrap(one.clone()))).await.status, 200);
    assert_eq!(bench.search(wrap(wrap(wrap(one.clone())))).await.status, 400);
    let got = bench.search(json!({"field": "session_count", "operator": "=", "value": 1})).await;
    assert_eq!(code(&got), "invalid_field");
    let got = bench.post("/contacts/search", json!({"query": one, "pagination": {"per_page": 151}})).await;
    assert_eq!(got.status, 400);
    assert_eq!(bench.post("/contacts/search", json!({})).await.status, 400);
}

#[tokio::test]
async fn every_operator_means_what_it_says() {
    let bench = Bench::with(|options| options.index_lag = Duration::ZERO);
    let ada = bench.contact("ada@example.com");
    bench.sandbox.edit_contact(&ada, &json!({"name": "Ada Lovelace", "custom_attributes": {"usage": 5}})).unwrap();
    bench.sandbox.tag(&ada, "VIP").unwrap();
    let bob = bench.contact("bob@example.org");
    bench.sandbox.edit_contact(&bob, &json!({"name": "Bob", "custom_attributes": {"usage": 9}})).unwrap();
    let tag = bench.get("/tags").await.body["data"][0]["id"].clone();
    for (field, operator, value, expected) in [
        ("email", "=", json!("ADA@example.com"), vec![&ada]),
        ("email", "!=", json!("ada@example.com"), vec![&bob]),
        ("email", "IN", json!(["ada@example.com", "bob@example.org"]), vec![&bob, &ada]),
        ("email", "NIN", json!(["ada@example.com"]), vec![&bob]),
        ("email_domain", "=", json!("example.org"), vec![&bob]),
        ("name", "~", json!("love"), vec![&ada]),
        ("name", "!~", json!("love"), vec![&bob]),
        ("name", "^", json!("ada"), vec![&ada]),
        ("name", "$", json!("ob"), vec![&bob]),
        ("custom_attributes.usage", ">", json!(5), vec![&bob]),
        ("custom_attributes.usage", ">=", json!(5), vec![&bob, &ada]),
        ("custom_attributes.usage", "<", json!(9), vec![&ada]),
        ("tag_id", "=", tag, vec![&ada]),
        ("phone", "=", Value::Null, vec![&bob, &ada]),
        ("role", "=", json!("lead"), vec![]),
        ("external_id", "=", json!("ext-bob@example.org"), vec![&bob]),
        ("id", "=", json!(bob), vec![&bob]),
        ("unsubscribed_from_emails", "=", json!(false), vec![&bob, &ada]),
    ] {
        let got = bench.search(json!({"field": field, "operator": operator, "value": value})).await;
        assert_eq!(got.status, 200, "{field} {operator}");
        let expected: BTreeSet<&String> = expected.into_iter().collect();
        let found = ids(&got);
        assert_eq!(found.iter().collect::<BTreeSet<_>>(), expected, "{field} {operator}");
        assert_eq!(got.body["total_count"], found.len(), "{field} {operator}");
    }
}

#[tokio::test]
async fn new_contacts_are_late_in_search_but_not_elsewhere() {
    let bench = Bench::new();
    let id = bench.contact("late@example.com");
    let query = json!({"field": "email", "operator": "=", "value": "late@example.com"});
    assert!(ids(&bench.search(query.clone()).await).is_empty());
    assert_eq!(bench.get(&format!("/contacts/{id}")).await.status, 200);
    let got = bench.post("/contacts", json!({"email": "late@example.com"})).await;
    assert_eq!(got.status, 409);
    bench.clock.forward(3);
    assert_eq!(ids(&bench.search(query).await), [id]);
}

#[tokio::test]
async fn a_409_names_the_id_and_whether_it_is_archived() {
    let bench = Bench::new();
    let id = bench.post("/contacts", json!({"role": "user", "email": "x@example.com"})).await.body["id"].clone();
    let id = id.as_str().unwrap();
    let got = bench.post("/contacts", json!({"role": "user", "email": "X@example.com"})).await;
    let message = got.body["errors"][0]["message"].as_str().unwrap();
    assert_eq!(message, format!("A contact matching those details already exists with id={id}"));
    assert_eq!(bench.post(&format!("/contacts/{id}/archive"), json!({})).await.body["archived"], true);
    assert_eq!(bench.get(&format!("/contacts/{id}")).await.status, 404);
    let got = bench.post("/contacts", json!({"email": "x@example.com"})).await;
    assert!(got.body["errors"][0]["message"].as_str().unwrap().starts_with("An archived contact matching"));
    assert_eq!(bench.post(&format!("/contacts/{id}/unarchive"), json!({})).await.body["archived"], false);
    assert_eq!(bench.ask("DELETE", &format!("/contacts/{id}"), Value::Null, &[]).await.body["deleted"], true);
    let got = bench.post(&format!("/contacts/{id}/unarchive"), json!({})).await;
    assert_eq!(got.status, 400);
    // Leads share e-mails freely.
    for _ in 0..2 {
        assert_eq!(bench.post("/contacts", json!({"role": "lead", "email": "x@example.com"})).await.status, 200);
    }
    // Users with different ids may share one too.
    for external in ["a", "b"] {
        let body = json!({"external_id": external, "email": "same@example.com"});
        assert_eq!(bench.post("/contacts", body).await.status, 200);
    }
}

#[tokio::test]
async fn cursors_are_stateless_and_only_the_body_counts() {
    let bench = Bench::with(|options| options.index_lag = Duration::ZERO);
    for number in 0..5 {
        bench.contact(&format!("c{number}@example.com"));
        bench.clock.forward(10);
    }
    let all = json!({"field": "role", "operator": "=", "value": "user"});
    let ask = |after: Value| json!({"query": all, "pagination": {"per_page": 2, "starting_after": after}, "sort": {"field": "updated_at", "order": "ascending"}});
    let first = bench.post("/contacts/search", ask(Value::Null)).await;
    assert_eq!(first.body["total_count"], 5);
    assert_eq!(first.body["pages"]["total_pages"], 3);
    let cursor = first.body["pages"]["next"]["starting_after"].as_str().unwrap().to_owned();
    // In the query string it is not even looked at.
    let again = bench.post(&format!("/contacts/search?starting_after={cursor}"), ask(Value::Null)).await;
    assert_eq!(ids(&again), ids(&first));
    // One that is touched between two pages moves behind the cursor's end: seen twice.
    let seen = ids(&first)[0].clone();
    bench.sandbox.touch_last_seen(&seen).unwrap();
    let mut rest = Vec::new();
    let mut after = json!(cursor);
    loop {
        let page = bench.post("/contacts/search", ask(after)).await;
        rest.extend(ids(&page));
        after = page.body["pages"]["next"]["starting_after"].clone();
        if after.is_null() {
            assert!(page.body["pages"].get("next").is_none());
            break;
        }
    }
    assert_eq!(rest.len(), 4);
    assert!(rest.contains(&seen));
    let got = bench.post("/contacts/search", ask(json!("garbage"))).await;
    assert_eq!(got.status, 400);
}

#[tokio::test]
async fn the_list_gives_everybody_once() {
    let bench = Bench::new();
    let truth = bench.sandbox.world(7, 333);
    let mut seen = BTreeSet::new();
    let mut target = "/contacts?per_page=150".to_owned();
    loop {
        let page = bench.get(&target).await;
        assert_eq!(page.body["total_count"], truth.contacts);
        seen.extend(ids(&page));
        match page.body["pages"]["next"]["starting_after"].as_str() {
            Some(cursor) => target = format!("/contacts?per_page=150&starting_after={}", cursor.replace('=', "%3D")),
            None => break,
        }
    }
    assert_eq!(seen.len(), truth.contacts);
    assert_eq!(seen, bench.sandbox.contact_ids().into_iter().collect());
}

#[tokio::test]
async fn ten_are_embedded_and_the_rest_is_behind_the_url() {
    let bench = Bench::new();
    let id = bench.contact("many@example.com");
    for number in 0..12 {
        bench.sandbox.tag(&id, &format!("tag {number}")).unwrap();
        let company = bench.sandbox.create_company(&json!({"company_id": number.to_string(), "plan": "Pro"})).unwrap();
        bench.sandbox.attach_company(&id, &company).unwrap();
    }
    let contact = bench.get(&format!("/contacts/{id}")).await.body;
    for list in ["tags", "companies"] {
        assert_eq!(contact[list]["data"].as_array().unwrap().len(), 10);
        assert_eq!(contact[list]["total_count"], 12);
        assert_eq!(contact[list]["has_more"], true);
        let whole = bench.get(contact[list]["url"].as_str().unwrap()).await.body;
        assert_eq!(whole["data"].as_array().unwrap().len(), 12, "{list}");
    }
    assert!(contact["tags"]["data"][0].get("name").is_none());
    let page = bench.get(&format!("/contacts/{id}/companies?per_page=5&page=2")).await.body;
    assert_eq!(page["data"].as_array().unwrap().len(), 5);
    assert!(page["pages"]["next"].as_str().unwrap().ends_with("page=3"));
    assert_eq!(page["data"][0]["plan"]["name"], "Pro");
    assert_eq!(bench.get(&format!("/contacts/{id}/companies?per_page=61")).await.status, 400);
}

#[tokio::test]
async fn a_merged_lead_is_404_up_to_2_15_and_410_with_a_link_from_2_16() {
    let bench = Bench::new();
    let lead = bench.sandbox.create_contact(ContactSeed {
        lead: true,
        email: Some("l@example.com".into()),
        ..ContactSeed::default()
    });
    let user = bench.contact("u@example.com");
    bench.sandbox.take_webhooks();
    bench.sandbox.merge(&lead, &user).unwrap();
    let (topic, item) = bench.items().remove(0);
    assert_eq!(topic, "contact.merged");
    assert_eq!(item["id"], user.as_str());
    assert!(item.get("merged_from").is_none());
    let got = bench.get(&format!("/contacts/{lead}")).await;
    assert_eq!((got.status, code(&got)), (404, "not_found"));
    let got = bench.ask("GET", &format!("/contacts/{lead}"), Value::Null, &[("intercom-version", "2.16")]).await;
    assert_eq!((got.status, code(&got)), (410, "contact_merged"));
    assert_eq!(got.headers["link"], format!("</contacts/{user}>; rel=\"canonical\"").as_str());
    let back = bench.post("/contacts/merge", json!({"from": user, "into": user})).await;
    assert_eq!(back.status, 400);
}

#[tokio::test]
async fn one_scroll_at_a_time_with_the_same_param_on_every_page() {
    let bench = Bench::new();
    let person = bench.contact("p@example.com");
    for number in 0..130 {
        let company = bench.sandbox.create_company(&json!({"company_id": number.to_string()})).unwrap();
        if number < 125 {
            bench.sandbox.attach_company(&person, &company).unwrap(); // the other five have nobody: not visible
        }
    }
    let first = bench.get("/companies/scroll").await.body;
    let param = first["scroll_param"].as_str().unwrap().to_owned();
    assert_eq!((first["data"].as_array().unwrap().len(), &first["total_count"]), (100, &Value::Null));
    let got = bench.get("/companies/scroll").await;
    assert_eq!((got.status, code(&got)), (400, "scroll_exists"));
    let next = format!("/companies/scroll?scroll_param={param}");
    let second = bench.get(&next).await.body;
    assert_eq!((second["data"].as_array().unwrap().len(), second["scroll_param"].as_str()), (25, Some(param.as_str())));
    assert_eq!(bench.get(&next).await.body["data"], json!([]));
    // Idle for a minute: expired, and a new one may start.
    let param = bench.get("/companies/scroll").await.body["scroll_param"].as_str().unwrap().to_owned();
    bench.clock.forward(60);
    assert_eq!(bench.get(&format!("/companies/scroll?scroll_param={param}")).await.status, 404);
    assert_eq!(bench.get("/companies/scroll").await.status, 200);
}

#[tokio::test]
async fn the_company_list_ends_at_ten_thousand() {
    let bench = Bench::new();
    assert_eq!(bench.post("/companies/list?per_page=60&page=166", json!({})).await.status, 200);
    let got = bench.post("/companies/list?per_page=60&page=167", json!({})).await;
    assert_eq!(got.body["errors"][0]["message"], "page limit reached, please use scroll API");
}

#[tokio::test]
async fn companies_are_upserted_by_the_callers_id_and_refuse_unknown_keys() {
    let bench = Bench::new();
    let made = bench.post("/companies", json!({"company_id": "c1", "name": "Acme", "monthly_spend": 9.9})).await.body;
    let again = bench.post("/companies", json!({"company_id": "c1", "plan": "Pro"})).await.body;
    assert_eq!((&made["id"], &again["name"], &again["monthly_spend"]), (&again["id"], &json!("Acme"), &json!(9)));
    let got = bench.post("/companies", json!({"company_id": "c1", "test": 1})).await;
    assert_eq!(got.body["errors"][0]["message"], "bad 'test' parameter");
    assert_eq!(bench.get("/companies?company_id=c1").await.body["id"], made["id"]);
    assert_eq!(bench.get("/companies?name=Acme").await.body["id"], made["id"]);
    assert_eq!(code(&bench.get("/companies?company_id=nobody").await), "company_not_found");
    let id = made["id"].as_str().unwrap();
    assert_eq!(bench.ask("DELETE", &format!("/companies/{id}"), Value::Null, &[]).await.body["object"], "company");
}

#[tokio::test]
async fn limits_are_announced_and_hold_for_ten_seconds() {
    let bench = Bench::new();
    bench.sandbox.knobs(|knobs| {
        knobs.unlimited = false;
        knobs.rate_limit = Some(2);
    });
    let first = bench.get("/me").await;
    assert_eq!(first.headers["x-ratelimit-limit"], "2");
    assert_eq!(first.headers["x-ratelimit-remaining"], "1");
    let reset: i64 = first.headers["x-ratelimit-reset"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&(reset - bench.clock.now().timestamp())));
    bench.get("/me").await;
    let third = bench.get("/me").await;
    assert_eq!((third.status, code(&third)), (429, "rate_limit_exceeded"));
    assert!(third.headers.get("retry-after").is_none());
    bench.clock.forward(10);
    assert_eq!(bench.get("/me").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn faults_and_latency_are_as_ordered() {
    let bench = Bench::new();
    bench.sandbox.knobs(|knobs| {
        knobs.latency = Duration::from_secs(2);
        knobs.faults.push_back(("/contacts".to_owned(), Fault::StatusAfterEffect(502)));
        knobs.faults.push_back((String::new(), Fault::Status(429, Some(7))));
        knobs.faults.push_back((String::new(), Fault::Html));
        knobs.faults.push_back((String::new(), Fault::Empty));
        knobs.faults.push_back((String::new(), Fault::Truncated));
    });
    let got = bench.post("/contacts", json!({"email": "e@example.com"})).await;
    assert_eq!(got.status, 502);
    assert_eq!(bench.sandbox.truth().contacts, 1);
    let got = bench.get("/me").await;
    assert_eq!((got.status, got.headers["retry-after"].to_str().unwrap()), (429, "7"));
    assert!(bench.get("/me").await.raw.starts_with(b"<html>"));
    assert!(bench.get("/me").await.raw.is_empty());
    let got = bench.get("/me").await;
    assert!(got.status == 200 && !got.raw.is_empty() && got.body.is_null());
    let log = bench.sandbox.log();
    assert_eq!((log.len(), log.writes().len()), (5, 1));
    assert_eq!(log.all()[0].template, "/contacts");
}

#[tokio::test]
async fn notifications_have_the_vendors_shape_and_signature() {
    let bench = Bench::new();
    let id = bench.contact("n@example.com");
    let webhook = bench.sandbox.take_webhooks().remove(0);
    let header =
        |name: &str| webhook.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap();
    assert_eq!(header("X-Hub-Signature"), super::webhooks::signature(bench.sandbox.client_secret(), &webhook.body));
    // RFC 2202's second case pins the algorithm.
    assert_eq!(
        super::webhooks::signature("Jefe", b"what do ya want for nothing?"),
        "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
    );
    let body: Value = serde_json::from_slice(&webhook.body).unwrap();
    assert_eq!(body["type"], "notification_event");
    assert_eq!(body["topic"], "contact.user.created");
    assert!(body["id"].as_str().unwrap().starts_with("notif_"));
    assert_eq!((&body["delivery_status"], &body["delivered_at"]), (&json!("pending"), &json!(0)));
    assert_eq!(body["data"]["item"]["created_at"], "2026-03-10T20:00:00.000+00:00");
    assert_eq!(bench.get(&format!("/contacts/{id}")).await.body["created_at"], 1_773_172_800);
    bench.sandbox.ping();
    let body: Value = serde_json::from_slice(&bench.sandbox.take_webhooks()[0].body).unwrap();
    assert_eq!((&body["id"], &body["delivery_status"], &body["topic"]), (&Value::Null, &Value::Null, &json!("ping")));
}

#[tokio::test]
async fn what_changed_decides_the_topic() {
    let bench = Bench::new();
    let id = bench.contact("t@example.com");
    let lead = bench.sandbox.create_contact(ContactSeed { lead: true, ..ContactSeed::default() });
    assert_eq!(bench.topics(), ["contact.user.created", "contact.lead.created"]);
    bench.sandbox.edit_contact(&id, &json!({"name": "T"})).unwrap();
    bench.sandbox.set_email(&id, Some("t2@example.com")).unwrap();
    bench.sandbox.set_email(&lead, Some("l@example.com")).unwrap();
    bench.sandbox.unsubscribe(&id).unwrap();
    bench.sandbox.resubscribe(&id).unwrap();
    bench.sandbox.tag(&id, "VIP").unwrap();
    bench.sandbox.untag(&id, "VIP").unwrap();
    bench.sandbox.archive(&id).unwrap();
    bench.sandbox.unarchive(&id).unwrap();
    bench.sandbox.delete(&id).unwrap();
    let items = bench.items();
    let topics: Vec<&str> = items.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(
        topics,
        [
            "contact.user.updated",
            "contact.email.updated",
            "contact.lead.added_email",
            "contact.unsubscribed",
            "contact.subscribed",
            "contact.user.tag.created",
            "contact.user.tag.deleted",
            "contact.archived",
            "contact.unarchive",
            "contact.deleted",
        ]
    );
    assert_eq!(items[3].1["contact"]["unsubscribed_from_emails"], true);
    assert_eq!(items[3].1["subscription_types"]["data"], json!([]));
    assert_eq!(items[9].1, json!({"type": "contact", "id": id, "external_id": "ext-t@example.com", "deleted": true}));
    // Writes over the API come back as webhooks too.
    bench.ask("PUT", &format!("/contacts/{lead}"), json!({"name": "L"}), &[]).await;
    assert_eq!(bench.topics(), ["contact.lead.updated"]);
}

#[tokio::test]
async fn conversations_live_and_are_searched_to_the_second() {
    let bench = Bench::new();
    let person = bench.contact("c@example.com");
    bench.sandbox.take_webhooks();
    let id = bench.sandbox.open_conversation(&person, "Hello").unwrap();
    bench.clock.forward(1);
    let other = bench.sandbox.open_conversation(&person, "Again").unwrap();
    let opened = 1_773_172_800;
    let query = json!({"query": {"field": "updated_at", "operator": ">", "value": opened}});
    let got = bench.post("/conversations/search", query).await.body;
    assert_eq!(got["conversations"][0]["id"], other.as_str());
    assert_eq!(got["total_count"], 1);
    assert!(got["conversations"][0].get("conversation_parts").is_none());
    bench.clock.forward(60);
    bench.sandbox.admin_reply(&id, "Hi").unwrap();
    bench.sandbox.snooze(&id, opened + 90_000).unwrap();
    assert_eq!(bench.get(&format!("/conversations/{id}")).await.body["open"], true);
    bench.sandbox.reply(&id, "And?").unwrap();
    bench.sandbox.close_conversation(&id).unwrap();
    bench.sandbox.rate(&id, 5, Some("great")).unwrap();
    let full = bench.get(&format!("/conversations/{id}")).await.body;
    assert_eq!((&full["state"], &full["open"]), (&json!("closed"), &json!(false)));
    assert_eq!(full["conversation_parts"]["total_count"], 4);
    assert_eq!(full["statistics"]["count_conversation_parts"], 5);
    assert_eq!(full["statistics"]["last_close_at"], opened + 61);
    assert_eq!(full["conversation_rating"]["rating"], 5);
    let items = bench.items();
    let topics: Vec<&str> = items.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(
        topics,
        [
            "conversation.user.created",
            "conversation.user.created",
            "conversation.admin.replied",
            "conversation.admin.snoozed",
            "conversation.user.replied",
            "conversation.admin.closed",
            "conversation.rating.added",
        ]
    );
    let closed = &items[5].1;
    assert_eq!(closed["conversation_parts"]["total_count"], 1);
    assert_eq!(closed["statistics"]["last_close_at"], "2026-03-10T20:01:01.000Z");
    assert!(closed["teammates"]["admins"].is_array());
    bench.sandbox.webhook_generation(WebhookGeneration::V2_15);
    bench.sandbox.reply(&id, "Hm").unwrap();
    let (_, item) = bench.items().remove(0);
    assert_eq!(item["statistics"]["last_close_at"], opened + 61);
    assert_eq!(item["conversation_parts"]["conversation_parts"][0]["body"], "Hm");
    bench.sandbox.delete_conversation(&id).unwrap();
    assert_eq!(bench.items()[0].1, json!({"type": "conversation", "conversation_id": id}));
    assert_eq!(bench.get(&format!("/conversations/{id}")).await.status, 404);
}

#[tokio::test]
async fn custom_attributes_must_be_defined_first() {
    let bench = Bench::new();
    let body = json!({"email": "a@example.com", "custom_attributes": {"plan_tier": "pro"}});
    assert_eq!(bench.post("/contacts", body.clone()).await.status, 400);
    let attribute = json!({"name": "plan_tier", "model": "contact", "data_type": "string"});
    let made = bench.post("/data_attributes", attribute).await;
    assert_eq!((made.status, &made.body["full_name"]), (200, &json!("custom_attributes.plan_tier")));
    let got = bench.post("/contacts", body).await.body;
    assert_eq!(got["custom_attributes"]["plan_tier"], "pro");
    // The same name cannot serve companies as well.
    let taken = json!({"name": "plan_tier", "model": "company", "data_type": "string"});
    assert_eq!(bench.post("/data_attributes", taken).await.status, 400);
    let clear = json!({"custom_attributes": {"plan_tier": null}});
    let id = got["id"].as_str().unwrap();
    let got = bench.ask("PUT", &format!("/contacts/{id}"), clear, &[]).await.body;
    assert_eq!(got["custom_attributes"], json!({}));
}

#[tokio::test]
async fn events_are_accepted_once() {
    let bench = Bench::new();
    let id = bench.contact("e@example.com");
    bench.sandbox.take_webhooks();
    let event = json!({"event_name": "ordered", "created_at": 1_773_172_000, "id": id});
    for _ in 0..2 {
        let got = bench.post("/events", event.clone()).await;
        assert_eq!((got.status, got.raw.len()), (202, 0));
    }
    assert_eq!(bench.topics(), ["event.created"]);
    assert_eq!(
        bench.post("/events", json!({"event_name": "x", "created_at": 1, "email": "no@example.com"})).await.status,
        404
    );
}

#[tokio::test]
async fn a_user_never_becomes_a_lead_again() {
    let bench = Bench::new();
    let id = bench.contact("u@example.com");
    let got = bench.ask("PUT", &format!("/contacts/{id}"), json!({"role": "lead"}), &[]).await;
    assert_eq!((got.status, code(&got)), (400, "client_error"));
}

#[tokio::test]
async fn a_world_replays_and_holds_what_it_says() {
    let one = async || {
        let bench = Bench::new();
        let truth = bench.sandbox.world(42, 1_000);
        (truth, bench.get("/contacts?per_page=150").await.raw)
    };
    let ((truth, page), (again, same)) = (one().await, one().await);
    assert_eq!(truth, again);
    assert_eq!(page, same);
    assert_eq!(truth.users + truth.leads, truth.contacts);
    assert!(
        truth.leads > 150 && truth.without_email > 50 && truth.unsubscribed > 15 && truth.on_shared_email > 10,
        "{truth:?}"
    );
    assert!(
        truth.more_than_ten_tags >= 1 && truth.more_than_ten_companies == 1 && truth.with_open_conversation > 30,
        "{truth:?}"
    );
}

#[tokio::test]
async fn waiting_for_notifications_ends_when_one_comes() {
    let bench = Bench::new();
    let waiting = bench.sandbox.clone();
    let (got, ()) = tokio::join!(waiting.next_webhooks(), async {
        tokio::task::yield_now().await;
        bench.contact("w@example.com");
    });
    assert_eq!(got.len(), 1);
}

#[tokio::test]
async fn it_is_served_over_http_as_well() {
    let bench = Bench::new();
    let serving = crate::sandbox::serve(bench.sandbox.router(), 0).await.unwrap();
    let answer = reqwest::Client::new()
        .get(format!("{}/me", serving.base_url()))
        .bearer_auth(bench.sandbox.access_token())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    // One date, the vendor's.
    assert_eq!(answer.headers().get_all("date").iter().collect::<Vec<_>>(), ["Tue, 10 Mar 2026 20:00:00 GMT"]);
    serving.stop().await;
}
