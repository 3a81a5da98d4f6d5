//! `sync --since` and `--resources`: what is read, what is not, and what the next plain sync makes of it.

use crate::harness::{World, minutes};
use linkspan::engine::SyncOptions;
use linkspan::model::Resource;
use linkspan::sandbox::Fault;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;

const CONFIG: &str = "
connectors: {intercom: {lists: {all_users: Users}}}
field_mapping: {email: email, name: FULLNAME, conversations.total: TALKS, company.name: FIRM}
";

const DAY: u64 = 24 * 60;

fn person(name: &str) -> ContactSeed {
    ContactSeed { email: Some(format!("{name}@x.example")), name: Some(name.to_owned()), ..ContactSeed::default() }
}

/// Two people and a conversation each, twenty days apart.
async fn old_and_new() -> World {
    let world = World::new(CONFIG);
    for name in ["old", "new"] {
        let id = world.intercom.create_contact(person(name));
        world.intercom.open_conversation(&id, "Hello").unwrap();
        minutes(20 * DAY).await;
    }
    world
}

/// Intercom's resources that were asked for, by the first part of their path.
fn asked(world: &World) -> Vec<String> {
    let all = world.intercom.log().all();
    let mut parts: Vec<String> = all
        .iter()
        .filter_map(|request| Some(request.target.trim_start_matches('/').split(['/', '?']).next()?.to_owned()))
        .filter(|part| ["contacts", "conversations", "companies", "tags"].contains(&part.as_str()))
        .collect();
    parts.sort();
    parts.dedup();
    parts
}

#[tokio::test(start_paused = true)]
async fn what_is_older_is_not_read_and_the_next_plain_sync_reads_it_after_all() {
    let world = old_and_new().await;
    let since = world.doors.clock.now() - chrono::TimeDelta::days(30);
    let summary = world.sync_with(SyncOptions { since: Some(since), ..SyncOptions::default() }).await;
    assert_eq!((summary.outcome(), summary.written.created), ("ok", 1), "{summary:#?}");
    assert_eq!(summary.read["intercom contacts"].rows, 1, "the other is older");
    assert_eq!(summary.read["intercom conversations"].rows, 1);
    assert!(world.brevo.contact_by_email("old@x.example").is_none());
    assert_eq!(world.attribute("new@x.example", "FULLNAME"), Some(json!("new")));
    let runs = world.store.read(|tx| tx.runs(10)).await.unwrap();
    let kinds: Vec<&str> = runs.iter().map(|run| run.kind.as_str()).collect();
    assert_eq!(kinds, ["sync --since"], "it was no full one");

    minutes(30).await;
    let summary = world.sync().await;
    assert_eq!((summary.outcome(), summary.written.created), ("ok", 1), "{summary:#?}");
    assert_eq!(summary.read["intercom contacts"].rows, 2, "a part of it is no watermark: everything is read");
    assert_eq!(world.attribute("old@x.example", "TALKS"), Some(json!(1)));
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn once_in_step_a_read_since_then_loses_no_edit_of_what_is_older() {
    let world = old_and_new().await;
    world.sync().await;
    minutes(DAY).await;
    let old = world.intercom.contact_ids().into_iter().min().unwrap();
    world.intercom.edit_contact(&old, &json!({"name": "Elder"})).unwrap();
    minutes(30).await;
    let since = world.doors.clock.now() - chrono::TimeDelta::days(30);
    let summary = world.sync_with(SyncOptions { since: Some(since), ..SyncOptions::default() }).await;
    assert_eq!(summary.read["intercom contacts"].rows, 1);
    assert_eq!(world.attribute("old@x.example", "FULLNAME"), Some(json!("old")), "not read");
    minutes(30).await;
    world.sync().await;
    assert_eq!(world.attribute("old@x.example", "FULLNAME"), Some(json!("Elder")), "the next incremental one reads it");
}

#[tokio::test(start_paused = true)]
async fn only_the_named_resources_are_asked_for() {
    for (resource, parts) in [
        (Resource::Contacts, &["contacts"][..]),
        (Resource::Conversations, &["conversations"][..]),
        (Resource::Companies, &["companies"][..]),
    ] {
        let world = old_and_new().await;
        let resources = [resource].into();
        let summary = world.sync_with(SyncOptions { resources, ..SyncOptions::default() }).await;
        let read: Vec<&str> = summary.read.keys().map(String::as_str).collect();
        assert_eq!(read, ["brevo contacts", &format!("intercom {}", resource.as_str())]);
        assert_eq!(asked(&world), parts, "{resource:?}");
    }
    // What was left out is read by the next one that leaves nothing out.
    let world = old_and_new().await;
    world.sync_with(SyncOptions { resources: [Resource::Contacts].into(), ..SyncOptions::default() }).await;
    assert_eq!(world.attribute("old@x.example", "FULLNAME"), Some(json!("old")));
    assert_ne!(world.attribute("old@x.example", "TALKS"), Some(json!(1)));
    minutes(30).await;
    world.sync().await;
    assert_eq!(world.attribute("old@x.example", "TALKS"), Some(json!(1)));
}

/// Somebody whom Brevo knows already, with figures from elsewhere.
async fn known_in_brevo(config: &str) -> World {
    let world = World::new(config);
    let id = world.intercom.create_contact(person("ann"));
    world.intercom.open_conversation(&id, "Hello").unwrap();
    world.intercom.create_contact(person("ben"));
    let attributes = [("TALKS".to_owned(), json!(7)), ("FIRM".to_owned(), json!("Hooli"))];
    for (name, kind) in [("TALKS", "float"), ("FIRM", "text")] {
        world.brevo.create_attribute(name, kind);
    }
    for email in ["ann@x.example", "ben@x.example"] {
        let attributes = attributes.clone().into();
        world.brevo.create_contact(BrevoSeed { email: Some(email.to_owned()), attributes, ..BrevoSeed::default() });
    }
    minutes(30).await;
    world
}

#[tokio::test(start_paused = true)]
async fn nobody_is_said_to_have_none_of_what_was_never_read() {
    let config = CONFIG.replace("all_users: Users", "all_users: Users, active_conversations: Active");
    let world = known_in_brevo(&config).await;
    let figures = |email| (world.attribute(email, "TALKS"), world.attribute(email, "FIRM"));
    let contacts = SyncOptions { resources: [Resource::Contacts].into(), ..SyncOptions::default() };
    let refused = async || {
        world.intercom.fail("/conversations/search", Fault::Status(403, None));
        world.sync().await
    };
    let summary = world.sync_with(contacts).await;
    assert_eq!(summary.unread, ["companies", "conversations"]);
    assert_eq!(world.attribute("ann@x.example", "FULLNAME"), Some(json!("ann")), "the rest is written");
    let summary = refused().await;
    assert_eq!(summary.unread, ["conversations"], "companies have been read");
    for email in ["ann@x.example", "ben@x.example"] {
        assert_eq!(figures(email).0, Some(json!(7)), "nobody knows better");
    }
    let active = || world.brevo.list_members(world.brevo.list_id("Active").unwrap());
    assert!(active().is_empty());

    let summary = world.sync().await;
    assert_eq!(summary.unread, Vec::<String>::new());
    assert_eq!(figures("ann@x.example").0, Some(json!(1)));
    assert_eq!(figures("ben@x.example").0, Some(json!(0)), "of whom nothing has changed since they were planned");
    let ann = world.brevo.contact_by_email("ann@x.example").unwrap().id;
    assert_eq!(active().into_iter().collect::<Vec<_>>(), [ann]);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_reads_what_was_never_read_lets_nobody_through() {
    let config = format!("{CONFIG}\ncontacts: {{filter: {{intercom_to_brevo: \"record.conversations.total > 0\"}}}}\n");
    let world = known_in_brevo(&config).await;
    let contacts = SyncOptions { resources: [Resource::Contacts].into(), ..SyncOptions::default() };
    world.sync_with(contacts).await;
    assert_eq!(world.attribute("ann@x.example", "FULLNAME"), None);
    let listed = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(listed[0].message.contains("conversations have not been read whole"), "{listed:?}");
    world.sync().await;
    assert_eq!(world.attribute("ann@x.example", "FULLNAME"), Some(json!("ann")));
    assert_eq!(world.attribute("ben@x.example", "FULLNAME"), None, "left out by the filter");
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), []);
}
