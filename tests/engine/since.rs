//! `sync --since` and `--resources`: what is read, what is not, and what the next plain sync makes of it.

use crate::harness::{World, minutes};
use linkspan::engine::SyncOptions;
use linkspan::model::Resource;
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
