//! What `sync --dry-run` tells is what a sync then does.

use crate::harness::{USERS_AND_LEADS, World, minutes};
use linkspan::engine::{Replaced, Silent, SyncOptions};
use linkspan::sandbox::Fault;
use linkspan::sandbox::brevo::{ContactSeed as BrevoSeed, WorldShares};
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;
use std::collections::BTreeMap;

fn user(email: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some("Ann Lee".to_owned()), ..ContactSeed::default() }
}

fn there(email: &str) -> BrevoSeed {
    BrevoSeed { email: Some(email.to_owned()), ..BrevoSeed::default() }
}

fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect()
}

#[tokio::test(start_paused = true)]
async fn it_tells_of_a_whole_account_what_the_first_sync_then_does() {
    for (seed, contacts) in [(7, 100), (8, 700)] {
        let world = World::new(&format!("{USERS_AND_LEADS}consent: {{direction: intercom_to_brevo}}"));
        world.intercom.world(seed, contacts);
        let people: Vec<(String, Option<String>)> = (world.intercom.contact_ids().iter())
            .filter_map(|id| world.intercom.contact(id))
            .filter_map(|contact| {
                Some((contact["email"].as_str()?.to_owned(), contact["phone"].as_str().map(str::to_owned)))
            })
            .collect();
        let shares = WorldShares { conflicting: 0.5, phone_taken: 0.2, foreign_ext_id: 0.1, ..Default::default() };
        let users = world.brevo.create_list("Users");
        world.brevo.world(seed, &people, &shares, users);
        let before = world.brevo.contact_count();
        minutes(10).await;
        let dry = world.before_the_first().await;
        assert_eq!((world.brevo_writes(), world.intercom.log().writes().len()), (0, 0), "no write at all");

        world.sync().await;
        let told = world.store.read(|tx| tx.counts()).await.unwrap();
        assert_eq!(dry.creates, (world.brevo.contact_count() - before) as u64);
        for kind in ["consent_diverges", "external_id_differs", "kept_off_list"] {
            assert!(dry.notices.contains_key(kind), "a world that tests something, {kind}: {dry:#?}");
        }
        assert_eq!(dry.notices, told.notices);
        assert!(!dry.phones_taken.is_empty(), "{dry:#?}");
        assert_eq!(dry.phones_taken.values().chain(dry.problems.values()).sum::<u64>(), told.left_out);
        assert_eq!(dry.replaced.values().map(|replaced| replaced.count).sum::<u64>(), told.conflicts);
        let mut by_field: BTreeMap<String, u64> = BTreeMap::new();
        for conflict in world.store.read(|tx| tx.conflicts(10_000)).await.unwrap() {
            *by_field.entry(conflict.field).or_default() += 1;
        }
        let dry_by_field = dry.replaced.into_iter().map(|(field, replaced)| (field, replaced.count));
        assert_eq!(dry_by_field.collect::<BTreeMap<_, _>>(), by_field);
    }
}

#[tokio::test(start_paused = true)]
async fn what_would_be_noted_of_people_is_counted_before_there_is_a_state() {
    let world = World::new(&format!("{USERS_AND_LEADS}consent: {{direction: intercom_to_brevo}}"));
    let users = world.brevo.create_list("Users");
    for email in ["blocked@x.example", "theirs@x.example", "left@x.example", "phone@x.example", "two@x.example"] {
        world.intercom.create_contact(user(email));
    }
    let edit = |email: &str, patch: &serde_json::Value| {
        let ids = world.intercom.contact_ids();
        let id = ids.iter().find(|id| world.intercom.contact(id).unwrap()["email"] == email).unwrap();
        world.intercom.edit_contact(id, patch).unwrap();
    };
    // Brevo's stricter consent stays, another tool's id stays, and who left a list is not put back.
    world.brevo.create_contact(BrevoSeed { email_blacklisted: true, ..there("blocked@x.example") }).unwrap();
    edit("theirs@x.example", &json!({"external_id": "ours-1"}));
    world.brevo.create_contact(BrevoSeed { ext_id: Some("theirs-1".to_owned()), ..there("theirs@x.example") }).unwrap();
    world.brevo.create_contact(BrevoSeed { list_unsubscribed: vec![users], ..there("left@x.example") }).unwrap();
    // A number that a contact of Brevo's has, and one that two contacts of Intercom's have.
    world.brevo.create_contact(BrevoSeed { phone: Some("+12025550123".to_owned()), ..there("old@x.example") }).unwrap();
    edit("phone@x.example", &json!({"phone": "+1 202 555 0123"}));
    edit("two@x.example", &json!({"phone": "+1 202 555 0199"}));
    world.intercom.create_contact(ContactSeed { phone: Some("+12025550199".to_owned()), ..user("three@x.example") });
    // Nobody can be made of these.
    world.intercom.create_contact(ContactSeed { name: Some("No Address".to_owned()), ..ContactSeed::default() });
    world.intercom.create_contact(ContactSeed { email: Some("no address".to_owned()), ..ContactSeed::default() });
    world.intercom.create_contact(ContactSeed { external_id: Some("e-1".to_owned()), ..user("apart@x.example") });
    world.brevo.create_contact(BrevoSeed { ext_id: Some("e-1".to_owned()), ..there("else@x.example") }).unwrap();
    world.brevo.create_contact(there("apart@x.example")).unwrap();
    minutes(10).await;

    let dry = world.before_the_first().await;
    let expected = counts(&[
        ("consent_diverges", 1),
        ("external_id_differs", 1),
        ("identity_conflict", 1),
        ("kept_off_list", 1),
        ("malformed_email", 1),
        ("without_email", 1),
    ]);
    assert_eq!(dry.notices, expected, "{dry:#?}");
    assert_eq!(dry.phones_taken, counts(&[("phone -> SMS", 2)]));
    assert_eq!(dry.attributes["SMS"], 1, "one of the two gets it: {dry:#?}");
    assert_eq!((dry.creates, dry.updates), (3, 3), "{dry:#?}");
    assert_eq!(world.brevo_writes(), 0);
    world.sync().await;
    assert_eq!(world.store.read(|tx| tx.counts()).await.unwrap().notices, expected);
}

#[tokio::test(start_paused = true)]
async fn values_that_would_be_replaced_are_shown_a_few_of_each_field() {
    let world = World::new(USERS_AND_LEADS);
    for number in 0..10 {
        let email = format!("ann{number}@x.example");
        world.intercom.create_contact(user(&email));
        let attributes = [("FIRSTNAME".to_owned(), json!("Annie")), ("LASTNAME".to_owned(), json!("Lee"))].into();
        world.brevo.create_contact(BrevoSeed { attributes, ..there(&email) }).unwrap();
    }
    minutes(10).await;
    let dry = world.before_the_first().await;
    let [(rule, Replaced { count, examples })] = Vec::from_iter(&dry.replaced)[..] else { panic!("{dry:#?}") };
    assert!(rule.starts_with("name -> FIRSTNAME"), "{rule}");
    assert_eq!((*count, examples.len()), (10, 3));
    for example in examples {
        assert_eq!(
            (&example.lost, &example.kept),
            (&vec![json!("Annie"), json!("Lee")], &vec![json!("Ann"), json!("Lee")])
        );
        let email = world.intercom.contact(example.intercom.as_str()).unwrap()["email"].as_str().unwrap().to_owned();
        assert_eq!(world.brevo.contact_by_email(&email).unwrap().id, example.brevo.get());
    }
}

#[tokio::test(start_paused = true)]
async fn options_that_are_missing_and_drift_that_a_full_sync_restores_are_told() {
    let world =
        World::new("field_mapping:\n  email: email\n  name: FULLNAME\n  tags: {to: TAGS, type: multiple-choice}\n");
    let ann = world.intercom.create_contact(user("ann@x.example"));
    world.intercom.tag(&ann, "VIP").unwrap();
    minutes(10).await;
    let dry = world.before_the_first().await;
    assert_eq!(Vec::from_iter(&dry.new_options["TAGS"].labels), ["VIP"]);
    world.sync().await;
    minutes(10).await;
    world.sync().await;
    assert!(world.before_the_first().await.new_options.is_empty());

    assert!(world.brevo.edit_attributes("ann@x.example", &[("FULLNAME", json!("Annie"))]));
    minutes(10).await;
    world.sync().await;
    let (before, looked) = (world.brevo_writes(), SyncOptions { full: true, ..SyncOptions::default() });
    let dry = world.connection.dry_run(&looked, &Silent).await.unwrap();
    assert_eq!((dry.updates, &dry.attributes), (1, &counts(&[("FULLNAME", 1)])), "{dry:#?}");
    assert_eq!(world.brevo_writes(), before);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_read_is_told() {
    let world = World::new(USERS_AND_LEADS);
    world.intercom.create_contact(user("ann@x.example"));
    minutes(10).await;
    world.intercom.knobs(|knobs| knobs.faults.push_back(("/conversations".to_owned(), Fault::Status(400, None))));
    let dry = world.before_the_first().await;
    assert!(dry.failed_reads.keys().eq(["intercom conversations"]), "{dry:#?}");
    assert_eq!(dry.creates, 1);
}
