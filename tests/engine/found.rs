//! What the simulation found, told as small stories.

use crate::harness::{World, config, minutes};
use linkspan::engine::{Daemon, Silent, SyncOptions};
use linkspan::sandbox::Fault;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
field_mapping:
  name:
    to: [FIRSTNAME, LASTNAME]
    transform: split_name
  tags: INTERCOM_TAGS
";

fn user(email: &str, name: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some(name.to_owned()), ..ContactSeed::default() }
}

#[tokio::test(start_paused = true)]
async fn a_proxys_page_in_answer_to_a_write_is_not_success() {
    for fault in [Fault::Html, Fault::Empty] {
        let world = World::new(CONFIG);
        let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
        minutes(10).await;
        world.sync().await;
        world.intercom.edit_contact(&jane, &json!({"name": "Jane Roe"})).unwrap();
        world.intercom.unsubscribe(&jane).unwrap();
        world.brevo.fail("identifierType=contact_id", fault);
        minutes(10).await;
        world.sync().await;
        let now = world.brevo.contact_by_email("jane@example.com").unwrap();
        assert_eq!(now.attributes.get("LASTNAME"), Some(&json!("Roe")));
        assert!(now.email_blacklisted);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_import_without_an_answer_was_to_set_is_set_later() {
    let world = World::new(&format!("{CONFIG}limits:\n  brevo:\n    import_threshold: 1\n"));
    let stranger = BrevoSeed { email: Some("jane@example.com".into()), ..BrevoSeed::default() };
    world.brevo.create_contact(stranger).unwrap();
    world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    let other = BrevoSeed { email: Some("joe@example.com".into()), ..BrevoSeed::default() };
    world.brevo.create_contact(other).unwrap();
    world.intercom.create_contact(user("joe@example.com", "Joe Doe"));
    minutes(10).await;
    world.brevo.fail("/contacts/import", Fault::Html);
    world.sync().await;
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    let now = world.brevo.contact_by_email("jane@example.com").unwrap();
    assert_eq!(now.attributes.get("LASTNAME"), Some(&json!("Doe")));
    assert!(now.list_ids.contains(&world.brevo.list_id("Users").unwrap()), "an import that never came took nobody off");
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), [], "and was no refusal");
}

#[tokio::test(start_paused = true)]
async fn who_needs_an_option_that_cannot_be_added_yet_waits_for_it() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    minutes(10).await;
    world.sync().await;
    world.intercom.tag(&jane, "beta").unwrap();
    for _ in 0..8 {
        world.brevo.fail("/attributes/normal/INTERCOM_TAGS", Fault::Status(503, None));
    }
    for _ in 0..8 {
        minutes(10).await;
        world.sync().await;
    }
    assert_eq!(world.attribute("jane@example.com", "INTERCOM_TAGS"), Some(json!(["beta"])));
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn each_members_opt_out_counts_when_it_is_made() {
    let world = World::new(&format!("{CONFIG}consent: {{direction: intercom_to_brevo}}"));
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    let lead = world.intercom.create_contact(ContactSeed { lead: true, ..user("jane@example.com", "Jane") });
    let out = || world.brevo.contact_by_email("jane@example.com").unwrap().email_blacklisted;
    minutes(10).await;
    world.sync().await;
    world.intercom.unsubscribe(&lead).unwrap();
    minutes(10).await;
    world.sync().await;
    assert!(out());
    minutes(10).await;
    world.sync().await;
    world.brevo.resubscribe("jane@example.com");
    minutes(10).await;
    world.sync().await;
    assert!(!out(), "an opt-in stays where it was given");
    world.intercom.unsubscribe(&jane).unwrap();
    minutes(10).await;
    world.sync().await;
    assert!(out(), "but this is a new opt-out");
}

#[tokio::test(start_paused = true)]
async fn somebody_new_on_a_known_address_may_be_opted_out() {
    let world = World::new(CONFIG);
    let out = ContactSeed { unsubscribed: true, ..user("jane@example.com", "Jane Doe") };
    world.intercom.create_contact(ContactSeed { lead: true, ..out.clone() });
    minutes(10).await;
    world.sync().await;
    world.brevo.resubscribe("jane@example.com");
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    world.intercom.create_contact(out);
    minutes(10).await;
    world.sync().await;
    assert!(world.brevo.contact_by_email("jane@example.com").unwrap().email_blacklisted);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_cannot_start_yet_can_be_stopped() {
    let world = World::new(CONFIG);
    world.intercom.knobs(|knobs| {
        for _ in 0..100 {
            knobs.faults.push_back((String::new(), Fault::Status(503, Some(60))));
        }
    });
    let daemon = Daemon::new(world.connection.clone(), config(CONFIG).schedule);
    let stop = CancellationToken::new();
    let (ended, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(30), daemon.run(stop.clone())), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stop.cancel();
    });
    ended.expect("it did not stop").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clear_while_a_creation_has_no_answer_is_a_clear() {
    let world =
        World::new(&CONFIG.replace("    transform: split_name", "    transform: split_name\n    on_clear: propagate"));
    // Attributes and lists are made first.
    world.sync().await;
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    minutes(10).await;
    world.brevo.fail("POST /v3/contacts", Fault::StatusAfterEffect(502));
    world.sync().await;
    assert!(world.brevo.contact_by_email("jane@example.com").unwrap().attributes.contains_key("LASTNAME"));
    world.intercom.edit_contact(&jane, &json!({"name": null})).unwrap();
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.sync().await;
    let now = world.brevo.contact_by_email("jane@example.com").unwrap();
    assert_eq!(now.attributes.get("LASTNAME").filter(|name| **name != json!("")), None, "{:?}", now.attributes);
}

/// The request that made Ann had no answer, and somebody gives the contact another address before it is asked for.
#[tokio::test(start_paused = true)]
async fn what_a_creation_without_an_answer_has_made_is_found_under_another_address() {
    let world = World::new(CONFIG);
    // Attributes and lists are made first.
    world.sync().await;
    let ann = ContactSeed { external_id: Some("user-1".to_owned()), ..user("ann@example.com", "Ann Lee") };
    let ann = world.intercom.create_contact(ann);
    minutes(10).await;
    world.brevo.fail("POST /v3/contacts", Fault::StatusAfterEffect(502));
    world.sync().await;
    assert!(world.brevo.change_email("ann@example.com", "ann.lee@example.com"));
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    assert_eq!(world.brevo.contact_count(), 1, "she is made once");
    world.intercom.unsubscribe(&ann).unwrap();
    minutes(10).await;
    world.sync().await;
    assert!(world.brevo.contact_by_email("ann.lee@example.com").unwrap().email_blacklisted);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_opts_out_and_takes_another_address_stays_opted_out() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    let joe = world.intercom.create_contact(user("joe@example.com", "Joe Roe"));
    minutes(10).await;
    world.intercom.unsubscribe(&joe).unwrap();
    minutes(1).await;
    world.sync().await;
    world.brevo.resubscribe("joe@example.com");
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    world.intercom.unsubscribe(&jane).unwrap();
    minutes(10).await;
    world.sync().await;
    world.intercom.set_email(&jane, Some("between@example.com")).unwrap();
    world.intercom.set_email(&joe, Some("jane@example.com")).unwrap();
    world.intercom.set_email(&jane, Some("joe@example.com")).unwrap();
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    for email in ["jane@example.com", "joe@example.com"] {
        assert!(world.brevo.contact_by_email(email).unwrap().email_blacklisted, "{email}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clear_is_carried_though_intercom_has_declared_the_attribute_since() {
    let config = "field_mapping:\n  custom_attributes.plan_tier: {to: PLAN_TIER, on_clear: propagate}\n";
    let mut world = World::new(config);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    minutes(10).await;
    world.sync().await;
    // With its first value, Intercom comes to know the attribute; the program learns of its type when it starts.
    world.intercom.edit_contact(&jane, &json!({"custom_attributes": {"plan_tier": "Pro"}})).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "PLAN_TIER"), Some(json!("Pro")));
    world.intercom.edit_contact(&jane, &json!({"custom_attributes": {"plan_tier": null}})).unwrap();
    world.restart(config);
    minutes(10).await;
    world.sync().await;
    let left = world.attribute("jane@example.com", "PLAN_TIER").filter(|tier| *tier != json!(""));
    assert_eq!(left, None);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_takes_up_the_contact_of_one_who_left_its_address_in_two_steps() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    world.intercom.create_contact(user("joe@example.com", "Joe Roe"));
    minutes(10).await;
    world.sync().await;
    let contact = world.brevo.contact_by_email("jane@example.com").unwrap().id;
    // She is to be renamed, and Brevo is out of order just then.
    world.intercom.set_email(&jane, Some("between@example.com")).unwrap();
    minutes(10).await;
    for _ in 0..8 {
        world.brevo.fail("identifierType=contact_id", Fault::Status(503, None));
    }
    world.connection.sync(&SyncOptions::default(), &Silent).await.ok();
    assert_eq!(world.brevo.contact(contact).unwrap().email.as_deref(), Some("jane@example.com"));
    // Before that is over, she has gone on to an address that others have, and somebody else has hers.
    world.intercom.set_email(&jane, Some("joe@example.com")).unwrap();
    world.intercom.create_contact(user("jane@example.com", "Cher"));
    for _ in 0..3 {
        minutes(10).await;
        world.sync().await;
    }
    let now = world.brevo.contact_by_email("jane@example.com").unwrap();
    assert_eq!((now.id, now.attributes.get("FIRSTNAME")), (contact, Some(&json!("Cher"))));
    assert!(world.brevo.contact_by_email("between@example.com").is_none());
}

#[tokio::test(start_paused = true)]
async fn who_was_given_another_address_in_brevo_becomes_the_contact_that_has_theirs() {
    for out in [false, true] {
        let world = World::new(CONFIG);
        let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
        minutes(10).await;
        world.sync().await;
        let before = world.brevo.contact_by_email("jane@example.com").unwrap().id;
        assert!(world.brevo.change_email("jane@example.com", "new@example.com"));
        minutes(10).await;
        world.sync().await;
        let by_hand = BrevoSeed { email: Some("jane@example.com".into()), ..BrevoSeed::default() };
        let made = world.brevo.create_contact(by_hand).unwrap();
        if out {
            world.intercom.unsubscribe(&jane).unwrap();
        }
        for _ in 0..2 {
            minutes(10).await;
            world.sync().await;
        }
        let now = world.brevo.contact(made).unwrap();
        assert_eq!(now.email_blacklisted, out, "an opt-out is one of the address");
        assert_eq!(now.attributes.get("LASTNAME"), Some(&json!("Doe")));
        // The other one is left alone, and is nobody's until somebody in Intercom has its address.
        assert_eq!(world.brevo.contact(before).unwrap().email.as_deref(), Some("new@example.com"));
        world.intercom.edit_contact(&jane, &json!({"name": "Jane Roe"})).unwrap();
        world.intercom.create_contact(user("new@example.com", "Ann Lee"));
        for _ in 0..2 {
            minutes(10).await;
            world.sync().await;
        }
        assert_eq!(world.brevo.contact(made).unwrap().attributes.get("LASTNAME"), Some(&json!("Roe")));
        assert_eq!(world.brevo.contact(before).unwrap().attributes.get("LASTNAME"), Some(&json!("Lee")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_was_still_to_come_is_not_forgotten_in_an_exchange() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(user("ann@example.com", "Ann Lee"));
    let bob = world.intercom.create_contact(user("bob@example.com", "Bob Roe"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.set_email(&bob, Some("new@example.com")).unwrap();
    for _ in 0..6 {
        world.brevo.fail("identifierType=contact_id", Fault::Status(503, None));
    }
    minutes(5).await;
    assert!(world.connection.sync(&SyncOptions::default(), &Silent).await.is_err());
    assert!(world.brevo.contact_by_email("bob@example.com").is_some(), "not renamed yet");
    world.intercom.set_email(&ann, Some("aside@example.com")).unwrap();
    world.intercom.set_email(&bob, Some("ann@example.com")).unwrap();
    world.intercom.set_email(&ann, Some("new@example.com")).unwrap();
    for _ in 0..3 {
        minutes(10).await;
        world.sync().await;
    }
    let names: Vec<_> =
        ["ann@example.com", "new@example.com"].map(|email| world.attribute(email, "FIRSTNAME")).into_iter().collect();
    assert_eq!(names, [Some(json!("Bob")), Some(json!("Ann"))]);
    assert_eq!(world.brevo.contact_count(), 2);
}

/// Ann's contact was deleted in Brevo, and she has another address since. Then she exchanges addresses with somebody whose
/// contact is there.
async fn who_takes_the_address_of_somebody_deleted(shared: bool) {
    let world = World::new(CONFIG);
    let lead = |email: &str, name: &str| ContactSeed { lead: true, ..user(email, name) };
    let ann = world.intercom.create_contact(lead("ann@example.com", "Ann"));
    let jim = shared.then(|| world.intercom.create_contact(lead("joe@example.com", "Jim")));
    let joe = world.intercom.create_contact(lead("joe@example.com", "Joe"));
    minutes(10).await;
    world.sync().await;
    minutes(20).await;
    world.brevo.delete("ann@example.com");
    world.full().await;
    world.intercom.set_email(&ann, Some("new@example.com")).unwrap();
    minutes(20).await;
    world.full().await;
    assert!(world.brevo.contact_by_email("new@example.com").is_none(), "Ann is gone");
    world.intercom.set_email(&ann, Some("joe@example.com")).unwrap();
    world.intercom.set_email(&joe, Some("new@example.com")).unwrap();
    for _ in 0..2 {
        minutes(20).await;
        world.sync().await;
    }
    assert_eq!(world.attribute("new@example.com", "FIRSTNAME"), Some(json!("Joe")), "Joe was never deleted");
    let speaks = if jim.is_some() { "Jim" } else { "Ann" };
    assert_eq!(world.attribute("joe@example.com", "FIRSTNAME"), Some(json!(speaks)));
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!(counts.notices.get("brevo_contact_gone"), None, "{:?}", counts.notices);
    let writes = world.brevo_writes();
    minutes(20).await;
    world.full().await;
    assert_eq!(world.brevo_writes(), writes);
}

#[tokio::test(start_paused = true)]
async fn an_exchange_with_somebody_deleted_deletes_nobody() {
    who_takes_the_address_of_somebody_deleted(false).await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_a_deleted_contact_never_had_is_free() {
    who_takes_the_address_of_somebody_deleted(true).await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_back_to_what_they_had_while_a_write_has_no_answer_has_it_back() {
    let config = CONFIG.replace("    transform: split_name", "    transform: split_name\n    on_clear: propagate");
    for (before, sent) in [(None, Some("Jane Roe")), (Some("Jane Doe"), Some("Jane Roe")), (Some("Jane Doe"), None)] {
        for restarted in [false, true] {
            let mut world = World::new(&config);
            let jane = world.intercom.create_contact(ContactSeed {
                email: Some("jane@example.com".to_owned()),
                name: before.map(str::to_owned),
                ..ContactSeed::default()
            });
            minutes(10).await;
            world.sync().await;
            let family =
                |world: &World| world.attribute("jane@example.com", "LASTNAME").filter(|name| *name != json!(""));
            world.intercom.edit_contact(&jane, &json!({ "name": sent })).unwrap();
            minutes(10).await;
            for _ in 0..6 {
                world.brevo.fail("identifierType=contact_id", Fault::StatusAfterEffect(502));
            }
            world.connection.sync(&SyncOptions::default(), &Silent).await.ok();
            assert_eq!(family(&world), sent.map(|_| json!("Roe")), "it has landed");
            world.intercom.edit_contact(&jane, &json!({ "name": before })).unwrap();
            if restarted {
                // With another rule, which means the same for these.
                world.restart(
                    &config.replace("on_clear: propagate", "on_clear: propagate\n    when: record.role == 'user'"),
                );
            }
            for _ in 0..2 {
                minutes(10).await;
                world.sync().await;
            }
            assert_eq!(family(&world), before.map(|_| json!("Doe")), "{before:?}, {sent:?}, {restarted}");
            let conflicts = world.store.read(|tx| tx.conflicts(10)).await.unwrap();
            assert_eq!(conflicts, [], "and what we had written ourselves is nobody's loss");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_group_leaves_the_contact_that_has_their_external_id_to_the_rest() {
    for there in [false, true] {
        let world = World::new(CONFIG);
        let ann = ContactSeed { external_id: Some("user-1".to_owned()), ..user("office@example.com", "Ann Lee") };
        let ann = world.intercom.create_contact(ann);
        world.intercom.create_contact(ContactSeed { lead: true, ..user("office@example.com", "Joe Roe") });
        if there {
            let by_hand = BrevoSeed { email: Some("ann@example.com".into()), ..BrevoSeed::default() };
            world.brevo.create_contact(by_hand).unwrap();
        }
        minutes(10).await;
        world.sync().await;
        let shared = world.brevo.contact_by_email("office@example.com").unwrap();
        assert_eq!(shared.attributes.get("EXT_ID"), Some(&json!("user-1")));
        world.intercom.set_email(&ann, Some("ann@example.com")).unwrap();
        for _ in 0..2 {
            minutes(10).await;
            world.sync().await;
        }
        assert_eq!(world.attribute("ann@example.com", "FIRSTNAME"), Some(json!("Ann")));
        assert_eq!(world.brevo.contact(shared.id).unwrap().attributes.get("FIRSTNAME"), Some(&json!("Joe")));
        let notices = world.store.read(|tx| tx.notices(Some("identity_conflict"), 10)).await.unwrap();
        assert_eq!(notices.len(), 0);
        assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), []);
        let writes = world.brevo_writes();
        minutes(10).await;
        world.full().await;
        assert_eq!(world.brevo_writes(), writes);
    }
}

#[tokio::test(start_paused = true)]
async fn who_exchange_addresses_keep_nothing_of_one_anothers() {
    let world =
        World::new(&CONFIG.replace("    transform: split_name", "    transform: split_name\n    on_clear: propagate"));
    let ann = world.intercom.create_contact(user("ann@example.com", "Ann Lee"));
    let bob = ContactSeed { email: Some("bob@example.com".to_owned()), ..ContactSeed::default() };
    let bob = world.intercom.create_contact(bob);
    let cher = world.intercom.create_contact(user("cher@example.com", "Cher"));
    minutes(10).await;
    world.sync().await;
    // In a circle: Ann's address goes to Cher, Cher's to Bob, Bob's to Ann.
    world.intercom.set_email(&ann, Some("aside@example.com")).unwrap();
    world.intercom.set_email(&cher, Some("ann@example.com")).unwrap();
    world.intercom.set_email(&bob, Some("cher@example.com")).unwrap();
    world.intercom.set_email(&ann, Some("bob@example.com")).unwrap();
    for _ in 0..3 {
        minutes(10).await;
        world.sync().await;
    }
    let family = |email: &str| {
        ["FIRSTNAME", "LASTNAME"].map(|name| world.attribute(email, name).filter(|name| *name != json!("")))
    };
    assert_eq!(family("ann@example.com"), [Some(json!("Cher")), None]);
    assert_eq!(family("cher@example.com"), [None, None]);
    assert_eq!(family("bob@example.com"), [Some(json!("Ann")), Some(json!("Lee"))]);
    assert_eq!(world.brevo.contact_count(), 3);
    let lost = world.store.read(|tx| tx.conflicts(10)).await.unwrap();
    assert_eq!(lost.len(), 2, "what they replaced can be looked up: {lost:?}");
    let writes = world.brevo_writes();
    minutes(10).await;
    world.full().await;
    assert_eq!(world.brevo_writes(), writes);
}

#[tokio::test(start_paused = true)]
async fn what_a_write_without_an_answer_replaced_can_be_looked_up() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    minutes(10).await;
    world.sync().await;
    assert!(world.brevo.edit_attributes("jane@example.com", &[("LASTNAME", json!("By hand"))]));
    minutes(10).await;
    for _ in 0..6 {
        world.brevo.fail("identifierType=contact_id", Fault::StatusAfterEffect(502));
    }
    world.connection.sync(&SyncOptions { full: true, ..SyncOptions::default() }, &Silent).await.ok();
    assert_eq!(world.attribute("jane@example.com", "LASTNAME"), Some(json!("Doe")), "restored");
    world.intercom.edit_contact(&jane, &json!({"name": "Jane Roe"})).unwrap();
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    assert_eq!(world.attribute("jane@example.com", "LASTNAME"), Some(json!("Roe")));
    let lost = world.store.read(|tx| tx.conflicts(10)).await.unwrap();
    assert!(lost.len() == 1 && lost[0].lost.contains("By hand"), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_reaches_the_contact_that_came_after_a_deleted_one() {
    for seen_first in [false, true] {
        let world = World::new(CONFIG);
        let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
        let joe = world.intercom.create_contact(user("joe@example.com", "Joe Doe"));
        minutes(10).await;
        world.sync().await;
        assert!(world.brevo.unsubscribe("joe@example.com"));
        minutes(10).await;
        world.full().await;
        for email in ["jane@example.com", "joe@example.com"] {
            assert!(world.brevo.delete(email));
        }
        if !seen_first {
            minutes(10).await;
            world.full().await;
            let gone = world.store.read(|tx| tx.notices(Some("brevo_contact_gone"), 10)).await.unwrap();
            assert_eq!(gone.len(), 2);
        }
        let writes = world.brevo_writes();
        for email in ["jane@example.com", "joe@example.com"] {
            let by_hand = BrevoSeed { email: Some(email.into()), ..BrevoSeed::default() };
            world.brevo.create_contact(by_hand).unwrap();
        }
        world.intercom.unsubscribe_from_sms(&jane).unwrap();
        world.intercom.unsubscribe(&jane).unwrap();
        world.intercom.edit_contact(&joe, &json!({"name": "Joe Roe"})).unwrap();
        for _ in 0..2 {
            minutes(10).await;
            world.full().await;
        }
        let contact = world.brevo.contact_by_email("jane@example.com").unwrap();
        assert!(contact.email_blacklisted && contact.sms_blacklisted, "{seen_first}");
        let contact = world.brevo.contact_by_email("joe@example.com").unwrap();
        assert!(contact.email_blacklisted, "an address that was opted out comes back opted out");
        assert_eq!(world.attribute("joe@example.com", "LASTNAME"), Some(json!("Roe")));
        let gone = world.store.read(|tx| tx.notices(Some("brevo_contact_gone"), 10)).await.unwrap();
        assert_eq!(gone, []);
        assert!(world.brevo_writes() > writes && world.brevo.contact_count() == 2);
        let writes = world.brevo_writes();
        minutes(10).await;
        world.full().await;
        assert_eq!(world.brevo_writes(), writes);
    }
}

/// Ann was deleted in Intercom. By hand, her Brevo contact is given the address of Jane, whose own contact was deleted, or
/// has another address by now.
#[tokio::test(start_paused = true)]
async fn who_lost_their_contact_takes_the_one_of_somebody_deleted_that_shows_their_address() {
    for (deleted, who_is_out) in [(true, "ann"), (true, "jane"), (true, "nobody"), (false, "ann"), (false, "jane")] {
        let world = World::new(CONFIG);
        let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
        let ann = world.intercom.create_contact(user("ann@example.com", "Ann Lee"));
        minutes(10).await;
        world.sync().await;
        match who_is_out {
            "ann" => assert!(world.brevo.unsubscribe("ann@example.com")),
            "jane" => world.intercom.unsubscribe(&jane).unwrap(),
            _ => {}
        }
        minutes(10).await;
        world.full().await;
        world.intercom.delete(&ann).unwrap();
        if deleted {
            assert!(world.brevo.delete("jane@example.com"));
        } else {
            assert!(world.brevo.change_email("jane@example.com", "other@example.com"));
        }
        for _ in 0..2 {
            minutes(30).await;
            world.full().await;
        }
        let hers = world.brevo.contact_by_email("ann@example.com").unwrap().id;
        assert!(world.brevo.change_email("ann@example.com", "jane@example.com"));
        for _ in 0..2 {
            minutes(10).await;
            world.sync().await;
        }
        let contact = world.brevo.contact(hers).unwrap();
        assert_eq!(contact.email_blacklisted, who_is_out != "nobody", "{deleted} {who_is_out}");
        assert_eq!(contact.attributes.get("LASTNAME"), Some(&json!("Doe")), "{deleted} {who_is_out}");
        assert_eq!(world.store.read(|tx| tx.notices(Some("brevo_contact_gone"), 10)).await.unwrap(), []);
        world.is_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_to_a_deleted_address_that_all_have_left_is_listed() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(user("ann@example.com", "Ann Lee"));
    let bob = world.intercom.create_contact(user("bob@example.com", "Bob Roe"));
    minutes(10).await;
    world.sync().await;
    world.intercom.set_email(&ann, Some("bob@example.com")).unwrap();
    minutes(10).await;
    world.sync().await;
    // Nobody has Ann's address any more when its contact is found gone.
    assert!(world.brevo.delete("ann@example.com"));
    minutes(10).await;
    world.full().await;
    world.intercom.set_email(&bob, Some("ann@example.com")).unwrap();
    for _ in 0..2 {
        minutes(10).await;
        world.full().await;
    }
    assert_eq!(world.brevo.contact_count(), 1, "what was deleted is not made again");
    let gone = world.store.read(|tx| tx.notices(Some("brevo_contact_gone"), 10)).await.unwrap();
    assert_eq!(gone, [("brevo_contact_gone".to_owned(), format!("contact {bob}"), None)]);
}

/// Ann is gone on both sides when Bob comes to her address, and goes on to another.
#[tokio::test(start_paused = true)]
async fn who_comes_to_the_address_of_somebody_gone_on_both_sides_is_listed_wherever_they_go() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(user("ann@example.com", "Ann Lee"));
    minutes(10).await;
    world.sync().await;
    world.intercom.delete(&ann).unwrap();
    for _ in 0..2 {
        minutes(30).await;
        world.full().await;
    }
    assert!(world.brevo.delete("ann@example.com"));
    minutes(10).await;
    world.full().await;
    let bob = world.intercom.create_contact(user("ann@example.com", "Bob Roe"));
    for moves_on in [false, true] {
        if moves_on {
            world.intercom.set_email(&bob, Some("bob@example.com")).unwrap();
        }
        for _ in 0..2 {
            minutes(10).await;
            world.full().await;
        }
        let gone = world.store.read(|tx| tx.notices(Some("brevo_contact_gone"), 10)).await.unwrap();
        assert_eq!(gone, [("brevo_contact_gone".to_owned(), format!("contact {bob}"), None)], "{moves_on}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_is_left_out_is_listed_under_whoever_has_it_now() {
    let world = World::new(&CONFIG.replace("  tags: INTERCOM_TAGS", "  phone: SMS\nphone:\n  default_region: US"));
    let ann = world.intercom.create_contact(user("ann@example.com", "Ann Lee"));
    let bob = world.intercom.create_contact(user("bob@example.com", "Bob Roe"));
    let phone = json!({"phone": "(202) 555-0123"});
    world.intercom.edit_contact(&ann, &phone).unwrap();
    minutes(10).await;
    world.sync().await;
    world.intercom.edit_contact(&bob, &phone).unwrap();
    minutes(10).await;
    world.sync().await;
    let listed = || world.store.read(|tx| tx.failures(10));
    assert_eq!(listed().await.unwrap()[0].subject, format!("contact {bob}"));
    // An exchange, of which the first half is seen by itself: Ann is with Bob, and then has his contact alone.
    world.intercom.set_email(&ann, Some("bob@example.com")).unwrap();
    minutes(10).await;
    world.sync().await;
    world.intercom.set_email(&bob, Some("ann@example.com")).unwrap();
    for _ in 0..2 {
        minutes(10).await;
        world.full().await;
    }
    let failures = listed().await.unwrap();
    assert!(failures.len() == 1 && failures[0].subject == format!("contact {ann}"), "{failures:?}");
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_that_shows_while_an_import_is_waited_for_is_put_back_after_it() {
    let world = World::new(&format!("{CONFIG}limits:\n  brevo:\n    import_threshold: 1\n"));
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    minutes(10).await;
    world.sync().await;
    world.intercom.edit_contact(&jane, &json!({"name": "Jane Roe"})).unwrap();
    minutes(10).await;
    world.brevo.knobs(|knobs| knobs.import_resubscribes = true);
    world.brevo.imports_take(Duration::from_secs(200));
    let opts_out = async {
        // How far it is is asked of the contacts at first, of which that shows one.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(world.brevo.unsubscribe("jane@example.com"));
    };
    tokio::join!(world.sync(), opts_out);
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    assert_eq!(world.attribute("jane@example.com", "LASTNAME"), Some(json!("Roe")));
    assert!(world.brevo.contact_by_email("jane@example.com").unwrap().email_blacklisted);
}

/// Jane's import was not answered, and has put her on a list; before it is read back somebody takes her off that.
/// `says_no`: she has opted out meanwhile, and was opted out beside the import.
async fn taken_off_before_the_read_back(says_no: bool) -> World {
    let world = World::new(&format!("{CONFIG}limits:\n  brevo:\n    import_threshold: 1\n"));
    world.sync().await;
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    minutes(10).await;
    world.brevo.fail("/contacts/import", Fault::Truncated);
    // The power goes while it is waited for.
    assert!(tokio::time::timeout(Duration::from_secs(30), world.sync()).await.is_err());
    let users = world.brevo.list_id("Users").unwrap();
    assert_eq!(world.brevo.list_members(users).len(), 1);
    assert!(!says_no || world.intercom.unsubscribe(&jane).is_ok());
    minutes(1).await;
    let taken_off = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let contact = world.brevo.contact_by_email("jane@example.com").unwrap();
        assert_eq!(contact.email_blacklisted, says_no, "the opt-out is there before the import is over");
        assert!(world.brevo.remove_from_list("jane@example.com", users));
    };
    tokio::join!(world.sync(), taken_off);
    for _ in 0..2 {
        minutes(10).await;
        world.full().await;
    }
    assert_eq!(world.brevo.list_members(users).len(), 0);
    world
}

#[tokio::test(start_paused = true)]
async fn who_is_taken_off_a_list_before_an_import_without_an_answer_is_read_back_stays_off() {
    let world = taken_off_before_the_read_back(true).await;
    assert_eq!(world.attribute("jane@example.com", "LASTNAME"), Some(json!("Doe")));
}

/// The same where nothing but a read has shown that the row had put them there.
#[tokio::test(start_paused = true)]
async fn who_is_taken_off_a_list_that_a_read_has_shown_before_an_import_without_an_answer_is_read_back_stays_off() {
    taken_off_before_the_read_back(false).await;
}

/// Ann's contact was deleted in Brevo, and she has another address since. Then she is deleted in Intercom, too, and somebody
/// else has that address.
#[tokio::test(start_paused = true)]
async fn who_comes_to_an_address_that_a_deleted_contact_never_had_is_made() {
    for out in [false, true] {
        let world = World::new(CONFIG);
        let ann = world.intercom.create_contact(user("ann@example.com", "Ann Lee"));
        minutes(10).await;
        world.sync().await;
        if out {
            assert!(world.brevo.unsubscribe("ann@example.com"));
        }
        minutes(20).await;
        world.full().await;
        assert!(world.brevo.delete("ann@example.com"));
        minutes(20).await;
        world.full().await;
        world.intercom.set_email(&ann, Some("new@example.com")).unwrap();
        minutes(20).await;
        world.full().await;
        world.intercom.delete(&ann).unwrap();
        for _ in 0..2 {
            minutes(30).await;
            world.full().await;
        }
        world.intercom.create_contact(user("new@example.com", "Bob Roe"));
        for _ in 0..2 {
            minutes(10).await;
            world.sync().await;
        }
        let made = world.brevo.contact_by_email("new@example.com").unwrap();
        assert_eq!(made.attributes.get("FIRSTNAME"), Some(&json!("Bob")), "nothing of this address was deleted");
        assert_eq!(made.email_blacklisted, out, "an opt-out stays with the address");
        world.is_quiet().await;
    }
}
