//! What our own clients send, judged by the vendors' descriptions.

use crate::deviations::{Deviation, Reviewed};
use crate::exchange::Judge;
use crate::openapi::Part;
use linkspan::brevo::registrations::{Kind, Wanted};
use linkspan::brevo::webhook::Auth;
use linkspan::brevo::{BrevoClient, BrevoOptions};
use linkspan::doors::{Doors, NoCrash, SeededRng, SimulatedClock};
use linkspan::http::InProcess;
use linkspan::intercom::{IntercomClient, IntercomOptions};
use linkspan::model::{
    Answer, Attribute, AttributeKind, AttributeSpec, BrevoCompany, BrevoContactId, ContactChange, ContactKey, Cursor,
    Email, ErrorKind, ImportBatch, ImportRow, IntercomChange, IntercomCompanyId, IntercomContactId, NewCompany,
    NewContact, NewIntercomContact, OutgoingEvent, Priority, ReadRequest, Related, Resource, Role, Scope, Side, Value,
    Write,
};
use linkspan::sandbox::RequestLog;
use linkspan::sandbox::{brevo as brevo_sandbox, intercom as intercom_sandbox};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn doors() -> Doors {
    let start = "2026-11-20T09:00:00Z".parse().unwrap();
    Doors {
        clock: Arc::new(SimulatedClock::starting_at(start)),
        rng: Arc::new(SeededRng::new(7)),
        crash: Arc::new(NoCrash),
    }
}

fn judged(names: &[&str], log: &RequestLog, table: &'static [Deviation], at_least: usize) {
    let Some(judge) = Judge::load(names) else { return };
    let mut reviewed = Reviewed::new(table);
    let mut problems: Vec<String> =
        judge.problems_in(&log.all(), &mut reviewed).iter().map(ToString::to_string).collect();
    problems.sort();
    problems.dedup();
    assert!(problems.is_empty(), "{} problems in what was sent:\n{}", problems.len(), problems.join("\n"));
    assert!(reviewed.unused().is_empty(), "reviewed deviations that no longer occur: {:#?}", reviewed.unused());
    assert!(log.len() >= at_least, "only {} requests", log.len());
}

async fn sweep(side: &dyn Side, resource: Resource, scope: Scope) -> usize {
    let (mut cursor, mut seen): (Option<Cursor>, usize) = (None, 0);
    for _ in 0..50 {
        let timezone = chrono_tz::Tz::America__Los_Angeles;
        let request = ReadRequest { resource, scope, cursor, timezone, priority: Priority::Backfill };
        let page = side.read(&request).await.unwrap();
        seen += page.observations.len();
        cursor = page.next;
        if cursor.is_none() {
            return seen;
        }
    }
    panic!("{resource:?} never ends");
}

#[tokio::test(start_paused = true)]
async fn what_the_brevo_client_sends_fits_the_description() {
    let doors = doors();
    let sandbox = brevo_sandbox::BrevoSandbox::new(brevo_sandbox::BrevoOptions::new(7, Arc::clone(&doors.clock)));
    let people: Vec<(String, Option<String>)> = (0..50).map(|n| (format!("p{n}@example.com"), None)).collect();
    sandbox.world(11, &people, &brevo_sandbox::WorldShares { existing: 1.0, ..Default::default() }, 1);
    let options = BrevoOptions::new(sandbox.api_key().to_owned().into()).unwrap();
    let client = BrevoClient::new(options, Arc::new(InProcess::new(sandbox.router())), doors);
    let (live, now) = (Priority::Live, "2026-11-20T09:00:00.500Z".parse().unwrap());

    client.account().await.unwrap();
    for (name, kind, options) in [
        ("COMPANY_NAME", AttributeKind::Text, vec![]),
        ("SESSIONS", AttributeKind::Float, vec![]),
        ("VIP", AttributeKind::Boolean, vec![]),
        ("SIGNUP_DATE", AttributeKind::Date, vec![]),
        ("ROLE", AttributeKind::Category, vec!["user".to_owned(), "lead".to_owned()]),
        ("TAGS", AttributeKind::MultipleChoice, vec!["beta".to_owned()]),
    ] {
        let spec = AttributeSpec { name: name.to_owned(), kind, options };
        client.write(&Write::CreateAttribute(spec), live).await.unwrap();
    }
    let attributes = client.attributes().await.unwrap();
    for attribute in attributes.iter().filter(|attribute| ["ROLE", "TAGS"].contains(&attribute.name.as_str())) {
        let mut more: Attribute = attribute.clone();
        let key = if attribute.kind == AttributeKind::Category { "9" } else { "gold" };
        more.options.push(("gold".to_owned(), key.to_owned()));
        client.write(&Write::SetAttributeOptions(more), live).await.unwrap();
    }
    let Answer::ListCreated(list) = client.write(&Write::CreateList("All users".to_owned()), live).await.unwrap()
    else {
        panic!("no list");
    };

    let ann = Email::parse("ann@example.com").unwrap();
    let new = NewContact {
        email: Some(ann.clone()),
        ext_id: Some("u-77".to_owned()),
        attributes: BTreeMap::from([("FIRSTNAME".to_owned(), Value::Text("Ann".to_owned()))]),
        lists: BTreeSet::from([list]),
        email_opted_out: true,
        sms_opted_out: true,
    };
    let Answer::ContactCreated(id) = client.write(&Write::CreateContact(new.clone()), live).await.unwrap() else {
        panic!("no contact");
    };
    client.write(&Write::CreateContact(new), live).await.unwrap_err();
    let change = ContactChange {
        email_opted_in: None,
        attributes: BTreeMap::from([
            ("FIRSTNAME".to_owned(), None),
            ("COMPANY_NAME".to_owned(), Some(Value::Text("Acme".to_owned()))),
            ("VIP".to_owned(), Some(Value::Boolean(false))),
        ]),
        email: Some(Email::parse("ann.lee+x@example.com").unwrap()),
        ext_id: Some("u-78".to_owned()),
        join_lists: BTreeSet::new(),
        leave_lists: BTreeSet::from([list]),
        email_opted_out: true,
        sms_opted_out: true,
    };
    client.write(&Write::UpdateContact(id, change), live).await.unwrap();
    let keys = [
        ContactKey::Brevo(id),
        ContactKey::BrevoEmail(Email::parse("ann.lee+x@example.com").unwrap()),
        ContactKey::BrevoEmail(ann),
        ContactKey::BrevoExtId("u-78".to_owned()),
        ContactKey::BrevoPhone("33612345678".to_owned()),
    ];
    for key in &keys {
        client.fetch(key, live).await.unwrap();
    }
    client.write(&Write::AddToList(list, vec![id]), live).await.unwrap();
    client.write(&Write::RemoveFromList(list, vec![id]), live).await.unwrap();
    let event = OutgoingEvent {
        key: "215:closed:1".to_owned(),
        name: "intercom_conversation_closed".to_owned(),
        happened_at: now,
        contact: id,
        properties: BTreeMap::from([("rating".to_owned(), serde_json::json!(5))]),
    };
    client.write(&Write::SendEvents(vec![event.clone()]), live).await.unwrap();
    client.write(&Write::SendEvents(vec![event.clone(), event.clone()]), live).await.unwrap();
    let other = OutgoingEvent {
        key: "215:created:1".to_owned(),
        name: "intercom_conversation_created".to_owned(),
        ..event.clone()
    };
    let held = client.events_held(&[event.clone(), other], live).await.unwrap();
    assert_eq!(held, BTreeSet::from([event.key]));
    let rows = (0..3)
        .map(|n| ImportRow {
            email: Email::parse(&format!("new{n}@example.com")).unwrap(),
            ext_id: Some(format!("n-{n}")),
            attributes: BTreeMap::from([("FIRSTNAME".to_owned(), Value::Text("New".to_owned()))]),
        })
        .collect();
    let batch = ImportBatch { rows, lists: BTreeSet::from([list]), update_existing: false, email_opted_out: true };
    let Answer::ImportStarted(process, _) = client.write(&Write::Import(batch), live).await.unwrap() else {
        panic!("no import");
    };
    client.import_states(&[process]).await.unwrap();
    client.import_states(&[process, process]).await.unwrap();
    client.count_changed(chrono::DateTime::UNIX_EPOCH, Priority::Live).await.unwrap();

    for scope in [Scope::Full, Scope::Since(now), Scope::CreatedSince(now)] {
        sweep(&client, Resource::Contacts, scope).await;
    }
    assert!(sweep(&client, Resource::Lists, Scope::Full).await > 0);

    companies(&client, id).await;

    for kind in Kind::ALL {
        client.webhooks(kind).await.unwrap();
    }
    let secret = || "secret".to_owned().into();
    let ways = [
        Auth::Bearer(secret()),
        Auth::Basic("linkspan".to_owned(), secret()),
        Auth::Header("x-linkspan-secret".parse().unwrap(), secret()),
    ];
    for (kind, auth) in [Kind::Marketing, Kind::Transactional].into_iter().flat_map(|k| ways.clone().map(|w| (k, w))) {
        let url = "https://linkspan.example.com/webhooks/brevo".parse().unwrap();
        let wanted = Wanted { kind, url, auth, events: kind.events(true), batched: true };
        client.create_webhook(&wanted).await.unwrap();
        let registered = client.webhooks(kind).await.unwrap().remove(0);
        client.change_webhook(&registered, &Wanted { batched: false, ..wanted }).await.unwrap();
        let registered = client.webhooks(kind).await.unwrap().remove(0);
        client.delete_webhook(registered.id).await.unwrap();
    }

    judged(&["brevo-2026-02.yaml", "brevo-2026-10.json"], &sandbox.log(), &[], 50);
}

/// Company objects: attributes, one by one, by import, and their contacts.
async fn companies(client: &BrevoClient, contact: BrevoContactId) {
    let live = Priority::Live;
    client.company_attributes().await.unwrap();
    for (name, kind, options) in [
        (BrevoCompany::OURS, AttributeKind::Text, vec![]),
        ("SEATS", AttributeKind::Float, vec![]),
        ("KEY_ACCOUNT", AttributeKind::Boolean, vec![]),
        ("SINCE", AttributeKind::Date, vec![]),
        ("TIER", AttributeKind::Category, vec!["gold".to_owned(), "tin".to_owned()]),
        ("REGIONS", AttributeKind::MultipleChoice, vec!["EU".to_owned()]),
    ] {
        let spec = AttributeSpec { name: name.to_owned(), kind, options };
        client.write(&Write::CreateCompanyAttribute(spec), live).await.unwrap();
    }
    client.company_attributes().await.unwrap();
    let text = |text: &str| Value::Text(text.to_owned());
    let new = NewCompany {
        attributes: BTreeMap::from([
            (BrevoCompany::NAME.to_owned(), text("Acme")),
            (BrevoCompany::OURS.to_owned(), text("667d607c8a68186f43bafd1e")),
            ("SINCE".to_owned(), Value::Date("2024-02-29".parse().unwrap())),
            ("KEY_ACCOUNT".to_owned(), Value::Boolean(true)),
        ]),
        contacts: BTreeSet::from([contact]),
    };
    let Answer::CompanyCreated(id) = client.write(&Write::CreateCompany(new.clone()), live).await.unwrap() else {
        panic!("no company");
    };
    let change = BTreeMap::from([
        (BrevoCompany::NAME.to_owned(), Some(text("Acme Ltd"))),
        ("SEATS".to_owned(), Value::from_json(&serde_json::json!(3))),
        ("TIER".to_owned(), Some(text("gold"))),
        ("REGIONS".to_owned(), Value::list(["EU".to_owned()])),
        ("SINCE".to_owned(), None),
    ]);
    client.write(&Write::UpdateCompany(id.clone(), change), live).await.unwrap();
    let nobody = BTreeSet::new;
    for (link, unlink) in [(nobody(), BTreeSet::from([contact])), (BTreeSet::from([contact]), nobody())] {
        client.write(&Write::LinkCompany(id.clone(), link, unlink), live).await.unwrap();
    }
    client.fetch_brevo_company(&id, live).await.unwrap();
    let ours = new.attributes[BrevoCompany::OURS].to_string();
    let found = client.companies_of(&IntercomCompanyId::new(ours), live).await.unwrap();
    assert_eq!(found.len(), 1);
    let since = "2026-11-20T09:00:00Z".parse().unwrap();
    for scope in [Scope::Full, Scope::Since(since), Scope::CreatedSince(since)] {
        // Of all, the second page is looked at, and is the first once more where pages count from 1.
        let most = if scope == Scope::Full { 2 } else { 1 };
        assert_eq!(sweep(client, Resource::Companies, scope).await, most);
    }
    let Answer::ImportStarted(process, _) =
        client.write(&Write::ImportCompanies(vec![(None, new)]), live).await.unwrap()
    else {
        panic!("no import");
    };
    client.import_states(&[process]).await.unwrap();
}

/// Where the description does not know what the API takes.
static INTERCOM: &[Deviation] = &[
    Deviation {
        operation: "POST /contacts/search",
        part: Part::Request,
        pointer: "",
        complaint: "'sort' was unexpected",
        fact: "described from version 2.16 on; the vendor's page on pagination has it for all",
    },
    Deviation {
        operation: "POST /conversations/search",
        part: Part::Request,
        pointer: "",
        complaint: "'sort' was unexpected",
        fact: "not described; the vendor's page on pagination has it for all searches",
    },
];

fn intercom() -> (intercom_sandbox::IntercomSandbox, IntercomClient) {
    let doors = doors();
    let options = intercom_sandbox::IntercomOptions { seed: 7, clock: Arc::clone(&doors.clock), ..Default::default() };
    let sandbox = intercom_sandbox::IntercomSandbox::new(options);
    let options = IntercomOptions {
        base_url: url::Url::parse("https://api.intercom.io/").unwrap(),
        access_token: sandbox.access_token().to_owned().into(),
        api_version: "2.11".to_owned(),
        share: 0.9,
        plan: None,
    };
    let client = IntercomClient::new(options, Arc::new(InProcess::new(sandbox.router())), doors);
    (sandbox, client)
}

#[tokio::test(start_paused = true)]
async fn what_the_intercom_client_sends_fits_the_description() {
    let (sandbox, client) = intercom();
    sandbox.world(11, 400);
    tokio::time::sleep(std::time::Duration::from_secs(600)).await; // paused time; the index has caught up
    let live = Priority::Live;
    let since = "2026-11-01T09:00:00Z".parse().unwrap();

    client.account().await.unwrap();
    client.attributes().await.unwrap();
    for resource in [Resource::Contacts, Resource::Companies, Resource::Conversations, Resource::Tags] {
        for scope in [Scope::Full, Scope::Since(since), Scope::CreatedSince(since)] {
            sweep(&client, resource, scope).await;
        }
    }
    for id in sandbox.contact_ids().iter().take(20) {
        let id: linkspan::model::IntercomContactId = serde_json::from_value(serde_json::json!(id)).unwrap();
        client.fetch(&ContactKey::Intercom(id.clone()), live).await.unwrap();
        for what in [Related::Tags, Related::Companies] {
            client.related(&id, what, live).await.unwrap();
        }
    }
    let found = sandbox.contact(&sandbox.contact_ids()[0]).unwrap();
    for key in [
        ContactKey::IntercomExternalId(found["external_id"].as_str().unwrap_or("nobody's").to_owned()),
        ContactKey::IntercomEmail(Email::parse("nobody@example.com").unwrap()),
    ] {
        client.fetch(&key, live).await.unwrap();
    }
    for id in sandbox.conversation_ids().iter().take(5) {
        let id = serde_json::from_value(serde_json::json!(id)).unwrap();
        client.fetch_conversation(&id, live).await.unwrap();
    }
    for id in sandbox.company_ids().iter().take(5) {
        let id = serde_json::from_value(serde_json::json!(id)).unwrap();
        client.fetch_company(&id, live).await.unwrap();
    }
    assert_eq!(sandbox.log().writes().len(), 0, "reading changes nothing");

    judged(&["intercom-2.11.yaml"], &sandbox.log(), INTERCOM, 60);
}

/// Where the description contradicts its own examples.
static WRITTEN: &[Deviation] = &[
    Deviation {
        operation: "PUT /companies/{company_id}",
        part: Part::Request,
        pointer: "",
        complaint: "the description knows no body here",
        fact: "described from version 2.14 on; 2.11 has the operation and leaves its body out",
    },
    Deviation {
        operation: "POST /data_attributes",
        part: Part::Request,
        pointer: "/options/0",
        complaint: "is not of type \"string\"",
        fact: "its own prose and examples have objects with a `value`",
    },
    Deviation {
        operation: "POST /data_attributes",
        part: Part::Request,
        pointer: "/options/1",
        complaint: "is not of type \"string\"",
        fact: "the same",
    },
];

#[tokio::test(start_paused = true)]
async fn what_is_written_to_intercom_fits_the_description() {
    let (sandbox, client) = intercom();
    let live = Priority::Live;

    for (name, kind, options) in [
        ("plan", AttributeKind::Text, vec![]),
        ("custom_attributes.seats", AttributeKind::Float, vec![]),
        ("vip", AttributeKind::Boolean, vec![]),
        ("born", AttributeKind::Date, vec![]),
        ("rank", AttributeKind::Category, vec!["silver".to_owned(), "gold".to_owned()]),
        ("visits", AttributeKind::Other("integer".to_owned()), vec![]),
    ] {
        let spec = AttributeSpec { name: name.to_owned(), kind, options };
        assert_eq!(client.write(&Write::CreateAttribute(spec), live).await.unwrap(), Answer::Done);
    }
    let many =
        AttributeSpec { name: "many".to_owned(), kind: AttributeKind::MultipleChoice, options: vec!["a".to_owned()] };
    assert_eq!(client.write(&Write::CreateAttribute(many), live).await.unwrap_err().kind, ErrorKind::Unsupported);

    let ann = IntercomChange {
        fields: BTreeMap::from([("name".to_owned(), Value::text("Ann"))]),
        email: Some(Email::parse("ann@example.com").unwrap()),
        ..IntercomChange::default()
    };
    let new = NewIntercomContact { role: Role::User, has: ann };
    let made = client.write(&Write::CreateIntercomContact(new.clone()), live).await.unwrap();
    let Answer::IntercomContact(contact, Some(_)) = made else { panic!("not told what was made") };
    assert!(!contact.consent.email_opted_out() && contact.role == Role::User);
    let again = client.write(&Write::CreateIntercomContact(new.clone()), live).await.unwrap_err();
    let holder = Some(contact.id.to_string());
    assert_eq!(again.kind, ErrorKind::Conflict { identifiers: vec![], holder: holder.clone(), archived: false });

    let change = IntercomChange {
        email_opted_in: None,
        fields: BTreeMap::from([
            ("name".to_owned(), Value::text("Ann Lee")),
            ("phone".to_owned(), Value::text("+33612345678")),
            ("owner_id".to_owned(), None),
            ("signed_up_at".to_owned(), Some(Value::Instant("2026-01-02T03:04:05Z".parse().unwrap()))),
            ("custom_attributes.plan".to_owned(), Value::text("pro")),
            ("custom_attributes.vip".to_owned(), Some(Value::Boolean(false))),
            ("custom_attributes.born".to_owned(), Some(Value::Date("1990-05-17".parse().unwrap()))),
            ("custom_attributes.rank".to_owned(), None),
        ]),
        email: Some(Email::parse("ann.lee+x@example.com").unwrap()),
        external_id: Some("u-77".to_owned()),
        email_opted_out: true,
    };
    let changed = client.write(&Write::UpdateIntercomContact(contact.id.clone(), change), live).await.unwrap();
    let Answer::IntercomContact(now, _) = changed else { panic!("not told what it is now") };
    assert!(now.consent.email_opted_out() && now.external_id.as_deref() == Some("u-77"));
    assert_eq!(now.fields.get("name"), Value::text("Ann Lee").as_ref());
    // What is not said stays: nothing of ours lifts an opt-out.
    let only_name = IntercomChange { fields: BTreeMap::from([("name".to_owned(), None)]), ..IntercomChange::default() };
    let changed = client.write(&Write::UpdateIntercomContact(contact.id.clone(), only_name), live).await.unwrap();
    assert!(matches!(changed, Answer::IntercomContact(now, _) if now.consent.email_opted_out()));
    let lead = NewIntercomContact { role: Role::Lead, has: IntercomChange::opt_out() };
    let lead = client.write(&Write::CreateIntercomContact(lead), live).await.unwrap();
    assert!(matches!(lead, Answer::IntercomContact(lead, _) if lead.role == Role::Lead));

    let Answer::TagCreated(tag) = client.write(&Write::CreateTag("Beta".to_owned()), live).await.unwrap() else {
        panic!("no tag");
    };
    let same = client.write(&Write::CreateTag("beta".to_owned()), live).await.unwrap();
    assert!(matches!(same, Answer::TagCreated(same) if same.id == tag.id), "names are compared in any case");
    for _ in 0..2 {
        client.write(&Write::TagContact(contact.id.clone(), tag.id.clone()), live).await.unwrap();
    }
    assert_eq!(sandbox.contact(contact.id.as_str()).unwrap()["tags"]["total_count"], 1);
    client.write(&Write::UntagContact(contact.id.clone(), tag.id), live).await.unwrap();

    let company = sandbox.create_company(&serde_json::json!({"name": "Acme"})).unwrap();
    let spec = |name: &str| AttributeSpec { name: name.to_owned(), kind: AttributeKind::Text, options: vec![] };
    client.write(&Write::CreateAttribute(spec("company.custom_attributes.tier")), live).await.unwrap();
    assert!(client.company_attributes().await.unwrap().iter().any(|a| a.name == "company.custom_attributes.tier"));
    let company = IntercomCompanyId::new(company);
    let change = BTreeMap::from([
        ("company.name".to_owned(), Value::text("Acme Ltd")),
        ("company.size".to_owned(), Value::from_json(&serde_json::json!(7))),
        ("company.plan".to_owned(), None),
        ("company.custom_attributes.tier".to_owned(), Value::text("gold")),
    ]);
    let changed = client.write(&Write::UpdateIntercomCompany(company.clone(), change), live).await.unwrap();
    let Answer::IntercomCompany(now, Some(_)) = changed else { panic!("not told what it is now") };
    assert_eq!(now.fields.get("custom_attributes.tier"), Value::text("gold").as_ref());
    let odd = BTreeMap::from([("company.user_count".to_owned(), Value::from_json(&serde_json::json!(7)))]);
    let refused = client.write(&Write::UpdateIntercomCompany(company, odd), live).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Rejected { field: Some("user_count".to_owned()) });

    let gone = IntercomContactId::new("ffffffffffffffffffffffff");
    let gone = client.write(&Write::UpdateIntercomContact(gone, IntercomChange::opt_out()), live).await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound);
    assert_eq!(client.write(&Write::CreateList("x".to_owned()), live).await.unwrap_err().kind, ErrorKind::Unsupported);
    assert!(client.write(&Write::UpdateIntercomContact(contact.id, IntercomChange::default()), live).await.is_ok());

    judged(&["intercom-2.11.yaml"], &sandbox.log(), WRITTEN, 14);
}
