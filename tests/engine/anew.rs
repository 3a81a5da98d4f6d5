//! A sandbox that is started anew beside a state that is kept: both accounts are as they were at first, as if a backup of
//! them had been restored.

use crate::harness::{World, minutes};
use linkspan::doors::Doors;
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox, WorldShares};
use linkspan::sandbox::intercom::{ContactSeed, IntercomOptions, IntercomSandbox};
use serde_json::json;
use std::sync::Arc;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
";

/// As `linkspan sandbox` makes them.
fn accounts(doors: &Doors) -> (IntercomSandbox, BrevoSandbox) {
    let clock = || Arc::clone(&doors.clock);
    let intercom = IntercomSandbox::new(IntercomOptions { seed: 7, clock: clock(), ..IntercomOptions::default() });
    let brevo = BrevoSandbox::new(BrevoOptions::new(7, clock()));
    intercom.world_until("2025-06-01T00:00:00Z".parse().unwrap(), 7, 60);
    let people: Vec<(String, Option<String>)> = contacts(&intercom)
        .iter()
        .filter_map(|contact| Some((contact["email"].as_str().filter(|email| !email.is_empty())?.to_owned(), None)))
        .collect();
    brevo.world(7, &people, &WorldShares::default(), 2);
    brevo.new_ids_by_the_clock();
    (intercom, brevo)
}

fn contacts(intercom: &IntercomSandbox) -> Vec<serde_json::Value> {
    intercom.contact_ids().iter().filter_map(|id| intercom.contact(id)).collect()
}

/// Addresses in Brevo.
fn addresses(brevo: &BrevoSandbox) -> Vec<String> {
    brevo.contacts().into_iter().filter_map(|contact| contact.email).collect()
}

fn somebody(email: &str, name: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some(name.to_owned()), ..ContactSeed::default() }
}

#[tokio::test(start_paused = true)]
async fn a_kept_state_survives_a_sandbox_that_begins_anew() {
    let mut world = World::new(CONFIG);
    (world.intercom, world.brevo) = accounts(&world.doors);
    world.restart(CONFIG);
    let (at_first, in_brevo) = (contacts(&world.intercom), world.brevo.contacts());
    let base = addresses(&world.brevo);
    world.full().await;

    // What is edited and made by hand does not survive.
    let known = base.iter().find_map(|email| {
        at_first
            .iter()
            .find(|contact| contact["email"] == email.as_str())
            .map(|contact| contact["id"].as_str().unwrap())
    });
    world.intercom.edit_contact(known.unwrap(), &json!({"name": "Edited Later"})).unwrap();
    let gone = world.intercom.create_contact(somebody("gone@x.example", "Gone Again"));
    minutes(30).await;
    world.sync().await;
    assert!(addresses(&world.brevo).contains(&"gone@x.example".to_owned()));
    let made: Vec<i64> = world.brevo.contacts().iter().map(|contact| contact.id).filter(|id| *id > 1_000_000).collect();
    assert!(!made.is_empty());

    minutes(24 * 60).await;
    (world.intercom, world.brevo) = accounts(&world.doors);
    assert_eq!(contacts(&world.intercom), at_first, "to the second");
    let ids = |contacts: &[linkspan::sandbox::brevo::Contact]| {
        contacts
            .iter()
            .map(|contact| (contact.id, contact.email.clone(), contact.attributes.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&world.brevo.contacts()), ids(&in_brevo));
    world.restart(CONFIG);
    let new = world.intercom.create_contact(somebody("new@x.example", "Newly Made"));
    assert_ne!(new, gone, "an id is never somebody else's");
    minutes(30).await;
    for _ in 0..3 {
        world.full().await;
        minutes(30).await;
    }
    // Nobody's record became another's: those who were there keep their address, and the new one has a name of their own.
    let there = addresses(&world.brevo);
    assert!(base.iter().all(|email| there.contains(email)));
    assert_eq!(there.len(), base.len() + 1, "who was gone is not made again: {there:?}");
    assert_eq!(world.attribute("new@x.example", "FIRSTNAME"), Some(json!("Newly")));
    let new = world.brevo.contact_by_email("new@x.example").unwrap().id;
    assert!(!made.contains(&new));
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert!(counts.notices.contains_key("brevo_contact_gone"), "and that is said: {:?}", counts.notices);
    let writes = world.brevo_writes();
    world.full().await;
    assert_eq!(world.brevo_writes(), writes, "then there is quiet");
}
