//! What happens between two steps of ours, and who must not wait for ever.

use crate::harness::{World, minutes};
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
async fn an_opt_out_that_brevo_refuses_goes_on_by_itself_and_is_listed_meanwhile() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.unsubscribe(&jane).unwrap();
    for _ in 0..6 {
        world.brevo.fail("/contacts/1", Fault::Status(400, None));
    }
    for _ in 0..6 {
        minutes(10).await;
        world.sync().await;
    }
    let listed = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].field.as_str(), listed[0].status, listed[0].dead), ("", Some(400), false));
    assert!(!world.brevo.contact_by_email("jane@example.com").unwrap().email_blacklisted);
    let before = world.brevo_writes();
    minutes(1).await;
    world.sync().await;
    assert_eq!(world.brevo_writes(), before, "ever more rarely");
    minutes(10).await;
    world.sync().await;
    assert!(world.brevo.contact_by_email("jane@example.com").unwrap().email_blacklisted);
    assert!(world.store.read(|tx| tx.failures(10)).await.unwrap().is_empty());
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

#[tokio::test(start_paused = true)]
async fn an_opt_out_goes_ahead_of_a_write_whose_outcome_is_not_known() {
    for fault in [Fault::StatusAfterEffect(502), Fault::Status(502, None)] {
        let world = World::new(CONFIG);
        let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
        minutes(10).await;
        world.sync().await;
        minutes(10).await;
        world.intercom.edit_contact(&jane, &json!({"name": "Joan"})).unwrap();
        // It is tried more than once, for it does no harm twice.
        for _ in 0..9 {
            world.brevo.fail("PUT /v3/contacts/1", fault.clone());
        }
        world.sync().await;
        world.brevo.knobs(|knobs| knobs.common.faults.clear());
        world.intercom.unsubscribe(&jane).unwrap();
        world.intercom.edit_contact(&jane, &json!({"name": "Jo"})).unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = world.brevo_writes();
        world.sync().await;
        world.sync().await;
        let bodies = |from: usize| -> Vec<String> {
            world.brevo.log().writes()[from..]
                .iter()
                .map(|write| String::from_utf8_lossy(&write.body).into_owned())
                .collect()
        };
        assert_eq!(bodies(before), [r#"{"emailBlacklisted":true}"#], "at once, once, and nothing else: {fault:?}");
        minutes(2).await;
        world.sync().await;
        let name = r#"{"attributes":{"FIRSTNAME":"Jo","LASTNAME":""}}"#;
        assert_eq!(bodies(before + 1), [name], "the rest after the verifying read");
        let settled = world.brevo_writes();
        for _ in 0..2 {
            minutes(10).await;
            world.full().await;
        }
        assert_eq!(bodies(settled), Vec::<String>::new());
        assert!(world.brevo.contact_by_email("jane@example.com").unwrap().email_blacklisted);
        assert_eq!(world.store.read(|tx| tx.counts()).await.unwrap().conflicts, 0, "nobody but us wrote anything");
    }
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_that_went_ahead_is_put_back_when_the_late_rename_lifts_it() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@old.example", "Jane"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.set_email(&jane, Some("jane@new.example")).unwrap();
    // The rename hangs somewhere on its way.
    for _ in 0..9 {
        world.brevo.fail("PUT /v3/contacts/1", Fault::Status(502, None));
    }
    world.sync().await;
    world.brevo.knobs(|knobs| knobs.common.faults.clear());
    assert!(world.brevo.contact_by_email("jane@old.example").is_some());
    world.intercom.unsubscribe(&jane).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.sync().await;
    assert!(world.brevo.contact_by_email("jane@old.example").unwrap().email_blacklisted, "it did not wait");
    let last = world.brevo.log().writes().last().map(|write| String::from_utf8_lossy(&write.body).into_owned());
    assert_eq!(last.as_deref(), Some(r#"{"emailBlacklisted":true}"#), "and nothing else with it");
    // And now the rename lands, and re-subscribes her.
    assert!(world.brevo.change_email("jane@old.example", "jane@new.example"));
    assert!(!world.brevo.contact_by_email("jane@new.example").unwrap().email_blacklisted);
    for _ in 0..2 {
        minutes(5).await;
        world.sync().await;
    }
    assert!(world.brevo.contact_by_email("jane@new.example").unwrap().email_blacklisted);
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_was_held_up_goes_on_when_the_address_becomes_free() {
    for swept in [false, true] {
        let world = World::new(CONFIG);
        let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
        world.intercom.create_contact(user("bob@example.com", "Bob"));
        minutes(10).await;
        world.sync().await;
        minutes(10).await;
        // Somebody gives Bob's contact the address that Jane takes in Intercom at the same moment.
        world.intercom.set_email(&jane, Some("new@example.com")).unwrap();
        let steals = Steals(&world);
        world.connection.sync(&SyncOptions::default(), &steals).await.unwrap();
        minutes(10).await;
        world.sync().await;
        assert_eq!(world.attribute("new@example.com", "FIRSTNAME"), Some(json!("Bob")), "still Bob's contact");
        let listed = world.store.read(|tx| tx.notices(Some("identity_conflict"), 10)).await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        // Nothing about Jane changes; only Bob's contact leaves the address.
        if swept {
            world.brevo.delete("new@example.com");
        } else {
            assert!(world.brevo.change_email("new@example.com", "bob@example.com"));
        }
        minutes(10).await;
        let _ = if swept { world.full().await } else { world.sync().await };
        minutes(10).await;
        world.sync().await;
        assert_eq!(world.attribute("new@example.com", "FIRSTNAME"), Some(json!("Jane")), "swept: {swept}");
        let listed = world.store.read(|tx| tx.notices(Some("identity_conflict"), 10)).await.unwrap();
        assert_eq!(listed.len(), 0, "{listed:?}");
        let before = world.brevo_writes();
        minutes(10).await;
        world.full().await;
        assert_eq!(world.brevo_writes(), before);
    }
}

/// Somebody who gives Bob's contact another address once both sides are read and before anything is written.
struct Steals<'a>(&'a World);

impl Progress for Steals<'_> {
    fn stage(&self, stage: Stage, _: u64, _: Option<u64>) {
        if stage == Stage::Writing {
            self.0.brevo.change_email("bob@example.com", "new@example.com");
        }
    }
}
