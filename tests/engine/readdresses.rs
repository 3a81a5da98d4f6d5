//! Addresses that are changed in Brevo.

use crate::crashes::{CrashAt, run_to_the_end};
use crate::harness::{World, minutes};
use linkspan::engine::{Progress, Stage, SyncOptions};
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::links::Dirty;
use serde_json::{Value as Json, json};
use std::sync::{Arc, Mutex};

fn both(more: &str) -> String {
    format!(
        "connectors: {{intercom: {{direction: both{more}}}}}\nfield_mapping:\n  \
         name: {{to: [FIRSTNAME, LASTNAME], transform: split_name}}\n  \
         custom_attributes.plan: {{to: PLAN}}\n"
    )
}

fn contact(email: &str, name: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some(name.to_owned()), ..ContactSeed::default() }
}

async fn in_step(world: &World) {
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
}

fn email(world: &World, id: &str) -> Json {
    world.intercom.contact(id).unwrap()["email"].clone()
}

async fn notices(world: &World) -> Vec<String> {
    let all = world.store.read(|tx| tx.notices(Some("identity_conflict"), 100)).await.unwrap();
    all.into_iter().map(|(_, subject, _)| subject).collect()
}

#[tokio::test(start_paused = true)]
async fn every_contact_that_had_the_address_takes_the_one_that_brevo_was_given() {
    let world = World::new(&both(""));
    let lead = |name: &str| ContactSeed { lead: true, ..contact("ann@example.com", name) };
    let ids = [world.intercom.create_contact(lead("Ann")), world.intercom.create_contact(lead("Ann Lee"))];
    in_step(&world).await;
    assert!(world.brevo.change_email("ann@example.com", "ann.lee@example.com"));
    in_step(&world).await;
    for id in &ids {
        assert_eq!(email(&world, id), json!("ann.lee@example.com"));
    }
    assert_eq!(world.brevo.contact_count(), 1);
    assert!(world.brevo.contact_by_email("ann.lee@example.com").is_some());
    world.is_quiet().await;
    // And back from Intercom.
    for id in &ids {
        world.intercom.set_email(id, Some("ann@example.com")).unwrap();
    }
    in_step(&world).await;
    assert!(world.brevo.contact_by_email("ann@example.com").is_some());
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn where_nothing_travels_to_intercom_the_address_stays_there_as_it_is() {
    let world = World::new(&both("").replace("direction: both", "direction: intercom_to_brevo"));
    let id = world.intercom.create_contact(contact("ann@example.com", "Ann Lee"));
    in_step(&world).await;
    assert!(world.brevo.change_email("ann@example.com", "ann.lee@example.com"));
    in_step(&world).await;
    assert_eq!(email(&world, &id), json!("ann@example.com"));
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn who_opted_out_stays_so_under_the_new_address_on_both_sides() {
    let world = World::new(&both(""));
    let seed = ContactSeed { unsubscribed: true, ..contact("ann@example.com", "Ann Lee") };
    let id = world.intercom.create_contact(seed);
    in_step(&world).await;
    assert!(world.brevo.contact_by_email("ann@example.com").unwrap().email_blacklisted);
    // Brevo lifts the blocklisting of who gets another address.
    assert!(world.brevo.change_email("ann@example.com", "ann.lee@example.com"));
    in_step(&world).await;
    assert_eq!(email(&world, &id), json!("ann.lee@example.com"));
    assert_eq!(world.intercom.contact(&id).unwrap()["unsubscribed_from_emails"], json!(true));
    assert!(world.brevo.contact_by_email("ann.lee@example.com").unwrap().email_blacklisted);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_contact_in_intercom_has_is_refused_and_listed() {
    let world = World::new(&both(""));
    let ann = world.intercom.create_contact(contact("ann@example.com", "Ann Lee"));
    let bob = world.intercom.create_contact(contact("bob@example.com", "Bob Ray"));
    in_step(&world).await;
    assert!(world.brevo.delete("bob@example.com"));
    in_step(&world).await;
    assert!(world.brevo.change_email("ann@example.com", "bob@example.com"));
    for _ in 0..3 {
        in_step(&world).await;
    }
    assert_eq!(email(&world, &ann), json!("ann@example.com"));
    assert_eq!(email(&world, &bob), json!("bob@example.com"));
    assert_eq!(notices(&world).await, [format!("contact {ann}")]);
    assert_eq!(world.brevo.contact_count(), 1);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_intercom_refuses_is_listed_and_both_keep_the_address_that_they_have() {
    let world = World::new(&both(""));
    let ann = world.intercom.create_contact(contact("ann@example.com", "Ann Lee"));
    in_step(&world).await;
    assert!(world.brevo.change_email("ann@example.com", "ann.lee@example.com"));
    world.intercom.fail(&format!("PUT /contacts/{ann} "), Fault::Status(400, None));
    in_step(&world).await;
    assert_eq!(email(&world, &ann), json!("ann@example.com"));
    assert!(world.brevo.contact_by_email("ann.lee@example.com").is_some());
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert_eq!(failures.iter().map(|failure| failure.field.as_str()).collect::<Vec<_>>(), ["email"]);
    world.is_quiet().await;
    assert_eq!(world.brevo.contact_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_exchange_of_addresses_in_brevo_renames_nobody() {
    let world = World::new(&both(""));
    let ann = world.intercom.create_contact(contact("ann@example.com", "Ann Lee"));
    let bob = world.intercom.create_contact(contact("bob@example.com", "Bob Ray"));
    in_step(&world).await;
    let before = world.intercom.log().write_count();
    assert!(world.brevo.change_email("ann@example.com", "x@example.com"));
    assert!(world.brevo.change_email("bob@example.com", "ann@example.com"));
    assert!(world.brevo.change_email("x@example.com", "bob@example.com"));
    for _ in 0..2 {
        in_step(&world).await;
    }
    assert_eq!((email(&world, &ann), email(&world, &bob)), (json!("ann@example.com"), json!("bob@example.com")));
    let writes = world.intercom.log().writes();
    let renames = writes[before..]
        .iter()
        .filter(|write| serde_json::from_slice::<Json>(&write.body).is_ok_and(|body| body.get("email").is_some()));
    assert_eq!(renames.count(), 0);
    // Who has the address has the fields that Brevo's contact of that address has.
    assert_eq!(world.intercom.contact(&ann).unwrap()["name"], json!("Bob Ray"));
    assert_eq!(world.intercom.contact(&bob).unwrap()["name"], json!("Ann Lee"));
    assert_eq!(world.brevo.contact_count(), 2);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_no_that_an_exchange_of_addresses_in_brevo_has_lifted_is_put_back() {
    let world = World::new(&both(""));
    for (email, name) in [("ann@example.com", "Ann Lee"), ("bob@example.com", "Bob Ray")] {
        world.intercom.create_contact(contact(email, name));
    }
    in_step(&world).await;
    assert!(world.brevo.unsubscribe("ann@example.com"));
    in_step(&world).await;
    assert!(world.brevo.change_email("ann@example.com", "x@example.com"));
    assert!(world.brevo.change_email("bob@example.com", "ann@example.com"));
    assert!(world.brevo.change_email("x@example.com", "bob@example.com"));
    for _ in 0..2 {
        in_step(&world).await;
    }
    // Whether the address had said it or the contact, nobody knows: it is nobody's yes.
    for email in ["ann@example.com", "bob@example.com"] {
        assert!(world.brevo.contact_by_email(email).unwrap().email_blacklisted, "{email}");
    }
    world.is_quiet().await;
}

/// Ann's contact gets Bob's address in Brevo, Bob's gets Carl's, and Carl's gets Ann's.
fn rotate(world: &World) {
    assert!(world.brevo.change_email("ann@example.com", "x@example.com"));
    assert!(world.brevo.change_email("carl@example.com", "ann@example.com"));
    assert!(world.brevo.change_email("bob@example.com", "carl@example.com"));
    assert!(world.brevo.change_email("x@example.com", "bob@example.com"));
}

fn three(world: &World) -> [String; 3] {
    [("ann@example.com", "Ann Lee"), ("bob@example.com", "Bob Ray"), ("carl@example.com", "Carl Fox")]
        .map(|(email, name)| world.intercom.create_contact(contact(email, name)))
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_addresses_in_brevo_renames_nobody_and_holds_up_no_opt_out() {
    let world = World::new(&both(""));
    let ids = three(&world);
    in_step(&world).await;
    let before = world.intercom.log().write_count();
    rotate(&world);
    world.intercom.unsubscribe(&ids[1]).unwrap();
    in_step(&world).await;
    assert_eq!(
        ids.each_ref().map(|id| email(&world, id)),
        ["ann@example.com", "bob@example.com", "carl@example.com"].map(|email| json!(email))
    );
    let writes = world.intercom.log().writes();
    let renames = writes[before..]
        .iter()
        .filter(|write| serde_json::from_slice::<Json>(&write.body).is_ok_and(|body| body.get("email").is_some()));
    assert_eq!(renames.count(), 0);
    // Who has the address has the fields that Brevo's contact of that address has.
    let names = ids.each_ref().map(|id| world.intercom.contact(id).unwrap()["name"].clone());
    assert_eq!(names, ["Carl Fox", "Ann Lee", "Bob Ray"].map(|name| json!(name)));
    assert!(world.brevo.contact_by_email("bob@example.com").unwrap().email_blacklisted);
    assert_eq!(world.brevo.contact_count(), 3);
    assert_eq!(notices(&world).await, [""; 0]);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_address_of_somebody_who_cannot_leave_it_is_listed_and_still_opts_out() {
    let world = World::new(&both(""));
    let [ann, bob, _] = three(&world);
    in_step(&world).await;
    // Nobody is left in Intercom who could take Bob's new address.
    world.intercom.delete(&bob).unwrap();
    world.full().await;
    minutes(10).await;
    assert!(world.brevo.change_email("bob@example.com", "bob.ray@example.com"));
    assert!(world.brevo.change_email("ann@example.com", "bob@example.com"));
    world.intercom.unsubscribe(&ann).unwrap();
    in_step(&world).await;
    assert!(notices(&world).await.contains(&format!("contact {ann}")));
    assert!(world.brevo.contact_by_email("bob@example.com").unwrap().email_blacklisted);
    let waiting = world.store.read(|tx| tx.count_dirty(Dirty::Backfill)).await.unwrap();
    assert_eq!(waiting, 0, "somebody is looked at again and again");
}

#[tokio::test(start_paused = true)]
async fn where_both_sides_changed_the_address_the_rule_decides_and_the_other_is_kept() {
    for (rule, stands, lost) in [
        (", on_conflict: brevo", "b@example.com", "a@example.com"),
        (", on_conflict: intercom", "a@example.com", "b@example.com"),
        (", tie: brevo", "b@example.com", "a@example.com"),
    ] {
        let world = World::new(&both(rule));
        let ann = world.intercom.create_contact(contact("ann@example.com", "Ann Lee"));
        in_step(&world).await;
        world.intercom.set_email(&ann, Some("a@example.com")).unwrap();
        assert!(world.brevo.change_email("ann@example.com", "b@example.com"));
        for _ in 0..2 {
            in_step(&world).await;
        }
        assert_eq!(email(&world, &ann), json!(stands), "{rule}");
        assert!(world.brevo.contact_by_email(stands).is_some(), "{rule}");
        assert_eq!(world.brevo.contact_count(), 1);
        let conflicts = world.store.read(|tx| tx.conflicts(10)).await.unwrap();
        assert!(conflicts.iter().any(|row| row.field == "email" && row.lost.contains(lost)), "{rule}: {conflicts:?}");
        world.is_quiet().await;
    }
}

/// Somebody who changes an address once everything has been read, and before anything is written.
struct Meanwhile<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Progress for Meanwhile<F> {
    fn stage(&self, stage: Stage, _: u64, _: Option<u64>) {
        if stage == Stage::Writing
            && let Some(act) = self.0.lock().unwrap().take()
        {
            act();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_edits_that_are_seen_one_after_the_other_none_is_lost_in_silence() {
    for (rule, stands, lost) in [
        (", on_conflict: brevo", "b@example.com", "a@example.com"),
        (", on_conflict: intercom", "a@example.com", "b@example.com"),
    ] {
        for brevo_first in [false, true] {
            let world = World::new(&both(rule));
            let ann = world.intercom.create_contact(contact("ann@example.com", "Ann Lee"));
            in_step(&world).await;
            let in_intercom = || world.intercom.set_email(&ann, Some("a@example.com")).unwrap();
            let in_brevo = || assert!(world.brevo.change_email("ann@example.com", "b@example.com"));
            if brevo_first {
                in_brevo();
            } else {
                in_intercom();
            }
            minutes(10).await;
            let then = || if brevo_first { in_intercom() } else { in_brevo() };
            world.connection.sync(&SyncOptions::default(), &Meanwhile(Mutex::new(Some(then)))).await.unwrap();
            for _ in 0..2 {
                in_step(&world).await;
            }
            let case = format!("{rule}, Brevo first: {brevo_first}");
            assert_eq!(email(&world, &ann), json!(stands), "{case}");
            assert!(world.brevo.contact_by_email(stands).is_some(), "{case}");
            assert_eq!(world.brevo.contact_count(), 1, "{case}");
            let conflicts = world.store.read(|tx| tx.conflicts(10)).await.unwrap();
            let of_address: Vec<_> = conflicts.iter().filter(|row| row.field == "email").collect();
            assert_eq!(of_address.len(), 1, "{case}: {conflicts:?}");
            assert!(of_address[0].lost.contains(lost), "{case}: {conflicts:?}");
            world.is_quiet().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_addresses_runs_from_its_free_end_whoever_was_known_first() {
    let world = World::new(&both(""));
    let [ann, bob, _] = three(&world);
    in_step(&world).await;
    assert!(world.brevo.change_email("ann@example.com", "ann.lee@example.com"));
    assert!(world.brevo.change_email("bob@example.com", "ann@example.com"));
    for _ in 0..2 {
        in_step(&world).await;
    }
    assert_eq!(email(&world, &ann), json!("ann.lee@example.com"));
    assert_eq!(email(&world, &bob), json!("ann@example.com"));
    assert_eq!(notices(&world).await, [""; 0]);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_address_is_followed_once_it_is_free_or_corrected() {
    let world = World::new(&both(""));
    let [ann, bob, carl] = three(&world);
    in_step(&world).await;
    assert!(world.brevo.delete("bob@example.com"));
    in_step(&world).await;
    assert!(world.brevo.change_email("ann@example.com", "bob@example.com"));
    assert!(world.brevo.change_email("carl@example.com", "carl.fux@example.com"));
    world.intercom.fail(&format!("PUT /contacts/{carl} "), Fault::Status(400, None));
    for _ in 0..2 {
        in_step(&world).await;
    }
    assert_eq!(email(&world, &ann), json!("ann@example.com"));
    assert_eq!(email(&world, &carl), json!("carl@example.com"));
    world.intercom.set_email(&bob, Some("bob.ray@example.com")).unwrap();
    assert!(world.brevo.change_email("carl.fux@example.com", "carl.fox@example.com"));
    in_step(&world).await;
    world.full().await;
    in_step(&world).await;
    assert_eq!(email(&world, &carl), json!("carl.fox@example.com"));
    assert_eq!(email(&world, &ann), json!("bob@example.com"));
    assert_eq!(notices(&world).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_always_fails_in_intercom_is_not_tried_for_ever() {
    let world = World::new(&both(""));
    let ann = world.intercom.create_contact(contact("ann@example.com", "Ann Lee"));
    in_step(&world).await;
    assert!(world.brevo.change_email("ann@example.com", "ann.lee@example.com"));
    for _ in 0..50 {
        world.intercom.fail(&format!("PUT /contacts/{ann} "), Fault::Status(502, None));
    }
    for _ in 0..4 {
        in_step(&world).await;
    }
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert_eq!(failures.iter().map(|failure| failure.field.as_str()).collect::<Vec<_>>(), ["email"]);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_or_a_power_cut_leaves_nobody_between_two_addresses() {
    for fault in [Some(Fault::StatusAfterEffect(502)), Some(Fault::Status(502, None)), None] {
        let crash = Arc::new(CrashAt::default());
        let mut world = World::with_crashes(&both(""), crash.clone());
        let ann = world.intercom.create_contact(contact("ann@example.com", "Ann Lee"));
        in_step(&world).await;
        assert!(world.brevo.change_email("ann@example.com", "ann.lee@example.com"));
        minutes(10).await;
        if let Some(fault) = fault {
            for _ in 0..5 {
                world.intercom.fail(&format!("PUT /contacts/{ann} "), fault.clone());
            }
            world.sync().await;
            world.intercom.knobs(|knobs| knobs.faults.clear());
        } else {
            crash.arm("after_page", 1);
            run_to_the_end(&mut world, &crash).await;
        }
        for _ in 0..2 {
            in_step(&world).await;
        }
        assert_eq!(email(&world, &ann), json!("ann.lee@example.com"));
        assert_eq!(world.brevo.contact_count(), 1);
        world.is_quiet().await;
    }
}
