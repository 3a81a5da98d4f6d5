//! The client against a scripted Brevo: what is asked, byte for byte where it matters, and what is made of the answers.

use super::*;
use crate::doors::{Doors, NoCrash, SeededRng, SimulatedClock};
use crate::http::InProcess;
use crate::model::{
    Answer, Attribute, AttributeKind, AttributeSpec, AuthProblem, BrevoContactId, BrevoListId, ContactChange,
    ContactKey, Cursor, Email, ErrorKind, Fetched, Fields, Gone, ImportBatch, ImportRow, ImportState, NewContact,
    Observation, OutgoingEvent, Priority, ProcessId, ReadRequest, Resource, Scope, Side, SideError, Value, Write,
};
use axum::body::Body;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone)]
struct Asked {
    line: String,
    key: Option<String>,
    body: Json,
}

#[derive(Clone, Default)]
struct Fake {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    fn with(answers: impl IntoIterator<Item = (u16, Json)>) -> (Self, BrevoClient) {
        Self::with_texts(answers.into_iter().map(|(status, body)| match body {
            Json::Null => (status, String::new()),
            body => (status, body.to_string()),
        }))
    }

    fn with_texts(answers: impl IntoIterator<Item = (u16, String)>) -> (Self, BrevoClient) {
        let fake = Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() };
        let state = fake.clone();
        let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let fake = state.clone();
            async move { fake.answer(request).await }
        });
        let options = BrevoOptions::new("xkeysib-secret".into()).unwrap();
        let doors = Doors {
            clock: Arc::new(SimulatedClock::starting_at(DateTime::UNIX_EPOCH)),
            rng: Arc::new(SeededRng::new(1)),
            crash: Arc::new(NoCrash),
        };
        (fake, BrevoClient::new(options, Arc::new(InProcess::new(router)), doors))
    }

    async fn answer(&self, request: axum::extract::Request) -> axum::response::Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        let asked = Asked {
            line: format!("{} {}", parts.method, target.strip_prefix("/v3").unwrap_or(target)),
            key: parts.headers.get("api-key").map(|key| key.to_str().unwrap().to_owned()),
            body: serde_json::from_slice(&body).unwrap_or(Json::Null),
        };
        self.asked.lock().unwrap().push(asked);
        let (status, body) = self.answers.lock().unwrap().pop_front().unwrap_or((599, String::new()));
        http::Response::builder()
            .status(status)
            .header("date", "Sat, 21 Nov 2026 10:00:00 GMT")
            .body(Body::from(body))
            .unwrap()
    }

    fn lines(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.line.clone()).collect()
    }

    fn body(&self, index: usize) -> Json {
        self.asked.lock().unwrap()[index].body.clone()
    }
}

fn server_time() -> Option<DateTime<Utc>> {
    "2026-11-21T10:00:00Z".parse().ok()
}

fn ask(resource: Resource, scope: Scope, cursor: Option<Cursor>) -> ReadRequest {
    ReadRequest { resource, scope, cursor, timezone: chrono_tz::UTC, priority: Priority::Live }
}

fn email(text: &str) -> Email {
    Email::parse(text).unwrap()
}

fn refusal(message: &str) -> Json {
    json!({"code": "invalid_parameter", "message": message})
}

async fn write(client: &BrevoClient, write: Write) -> Result<Answer, Box<SideError>> {
    client.write(&write, Priority::Live).await
}

#[tokio::test(start_paused = true)]
async fn the_account_says_who_it_is() {
    let account =
        json!({"organization_id":"5fa2b8c1","companyName":"Acme","dateTimePreferences":{"timezone":"Europe/Oslo"}});
    let (fake, client) = Fake::with([(200, account)]);
    let account = client.account().await.unwrap();
    assert_eq!((account.id.as_str(), account.timezone.as_deref()), ("5fa2b8c1", Some("Europe/Oslo")));
    assert_eq!(account.server_time, server_time());
    assert_eq!(fake.asked.lock().unwrap()[0].key.as_deref(), Some("xkeysib-secret"));
    assert!(!format!("{client:?}").contains("xkeysib"));
}

#[tokio::test(start_paused = true)]
async fn contacts_are_read_oldest_first_until_the_total_is_reached() {
    let page = |from: u64, to: u64| json!({"contacts": (from..to).map(|id| json!({"id": id})).collect::<Vec<_>>(), "count": 5});
    // Pages shorter than asked do not end a sweep that is not at its total.
    let (fake, client) = Fake::with([(200, page(0, 3)), (200, page(3, 5))]);
    let first = client.read(&ask(Resource::Contacts, Scope::Full, None)).await.unwrap();
    assert_eq!((first.observations.len(), first.total, first.server_time), (3, Some(5), server_time()));
    let second = client.read(&ask(Resource::Contacts, Scope::Full, first.next)).await.unwrap();
    assert_eq!((second.observations.len(), second.next), (2, None));
    assert_eq!(
        fake.lines(),
        ["GET /contacts?limit=1000&offset=0&sort=asc", "GET /contacts?limit=1000&offset=3&sort=asc"]
    );
}

#[tokio::test(start_paused = true)]
async fn instants_travel_in_utc_and_encoded() {
    let empty = || (200, json!({"contacts": [], "count": 0}));
    let (fake, client) = Fake::with([empty(), empty()]);
    let instant: DateTime<Utc> = "2026-11-20T09:00:00.5+02:00".parse().unwrap();
    for scope in [Scope::Since(instant), Scope::CreatedSince(instant)] {
        assert_eq!(client.read(&ask(Resource::Contacts, scope, None)).await.unwrap().next, None);
    }
    assert!(fake.lines()[0].ends_with("&modifiedSince=2026-11-20T07%3A00%3A00.500Z"), "{:?}", fake.lines());
    assert!(fake.lines()[1].ends_with("&createdSince=2026-11-20T07%3A00%3A00.500Z"));
}

#[tokio::test(start_paused = true)]
async fn lists_come_fifty_at_a_time_and_what_brevo_lacks_is_said() {
    let (fake, client) = Fake::with([(200, json!({"lists":[{"id":2,"name":"All"},{"name":"no id"}],"count":2}))]);
    let page = client.read(&ask(Resource::Lists, Scope::Full, None)).await.unwrap();
    assert_eq!(page.observations, [Observation::BrevoList { id: BrevoListId::new(2), name: "All".into() }]);
    assert_eq!(fake.lines(), ["GET /contacts/lists?limit=50&offset=0&sort=asc"]);
    let error = client.read(&ask(Resource::Conversations, Scope::Full, None)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    let alien = Some(Cursor("abc".into()));
    assert_eq!(client.read(&ask(Resource::Lists, Scope::Full, alien)).await.unwrap_err().kind, ErrorKind::LostCursor);
}

#[tokio::test(start_paused = true)]
async fn how_many_imports_are_doing_costs_a_request_for_fifty() {
    let page = |ids: std::ops::Range<u64>| {
        let rows: Vec<Json> = ids.rev().map(|id| json!({"id": id, "status": "completed"})).collect();
        (200, json!({"processes": rows, "count": 200}))
    };
    let one = (200, json!({"id": 7, "status": "processing"}));
    let (fake, client) = Fake::with([page(150..200), page(100..150), one]);
    let ours: Vec<ProcessId> = (110..200).step_by(2).chain([7]).map(ProcessId::new).collect();
    let states = client.import_states(&ours).await.unwrap();
    assert_eq!((states.len(), &states[&ProcessId::new(7)]), (46, &ImportState::Running));
    // One is left after two pages: it is asked for by itself.
    let lines = fake.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[1], "GET /processes?limit=50&offset=50&sort=desc");
    assert_eq!(lines[2], "GET /processes/7");
}

#[tokio::test(start_paused = true)]
async fn an_odd_page_is_tried_again_and_never_taken_for_the_end() {
    let odd = ["", "<html>", r#"{"contacts":[{"id":1"#].map(|text| (200, text.to_owned()));
    let good = (200, json!({"contacts": [], "count": 0}).to_string());
    let (fake, client) = Fake::with_texts(odd.into_iter().chain([good]));
    client.read(&ask(Resource::Contacts, Scope::Full, None)).await.unwrap();
    assert_eq!(fake.lines().len(), 4);
    let (_, client) = Fake::with([(200, json!({"message": "hello"}))]);
    let error = client.read(&ask(Resource::Contacts, Scope::Full, None)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_names_the_type_of_its_key() {
    let found = || (200, json!({"id": 7, "email": "a@b.example"}));
    let (fake, client) = Fake::with([found(), found(), found(), found()]);
    for key in [
        ContactKey::Brevo(BrevoContactId::new(7)),
        ContactKey::BrevoEmail(email("a+b@c.example")),
        ContactKey::BrevoExtId("12/ä?".into()),
        ContactKey::BrevoPhone("+4712345678".into()),
    ] {
        let Fetched::Found(_, time) = client.fetch(&key, Priority::Live).await.unwrap() else { panic!() };
        assert_eq!(time, server_time());
    }
    assert_eq!(
        fake.lines(),
        [
            "GET /contacts/7?identifierType=contact_id",
            "GET /contacts/a%2Bb%40c.example?identifierType=email_id",
            "GET /contacts/12%2F%C3%A4%3F?identifierType=ext_id",
            "GET /contacts/%2B4712345678?identifierType=phone_id",
        ]
    );
    let dots = client.fetch(&ContactKey::BrevoExtId("..".into()), Priority::Live).await.unwrap_err();
    assert!(matches!(dots.kind, ErrorKind::Rejected { .. }), "a path is not to be climbed");
}

#[tokio::test(start_paused = true)]
async fn absent_is_an_answer_but_only_brevos_own_word_for_it() {
    let unknown = json!({"code": "document_not_found", "message": "Contact does not exist"});
    let (_, client) = Fake::with([(404, unknown), (400, refusal("Invalid email address"))]);
    for _ in 0..2 {
        let fetched = client.fetch(&ContactKey::BrevoEmail(email("a@b.example")), Priority::Live).await.unwrap();
        assert_eq!(fetched, Fetched::Gone(Gone::Deleted));
    }
    let gateway = || (404, "<html>nginx</html>".to_owned());
    let (_, client) = Fake::with_texts((0..9).map(|_| gateway()));
    let error = client.fetch(&ContactKey::Brevo(BrevoContactId::new(7)), Priority::Live).await.unwrap_err();
    assert_eq!((error.kind, error.attempts), (ErrorKind::Malformed, 4));
}

#[tokio::test(start_paused = true)]
async fn a_creation_never_updates_and_never_loosens() {
    let (fake, client) = Fake::with([(201, json!({"id": 21})), (201, json!({"id": 22}))]);
    let contact = NewContact {
        email: Some(email("elly@example.com")),
        ext_id: Some("u-1".into()),
        attributes: Fields::from([
            ("FIRSTNAME".into(), Value::Text("Elly".into())),
            ("SIGNUP_DATE".into(), Value::Date("2026-01-02".parse().unwrap())),
            ("EMAIL".into(), Value::Text("not@this.way".into())),
        ]),
        lists: BTreeSet::from([BrevoListId::new(36)]),
        email_opted_out: true,
        sms_opted_out: false,
    };
    let answer = write(&client, Write::CreateContact(contact)).await.unwrap();
    assert_eq!(answer, Answer::ContactCreated(BrevoContactId::new(21)));
    assert_eq!(fake.lines(), ["POST /contacts"]);
    assert_eq!(
        fake.body(0),
        json!({"email":"elly@example.com","ext_id":"u-1","updateEnabled":false,"listIds":[36],"emailBlacklisted":true,
            "attributes":{"FIRSTNAME":"Elly","SIGNUP_DATE":"2026-01-02"}})
    );
    let phone_only = Fields::from([("SMS".into(), Value::Text("+4712345678".into()))]);
    write(&client, Write::CreateContact(NewContact { attributes: phone_only, ..NewContact::default() })).await.unwrap();
    assert_eq!(fake.body(1), json!({"updateEnabled": false, "attributes": {"SMS": "+4712345678"}}));
}

#[tokio::test(start_paused = true)]
async fn a_lost_or_unreadable_answer_to_a_creation_is_not_followed_by_another() {
    for answer in [(502, "<html>"), (201, ""), (201, "{}")] {
        let (fake, client) = Fake::with_texts([(answer.0, answer.1.to_owned())]);
        let error = write(&client, Write::CreateContact(NewContact::default())).await.unwrap_err();
        assert_eq!((error.kind, fake.lines().len()), (ErrorKind::Ambiguous, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn too_early_is_waited_out_and_a_duplicate_is_a_conflict() {
    let early = json!({"code": "account_in_process", "message": "Import in progress"});
    let taken = json!({"code":"invalid_parameter","message":"Unable to create contact, SMS is already associated with another Contact",
        "metadata":{"duplicate_identifiers":["SMS"]}});
    let (fake, client) = Fake::with([(425, early), (400, taken)]);
    let error = write(&client, Write::CreateContact(NewContact::default())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict { identifiers: vec!["SMS".into()], holder: None, archived: false });
    assert_eq!((error.attempts, fake.lines().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_rename_carries_the_opt_out_and_nothing_ever_opts_in() {
    let (fake, client) = Fake::with([(204, Json::Null), (204, Json::Null)]);
    let change = ContactChange {
        attributes: BTreeMap::from([("FIRSTNAME".into(), Some(Value::Text("Ellie".into()))), ("CITY".into(), None)]),
        email: Some(email("new@example.com")),
        ext_id: Some("u-2".into()),
        join_lists: BTreeSet::from([BrevoListId::new(65)]),
        leave_lists: BTreeSet::from([BrevoListId::new(36)]),
        email_opted_out: true,
        email_opted_in: None,
        sms_opted_out: true,
    };
    assert_eq!(write(&client, Write::UpdateContact(BrevoContactId::new(42), change)).await.unwrap(), Answer::Done);
    assert_eq!(fake.lines(), ["PUT /contacts/42?identifierType=contact_id"]);
    assert_eq!(
        fake.body(0),
        json!({"attributes":{"EMAIL":"new@example.com","FIRSTNAME":"Ellie","CITY":""},"ext_id":"u-2","listIds":[65],
            "unlinkListIds":[36],"emailBlacklisted":true,"smsBlacklisted":true})
    );
    let plain = ContactChange {
        attributes: BTreeMap::from([("VIP".into(), Some(Value::Boolean(false)))]),
        ..ContactChange::default()
    };
    write(&client, Write::UpdateContact(BrevoContactId::new(42), plain)).await.unwrap();
    assert_eq!(fake.body(1), json!({"attributes": {"VIP": false}}), "no flag of consent");
    let nothing = Write::UpdateContact(BrevoContactId::new(42), ContactChange::default());
    assert_eq!(write(&client, nothing).await.unwrap(), Answer::Done);
    assert_eq!(fake.lines().len(), 2, "nothing to change, nothing asked");
}

#[tokio::test(start_paused = true)]
async fn known_types_shape_what_is_written() {
    let attributes = json!({"attributes":[{"name":"SINCE","category":"normal","type":"date"},
        {"name":"VIP","category":"normal","type":"boolean"},{"name":"NOTE","category":"normal","type":"text"}]});
    let (fake, client) = Fake::with([(200, attributes), (204, Json::Null)]);
    assert_eq!(client.attributes().await.unwrap().len(), 3);
    let instant = Value::Instant("2026-01-02T23:00:00Z".parse().unwrap());
    let change = ContactChange {
        attributes: BTreeMap::from([
            ("SINCE".into(), Some(instant.clone())),
            ("NOTE".into(), Some(instant)),
            ("VIP".into(), None),
        ]),
        ..ContactChange::default()
    };
    write(&client, Write::UpdateContact(BrevoContactId::new(1), change)).await.unwrap();
    assert_eq!(
        fake.body(1),
        json!({"attributes": {"SINCE": "2026-01-02", "NOTE": "2026-01-02T23:00:00Z", "VIP": false}})
    );
}

fn batch(email_opted_out: bool) -> ImportBatch {
    ImportBatch {
        rows: vec![ImportRow {
            email: email("a@b.example"),
            ext_id: Some("7".into()),
            attributes: Fields::from([("LASTNAME".into(), Value::Text("Noemi".into()))]),
        }],
        lists: BTreeSet::from([BrevoListId::new(76)]),
        update_existing: false,
        email_opted_out,
    }
}

#[tokio::test(start_paused = true)]
async fn an_import_is_explicit_where_the_defaults_bite() {
    let (fake, client) = Fake::with([(202, json!({"processId": 78})), (202, json!({"processId": 79}))]);
    let answer = write(&client, Write::Import(batch(false))).await.unwrap();
    assert_eq!(answer, Answer::ImportStarted(ProcessId::new(78), server_time()));
    let plain = json!({"jsonBody":[{"email":"a@b.example","attributes":{"LASTNAME":"Noemi","EXT_ID":"7"}}],
        "listIds":[76],"updateExistingContacts":false,"disableNotification":true});
    assert_eq!(fake.body(0), plain);
    write(&client, Write::Import(batch(true))).await.unwrap();
    assert_eq!(fake.body(1)["emailBlacklist"], json!(true));
    let homeless = ImportBatch { lists: BTreeSet::new(), ..batch(false) };
    assert!(matches!(write(&client, Write::Import(homeless)).await.unwrap_err().kind, ErrorKind::Rejected { .. }));
    assert_eq!(fake.lines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_imports_end_and_reports_are_read() {
    let process = json!({"id":78,"name":"IMPORTUSER","status":"completed",
        "info":{"import":{"invalid_emails":"https://files.example/r.csv?t=1","duplicate_ext_id":null}}});
    let csv = "EMAIL\nbad@@x\n";
    let (fake, client) = Fake::with_texts([
        (200, process.to_string()),
        (200, csv.into()),
        (200, csv.into()),
        (403, "<Error>expired</Error>".into()),
    ]);
    let process = ProcessId::new(78);
    let states = client.import_states(&[process]).await.unwrap();
    let Some(ImportState::Finished { completed: true, reports }) = states.get(&process) else { panic!() };
    assert_eq!(client.import_report(&reports["invalid_emails"]).await.unwrap(), ["bad@@x"]);
    client.import_report("https://api.brevo.com/reports/1").await.unwrap();
    let keys: Vec<_> = fake.asked.lock().unwrap().iter().map(|asked| asked.key.is_some()).collect();
    assert_eq!(keys, [true, false, true], "the key goes to Brevo's own host only");
    let gone = client.import_report("https://files.example/r.csv").await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound, "a store's refusal is not about our key");
    for unsafe_url in ["http://files.example/x", "file:///etc/passwd", "x"] {
        assert_eq!(client.import_report(unsafe_url).await.unwrap_err().kind, ErrorKind::Malformed);
    }
}

#[tokio::test(start_paused = true)]
async fn list_changes_bear_both_shapes_and_already_there() {
    let ids: Vec<_> = (1..=151).map(BrevoContactId::new).collect();
    let (fake, client) = Fake::with([
        (201, json!({"contacts": {"success": [1], "failure": [2]}})),
        (201, json!({"success": [151], "failure": []})),
        (400, refusal("Contact already removed from list and/or does not exist")),
        (404, json!({"code": "document_not_found", "message": "List ID does not exist"})),
    ]);
    let list = BrevoListId::new(12);
    let Answer::ListChanged { done, failed } = write(&client, Write::AddToList(list, ids)).await.unwrap() else {
        panic!()
    };
    assert_eq!((done.len(), failed), (150, vec![BrevoContactId::new(2)]));
    assert_eq!(fake.body(1), json!({"ids": [151]}));
    let one = vec![BrevoContactId::new(5)];
    let answer = write(&client, Write::RemoveFromList(list, one.clone())).await.unwrap();
    assert_eq!(answer, Answer::ListChanged { done: one.clone(), failed: vec![] });
    assert_eq!(fake.lines()[2], "POST /contacts/lists/12/contacts/remove");
    assert_eq!(write(&client, Write::AddToList(list, one)).await.unwrap_err().kind, ErrorKind::NotFound);
}

fn event(key: &str) -> OutgoingEvent {
    OutgoingEvent {
        key: key.into(),
        name: "intercom_conversation_closed".into(),
        happened_at: "2026-11-20T09:00:00Z".parse().unwrap(),
        contact: BrevoContactId::new(211),
        properties: BTreeMap::from([("rating".into(), json!(5)), ("remark".into(), Json::Null)]),
    }
}

#[tokio::test(start_paused = true)]
async fn events_carry_our_key_and_a_mixed_answer_names_the_failed() {
    let mixed = json!({"status":"partiallyQueued","total_events":2,"successful_events":1,"failed_events":1,
        "errors":[{"eventIndex":[1],"message":"undefined event_name"}]});
    let none = json!({"status":"failed","errors":[{"eventIndex":[0,1],"message":"no contact a@b.example"}]});
    let (fake, client) = Fake::with([
        (204, Json::Null),
        (202, json!({"message":"Batch accepted","count":2})),
        (207, mixed),
        (400, none),
        (400, refusal("bad event")),
    ]);
    let accepted = |failed: &[(usize, &str)]| Answer::EventsAccepted {
        failed: failed.iter().map(|(index, words)| (*index, (*words).to_owned())).collect(),
    };
    assert_eq!(write(&client, Write::SendEvents(vec![event("k1")])).await.unwrap(), accepted(&[]));
    let wire = json!({"event_name":"intercom_conversation_closed","event_date":"2026-11-20T09:00:00.000Z",
        "identifiers":{"contact_id":211},"event_properties":{"rating":5,"linkspan_key":"k1"}});
    assert_eq!((fake.lines()[0].as_str(), fake.body(0)), ("POST /events", wire.clone()));
    let two = || Write::SendEvents(vec![event("k1"), event("k2")]);
    assert_eq!(write(&client, two()).await.unwrap(), accepted(&[]));
    assert_eq!((fake.lines()[1].as_str(), &fake.body(1)["events"][0]), ("POST /events/batch", &wire));
    assert_eq!(write(&client, two()).await.unwrap(), accepted(&[(1, "undefined event_name")]));
    assert_eq!(
        write(&client, two()).await.unwrap(),
        accepted(&[(0, "no contact [address]"), (1, "no contact [address]")])
    );
    assert_eq!(write(&client, Write::SendEvents(vec![event("k")])).await.unwrap(), accepted(&[(0, "bad event")]));
}

#[tokio::test(start_paused = true)]
async fn attributes_are_made_with_their_type_and_may_be_there_already() {
    let (fake, client) = Fake::with([
        (201, Json::Null),
        (201, Json::Null),
        (400, refusal("Attribute name must be unique")),
        (204, Json::Null),
    ]);
    let spec = |kind: AttributeKind, options: &[&str]| {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Write::CreateAttribute(AttributeSpec { name: "PLAN_TIER".into(), kind, options })
    };
    write(&client, spec(AttributeKind::MultipleChoice, &["a", "b"])).await.unwrap();
    write(&client, spec(AttributeKind::Category, &["x", "y"])).await.unwrap();
    assert_eq!(write(&client, spec(AttributeKind::Text, &[])).await.unwrap(), Answer::Done);
    let options = vec![("x".to_owned(), "1".to_owned()), ("z".to_owned(), String::new())];
    let attribute = Attribute { name: "PLAN_TIER".into(), kind: AttributeKind::Category, writable: true, options };
    write(&client, Write::SetAttributeOptions(attribute)).await.unwrap();
    assert_eq!(
        fake.lines(),
        [
            "POST /contacts/attributes/normal/PLAN_TIER",
            "POST /contacts/attributes/category/PLAN_TIER",
            "POST /contacts/attributes/normal/PLAN_TIER",
            "PUT /contacts/attributes/category/PLAN_TIER",
        ]
    );
    assert_eq!(fake.body(0), json!({"type": "multiple-choice", "multiCategoryOptions": ["a", "b"]}));
    let enumeration = json!([{"value": 1, "label": "x"}, {"value": 2, "label": "y"}]);
    assert_eq!(fake.body(1), json!({"type": "category", "enumeration": enumeration}));
    assert_eq!(fake.body(2), json!({"type": "text"}));
    let error = write(&client, spec(AttributeKind::Other("user".into()), &[])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_made_in_our_folder_which_is_made_once() {
    let (fake, client) = Fake::with([
        (200, json!({"folders": [{"id": 1, "name": "Other"}], "count": 1})),
        (201, json!({"id": 9})),
        (201, json!({"id": 50})),
        (201, json!({"id": 51})),
    ]);
    for id in [50, 51] {
        let answer = write(&client, Write::CreateList("Leads".into())).await.unwrap();
        assert_eq!(answer, Answer::ListCreated(BrevoListId::new(id)));
    }
    assert_eq!(
        fake.lines(),
        [
            "GET /contacts/folders?limit=50&offset=0&sort=asc",
            "POST /contacts/folders",
            "POST /contacts/lists",
            "POST /contacts/lists",
        ]
    );
    assert_eq!(fake.body(2), json!({"name": "Leads", "folderId": 9}));
    let (fake, client) =
        Fake::with([(200, json!({"folders": [{"id": 4, "name": "linkspan"}], "count": 1})), (201, json!({"id": 60}))]);
    write(&client, Write::CreateList("Leads".into())).await.unwrap();
    assert_eq!(fake.body(1)["folderId"], json!(4));
}

#[tokio::test(start_paused = true)]
async fn a_bad_key_is_said_with_its_remedy_and_not_tried_again() {
    let refused = json!({"code": "unauthorized", "message": "Key not found"});
    let (fake, client) = Fake::with([(401, refused)]);
    let error = client.account().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth(AuthProblem::BadCredentials));
    assert_eq!(error.to_string(), "Brevo: not let in (401): Key not found", "what helps is said beside it, once");
    assert!(error.remedy().unwrap().contains("Make one in Brevo"));
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_contacts_and_the_rest_are_apart() {
    let (_, client) = Fake::with([(200, json!({"contacts": [], "count": 0}))]);
    client.read(&ask(Resource::Contacts, Scope::Full, None)).await.unwrap();
    let budgets = client.budgets();
    let left: Vec<_> = budgets.iter().map(|budget| (budget.family.as_str(), budget.limit, budget.remaining)).collect();
    assert_eq!(left, [("contacts", 36_000, 35_999), ("events", 36_000, 36_000), ("other", 100, 100)]);
}

/// JSON of any shape, the keys that we look for among it.
fn any_json() -> impl proptest::strategy::Strategy<Value = Json> {
    const KEYS: [&str; 10] =
        ["id", "email", "attributes", "EXT_ID", "listIds", "modifiedAt", "contacts", "count", "metadata", "x"];
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[-+0-9TZ:.a@é ]{0,24}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            proptest::collection::btree_map(proptest::sample::select(&KEYS[..]), inner, 0..6)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn nothing_that_comes_makes_us_panic(json in any_json(), words in ".{0,400}", bytes in proptest::collection::vec(0..=255_u8, 0..200)) {
        let tree = crate::http::lean::Tree::from(&json);
        drop(wire::contact(tree.root()));
        drop(wire::rows(tree.root(), "contacts"));
        let masked = errors::mask(&words);
        assert!(masked.chars().count() <= 300);
        for status in [200, 400, 401, 404, 429, 503] {
            for body in [json.to_string().into_bytes(), bytes.clone()] {
                let answer = http::Response::builder().status(status).body(bytes::Bytes::from(body)).unwrap();
                drop(errors::classify(&answer, crate::http::Effect::Read));
            }
        }
    }

    #[test]
    fn no_address_or_long_number_gets_through(before in "[a-z ,:'\"(]{0,8}", local in "[a-zA-Z0-9._+-]{1,12}", number in "[0-9]{6,15}") {
        let masked = errors::mask(&format!("{before}{local}@example.com, {before} {number}"));
        assert!(!masked.contains("@example"), "{masked}");
        assert!(!masked.contains(&number), "{masked}");
    }
}
