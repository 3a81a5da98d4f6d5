//! Pagination, limits, rate-limit headers, retries and partial failure of both APIs, driven through our clients.
//!
//! Most of it runs against the sandboxes in process, under tokio's paused clock, so that waiting costs nothing and can
//! be measured. The checks of `smoke/read_only.rs` hold for every account: they run against the sandboxes, too, and
//! with `LINKSPAN_LIVE=1` against real ones, which they only read:
//!
//! ```console
//! $ LINKSPAN_LIVE=1 INTERCOM_ACCESS_TOKEN=… BREVO_API_KEY=… cargo test --test smoke over_sockets -- --nocapture
//! ```
//!
//! One of the two credentials is enough; `INTERCOM_BASE_URL` and `BREVO_BASE_URL` name other addresses (a region's).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "this whole file is a test, which clippy only knows of functions marked so; it measures tokio's clock and \
              reads its environment"
)]

#[path = "smoke/read_only.rs"]
mod read_only;
#[path = "smoke/watched.rs"]
mod watched;

use chrono::{DateTime, Utc};
use linkspan::brevo::{BrevoClient, BrevoOptions};
use linkspan::doors::{Clock, Doors, NoCrash, SeededRng, SimulatedClock, SystemClock};
use linkspan::http::{Reqwest, Transport};
use linkspan::intercom::{IntercomClient, IntercomOptions};
use linkspan::model::{
    Answer, BrevoContactId, BrevoListId, ContactChange, ContactKey, Email, ErrorKind, Fetched, Fields, ImportBatch,
    ImportRow, ImportState, IntercomContactId, NewContact, OutgoingEvent, Priority, Resource, Scope, Side, SideError,
    Value, Write,
};
use linkspan::sandbox::{self, Fault};
use read_only::sweep;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use watched::{Break, PATIENCE, Watched};

/// More pages than any sandboxed sweep has.
const ALL: usize = 1_000;

/// A sandboxed workspace with our client before it.
struct Intercom {
    sandbox: sandbox::intercom::IntercomSandbox,
    watched: Arc<Watched>,
    client: IntercomClient,
    clock: Arc<SimulatedClock>,
}

/// A sandboxed account with our client before it.
struct Brevo {
    sandbox: sandbox::brevo::BrevoSandbox,
    watched: Arc<Watched>,
    client: BrevoClient,
    clock: Arc<SimulatedClock>,
}

fn clock() -> Arc<SimulatedClock> {
    Arc::new(SimulatedClock::starting_at("2026-11-20T09:00:00Z".parse().unwrap()))
}

fn doors(clock: Arc<dyn Clock>) -> Doors {
    Doors { clock, rng: Arc::new(SeededRng::new(1)), crash: Arc::new(NoCrash) }
}

fn intercom_client(base: &str, token: &str, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> IntercomClient {
    let options = IntercomOptions {
        base_url: base.parse().unwrap(),
        access_token: token.to_owned().into(),
        api_version: "2.11".to_owned(),
        share: 0.9,
        plan: None,
    };
    IntercomClient::new(options, transport, doors(clock))
}

fn brevo_client(base: &str, key: &str, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> BrevoClient {
    let options = BrevoOptions { base_url: base.parse().unwrap(), ..BrevoOptions::new(key.to_owned().into()).unwrap() };
    BrevoClient::new(options, transport, doors(clock))
}

fn intercom(contacts: usize) -> Intercom {
    let clock = clock();
    let options = sandbox::intercom::IntercomOptions { clock: clock.clone(), ..Default::default() };
    let sandbox = sandbox::intercom::IntercomSandbox::new(options);
    if contacts > 0 {
        sandbox.world(7, contacts);
    }
    let watched = Arc::new(Watched::new(sandbox.router()));
    let client = intercom_client("https://intercom.test/", sandbox.access_token(), watched.clone(), clock.clone());
    Intercom { sandbox, watched, client, clock }
}

fn address(number: usize) -> String {
    format!("person{number}@example.com")
}

fn brevo(contacts: usize) -> Brevo {
    let clock = clock();
    let sandbox = sandbox::brevo::BrevoSandbox::new(sandbox::brevo::BrevoOptions::new(7, clock.clone()));
    for number in 0..contacts {
        let seed = sandbox::brevo::ContactSeed { email: Some(address(number)), ..Default::default() };
        sandbox.create_contact(seed).unwrap();
    }
    let watched = Arc::new(Watched::new(sandbox.router()));
    let client = brevo_client("https://brevo.test/v3", sandbox.api_key(), watched.clone(), clock.clone());
    Brevo { sandbox, watched, client, clock }
}

impl Intercom {
    async fn fetch(&self, id: &str) -> Result<Fetched, Box<SideError>> {
        self.client.fetch(&ContactKey::Intercom(IntercomContactId::new(id)), Priority::Live).await
    }
}

impl Brevo {
    async fn write(&self, write: Write) -> Result<Answer, Box<SideError>> {
        self.client.write(&write, Priority::Live).await
    }

    /// Somebody else's program on the same account.
    async fn somebody_elses_request(&self) {
        let request = http::Request::get("https://brevo.test/v3/contacts").header("api-key", self.sandbox.api_key());
        let router = self.sandbox.router();
        linkspan::http::InProcess::new(router).send(request.body(bytes::Bytes::new()).unwrap()).await.unwrap();
    }

    fn ids(&self) -> Vec<BrevoContactId> {
        self.sandbox.contacts().iter().map(|contact| BrevoContactId::new(contact.id)).collect()
    }
}

fn set(name: &str, value: &str) -> ContactChange {
    let attributes = BTreeMap::from([(name.to_owned(), Value::text(value))]);
    ContactChange { attributes, ..ContactChange::default() }
}

fn newcomer(email: &str) -> Write {
    Write::CreateContact(NewContact { email: Some(Email::parse(email).unwrap()), ..NewContact::default() })
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

// Every account.

#[tokio::test(start_paused = true)]
async fn what_holds_for_every_account_holds_for_the_sandboxes() {
    let here = intercom(700);
    let stranger = intercom_client("https://intercom.test/", "wrong", here.watched.clone(), here.clock.clone());
    let read = read_only::everything(&here.client, &stranger, &*here.clock).await;
    assert_eq!(read, here.sandbox.truth().contacts);
    assert_eq!(here.sandbox.log().write_count(), 0);

    let here = brevo(1_500);
    let stranger = brevo_client("https://brevo.test/v3", "wrong", here.watched.clone(), here.clock.clone());
    let read = read_only::everything(&here.client, &stranger, &*here.clock).await;
    assert_eq!(read, here.sandbox.contact_count());
    assert_eq!(here.sandbox.log().write_count(), 0);
}

/// Over sockets: real accounts if the environment says so, else served sandboxes.
#[tokio::test]
async fn what_holds_for_every_account_holds_over_sockets() {
    let environment = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let transport = Arc::new(Reqwest::new(PATIENCE).unwrap());
    let live = environment("LINKSPAN_LIVE").as_deref() == Some("1");
    let mut serving = Vec::new();
    let (token, key, bases) = if live {
        let or = |name: &str, other: &str| environment(name).unwrap_or_else(|| other.to_owned());
        let bases =
            [or("INTERCOM_BASE_URL", "https://api.intercom.io/"), or("BREVO_BASE_URL", "https://api.brevo.com/v3")];
        (environment("INTERCOM_ACCESS_TOKEN"), environment("BREVO_API_KEY"), bases)
    } else {
        let intercom = sandbox::intercom::IntercomSandbox::new(sandbox::intercom::IntercomOptions::default());
        intercom.world(7, 200);
        let brevo = sandbox::brevo::BrevoSandbox::new(sandbox::brevo::BrevoOptions::new(7, clock.clone()));
        brevo.create_contact(sandbox::brevo::ContactSeed { email: Some(address(1)), ..Default::default() }).unwrap();
        serving.push(sandbox::serve(intercom.router(), 0).await.unwrap());
        serving.push(sandbox::serve(brevo.router(), 0).await.unwrap());
        let bases = [serving[0].base_url(), format!("{}/v3", serving[1].base_url())];
        (Some(intercom.access_token().to_owned()), Some(brevo.api_key().to_owned()), bases)
    };
    assert!(token.is_some() || key.is_some(), "LINKSPAN_LIVE=1 needs INTERCOM_ACCESS_TOKEN, BREVO_API_KEY, or both");
    let [intercom, brevo] = bases;
    if let Some(token) = token {
        let client = intercom_client(&intercom, &token, transport.clone(), clock.clone());
        let stranger = intercom_client(&intercom, "bm90OmE6dG9rZW4=", transport.clone(), clock.clone());
        let read = read_only::everything(&client, &stranger, &*clock).await;
        assert!(live || read > 100);
        eprintln!("Intercom at {intercom}: {read} contacts read");
    }
    if let Some(key) = key {
        let client = brevo_client(&brevo, &key, transport.clone(), clock.clone());
        let stranger = brevo_client(&brevo, "xkeysib-not-a-key", transport, clock.clone());
        let read = read_only::everything(&client, &stranger, &*clock).await;
        assert!(live || read == 1);
        eprintln!("Brevo at {brevo}: {read} contacts read");
    }
    for serving in serving {
        serving.stop().await;
    }
}

// Pagination.

/// How `total` records come at most `size` a page.
fn paged(total: usize, size: usize) -> Vec<usize> {
    (0..total).step_by(size).map(|from| size.min(total - from)).collect()
}

#[tokio::test(start_paused = true)]
async fn intercoms_contacts_come_150_a_page_and_changed_ones_alone() {
    let here = intercom(1_000);
    let ids: BTreeSet<String> = here.sandbox.contact_ids().into_iter().collect();
    let full = sweep(&here.client, Resource::Contacts, Scope::Full, ALL).await;
    assert_eq!(full.pages.iter().sum::<usize>(), here.sandbox.truth().contacts);
    assert_eq!(full.pages, paged(here.sandbox.truth().contacts, 150));
    assert!(full.seen.keys().all(|id| ids.contains(id)));

    pass(7_200).await;
    let since = here.clock.now();
    let edited: BTreeSet<String> = full.seen.keys().step_by(4).cloned().collect();
    for id in &edited {
        here.sandbox.edit_contact(id, &json!({"name": "New Name"})).unwrap();
    }
    pass(60).await;
    let changed = sweep(&here.client, Resource::Contacts, Scope::Since(since), ALL).await;
    assert_eq!(changed.seen.keys().cloned().collect::<BTreeSet<_>>(), edited);
}

#[tokio::test(start_paused = true)]
async fn intercoms_conversations_come_150_a_page_and_changed_ones_alone() {
    let here = intercom(1_000);
    let full = sweep(&here.client, Resource::Conversations, Scope::Full, ALL).await;
    assert_eq!(full.seen.len(), here.sandbox.truth().conversations);
    assert_eq!(full.pages, paged(full.seen.len(), 150));
    assert!(full.pages.len() > 1);
    pass(60).await;
    let since = here.clock.now();
    let edited: BTreeSet<String> = here.sandbox.conversation_ids().into_iter().step_by(9).collect();
    for id in &edited {
        here.sandbox.admin_reply(id, "a word").unwrap();
    }
    let changed = sweep(&here.client, Resource::Conversations, Scope::Since(since), ALL).await;
    assert_eq!(changed.seen.into_keys().collect::<BTreeSet<_>>(), edited);
}

/// Companies with one contact each: those without people are in no list.
fn companies(here: &Intercom, number: usize) {
    here.sandbox.webhooks_on(false);
    let contact = (0..number.div_ceil(900))
        .map(|_| here.sandbox.create_contact(sandbox::intercom::ContactSeed::default()))
        .collect::<Vec<_>>();
    for index in 0..number {
        let company = here.sandbox.create_company(&json!({"name": "Acme"})).unwrap();
        here.sandbox.attach_company(&contact[index / 900], &company).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn companies_are_listed_60_a_page_while_the_list_reaches_that_far() {
    let here = intercom(0);
    companies(&here, 250);
    let full = sweep(&here.client, Resource::Companies, Scope::Full, ALL).await;
    assert_eq!((full.seen.len(), full.pages), (250, paged(250, 60)));
    assert!(here.watched.sent().iter().all(|sent| sent.line != "GET /companies/scroll"));
}

#[tokio::test(start_paused = true)]
async fn more_companies_than_the_list_reaches_are_scrolled_to_the_last() {
    let here = intercom(0);
    companies(&here, 10_050);
    let full = sweep(&here.client, Resource::Companies, Scope::Full, ALL).await;
    assert_eq!(full.seen.len(), 10_050);
    let scrolls = here.watched.sent().iter().filter(|sent| sent.line == "GET /companies/scroll").count();
    assert_eq!(scrolls, full.pages.len(), "every page but the list's refusal was the scroll's");
    assert_eq!(*full.pages.last().unwrap(), 0, "it ends with an empty page");
}

#[tokio::test(start_paused = true)]
async fn brevos_contacts_come_1000_a_page_its_lists_50_and_changed_ones_alone() {
    let here = brevo(2_345);
    let full = sweep(&here.client, Resource::Contacts, Scope::Full, ALL).await;
    assert_eq!(
        (full.seen.len(), full.pages),
        (here.sandbox.contact_count(), paged(here.sandbox.contact_count(), 1000))
    );
    pass(60).await;
    let since = here.clock.now();
    for number in 0..1_200 {
        assert!(here.sandbox.edit_attributes(&address(number), &[("FIRSTNAME", json!("New"))]));
    }
    let changed = sweep(&here.client, Resource::Contacts, Scope::Since(since), ALL).await;
    assert_eq!((changed.seen.len(), changed.pages), (1_200, vec![1000, 200]));

    let before = sweep(&here.client, Resource::Lists, Scope::Full, ALL).await.seen.len();
    for number in 0..120 {
        here.sandbox.create_list(&format!("List {number}"));
    }
    let lists = sweep(&here.client, Resource::Lists, Scope::Full, ALL).await;
    assert_eq!((lists.seen.len(), lists.pages), (before + 120, paged(before + 120, 50)));
}

// Limits and their headers.

#[tokio::test(start_paused = true)]
async fn intercoms_limit_is_learned_from_its_headers_and_never_passed() {
    let here = intercom(300);
    here.sandbox.knobs(|knobs| knobs.rate_limit = Some(20));
    here.client.account().await.unwrap();
    let learned = here.client.budgets();
    assert!(learned.iter().any(|budget| budget.limit == 20 && budget.remaining <= 19), "{learned:?}");
    let (ids, began) = (here.sandbox.contact_ids(), Instant::now());
    let all = ids.iter().take(100).map(|id| here.fetch(id));
    for fetched in futures_util::future::join_all(all).await {
        fetched.unwrap();
    }
    assert_eq!((here.watched.answered(429), here.watched.answered(200)), (0, 101));
    assert!(here.watched.most_within(Duration::from_secs(10)) <= 20);
    // A hundred requests at eighteen in ten seconds: our share is nine tenths.
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(40) && took < Duration::from_secs(120), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn brevos_ten_a_second_are_never_passed() {
    let here = brevo(120);
    let (ids, began) = (here.ids(), Instant::now());
    let all = ids.iter().map(|id| here.write(Write::UpdateContact(*id, set("FIRSTNAME", "New"))));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.unwrap(), Answer::Done);
    }
    assert_eq!((here.watched.answered(429), here.watched.answered(204)), (0, ids.len()));
    assert!(here.watched.most_within(Duration::from_secs(1)) <= 10);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(11) && took < Duration::from_secs(30), "{took:?}");
    // The hour's budget is what people are shown: the second's is full again before they have read it.
    let budgets = here.client.budgets();
    let contacts = budgets.iter().find(|budget| budget.family == "contacts").unwrap();
    assert_eq!((contacts.limit, contacts.remaining), (36_000, 36_000 - ids.len() as u64));
}

#[tokio::test(start_paused = true)]
async fn brevos_hundred_an_hour_are_never_passed_and_a_long_wait_is_given_back() {
    let here = brevo(1);
    let contact = here.ids()[0];
    let mut sent = 0;
    let error = loop {
        assert!(sent < 200, "no end to a budget of a hundred an hour");
        match here.write(Write::SendEvents(vec![event("a", contact), event("b", contact)])).await {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Throttled);
    assert!(error.retry_after.is_some_and(|wait| wait > Duration::from_secs(600)), "{error:?}");
    assert!((80..=100).contains(&sent), "{sent}");
    assert_eq!((here.watched.answered(429), here.watched.sent().len()), (0, sent));
    tokio::time::sleep(error.retry_after.unwrap()).await;
    here.write(Write::SendEvents(vec![event("c", contact), event("d", contact)])).await.unwrap();
    // What another family may send was never touched.
    here.client.fetch(&ContactKey::Brevo(contact), Priority::Live).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_to_the_second() {
    let here = intercom(10);
    let id = here.sandbox.contact_ids().remove(0);
    here.sandbox.knobs(|knobs| knobs.faults.push_back(("/contacts/".to_owned(), Fault::Status(429, Some(7)))));
    here.fetch(&id).await.unwrap();
    let sent = here.watched.sent();
    assert_eq!(sent.iter().map(|sent| sent.status).collect::<Vec<_>>(), [Some(429), Some(200)]);
    assert_eq!((sent[1].at - sent[0].at).as_secs(), 7);

    let here = brevo(1);
    here.sandbox.fail("/contacts", Fault::Status(429, Some(13)));
    here.write(newcomer("new@example.com")).await.unwrap();
    let sent = here.watched.sent();
    assert_eq!(sent.iter().map(|sent| sent.status).collect::<Vec<_>>(), [Some(429), Some(201)]);
    assert_eq!((sent[1].at - sent[0].at).as_secs(), 13, "a refused creation was not done, so it may be sent again");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_others_used_up_is_waited_for_by_its_reset() {
    let here = intercom(10);
    let id = here.sandbox.contact_ids().remove(0);
    here.sandbox.knobs(|knobs| knobs.rate_limit = Some(5));
    let other = linkspan::http::InProcess::new(here.sandbox.router());
    for _ in 0..5 {
        other.send(http::Request::get("https://intercom.test/me").body(bytes::Bytes::new()).unwrap()).await.unwrap();
    }
    here.fetch(&id).await.unwrap();
    let sent = here.watched.sent();
    assert_eq!(sent.iter().map(|sent| sent.status).collect::<Vec<_>>(), [Some(429), Some(200)]);
    let waited = sent[1].at - sent[0].at;
    assert!(waited > Duration::from_secs(5) && waited <= Duration::from_secs(11), "{waited:?}");

    // Brevo sends no Retry-After at all.
    let here = brevo(1);
    for _ in 0..10 {
        here.somebody_elses_request().await;
    }
    here.client.fetch(&ContactKey::Brevo(here.ids()[0]), Priority::Live).await.unwrap();
    let sent = here.watched.sent();
    assert_eq!(sent.iter().map(|sent| sent.status).collect::<Vec<_>>(), [Some(429), Some(200)]);
    assert_eq!((sent[1].at - sent[0].at).as_secs(), 1, "x-sib-ratelimit-reset is a time that remains");
}

// Retries.

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_in_passing_is_sent_once_more() {
    for fault in [Fault::Status(500, None), Fault::Status(503, None), Fault::Html, Fault::Empty, Fault::Truncated] {
        let here = intercom(200);
        here.sandbox.knobs(|knobs| knobs.faults.push_back(("/contacts/search".to_owned(), fault.clone())));
        let full = sweep(&here.client, Resource::Contacts, Scope::Full, ALL).await;
        assert_eq!(full.seen.len(), here.sandbox.truth().contacts, "{fault:?}");
        let searches = here.watched.sent().iter().filter(|sent| sent.line == "POST /contacts/search").count();
        assert_eq!(searches, full.pages.len() + 1, "{fault:?}");

        let here = brevo(10);
        here.sandbox.fail("/contacts?", fault.clone());
        let full = sweep(&here.client, Resource::Contacts, Scope::Full, ALL).await;
        assert_eq!(full.seen.len(), here.sandbox.contact_count(), "{fault:?}");
        assert_eq!(here.watched.sent().iter().filter(|sent| sent.line == "GET /v3/contacts").count(), 2, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_way_breaks_is_sent_again() {
    for broken in [Break::NoConnection, Break::NoAnswer, Break::Lost] {
        let here = intercom(10);
        here.watched.break_next([broken]);
        let began = Instant::now();
        here.fetch(&here.sandbox.contact_ids()[0]).await.unwrap();
        assert_eq!(here.watched.sent().len(), 2, "{broken:?}");
        let patient = !matches!(broken, Break::NoConnection);
        assert_eq!(began.elapsed() >= PATIENCE, patient, "{broken:?}");

        let here = brevo(1);
        here.watched.break_next([broken]);
        here.client.fetch(&ContactKey::Brevo(here.ids()[0]), Priority::Live).await.unwrap();
        assert_eq!(here.watched.sent().len(), 2, "{broken:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_given_up_after_four_attempts_and_named() {
    let here = intercom(10);
    for _ in 0..9 {
        here.sandbox.knobs(|knobs| knobs.faults.push_back((String::new(), Fault::Status(503, None))));
    }
    let error = here.fetch(&here.sandbox.contact_ids()[0]).await.unwrap_err();
    assert_eq!((error.kind.clone(), error.status, error.attempts), (ErrorKind::Unavailable, Some(503), 4));
    assert_eq!(here.watched.sent().len(), 4);
    assert!(error.is_transient());
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_outcome_is_unknown_is_sent_again_because_it_sets_the_same() {
    let here = brevo(1);
    let id = here.ids()[0];
    let change = || Write::UpdateContact(id, set("FIRSTNAME", "Ada"));
    for lost in [Break::NoAnswer, Break::Lost] {
        here.watched.break_next([lost]);
        assert_eq!(here.write(change()).await.unwrap(), Answer::Done);
        assert_eq!(here.watched.sent().len(), 2);
        here.watched.clear();
    }
    // A minute later somebody may have edited the record: it is looked at before more is sent.
    here.watched.break_next([Break::NoAnswer, Break::Lost]);
    let error = here.write(change()).await.unwrap_err();
    assert_eq!((error.kind, error.attempts, here.watched.sent().len()), (ErrorKind::Ambiguous, 2, 2));
    here.watched.clear();
    here.sandbox.fail("/contacts/", Fault::StatusAfterEffect(502));
    assert_eq!(here.write(change()).await.unwrap(), Answer::Done);
    assert_eq!(here.watched.sent().len(), 2);
    assert_eq!(here.sandbox.contact(id.get()).unwrap().attributes.get("FIRSTNAME"), Some(&json!("Ada")));
}

#[tokio::test(start_paused = true)]
async fn a_creation_whose_outcome_is_unknown_is_never_repeated() {
    let here = brevo(1);
    let contact = here.ids()[0];
    let row = ImportRow { email: Email::parse("row@example.com").unwrap(), ext_id: None, attributes: Fields::new() };
    let batch = ImportBatch {
        rows: vec![row],
        lists: BTreeSet::from([BrevoListId::new(2)]),
        update_existing: false,
        email_opted_out: false,
    };
    let writes: [&dyn Fn() -> Write; 4] = [
        &|| newcomer("new@example.com"),
        &|| Write::Import(batch.clone()),
        &|| Write::SendEvents(vec![event("one", contact)]),
        &|| Write::SendEvents(vec![event("one", contact), event("two", contact)]),
    ];
    for write in writes {
        for broken in [Some(Break::Lost), Some(Break::NoAnswer), None] {
            // So many failures in a row would open the breaker.
            here.client.fetch(&ContactKey::Brevo(contact), Priority::Live).await.unwrap();
            here.watched.clear();
            match broken {
                Some(broken) => here.watched.break_next([broken]),
                None => here.sandbox.fail("", Fault::StatusAfterEffect(504)),
            }
            // The second time around the newcomer is a duplicate, which is no creation: somebody else asks.
            let error = here.write(write()).await.unwrap_err();
            assert_eq!((error.kind.clone(), error.attempts), (ErrorKind::Ambiguous, 1), "{:?}", write());
            assert_eq!(here.watched.sent().len(), 1, "{:?}", write());
        }
    }
    assert!(here.sandbox.contact_by_email("new@example.com").is_some(), "unknown may mean done");
    // But where nothing can have left, it is sent again.
    here.watched.clear();
    here.watched.break_next([Break::NoConnection]);
    let answer = here.write(newcomer("other@example.com")).await.unwrap();
    assert!(matches!(answer, Answer::ContactCreated(_)));
    assert_eq!(here.watched.sent().len(), 2);
}

// Partial failure.

fn event(key: &str, contact: BrevoContactId) -> OutgoingEvent {
    OutgoingEvent {
        key: key.to_owned(),
        name: "conversation_closed".to_owned(),
        happened_at: DateTime::<Utc>::from_timestamp(1_795_000_000, 0).unwrap(),
        contact,
        properties: BTreeMap::from([("rating".to_owned(), json!(4))]),
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_of_events_the_good_ones_are_taken_and_the_bad_ones_named() {
    let here = brevo(1);
    let contact = here.ids()[0];
    let bad = OutgoingEvent { name: "not a name".to_owned(), ..event("bad", contact) };
    let batch = vec![event("a", contact), bad.clone(), event("b", contact), bad.clone()];
    let Answer::EventsAccepted { failed } = here.write(Write::SendEvents(batch)).await.unwrap() else { panic!() };
    assert_eq!(here.watched.sent()[0].status, Some(207));
    assert_eq!(failed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 3]);
    assert!(failed.iter().all(|(_, words)| !words.is_empty()));
    let key = |event: &sandbox::brevo::ReceivedEvent| event.properties["linkspan_key"].as_str().unwrap().to_owned();
    assert_eq!(here.sandbox.events().iter().map(key).collect::<Vec<_>>(), ["a", "b"]);
    // Nothing good at all, and a single bad one, are refusals of the events, not of the request.
    for (events, refused) in [(vec![bad.clone(), bad.clone()], 2), (vec![bad], 1)] {
        let Answer::EventsAccepted { failed } = here.write(Write::SendEvents(events)).await.unwrap() else { panic!() };
        assert_eq!(failed.len(), refused);
    }
    assert_eq!(here.sandbox.events().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn lists_are_changed_150_members_a_call_and_those_who_are_refused_are_named() {
    let here = brevo(301);
    let list = BrevoListId::new(here.sandbox.create_list("VIP"));
    let ids: Vec<BrevoContactId> = here.ids().into_iter().take(301).collect();
    let nobody = BrevoContactId::new(999_999);
    let with_stranger: Vec<BrevoContactId> = ids.iter().copied().chain([nobody]).collect();
    let add = Write::AddToList(list, with_stranger.clone());
    let Answer::ListChanged { done, failed } = here.write(add).await.unwrap() else { panic!() };
    assert_eq!((done, failed), (ids.clone(), vec![nobody]));
    assert_eq!(here.watched.sent().len(), 3, "150, 150 and 2");
    let members: BTreeSet<i64> = ids.iter().map(|id| id.get()).collect();
    assert_eq!(here.sandbox.list_members(list.get()), members);
    // Who is on it already is where we want them.
    let Answer::ListChanged { done, .. } = here.write(Write::AddToList(list, ids[..20].to_vec())).await.unwrap() else {
        panic!()
    };
    assert_eq!(done, ids[..20]);
    let remove = Write::RemoveFromList(list, with_stranger);
    let Answer::ListChanged { done, failed } = here.write(remove).await.unwrap() else { panic!() };
    assert_eq!((done, failed), (ids, vec![nobody]));
    assert!(here.sandbox.list_members(list.get()).is_empty());
}

async fn finished(here: &Brevo, batch: ImportBatch) -> (bool, BTreeMap<String, String>) {
    let Answer::ImportStarted(process, Some(_)) = here.write(Write::Import(batch)).await.unwrap() else { panic!() };
    let state = async || here.client.import_states(&[process]).await.unwrap().remove(&process).unwrap();
    assert_eq!(state().await, ImportState::Running);
    pass(10).await;
    match state().await {
        ImportState::Finished { completed, reports } => (completed, reports),
        ImportState::Running => panic!("an import that takes five seconds still runs after ten"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_import_calls_itself_completed_and_its_reports_name_the_rows_that_failed() {
    let here = brevo(0);
    let phone = || Some("+33612345678".to_owned());
    let holder = sandbox::brevo::ContactSeed { phone: phone(), ext_id: Some("u1".to_owned()), ..Default::default() };
    here.sandbox.create_contact(holder).unwrap();
    let row = |email: &str, attributes: &[(&str, &str)], ext_id: Option<&str>| ImportRow {
        email: Email::parse(email).unwrap(),
        ext_id: ext_id.map(str::to_owned),
        attributes: attributes.iter().map(|(name, text)| ((*name).to_owned(), Value::text(*text).unwrap())).collect(),
    };
    let batch = ImportBatch {
        rows: vec![
            row("good@example.com", &[("FIRSTNAME", "Ada")], None),
            row("phone@example.com", &[("SMS", "33612345678")], None),
            row("outer@example.com", &[], Some("u1")),
        ],
        lists: BTreeSet::from([BrevoListId::new(2)]),
        update_existing: true,
        email_opted_out: false,
    };
    let (completed, reports) = finished(&here, batch).await;
    assert!(completed, "by its own word all is well");
    let mut failed = BTreeMap::new();
    for (reason, url) in &reports {
        failed.insert(reason.as_str(), here.client.import_report(url).await.unwrap());
    }
    let expected = [("duplicate_ext_id", "outer@example.com"), ("duplicate_phone_id", "phone@example.com")];
    assert_eq!(failed, expected.map(|(reason, email)| (reason, vec![email.to_owned()])).into());
    assert!(here.sandbox.contact_by_email("good@example.com").is_some());
    assert!(here.sandbox.contact_by_email("phone@example.com").is_none());
}

#[tokio::test(start_paused = true)]
async fn imports_of_nearly_eight_megabytes_land() {
    let here = brevo(0);
    assert!(here.sandbox.create_attribute("NOTE", "text"));
    let text = Value::text("x".repeat(8_000)).unwrap();
    let rows: Vec<ImportRow> = (0..2_500)
        .map(|number| ImportRow {
            email: Email::parse(&address(number)).unwrap(),
            ext_id: None,
            attributes: Fields::from([("NOTE".to_owned(), text.clone())]),
        })
        .collect();
    for rows in rows.chunks(900).map(<[ImportRow]>::to_vec) {
        let lists = BTreeSet::from([BrevoListId::new(2)]);
        let batch = ImportBatch { rows, lists, update_existing: false, email_opted_out: false };
        let (completed, reports) = finished(&here, batch).await;
        assert!(completed && reports.is_empty());
    }
    let largest = here.watched.sent().iter().map(|sent| sent.bytes).max().unwrap();
    assert!((7_000_000..=8_000_000).contains(&largest), "{largest}");
    assert_eq!((0..2_500).filter(|number| here.sandbox.contact_by_email(&address(*number)).is_some()).count(), 2_500);
}
