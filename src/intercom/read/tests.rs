//! Against routers that behave as Intercom is known to.

use super::*;
use crate::doors::Doors;
use crate::http::InProcess;
use crate::intercom::{IntercomOptions, Plan};
use crate::model::{
    AttributeKind, AuthProblem, ContactKey, Fetched, Gone, IntercomContactId, NewContact, Priority, Related, Side as _,
    Write,
};
use http_body_util::BodyExt as _;
use std::sync::{Arc, Mutex};

/// A request as the fake got it.
#[derive(Debug, Clone)]
struct Got {
    method: String,
    path: String,
    query: String,
    headers: http::HeaderMap,
    body: Json,
}

#[derive(Default)]
struct Fake {
    got: Mutex<Vec<Got>>,
}

type Reply = (u16, Vec<(&'static str, String)>, String);

fn ok(json: Json) -> Reply {
    (200, vec![], json.to_string())
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    (status, vec![], json!({"type": "error.list", "errors": [{"code": code, "message": message}]}).to_string())
}

fn client(answer: impl Fn(usize, &Got) -> Reply + Send + Sync + 'static) -> (Arc<Fake>, IntercomClient) {
    planned(None, answer)
}

fn planned(
    plan: Option<Plan>,
    answer: impl Fn(usize, &Got) -> Reply + Send + Sync + 'static,
) -> (Arc<Fake>, IntercomClient) {
    let fake = Arc::new(Fake::default());
    let answer = Arc::new(answer);
    let kept = Arc::clone(&fake);
    let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (fake, answer) = (Arc::clone(&kept), Arc::clone(&answer));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let got = Got {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                headers: parts.headers,
                body: serde_json::from_slice(&body).unwrap_or(Json::Null),
            };
            let count = {
                let mut all = fake.got.lock().unwrap();
                all.push(got.clone());
                all.len()
            };
            let (status, headers, body) = answer(count, &got);
            let mut response = http::Response::builder().status(status).header("date", "Wed, 31 Mar 2021 20:02:10 GMT");
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(axum::body::Body::from(body)).unwrap()
        }
    });
    let options = IntercomOptions {
        base_url: "https://api.intercom.test/".parse().unwrap(),
        access_token: "s3cret".to_owned().into(),
        api_version: "2.11".to_owned(),
        share: 0.9,
        plan,
    };
    (fake, IntercomClient::new(options, Arc::new(InProcess::new(router)), Doors::system()))
}

impl Fake {
    fn all(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

fn request(resource: Resource, scope: Scope) -> ReadRequest {
    let timezone = chrono_tz::America::Los_Angeles;
    ReadRequest { resource, scope, cursor: None, timezone, priority: Priority::Live }
}

/// Sweeps to the end; ids per page.
async fn sweep(client: &IntercomClient, mut request: ReadRequest) -> Result<Vec<Vec<String>>, Box<SideError>> {
    let mut pages = Vec::new();
    loop {
        let page = client.read(&request).await?;
        pages.push(page.observations.iter().map(id).collect());
        assert!(pages.len() < 100, "a sweep ends");
        match page.next {
            Some(cursor) => request.cursor = Some(cursor),
            None => return Ok(pages),
        }
    }
}

fn id(observation: &Observation) -> String {
    match observation {
        Observation::IntercomContact(contact) => contact.id.to_string(),
        Observation::Conversation(conversation) => conversation.id.to_string(),
        Observation::Company(company) => company.id.to_string(),
        Observation::Tag(tag) => tag.name.clone(),
        other => panic!("{other:?}"),
    }
}

fn contact(id: &str, created: i64, updated: i64) -> Json {
    json!({"type": "contact", "id": id, "role": "user", "created_at": created, "updated_at": updated})
}

fn page(key: &str, items: &[Json], next: Option<&str>) -> Reply {
    let next = next.map(|after| json!({"page": 2, "starting_after": after}));
    ok(json!({"type": "list", key: items, "total_count": 9, "pages": {"type": "pages", "page": 1, "next": next}}))
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_request_says_who_and_in_which_version_and_the_account_is_known() {
    let (fake, client) = client(|_, _| {
        ok(json!({"type": "admin", "id": "1", "email": "a@b.test", "app": {"type": "app", "id_code": "abc123",
            "name": "Acme", "timezone": "America/Los_Angeles", "region": "US"}}))
    });
    let account = client.account().await.unwrap();
    assert_eq!((account.id.as_str(), account.timezone.as_deref()), ("abc123", Some("America/Los_Angeles")));
    assert_eq!(account.server_time, Some(at(1_617_220_930)));
    let got = &fake.all()[0];
    assert_eq!((got.method.as_str(), got.path.as_str()), ("GET", "/me"));
    for (name, value) in [
        ("authorization", "Bearer s3cret"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("intercom-version", "2.11"),
    ] {
        assert_eq!(got.headers[name], value);
    }
    assert!(!format!("{client:?}").contains("s3cret"));
}

#[tokio::test(start_paused = true)]
async fn a_full_sweep_pages_by_creation_with_the_cursor_in_the_body() {
    let (fake, client) = client(|count, _| match count {
        1 => page("data", &[contact("a", 100, 900), contact("b", 200, 300)], Some("W1=")),
        2 => page("data", &[contact("c", 200, 999)], None),
        _ => panic!("asked beyond the end"),
    });
    assert_eq!(sweep(&client, request(Resource::Contacts, Scope::Full)).await.unwrap(), [vec!["a", "b"], vec!["c"]]);
    let all = fake.all();
    assert_eq!(all[0].body["sort"], json!({"field": "created_at", "order": "ascending"}));
    assert_eq!(all[0].body["pagination"], json!({"per_page": 150}));
    assert_eq!(all[1].body["pagination"], json!({"per_page": 150, "starting_after": "W1="}));
    assert_eq!((all[0].body["query"].clone(), all[1].query.as_str()), (all[1].body["query"].clone(), ""));
}

#[tokio::test(start_paused = true)]
async fn an_incremental_sweep_asks_for_the_whole_day_and_stops_at_the_watermark() {
    let (fake, client) = client(|count, _| match count {
        1 => page("data", &[contact("a", 1, 2000), contact("b", 1, 1500)], Some("1")),
        2 => page("data", &[contact("c", 1, 1000), contact("d", 1, 999)], Some("2")),
        _ => panic!("went on below the watermark"),
    });
    let pages = sweep(&client, request(Resource::Contacts, Scope::Since(at(1000)))).await.unwrap();
    assert_eq!(pages, [vec!["a", "b"], vec!["c"]], "the watermark's own second counts");
    let body = &fake.all()[0].body;
    assert_eq!(body["sort"], json!({"field": "updated_at", "order": "descending"}));
    let day = |operator: &str| json!({"field": "updated_at", "operator": operator, "value": 1000});
    assert_eq!(body["query"], json!({"operator": "OR", "value": [day(">"), day("=")]}));
}

#[tokio::test(start_paused = true)]
async fn pages_in_another_order_are_drained() {
    let (_, client) = client(|count, _| match count {
        1 => page("data", &[contact("a", 1, 500), contact("b", 1, 2000)], Some("1")),
        2 => page("data", &[contact("c", 1, 600)], Some("2")),
        3 => page("data", &[contact("d", 1, 3000)], None),
        _ => panic!("asked beyond the end"),
    });
    let request = request(Resource::Contacts, Scope::Since(at(1000)));
    assert_eq!(sweep(&client, request.clone()).await.unwrap(), [vec!["b"], vec![], vec!["d"]]);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_all_older_than_asked_for_is_not_taken_for_a_repeat() {
    let (_, client) = client(|_, _| page("data", &[contact("a", 500, 5000)], Some("1")));
    let page = client.read(&request(Resource::Contacts, Scope::CreatedSince(at(1000)))).await.unwrap();
    assert!(page.observations.is_empty() && page.next.is_some() && !page.repeats_are_errors);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_repeats_ends_the_sweep_as_failed() {
    let (fake, client) = client(|_, _| page("data", &[contact("a", 1, 1)], Some("same")));
    let error = sweep(&client, request(Resource::Contacts, Scope::Full)).await.unwrap_err();
    assert_eq!((error.kind, fake.all().len()), (ErrorKind::Malformed, 2));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_continues_only_the_sweep_that_made_it() {
    let (fake, client) = client(|_, _| page("data", &[contact("a", 1, 1)], Some("1")));
    let mut first = request(Resource::Contacts, Scope::Full);
    let cursor = client.read(&first).await.unwrap().next;
    for (resource, scope) in [
        (Resource::Contacts, Scope::Since(at(5))),
        (Resource::Conversations, Scope::Full),
        (Resource::Companies, Scope::Full),
    ] {
        let other = ReadRequest { cursor: cursor.clone(), ..request(resource, scope) };
        assert_eq!(client.read(&other).await.unwrap_err().kind, ErrorKind::LostCursor);
    }
    first.cursor = Some(Cursor("{\"at\":\"nowhere\"}".into()));
    assert_eq!(client.read(&first).await.unwrap_err().kind, ErrorKind::LostCursor);
    assert_eq!(fake.all().len(), 1, "and nothing is asked");
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_the_vendor_forgot_is_lost_in_whatever_words_it_says_so() {
    for (status, words) in
        [(400, "The starting_after cursor is invalid"), (400, "bad request"), (404, "no"), (410, "no")]
    {
        let (_, forgets) = client(move |count, _| match count {
            1 => page("data", &[contact("a", 1, 1)], Some("1")),
            _ => error(status, "bad_request", words),
        });
        let lost = sweep(&forgets, request(Resource::Contacts, Scope::Full)).await.unwrap_err();
        assert_eq!(lost.kind, ErrorKind::LostCursor, "{status} {words}");
    }
    let (_, refuses) = client(|_, _| error(400, "bad_request", "bad request"));
    let refused = refuses.read(&request(Resource::Contacts, Scope::Full)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Rejected { field: None }, "without a cursor it is the query");
}

#[tokio::test(start_paused = true)]
async fn conversations_are_filtered_by_change_but_sorted_by_what_does_not_move() {
    let talk = |id: &str, created: i64, updated: i64| json!({"id": id, "created_at": created, "updated_at": updated});
    let (fake, client) =
        client(move |_, got| match (got.path.as_str(), got.body["pagination"]["starting_after"].as_str()) {
            ("/me", _) => ok(json!({"app": {"id_code": "x"}})),
            (_, None) => page("conversations", &[talk("1", 1, 2000), talk("2", 2, 1000)], Some("1")),
            _ => page("conversations", &[talk("3", 3, 1500)], None),
        });
    let pages = sweep(&client, request(Resource::Conversations, Scope::Since(at(1000)))).await.unwrap();
    assert_eq!(pages, [vec!["1", "2"], vec!["3"]]);
    let all = fake.all();
    assert_eq!(all[0].path, "/me", "the upper bound is by the vendor's clock, which nothing had told yet");
    assert_eq!(all[1].body["query"], all[2].body["query"], "pinned");
    assert_eq!(all[1].body["query"]["value"][0], json!({"field": "updated_at", "operator": ">", "value": 999}));
    let upper = all[1].body["query"]["value"][1]["value"].as_i64().unwrap();
    assert!((1_617_220_930..1_617_220_930 + 300).contains(&upper), "{upper}");
    assert_eq!(all[1].body["sort"], json!({"field": "created_at", "order": "ascending"}));
}

fn companies(range: std::ops::Range<u32>) -> Vec<Json> {
    range.map(|n| json!({"type": "company", "id": format!("c{n}")})).collect()
}

#[tokio::test(start_paused = true)]
async fn the_company_list_is_read_to_its_end_whatever_its_order() {
    let (fake, client) = client(|count, _| {
        let next = (count < 3).then(|| format!("https://elsewhere.test/companies?page={}&per_page=60", count + 1));
        let first = u32::try_from(count).unwrap() * 10;
        ok(json!({"data": companies(first..first + 2), "total_count": 6, "pages": {"page": count, "next": next}}))
    });
    let pages = sweep(&client, request(Resource::Companies, Scope::Since(at(9_999_999_999)))).await.unwrap();
    assert_eq!(pages.concat().len(), 6, "no filter by time exists, so all are read");
    let queries: Vec<String> = fake.all().into_iter().map(|got| got.query).collect();
    assert_eq!(queries[1], "page=2&per_page=60&order=desc");
    assert!(fake.all().iter().all(|got| got.method == "POST" && got.path == "/companies/list"));
}

#[tokio::test(start_paused = true)]
async fn a_company_list_that_says_it_ends_before_its_total_goes_on() {
    let (_, client) = client(|count, _| {
        let range = if count == 1 { 0..60 } else { 60..61 };
        ok(json!({"data": companies(range), "total_count": 61, "pages": {"page": count, "next": null}}))
    });
    assert_eq!(sweep(&client, request(Resource::Companies, Scope::Full)).await.unwrap().concat().len(), 61);
}

fn scroll_page(range: std::ops::Range<u32>) -> Reply {
    ok(json!({"type": "list", "data": companies(range), "pages": null, "total_count": null, "scroll_param": "uuid"}))
}

#[tokio::test(start_paused = true)]
async fn beyond_ten_thousand_companies_a_scroll_reads_them_under_one_name() {
    for by_404 in [false, true] {
        let (fake, client) = client(move |count, got| match (got.path.as_str(), count) {
            ("/companies/list", _) => {
                ok(json!({"data": companies(0..60), "total_count": 10_001, "pages": {"next": null}}))
            }
            (_, 2) => scroll_page(0..100),
            (_, 3) => scroll_page(100..200),
            (_, 4) => scroll_page(200..210),
            (_, 5) if by_404 => error(404, "not_found", "scroll parameter not found"),
            (_, 5) => scroll_page(0..0),
            _ => panic!("asked beyond the end"),
        });
        let pages = sweep(&client, request(Resource::Companies, Scope::Full)).await.unwrap();
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 10, 0], "404: {by_404}");
        let queries: Vec<String> = fake.all().into_iter().skip(1).map(|got| got.query).collect();
        assert_eq!(queries, ["", "scroll_param=uuid", "scroll_param=uuid", "scroll_param=uuid"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_scroll_that_dies_midway_is_a_lost_cursor_and_anothers_is_busy() {
    let (_, dies) = client(|count, got| match (got.path.as_str(), count) {
        ("/companies/list", _) => error(400, "bad_request", "page limit reached, please use scroll API"),
        (_, 2) => scroll_page(0..100),
        _ => error(404, "not_found", "scroll parameter not found"),
    });
    let error_kind = sweep(&dies, request(Resource::Companies, Scope::Full)).await.unwrap_err().kind;
    assert_eq!(error_kind, ErrorKind::LostCursor);
    let (_, busy) = client(|_, got| match got.path.as_str() {
        "/companies/list" => ok(json!({"data": [], "total_count": 20_000, "pages": {}})),
        _ => error(400, "scroll_exists", "scroll already exists for this workspace"),
    });
    let error = busy.read(&request(Resource::Companies, Scope::Full)).await.unwrap_err();
    assert_eq!((error.kind.clone(), error.retry_after), (ErrorKind::Busy, Some(SCROLL_IDLE)));
}

#[tokio::test(start_paused = true)]
async fn whoever_shares_an_address_is_shown_beside_the_others() {
    let with = |id: &str, email: &str| {
        let mut shown = contact(id, 1, 2);
        shown["email"] = email.into();
        shown
    };
    let (fake, shared) = client(move |count, _| match count {
        1 => page("data", &[with("a", "jane@example.com"), with("b", "june@example.com")], Some("more")),
        _ => page("data", &[with("c", "jane@example.com")], None),
    });
    let key = ContactKey::IntercomEmail(crate::model::Email::parse("jane@example.com").unwrap());
    let (shown, all) = shared.find_all(&key, Priority::Live).await.unwrap();
    assert_eq!((shown.iter().map(id).collect::<Vec<_>>(), all), (vec!["a".to_owned(), "c".to_owned()], true));
    assert_eq!(fake.all()[1].body["pagination"]["starting_after"], "more");
    let (_, endless) = client(move |_, _| page("data", &[], Some("more")));
    assert!(!endless.find_all(&key, Priority::Live).await.unwrap().1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_contact_is_asked_for_again_in_the_version_that_knows_merges() {
    let fetch = async |client: &IntercomClient| {
        client.fetch(&ContactKey::Intercom(IntercomContactId::new("lost")), Priority::Live).await
    };
    let (fake, merged) = client(|_, got| {
        if got.headers["intercom-version"] == "2.16" {
            let (status, _, body) = error(410, "contact_merged", "This contact has been merged.");
            (status, vec![("link", "</contacts/kept>; rel=\"canonical\"".to_owned())], body)
        } else {
            error(404, "not_found", "User Not Found")
        }
    });
    let into = Some(IntercomContactId::new("kept"));
    assert_eq!(fetch(&merged).await.unwrap(), Fetched::Gone(Gone::Merged { into }));
    assert_eq!(fake.all().len(), 2);
    for probe in [404, 400] {
        let (_, deleted) = client(move |count, _| error(if count == 1 { 404 } else { probe }, "x", "no"));
        assert_eq!(fetch(&deleted).await.unwrap(), Fetched::Gone(Gone::Deleted));
    }
    let (_, archived) = client(|_, _| ok(json!({"type": "contact", "id": "lost", "archived": true})));
    assert_eq!(fetch(&archived).await.unwrap(), Fetched::Gone(Gone::Archived));
    let (_, found) = client(|_, _| ok(contact("lost", 1, 2)));
    assert!(matches!(fetch(&found).await.unwrap(), Fetched::Found(_, Some(_))));
    let (_, down) =
        client(|count, _| if count == 1 { error(404, "x", "no") } else { error(401, "unauthorized", "no") });
    let kind = fetch(&down).await.unwrap_err().kind;
    assert_eq!(kind, ErrorKind::Auth(AuthProblem::BadCredentials), "a probe that fails decides nothing");
}

#[tokio::test(start_paused = true)]
async fn ids_are_one_segment_of_the_path() {
    let (fake, client) = client(|_, _| error(404, "not_found", "no"));
    let id = crate::model::ConversationId::new("1/../2?x=y");
    assert_eq!(client.fetch_conversation(&id, Priority::Live).await.unwrap(), Fetched::Gone(Gone::Deleted));
    assert_eq!(fake.all()[0].path, "/conversations/1%2F..%2F2%3Fx=y");
}

#[tokio::test(start_paused = true)]
async fn sub_lists_are_followed_under_either_key_and_never_to_another_host() {
    let (fake, client) = client(|count, got| match (got.path.as_str(), count) {
        ("/contacts/a/companies", 1) => ok(json!({"companies": companies(0..60), "total_count": 61,
            "pages": {"page": 1, "next": "https://evil.test/contacts/a/companies?page=2&per_page=60"}})),
        ("/contacts/a/companies", 2) => {
            ok(json!({"data": companies(60..61), "total_count": 61, "pages": {"page": 2, "next": null}}))
        }
        ("/contacts/a/tags", _) => ok(json!({"data": [{"id": 7, "name": "x"}, {"id": "8"}]})),
        _ => panic!("{got:?}"),
    });
    let contact = IntercomContactId::new("a");
    let ids = client.related(&contact, Related::Companies, Priority::Live).await.unwrap();
    assert_eq!(ids.len(), 61);
    assert_eq!(fake.all()[1].query, "page=2&per_page=60");
    let tags = client.related(&contact, Related::Tags, Priority::Live).await.unwrap();
    assert_eq!(tags.into_iter().collect::<Vec<_>>(), ["7", "8"]);
}

#[tokio::test(start_paused = true)]
async fn a_sub_list_that_goes_round_in_circles_ends() {
    let (fake, client) =
        client(|_, _| ok(json!({"data": companies(0..3), "total_count": 9, "pages": {"next": "/x?page=2"}})));
    let outcome = client.related(&IntercomContactId::new("a"), Related::Companies, Priority::Live).await;
    assert_eq!((outcome.unwrap_err().kind, fake.all().len()), (ErrorKind::Malformed, 2));
}

#[tokio::test(start_paused = true)]
async fn tags_and_attributes_are_one_page() {
    let (_, client) = client(|_, got| match got.path.as_str() {
        "/tags" => ok(json!({"type": "list", "data": [{"type": "tag", "id": "1", "name": "VIP"}]})),
        _ => ok(json!({"type": "list", "data": [
            {"name": "role", "full_name": "role", "data_type": "string", "api_writable": true, "custom": false},
            {"name": "plan_tier", "full_name": "custom_attributes.plan_tier", "data_type": "string", "options": ["a", "b"]},
            {"name": "seats", "full_name": "custom_attributes.seats", "data_type": "integer"},
            {"name": "created_at", "full_name": "created_at", "data_type": "datetime", "api_writable": false},
            {"name": "old", "full_name": "custom_attributes.old", "data_type": "string", "archived": true},
            {"name": "odd", "full_name": "custom_attributes.odd", "data_type": "relationship"},
        ]})),
    });
    assert_eq!(sweep(&client, request(Resource::Tags, Scope::Full)).await.unwrap(), [vec!["VIP"]]);
    let attributes = client.attributes().await.unwrap();
    let kinds: Vec<(&str, &str)> = attributes.iter().map(|a| (a.name.as_str(), a.kind.name())).collect();
    assert_eq!(
        kinds,
        [
            ("role", "text"),
            ("custom_attributes.plan_tier", "category"),
            ("custom_attributes.seats", "float"),
            ("created_at", "date"),
            ("custom_attributes.odd", "relationship"),
        ]
    );
    assert_eq!(attributes[4].kind, AttributeKind::Other("relationship".into()));
    assert!(!attributes[3].writable);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ever_written() {
    let (fake, client) = client(|_, _| panic!("nothing may be sent"));
    let error = client.write(&Write::CreateContact(NewContact::default()), Priority::Live).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(fake.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_is_retried_and_the_budget_is_known() {
    let (fake, client) = client(|count, _| match count {
        1 => error(500, "server_error", "Server Error"),
        2 => (200, vec![], String::new()),
        3 => (200, vec![], "<html>".to_owned()),
        _ => {
            let reset = (1_617_220_930 + 4).to_string();
            let headers = vec![
                ("x-ratelimit-limit", "167".to_owned()),
                ("x-ratelimit-remaining", "160".to_owned()),
                ("x-ratelimit-reset", reset),
            ];
            (200, headers, json!({"data": []}).to_string())
        }
    });
    client.read(&request(Resource::Tags, Scope::Full)).await.unwrap();
    assert_eq!(fake.all().len(), 4);
    let budgets = client.budgets();
    assert_eq!((budgets[0].limit, budgets[0].remaining), (167, 160));
}

#[tokio::test(start_paused = true)]
async fn a_plan_holds_searches_to_one_a_second() {
    let (_, client) = planned(Some(Plan::Starter), |_, _| page("data", &[], None));
    let begin = tokio::time::Instant::now();
    for _ in 0..3 {
        client.read(&request(Resource::Contacts, Scope::Full)).await.unwrap();
    }
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_sets_a_ceiling_per_ten_seconds_and_one_scroll_a_minute() {
    let look = ContactKey::Intercom(IntercomContactId::new("1"));
    for (plan, per_window) in [(Plan::Starter, 20_usize), (Plan::Pro, 50), (Plan::Premium, 100)] {
        let (fake, client) = planned(Some(plan), |_, got| match got.path.as_str() {
            "/contacts/1" => {
                ok(json!({"type": "contact", "id": "1", "role": "user", "created_at": 1, "updated_at": 1}))
            }
            // More than the list shows, so that it has to be scrolled.
            "/companies/list" => ok(json!({"type": "list", "data": [], "total_count": 20_000})),
            _ => ok(json!({"type": "list", "data": [], "scroll_param": "s"})),
        });
        let asked = || fake.got.lock().unwrap().len();
        let begin = tokio::time::Instant::now();
        let mut within = 0;
        for _ in 0..3 * per_window {
            client.fetch(&look, Priority::Live).await.unwrap();
            within = if begin.elapsed() < Duration::from_secs(10) { asked() } else { within };
        }
        let took = begin.elapsed();
        assert_eq!(asked(), 3 * per_window);
        assert!(within <= per_window, "{plan:?}: {within} in the first ten seconds");
        assert!(within >= per_window * 8 / 10, "{plan:?}: {within} of {per_window} are used");
        assert!(took >= Duration::from_secs(20) && took < Duration::from_secs(40), "{plan:?}: {took:?}");

        let scroll = async || client.read(&request(Resource::Companies, Scope::Full)).await.unwrap();
        scroll().await;
        let begin = tokio::time::Instant::now();
        scroll().await;
        let took = begin.elapsed();
        assert_eq!(fake.got.lock().unwrap().iter().filter(|got| got.path == "/companies/scroll").count(), 2);
        assert!(took >= Duration::from_secs(60) && took < Duration::from_secs(75), "{plan:?}: {took:?}");
    }
}
