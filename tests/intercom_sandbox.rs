//! Our Intercom client against the sandbox's Intercom: two readings of one vendor that share no code.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this whole file is a test; clippy only knows functions marked so"
)]

use chrono::{DateTime, Utc};
use linkspan::doors::{Clock as _, Doors, NoCrash, SeededRng, SimulatedClock};
use linkspan::http::InProcess;
use linkspan::intercom::webhook::{Effect, Notification, OptOut, ToFetch, Transition, verify};
use linkspan::intercom::{IntercomClient, IntercomOptions};
use linkspan::model::{
    AttributeKind, ContactKey, Conversation, ConversationState, Fetched, Gone, IntercomContact, IntercomContactId,
    Observation, Priority, ReadRequest, Related, Resource, Scope, Side as _, SideError,
};
use linkspan::sandbox::intercom::{self as sandbox, ContactSeed, IntercomSandbox};
use linkspan::sandbox::{Fault, OutgoingWebhook};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

struct World {
    sandbox: IntercomSandbox,
    client: IntercomClient,
    clock: Arc<SimulatedClock>,
}

fn world(contacts: usize, options: impl FnOnce(&mut sandbox::IntercomOptions)) -> World {
    // The night in which Los Angeles loses an hour.
    let start: DateTime<Utc> = "2026-03-08T09:30:00Z".parse().unwrap();
    let clock = Arc::new(SimulatedClock::starting_at(start));
    let mut with = sandbox::IntercomOptions { clock: clock.clone(), ..sandbox::IntercomOptions::default() };
    options(&mut with);
    let sandbox = IntercomSandbox::new(with);
    if contacts > 0 {
        sandbox.world(7, contacts);
    }
    let options = IntercomOptions {
        base_url: "https://api.intercom.test/".parse().unwrap(),
        access_token: sandbox.access_token().to_owned().into(),
        api_version: "2.11".to_owned(),
        share: 0.9,
        plan: None,
    };
    let doors = Doors { clock: clock.clone(), rng: Arc::new(SeededRng::new(1)), crash: Arc::new(NoCrash) };
    let client = IntercomClient::new(options, Arc::new(InProcess::new(sandbox.router())), doors);
    World { sandbox, client, clock }
}

impl World {
    async fn sweep(&self, resource: Resource, scope: Scope) -> Result<Vec<Observation>, Box<SideError>> {
        let timezone = chrono_tz::America::Los_Angeles;
        let mut request = ReadRequest { resource, scope, cursor: None, timezone, priority: Priority::Live };
        let mut all = Vec::new();
        loop {
            let page = self.client.read(&request).await?;
            all.extend(page.observations);
            match page.next {
                Some(next) => request.cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    async fn contacts(&self, scope: Scope) -> BTreeMap<String, IntercomContact> {
        let all = self.sweep(Resource::Contacts, scope).await.unwrap();
        let count = all.len();
        let by_id: BTreeMap<String, IntercomContact> = all
            .into_iter()
            .map(|observation| match observation {
                Observation::IntercomContact(contact) => (contact.id.to_string(), *contact),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(by_id.len(), count, "nobody twice while nothing moves");
        by_id
    }

    async fn conversations(&self, scope: Scope) -> Vec<Conversation> {
        let all = self.sweep(Resource::Conversations, scope).await.unwrap();
        all.into_iter()
            .map(|observation| match observation {
                Observation::Conversation(conversation) => *conversation,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    async fn fetch(&self, id: &str) -> Fetched {
        self.client.fetch(&ContactKey::Intercom(IntercomContactId::new(id)), Priority::Live).await.unwrap()
    }

    /// What follows from the notifications that wait; their signatures hold.
    fn effects(&self) -> Vec<Effect> {
        let secret = SecretString::from(self.sandbox.client_secret().to_owned());
        let read = |hook: OutgoingWebhook| {
            let (_, signature) =
                hook.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-hub-signature")).unwrap();
            assert!(verify(&secret, &hook.body, signature), "{}", hook.topic);
            let notification = Notification::parse(&hook.body).unwrap();
            assert_eq!(notification.app_id.as_ref().unwrap().as_str(), self.sandbox.app_id());
            assert_eq!(notification.topic.as_str(), hook.topic);
            notification.effects()
        };
        self.sandbox.take_webhooks().into_iter().flat_map(read).collect()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_sweep_sees_everybody_as_they_are() {
    let world = world(1_000, |_| {});
    let truth = world.sandbox.truth();
    let contacts = world.contacts(Scope::Full).await;
    assert_eq!(contacts.len(), truth.contacts);
    assert_eq!(contacts.values().filter(|contact| contact.role.as_str() == "user").count(), truth.users);
    let flagged = |path: &str| {
        let yes = Some(&linkspan::model::Value::Boolean(true));
        contacts.values().filter(|contact| contact.fields.get(path) == yes).count()
    };
    assert_eq!(flagged("unsubscribed_from_emails"), truth.unsubscribed);
    assert_eq!((flagged("has_hard_bounced"), flagged("marked_email_as_spam")), (truth.bounced, truth.spam));
    assert_eq!(contacts.values().filter(|contact| !contact.fields.contains_key("email")).count(), truth.without_email);
    assert_eq!(contacts.values().filter(|contact| contact.fields.contains_key("phone")).count(), truth.with_phone);
    let partly: Vec<_> = contacts.values().filter(|contact| !contact.tags.complete).collect();
    assert_eq!(partly.len(), truth.more_than_ten_tags);
    for contact in partly {
        let all = world.client.related(&contact.id, Related::Tags, Priority::Live).await.unwrap();
        assert!(all.len() > contact.tags.items.len());
    }
    assert_eq!(world.sandbox.log().writes().len(), 0, "Intercom is only read");
}

#[tokio::test(start_paused = true)]
async fn companies_conversations_tags_and_attributes_all_arrive() {
    let world = world(1_000, |_| {});
    let truth = world.sandbox.truth();
    let conversations = world.conversations(Scope::Full).await;
    assert_eq!(conversations.len(), truth.conversations);
    let open = conversations.iter().filter(|talk| talk.state != ConversationState::Closed).count();
    assert_eq!(open, truth.open_conversations);
    assert_eq!(conversations.iter().filter(|talk| talk.rating.is_some()).count(), truth.rated);
    let companies = world.sweep(Resource::Companies, Scope::Full).await.unwrap();
    assert!(!companies.is_empty() && companies.len() <= truth.companies, "those without people are not shown");
    assert!(!world.sweep(Resource::Tags, Scope::Full).await.unwrap().is_empty());
    let attributes = world.client.attributes().await.unwrap();
    let kind = |name: &str| &attributes.iter().find(|attribute| attribute.name == name).unwrap().kind;
    assert_eq!(kind("custom_attributes.plan_tier"), &AttributeKind::Text);
    assert_eq!(kind("custom_attributes.feature_usage"), &AttributeKind::Float);
    assert_eq!(kind("custom_attributes.trial_ends_at"), &AttributeKind::Date);
    assert_eq!(kind("custom_attributes.main_interest"), &AttributeKind::Category);
    let account = world.client.account().await.unwrap();
    assert_eq!((account.id, account.timezone.as_deref()), (world.sandbox.app_id(), Some("America/Los_Angeles")));
}

#[tokio::test(start_paused = true)]
async fn an_incremental_sweep_sees_every_edit_since_and_little_else() {
    let world = world(600, |_| {});
    let ids = world.sandbox.contact_ids();
    pass(3_600).await;
    let since = world.clock.now();
    pass(5).await;
    for id in ids.iter().take(5) {
        world.sandbox.edit_contact(id, &serde_json::json!({"name": "New Name"})).unwrap();
    }
    pass(600).await;
    let seen = world.contacts(Scope::Since(since)).await;
    assert_eq!(seen.len(), 5, "not the rest of the day");
    let before = world.sandbox.log().len();
    assert_eq!(world.contacts(Scope::Since(world.clock.now())).await.len(), 0);
    assert_eq!(world.sandbox.log().len() - before, 1, "one request when nothing happened");

    let talk = world.sandbox.open_conversation(&ids[0], "hello").unwrap();
    let seen = world.conversations(Scope::Since(world.clock.now())).await;
    assert_eq!(seen.iter().map(|talk| talk.id.as_str()).collect::<Vec<_>>(), [talk.as_str()], "to the second");
}

#[tokio::test(start_paused = true)]
async fn what_changes_between_pages_is_not_lost() {
    let world = world(600, |_| {});
    let timezone = chrono_tz::America::Los_Angeles;
    let mut request = ReadRequest {
        resource: Resource::Contacts,
        scope: Scope::Full,
        cursor: None,
        timezone,
        priority: Priority::Live,
    };
    let mut seen = std::collections::BTreeSet::new();
    let ids = world.sandbox.contact_ids();
    for step in 0.. {
        let page = world.client.read(&request).await.unwrap();
        for observation in page.observations {
            if let Observation::IntercomContact(contact) = observation {
                seen.insert(contact.id.to_string());
            }
        }
        // Somebody moves to the front of every order but that of creation.
        world.sandbox.edit_contact(&ids[(step * 97) % ids.len()], &serde_json::json!({"name": "Moved"})).unwrap();
        pass(1).await;
        match page.next {
            Some(next) => request.cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(seen.len(), world.sandbox.truth().contacts);
}

#[tokio::test(start_paused = true)]
async fn deleted_archived_and_merged_are_told_apart() {
    let world = world(0, |_| {});
    let make = |lead: bool, email: &str| {
        world.sandbox.create_contact(ContactSeed { lead, email: Some(email.to_owned()), ..ContactSeed::default() })
    };
    let (user, lead) = (make(false, "a@example.com"), make(true, "a@example.com"));
    let (deleted, archived) = (make(false, "b@example.com"), make(false, "c@example.com"));
    world.sandbox.merge(&lead, &user).unwrap();
    world.sandbox.delete(&deleted).unwrap();
    world.sandbox.archive(&archived).unwrap();
    let into = Some(IntercomContactId::new(user.clone()));
    assert_eq!(world.fetch(&lead).await, Fetched::Gone(Gone::Merged { into }));
    assert_eq!(world.fetch(&deleted).await, Fetched::Gone(Gone::Deleted));
    assert!(matches!(world.fetch(&archived).await, Fetched::Gone(Gone::Archived | Gone::Deleted)));
    assert!(matches!(world.fetch(&user).await, Fetched::Found(..)));
}

#[tokio::test(start_paused = true)]
async fn a_webhooks_record_is_the_record_that_a_read_shows() {
    let world = world(0, |_| {});
    let id = world.sandbox.create_contact(ContactSeed {
        email: Some("Jane@Example.com".to_owned()),
        name: Some("Jane".to_owned()),
        external_id: Some("7".to_owned()),
        ..ContactSeed::default()
    });
    let effects = world.effects();
    let [Effect::Observed { observation, .. }] = &effects[..] else { panic!("{effects:?}") };
    let Fetched::Found(read, _) = world.fetch(&id).await else { panic!("not found") };
    assert_eq!(observation, &*read);

    let talk = world.sandbox.open_conversation(&id, "hello").unwrap();
    let effects = world.effects();
    let created = effects.iter().find_map(|effect| match effect {
        Effect::Transition { transition: Transition::Created { at }, conversation, .. } => {
            Some((conversation.clone(), *at))
        }
        _ => None,
    });
    let polled = world.conversations(Scope::Full).await.remove(0);
    assert_eq!(created, Some((polled.id.clone(), Some(polled.created_at))), "one key, however it is learnt");

    for generation in [sandbox::WebhookGeneration::V2_11, sandbox::WebhookGeneration::V2_15] {
        world.sandbox.webhook_generation(generation);
        pass(60).await;
        world.sandbox.close_conversation(&talk).unwrap();
        world.sandbox.rate(&talk, 4, Some("fine")).unwrap();
        let transitions: Vec<Transition> = world
            .effects()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Transition { transition, .. } => Some(transition),
                _ => None,
            })
            .collect();
        let polled = world.conversations(Scope::Full).await.remove(0);
        let rated = Transition::Rated { score: Some(4), remark: Some("fine".to_owned()) };
        assert_eq!(transitions, [Transition::Closed { at: polled.last_close_at }, rated], "{generation:?}");
        assert!(polled.last_close_at.is_some());
        world.sandbox.reopen(&talk).unwrap();
        world.sandbox.take_webhooks();
    }
}

#[tokio::test(start_paused = true)]
async fn notices_of_opting_out_tags_and_ends_lead_to_a_read() {
    let world = world(0, |_| {});
    let id =
        world.sandbox.create_contact(ContactSeed { email: Some("a@example.com".to_owned()), ..ContactSeed::default() });
    let contact = IntercomContactId::new(id.clone());
    world.sandbox.take_webhooks();
    world.sandbox.unsubscribe(&id).unwrap();
    let effects = world.effects();
    let out = |effect: &Effect| matches!(effect, Effect::OptedOut { contact: who, from: OptOut::Email, .. } if *who == contact);
    assert!(effects.iter().any(out), "{effects:?}");
    let read = Effect::NeedsFetch(ToFetch::Contact(contact.clone()));
    world.sandbox.tag(&id, "VIP").unwrap();
    assert!(world.effects().contains(&read));
    world.sandbox.delete(&id).unwrap();
    assert!(world.effects().contains(&read));
    world.sandbox.ping();
    assert_eq!(world.effects(), []);
}

#[tokio::test(start_paused = true)]
async fn faults_on_the_way_are_survived() {
    let world = world(400, |_| {});
    // Each in turn, so that no request meets more of them than it is resent.
    for fault in [Fault::Status(429, Some(2)), Fault::Status(503, None), Fault::Html, Fault::Empty, Fault::Truncated] {
        world.sandbox.knobs(|knobs| knobs.faults.push_back(("/contacts/search".to_owned(), fault.clone())));
        let seen = world.contacts(Scope::Full).await;
        assert_eq!(seen.len(), world.sandbox.truth().contacts, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_companies_than_the_list_shows_are_scrolled() {
    let world = world(0, |options| options.scroll_ends_with_404 = true);
    world.sandbox.webhooks_on(false);
    for _ in 0..11 {
        let contact = world.sandbox.create_contact(ContactSeed::default());
        for _ in 0..950 {
            let company = world.sandbox.create_company(&serde_json::json!({"name": "Acme"})).unwrap();
            world.sandbox.attach_company(&contact, &company).unwrap();
        }
    }
    let companies = world.sweep(Resource::Companies, Scope::Full).await.unwrap();
    assert_eq!(companies.len(), 11 * 950);
    let all: std::collections::BTreeSet<String> = companies
        .iter()
        .map(|observation| match observation {
            Observation::Company(company) => company.id.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(all.len(), companies.len(), "nobody twice");
}
