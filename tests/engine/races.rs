//! What happens between two steps of ours, and who must not wait for ever.

use crate::harness::World;
use linkspan::engine::{Progress, Stage, SyncOptions};
use linkspan::sandbox::Fault;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;
use std::time::Duration;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
      active_conversations: Active
";

async fn minutes(minutes: u64) {
    tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
}

fn user(email: &str, name: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some(name.to_owned()), ..ContactSeed::default() }
}

/// Somebody who opts out in Brevo once both sides are read and before anything is written.
struct OptsOut<'a>(&'a World, &'a str);

impl Progress for OptsOut<'_> {
    fn stage(&self, stage: Stage, _: u64, _: Option<u64>) {
        let already = || self.0.brevo.contact_by_email(self.1).is_none_or(|contact| contact.email_blacklisted);
        if stage == Stage::Placing && !already() {
            self.0.brevo.unsubscribe(self.1);
        }
    }
}

async fn sync_while_somebody_opts_out(world: &World, email: &str) {
    world.connection.sync(&SyncOptions::default(), &OptsOut(world, email)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_that_no_read_has_shown_yet_survives_a_rename() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@old.example", "Jane"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.set_email(&jane, Some("jane@new.example")).unwrap();
    sync_while_somebody_opts_out(&world, "jane@old.example").await;
    let now = world.brevo.contact_by_email("jane@new.example").unwrap();
    assert!(now.email_blacklisted, "re-subscribed by a rename although the flag could have been read");
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_addresses_is_undone() {
    let world = World::new(CONFIG);
    let ids: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|name| world.intercom.create_contact(user(&format!("{name}@example.com"), name)))
        .collect();
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.set_email(&ids[0], Some("x@example.com")).unwrap();
    for (id, email) in [(&ids[2], "a@example.com"), (&ids[1], "c@example.com"), (&ids[0], "b@example.com")] {
        world.intercom.set_email(id, Some(email)).unwrap();
    }
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    let names = |email| world.attribute(email, "FIRSTNAME");
    assert_eq!(names("b@example.com"), Some(json!("a")));
    assert_eq!(names("c@example.com"), Some(json!("b")));
    assert_eq!(names("a@example.com"), Some(json!("c")));
    assert_eq!(world.brevo.contact_count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_read_back_does_not_skip_what_people_did_in_brevo_before_the_import() {
    let world = World::new(CONFIG);
    world.intercom.create_contact(user("old@example.com", "Old"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.world(3, 400);
    minutes(10).await;
    sync_while_somebody_opts_out(&world, "old@example.com").await;
    minutes(30).await;
    world.sync().await;
    let email = linkspan::model::Email::parse("old@example.com").unwrap();
    let seen = world.store.read(move |tx| tx.brevo_contact_by_email(&email)).await.unwrap().unwrap();
    assert!(seen.consent.email_opted_out(), "an opt-out was skipped by the watermark");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_list_says_nothing_about_its_people() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(user("ann@example.com", "Ann"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    for _ in 0..3 {
        world.brevo.fail("/contacts/lists/", Fault::Status(404, None));
    }
    world.intercom.open_conversation(&ann, "help").unwrap();
    for _ in 0..3 {
        minutes(10).await;
        world.sync().await;
    }
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!(counts.notices.get("brevo_contact_gone"), None);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_somebody_resolves_in_brevo_is_linked_by_the_next_sweep() {
    let world = World::new(CONFIG);
    let seed = |email: &str, ext: Option<&str>| BrevoSeed {
        email: Some(email.to_owned()),
        ext_id: ext.map(str::to_owned),
        ..BrevoSeed::default()
    };
    world.brevo.create_contact(seed("other@example.com", Some("u-1"))).unwrap();
    world.brevo.create_contact(seed("jane@example.com", None)).unwrap();
    world.intercom.create_contact(ContactSeed { external_id: Some("u-1".into()), ..user("jane@example.com", "Jane") });
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "FIRSTNAME"), None, "both are listed, neither is linked");
    world.brevo.delete("other@example.com");
    minutes(10).await;
    world.full().await;
    minutes(10).await;
    world.full().await;
    assert_eq!(world.attribute("jane@example.com", "FIRSTNAME"), Some(json!("Jane")));
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!(counts.notices.get("identity_conflict"), None);
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_does_not_wait_for_what_brevo_refuses_about_the_same_person() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.edit_contact(&jane, &json!({"name": "Refused"})).unwrap();
    for _ in 0..3 {
        world.brevo.fail("/contacts/1", Fault::Status(400, None));
    }
    for _ in 0..3 {
        world.sync().await;
        minutes(10).await;
    }
    assert_eq!(world.attribute("jane@example.com", "FIRSTNAME"), Some(json!("Jane")), "given up");
    world.intercom.unsubscribe(&jane).unwrap();
    minutes(10).await;
    let before = world.brevo_writes();
    world.sync().await;
    let first =
        world.brevo.log().writes()[before..].first().map(|write| String::from_utf8_lossy(&write.body).into_owned());
    assert_eq!(first.as_deref(), Some(r#"{"emailBlacklisted":true}"#), "alone and first");
    assert_eq!(world.attribute("jane@example.com", "FIRSTNAME"), Some(json!("Refused")), "and then the rest");
    minutes(10).await;
    world.sync().await;
    let before = world.brevo_writes();
    minutes(10).await;
    world.full().await;
    assert_eq!(world.brevo_writes(), before);
    assert_eq!(world.store.read(|tx| tx.counts()).await.unwrap().failed, 0, "the trouble is over");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_goes_to_somebody_else_joins_no_strangers() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(user("desk@example.com", "Ann"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.set_email(&ann, None).unwrap();
    minutes(10).await;
    world.sync().await;
    world.intercom.create_contact(user("desk@example.com", "Bob"));
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    assert_eq!(world.attribute("desk@example.com", "FIRSTNAME"), Some(json!("Bob")));
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!(counts.notices.get("without_email").copied(), Some(1), "{:?}", counts.notices);
}
